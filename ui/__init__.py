"""How people reach Footnote: the command line, the REST API and the page."""
