"""The figures of the reports, drawn with matplotlib."""
