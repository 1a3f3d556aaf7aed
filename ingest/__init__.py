"""Bring files into the index. Imports `rag`, and is imported by `eval` and `ui`."""
