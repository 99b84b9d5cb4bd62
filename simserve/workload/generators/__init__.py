"""Synthetic requests: arrival processes, length distributions and the BurstGPT-like trace."""
