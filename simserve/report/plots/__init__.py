"""Plots of one or several runs: what each draws, how they look."""
