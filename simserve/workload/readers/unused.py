"""Columns that no reader uses: named, and counted where what they hold would change the work of a serving system."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from simserve.workload.readers.columns import count_of

_WORK = re.compile(r"image|audio|video|frame|pixel|cache|tool|adapter|lora", re.IGNORECASE)
"""Words in names of columns whose content is work (encoders), work saved (hits of another system's cache) or another kind of request."""


def means_work(name: str) -> bool:
    """Whether a column of this name may hold what a simulation of the prompts' tokens leaves out."""
    return bool(_WORK.search(name))


def amount(value: Any) -> float:
    """How much a value states: itself when it is a number, the length of a list, 1 for other content, 0 for none."""
    if value is None or value is False or value == "":
        return 0.0
    if isinstance(value, bool):
        return 1.0
    if isinstance(value, list | dict):
        return float(len(value))
    try:
        number = float(value)
    except (TypeError, ValueError):
        return 1.0
    except OverflowError:
        return 1.0
    return number if number == number and abs(number) < 1e18 else 0.0


def remark(name: str, amounts: Iterable[tuple[float, int]]) -> str | None:
    """The sentence on a column of work, from (amount, requests with it) pairs; None when no request has any."""
    total, having, rows = 0.0, 0, 0
    for size, requests in amounts:
        rows += requests
        if size:
            total, having = total + size * requests, having + requests
    if not having:
        return None
    return f"'{name}': {total:,.0f} in {having:,} of {count_of(rows, 'request')}; not simulated, only the token counts are"
