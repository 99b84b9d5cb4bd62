"""Which measured runs the overheads may be learned from, and which only judge them.

The split is by whole runs (`Case.run`: an engine and version with a model on a device, a page, a load test), never by single rows, and
depends on nothing but the run's name: a hash of it puts 40 % of the runs of each data set into the check part. A data set with a single
run is judged on what it was fitted to, and the report says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from simserve.validation.case import Case

CHECK_FRACTION = 0.4


def is_check(case: Case) -> bool:
    """Whether the case's run is kept for judging."""
    digest = hashlib.sha256(f"{case.dataset}/{case.run}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < CHECK_FRACTION


def fit_part(cases: Iterable[Case]) -> list[Case]:
    """The cases to learn from."""
    return [case for case in cases if not is_check(case)]


def check_part(cases: Iterable[Case]) -> list[Case]:
    """The cases to judge by."""
    return [case for case in cases if is_check(case)]
