"""A second, deliberately naive opinion on what a simulated serving instance does. It imports nothing from `simserve.engine`."""
