"""The placement of prefill and decode instances with the highest rate per device: the search, the result with its page."""
