"""Measured serving runs: what each row describes, its simulation, and the error; overheads learned from them."""

from simserve.validation.accuracy import accuracy_of

__all__ = ["accuracy_of"]
