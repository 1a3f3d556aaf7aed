"""Measure quality and speed. Imports `rag` and `ingest`, and is imported by `ui`."""
