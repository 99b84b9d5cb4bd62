"""Claims of papers checked against runs of bundled experiments: the check, its record, its page."""
