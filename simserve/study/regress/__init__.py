"""A regression suite held against its recorded baselines: the suite, the baselines, the verdict, the report."""
