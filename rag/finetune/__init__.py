"""Trains what Footnote ships and what users tune on their own documents."""
