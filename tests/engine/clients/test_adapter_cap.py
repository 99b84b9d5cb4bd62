"""A client of the contracts: a scheduler that runs requests of at most so many adapters at once (vLLM's max_loras), written from outside.

vLLM passes over a waiting request whose adapter is not among the `max_loras` that the step's requests use already
(`vllm/v1/core/sched/scheduler.py`, `scheduled_loras`); requests of the base model always fit.
"""

from __future__ import annotations

import numpy as np
import pytest

from simserve.contracts import Field, InstanceView, Scheduler, SchedulerParams, StepPlan
from simserve.engine import InstanceSpec, simulate
from simserve.engine.records import RequestColumns, Status
from simserve.workload.requests import Labels, PrefixBlocks, RequestTable, Workload
from tests.reference.toy_cost import JaggedCost


class AdapterCap(Scheduler):
    """First come, first served, except that a request whose adapter finds no place lets others pass."""

    class Params(SchedulerParams):
        max_seqs: int = Field(16, gt=0, description="Most requests that run at once.")
        max_adapters: int = Field(2, gt=0, description="Most different adapters among them.")
        token_budget: int = Field(64, gt=0, description="Most tokens of a step.")

    params: Params

    def plan(self, view: InstanceView) -> StepPlan:
        plan = view.new_plan(budget=self.params.token_budget)
        plan.decode(view.decoding)
        for request in tuple(view.prefilling):
            if plan.budget_left:
                plan.prefill(request, min(request.prefill_left, plan.budget_left))
        held = {request.column("adapter") for request in (*view.decoding, *view.prefilling)} - {None}
        for request in view.waiting:
            adapter = request.column("adapter")
            if not plan.budget_left or plan.budget_left < 0:
                break
            if adapter is not None and adapter not in held and len(held) == self.params.max_adapters:
                continue
            if not plan.admit(request):
                break
            held |= {adapter} - {None}
            plan.prefill(request, min(request.prefill_left, plan.budget_left))
        return plan.hold(ignore_arrivals=False)


def workload(rows: int, adapters: int, seed: int, burst: bool) -> RequestTable:
    """Requests that all begin with the same 32 tokens, of the base model (one in five) or an adapter drawn unevenly."""
    rng = np.random.default_rng(seed)
    arrival = np.zeros(rows) if burst else np.cumsum(rng.exponential(0.6, rows))
    drawn = np.minimum(rng.geometric(0.35, rows), adapters)
    names = ["" if rng.random() < 0.2 else f"adapter-{k}" for k in drawn.tolist()]
    prompts = rng.integers(33, 80, rows)
    offsets = np.arange(0, 4 * rows + 1, 4)
    prefix = PrefixBlocks(offsets, np.tile(np.arange(4), rows), 8)
    return RequestTable.build(arrival, prompts, rng.integers(1, 40, rows), prefix=prefix, adapter=Labels.of(names))


def serve(table: RequestTable, cap: int) -> RequestColumns:
    scheduler = AdapterCap(AdapterCap.Params(max_adapters=cap))
    spec = InstanceSpec("i", scheduler, JaggedCost(), kv_blocks=2000, block_tokens=8, max_seqs=16, prefix_caching=True)
    return simulate(Workload(table), [spec], check=True).requests


def adapters_of(table: RequestTable) -> list[str]:
    labels = table.column("adapter")
    assert isinstance(labels, Labels)
    return [labels.names[code] for code in labels.codes.tolist()]


def most_at_once(table: RequestTable, r: RequestColumns) -> int:
    """The most different adapters in any step. No request is preempted, so each is in the batch from its first step to its last; a step
    begins when one ends, so what is scheduled at an instant comes after what ends then."""
    names = adapters_of(table)
    most = 0
    for at_s in r.scheduled_s.tolist():
        running = (r.scheduled_s <= at_s) & (r.finish_s > at_s)
        most = max(most, len({names[row] for row in np.flatnonzero(running).tolist()} - {""}))
    return most


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("burst", [True, False])
@pytest.mark.parametrize("cap", [1, 2, 4])
def test_never_more_adapters_at_once_than_allowed_and_everybody_is_served(cap: int, burst: bool, seed: int) -> None:
    table = workload(60, 7, seed, burst)
    r = serve(table, cap)
    assert (r.status == Status.COMPLETED).all() and (r.generated_tokens == table.output_tokens).all()
    assert not r.preemptions.any()
    assert most_at_once(table, r) == cap


def test_without_a_cap_more_adapters_run_together() -> None:
    table = workload(60, 7, 0, True)
    assert most_at_once(table, serve(table, 99)) > 4


@pytest.mark.parametrize("cap", [1, 3])
def test_no_prefix_is_found_under_another_adapter(cap: int) -> None:
    """All prompts begin alike: only the first of each adapter (and of the base model) to be served finds nothing; no other text helps
    it. Which of a burst are admitted before the first has computed it depends on the schedule, so arrivals are far apart."""
    table = workload(40, 5, 1, False)
    table = RequestTable.build(
        1000.0 * np.arange(40), table.prompt_tokens, table.output_tokens, prefix=table.prefix, adapter=table.column("adapter")
    )
    r = serve(table, cap)
    names = adapters_of(table)
    first = [names.index(name) == row for row, name in enumerate(names)]
    assert r.cached_tokens.tolist() == [0 if is_first else 32 for is_first in first]


def test_requests_of_the_base_model_pass_a_full_cap() -> None:
    """Two adapters run for long; a third waits although it came first, and the base model's request does not."""
    arrival, output = np.array([0.0, 0.0, 1.0, 2.0]), np.array([400, 400, 3, 3])
    table = RequestTable.build(arrival, np.full(4, 8), output, adapter=Labels.of(["a", "b", "c", ""]))
    r = serve(table, 2)
    assert r.finish_s[3] < r.scheduled_s[2]
    assert r.scheduled_s[2] >= r.finish_s[:2].min()
