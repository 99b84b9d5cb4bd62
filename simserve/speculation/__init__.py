"""Speculative decoding: how many tokens a step drafts, and how many of them the model accepts."""

from simserve.speculation.acceptance import ByNumber, ByRow, Same, expected_tokens
from simserve.speculation.schedule import Schedule
from simserve.speculation.speculated import Speculated

__all__ = ["ByNumber", "ByRow", "Same", "Schedule", "Speculated", "expected_tokens"]
