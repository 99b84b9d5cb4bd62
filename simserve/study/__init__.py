"""Studies: many runs of an experiment that answer one question (sweep, capacity search, regression against baselines)."""
