"""The highest load at which a stated predicate holds: the search, the result with its page and plots."""
