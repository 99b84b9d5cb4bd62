"""An experiment over many values of its keys: the points, their runs, the result with its page and plots."""
