"""Seconds, bytes, FLOPs and joules of one engine step, from a model architecture and a hardware profile."""
