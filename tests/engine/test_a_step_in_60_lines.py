"""The loop that docs/architecture.md shows on a page is the engine's: the same times, to the last bit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.engine import InstanceSpec, simulate
from simserve.policies.registry import scheduler_class
from simserve.workload.requests import RequestTable, Workload
from tests.reference.toy_cost import JaggedCost, RoundCost

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
MOST_LINES = 60


def shown() -> str:
    found = re.search(r"^## A step in 60 lines\n.*?```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    assert found is not None
    return found.group(1)


def test_it_fits() -> None:
    assert len(shown().splitlines()) <= MOST_LINES


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 30), st.integers(1, 20)), min_size=1, max_size=10),
    budget=st.integers(8, 40),
    kv_blocks=st.integers(14, 60),
    cost=st.sampled_from([JaggedCost(), RoundCost()]),
)
def test_it_is_the_engine(rows: list[tuple[int, int, int]], budget: int, kv_blocks: int, cost: Any) -> None:
    arrivals, prompts, outputs = np.cumsum([0.25 * gap for gap, _, _ in rows]), [p for _, p, _ in rows], [o for _, _, o in rows]
    page: dict[str, Any] = {}
    exec(compile(shown(), "docs/architecture.md", "exec"), page)
    finished = page["serve"](list(zip(arrivals.tolist(), prompts, outputs, strict=True)), cost, budget, kv_blocks, 4)
    cls = scheduler_class("sarathi")
    policy = cls(cls.Params(token_budget=budget, max_seqs=8))
    table = RequestTable.build(arrivals, np.array(prompts), np.array(outputs))
    spec = InstanceSpec("i", policy, cost, kv_blocks=kv_blocks, block_tokens=4, max_seqs=8)
    assert finished == simulate(Workload(table), [spec]).requests.finish_s.tolist()
