"""What was built apart works together: drafts, loads, impatient clients, windows, roles, deaths, migrations, appended rows."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.engine.seam_campaign import outcome
from tests.engine.seam_cases import Drawn, draw

EVERYTHING = (
    "speculated", "verified", "transferred", "died", "cancelled late", "preempted", "cached", "drained", "windows", "staged", "loads",
    "pieces",
)  # fmt: skip
RARE = ("roles", "migrated", "swapped", "reread")


def hunt(seeds: range) -> Counter[str]:
    """Serves the cases of these seeds; what has happened in them."""
    seen: Counter[str] = Counter()
    for seed in seeds:
        found = outcome(draw(seed))
        assert found["kind"] == "ok", found
        seen.update(found["seen"])
    return seen


def test_everything_meets_everything_else() -> None:
    seen = hunt(range(150))
    assert all(seen[what] >= 5 for what in EVERYTHING), seen


@pytest.mark.nightly
def test_everything_meets_everything_else_many_times() -> None:
    seen = hunt(range(150, 3000))
    assert all(seen[what] >= 10 for what in EVERYTHING + RARE), seen


PLAIN: Drawn = {
    "seed": 0, "roles": ["mixed"], "cost": "round", "kv_blocks": 60, "stages": [1], "policy": "sarathi", "params": {"token_budget": 16},
    "max_seqs": 8, "order": "fcfs", "router": "round-robin", "decode_router": "least-outstanding", "kv_transfer": "pull",
    "link": [700.0, 0.25],
}  # fmt: skip
ONE_OF_TWO = {"roles": ["prefill", "decode"], "stages": [1, 1]}

FOUND: dict[str, Drawn] = {
    "loaded requests of a prefill instance hold memory that each other lacks": ONE_OF_TWO
    | {"rows": [[0.25, 13, 26], [0.0, 28, 6], [0.0, 28, 30]], "kv_blocks": 21, "policy": "sglang", "params": {"chunked_prefill_size": 16},
       "max_seqs": 1, "tier": [1, 0.25, 0.0]},
    "a decode router holds until a request ends": ONE_OF_TWO
    | {"rows": [[0.3, 45, 38], [0.0, 39, 24], [1.0, 25, 7], [0.0, 1, 38], [2.6, 10, 29]], "decode_hesitates": 1},
    "a router holds for signals that are stale": {
        "rows": [[2.6, 8, 1], [0.25, 1, 7]], "hesitates": [1, 10**9], "refresh_s": 0.3,
    },
    "a router holds, and the instance is idle until signals are refreshed": {
        "rows": [[0.0, 21, 20], [2.6, 6, 15]], "policy": "fastgen", "hesitates": [1, 10**9], "refresh_s": 0.3, "link": [10000.0, 0.0],
    },
    "an instance dies at the end of a step, with requests that load": {
        "rows": [[0.3, 1, 7], [0.0, 6, 3], [1.0, 5, 1]], "params": {"token_budget": 5}, "tier": [2, 0.25, 1.0], "deaths": [[2.0, 0]],
        "rule": "retry", "restart_s": 0.25,
    },
    "requests that verify start over elsewhere": {
        "rows": [[0.0, 17, 1], [2.6, 17, 5], [0.0, 12, 13]], "roles": ["mixed", "mixed"], "stages": [1, 1], "accepts": "none",
        "drafting": {"k": 1, "budget": 200, "stretch_s": 2.0, "drafts": 3, "whole": False}, "drafts_at": [1], "router": "power-of-two",
        "deaths": [[5.0, 1]], "rule": "retry", "restart_s": 0.25, "link": [10000.0, 0.25],
    },
}  # fmt: skip


@pytest.mark.parametrize("what", FOUND)
def test_what_was_found(what: str) -> None:
    found = outcome(PLAIN | FOUND[what])
    assert found["kind"] == "ok", found
