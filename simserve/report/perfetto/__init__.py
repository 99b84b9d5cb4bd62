"""timeline.json, the run as Perfetto shows it: instances, steps, requests."""
