"""Files -> text with pages, headings and offsets: one module per family of formats."""
