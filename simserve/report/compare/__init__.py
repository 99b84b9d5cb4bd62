"""Results side by side: the comparison, its table on a terminal, its page and plots."""
