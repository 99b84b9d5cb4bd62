"""Public data sets of measured serving runs: a reader for each schema, the launch recipes behind them, and what is learned from them."""
