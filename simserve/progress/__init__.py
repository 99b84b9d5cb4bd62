"""How far a long command is, on stderr: the one place that draws it."""
