"""Scaling: what is paid for, how instances started, every decision as a row."""
