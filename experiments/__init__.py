"""Studies: a question, a prediction, what would refute it, and a verdict with numbers."""
