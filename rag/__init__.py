"""Answer a question from an index of documents. Imports no other package of this project."""
