"""Random small cases for the engine: a workload, an instance and a policy, small enough to think about and tight enough to hurt.

Memory is a few blocks, sequence slots a few, prompts sometimes longer than the cache, arrivals often tied: what is rare in a real trace is
common here. `Case.engine()` and `Case.naive()` run the same case on both simulators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from simserve.contracts import CostModel, Speculation
from simserve.engine import InstanceSpec, simulate
from simserve.engine.jitter import StepJitter
from simserve.engine.kv_groups import KvGroups, KvWindow
from simserve.engine.records import RunRecords
from simserve.policies import registry
from simserve.policies.registry import scheduler_class
from simserve.workload.requests import AlsoAfter, RequestTable, Workload
from tests.engine.speculation.toys import DRAWN, KINDS, Verifying
from tests.reference.naive import EVERY_TOKEN, Groups, Naive
from tests.reference.naive_policies import NAIVE_POLICIES
from tests.reference.toy_cost import JaggedCost, RoundCost

ORDERS = ("fcfs", "priority", "shortest-job", "longest-prefix")
POLICIES = tuple(NAIVE_POLICIES)


@dataclass(frozen=True)
class Row:
    """One request: `arrival_s` is a delay where `after` >= 0; `also_after` = further rows it waits for."""

    arrival_s: float
    prompt: int
    output: int
    max_output: int = -1
    priority: int = 0
    after: int = -1
    also_after: tuple[int, ...] = ()


@dataclass(frozen=True)
class Case:
    rows: tuple[Row, ...]
    policy: str
    params: tuple[tuple[str, Any], ...]
    cost: JaggedCost | RoundCost
    kv_blocks: int
    block_tokens: int
    max_seqs: int
    watermark_blocks: int = 0
    max_model_len: int | None = None
    preemption: str = "recompute"
    host_kv_blocks: int = 0
    order: str = "fcfs"
    concurrency: int | None = None
    think_s: float = 0.0
    groups: Groups = EVERY_TOKEN
    speculation: Speculation | None = None
    jitter: StepJitter | None = None

    def workload(self) -> Workload:
        def column(name: str) -> Any:
            return np.array([getattr(r, name) for r in self.rows], dtype=np.float64 if name == "arrival_s" else np.int64)

        table = RequestTable.build(
            column("arrival_s"),
            column("prompt"),
            column("output"),
            max_output_tokens=column("max_output"),
            priority=column("priority"),
            after=column("after"),
            also_after=self._also_after(),
        )
        return Workload(table, self.concurrency, self.think_s)

    def _also_after(self) -> AlsoAfter | None:
        offsets = np.cumsum([0, *(len(r.also_after) for r in self.rows)]).astype(np.int64)
        return AlsoAfter(offsets, np.array([p for r in self.rows for p in r.also_after], dtype=np.int64)) if offsets[-1] else None

    def _instance(self) -> dict[str, Any]:
        names = ("kv_blocks", "block_tokens", "max_seqs", "watermark_blocks", "max_model_len", "preemption", "host_kv_blocks", "order")
        return {name: getattr(self, name) for name in names}

    def spec(self, scheduler: Any = None) -> InstanceSpec:
        """The instance of the case, with its own policy or another `scheduler` object in its place."""
        if scheduler is None:
            cls = scheduler_class(self.policy)
            scheduler = cls(cls.Params(**dict(self.params), max_seqs=self.max_seqs))
        shape = {**self._instance(), "order": registry.order(self.order), "kv_groups": self.kv_groups, "speculation": self.speculation}
        shape["jitter"] = self.jitter
        return InstanceSpec(name="i0", scheduler=scheduler, cost=self.step_cost, **shape)

    @property
    def step_cost(self) -> CostModel:
        """The case's cost, which prices drafted tokens where any are drafted."""
        return self.cost if self.speculation is None else Verifying(self.cost)

    @property
    def kv_groups(self) -> KvGroups | None:
        """None where all layers keep every token."""
        full, windows, state = self.groups
        return None if self.groups == EVERY_TOKEN else KvGroups(full, tuple(KvWindow(*window) for window in windows), state)

    def engine(self, scheduler: Any = None, **options: Any) -> RunRecords:
        return simulate(self.workload(), [self.spec(scheduler)], **options)

    def naive(self) -> Naive:
        policy = NAIVE_POLICIES[self.policy](**dict(self.params))
        shape = {**self._instance(), "groups": self.groups, "speculation": self.speculation, "jitter": self.jitter}
        return Naive(self.workload(), policy, self.step_cost, **shape).run()


def params(policy: str, budgets: list[int]) -> st.SearchStrategy[tuple[tuple[str, Any], ...]]:
    """Parameters of a policy (without max_seqs), with budgets small enough to bind."""
    budget = st.sampled_from(budgets)
    choices: dict[str, st.SearchStrategy[Any]] = {}
    if policy == "vllm-v0":
        choices = {"max_num_batched_tokens": st.none() | budget, "padded": st.booleans(), "chunked": st.sampled_from([False, False, True])}
    elif policy == "sglang":
        choices = {
            "chunked_prefill_size": budget | st.just(-1),
            "max_prefill_tokens": budget,
            "schedule_conservativeness": st.sampled_from([0.0, 0.0, 0.3, 1.0]),  # at 0 memory runs short most often
            "prefill_max_requests": st.sampled_from([0, 0, 1, 2]),
            "clip_max_new_tokens": st.sampled_from([4096, 1]),
        }
        return st.builds(
            lambda chosen, mixed: tuple(sorted((chosen | {"mixed_chunk": mixed and chosen["chunked_prefill_size"] > 0}).items())),
            st.fixed_dictionaries(choices),
            st.booleans(),
        )
    elif policy == "vllm-v1":
        rules = {
            "victim_in_step": st.sampled_from(["stays", "leaves", "undone"]),
            "reserve_full_prompt": st.booleans(),
            "threshold_alone": st.booleans(),
            "adaptive_threshold": st.booleans(),
            "max_active_seqs": st.sampled_from([0, 0, 2]),
        }
        whole = st.fixed_dictionaries({"max_num_batched_tokens": budget, "chunked": st.just(False), **rules})
        thresholds = st.sampled_from([0, 0, 1, 3, 8])
        cut = st.fixed_dictionaries({"max_num_batched_tokens": budget, "long_prefill_token_threshold": thresholds, **rules})
        return st.one_of(cut, cut, whole).map(lambda chosen: tuple(chosen.items()))
    elif policy == "sarathi":
        refuse = {"chunked": False, "longer_prompts": "refuse"}
        both_or_one = st.sampled_from([{}, {}, {"hybrid": False}, {"chunked": False}, refuse])
        return st.builds(lambda tokens, off: (("token_budget", tokens), *off.items()), budget, both_or_one)
    elif policy == "xy-serve":
        kept = st.sampled_from([0, 0, 2, 7])
        return st.builds(lambda tokens, kept: (("token_budget", tokens), ("reserved_tokens", min(kept, tokens - 1))), budget, kept)
    elif policy == "fastgen":
        choices = {"token_budget": budget}
    elif policy == "layered":
        choices = {
            "max_num_batched_tokens": budget,
            "group_tokens": st.sampled_from([1, 1, 2, 5]),
            "group_rule": st.sampled_from(["tokens", "tokens", "tokens", "table"]),
            "max_groups": st.sampled_from([16, 16, 3]),
        }
    elif policy == "distserve":
        choices = {"max_num_batched_tokens": budget, "max_batch_prompts": st.sampled_from([1, 2, 128])}
    elif policy in ("orca", "static"):
        choices = {"reserve": st.sampled_from(["max", "oracle"])}
    elif policy == "past-future":
        choices = {
            "max_num_batched_tokens": budget,
            "wait_steps": st.sampled_from([1, 2, 6]),
            "window": st.sampled_from([1, 4, 200]),
            "reserve": st.sampled_from([0.0, 0.05, 0.3]),
            "predict": st.sampled_from(["history", "history", "limit", "oracle"]),
            "seed": st.integers(0, 3),
        }
    return st.fixed_dictionaries(choices).map(lambda d: tuple(d.items()))


@st.composite
def rows(draw: st.DrawFn, max_requests: int, quarter: bool, dependent: bool, crowded: bool) -> tuple[Row, ...]:
    """Requests in order of arrival; gaps are often 0, and quarters of a second when `quarter` (so that they hit ends of steps).

    `crowded`: at least three requests that come close together and generate at least 5 tokens each.
    """
    tick = 0.25 if quarter else 0.0137731
    gaps = [0, 0, 0, 1, 1, 2] if crowded else [0, 0, 0, 1, 1, 2, 3, 5, 9, 40]
    longest = draw(st.sampled_from([6, 12] if crowded else [6, 20, 60]))
    outputs = st.integers(5, longest + 8) if crowded else st.integers(0, longest) | st.sampled_from([0, 1, 2, 9])
    out, clock = [], 0.0
    for i in range(draw(st.integers(3 if crowded else 1, max_requests))):
        gap = tick * draw(st.sampled_from(gaps))
        after = draw(st.integers(0, i - 1)) if dependent and i and draw(st.integers(0, 3)) == 0 else -1
        clock += gap if after < 0 else 0.0
        output = draw(outputs)
        max_output = draw(st.sampled_from([-1, -1, 0, 1, output, output + 3, 2 * longest]))
        prompt, priority = draw(st.integers(0, longest)), draw(st.integers(-1, 2))
        others = [row for row in range(i) if row != after]
        also = draw(st.lists(st.sampled_from(others), max_size=3, unique=True)) if after >= 0 and others else []
        out.append(Row(gap if after >= 0 else clock, prompt, output, max_output, priority, after, tuple(also)))
    return tuple(out)


@st.composite
def kv_groups(draw: st.DrawFn) -> Groups:
    """Layers of several kinds: windows of one block to more than most requests have, recurrent state, seldom no layer that keeps all."""
    windows = []
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2]))):
        decoding = draw(st.integers(1, 8))
        windows.append((draw(st.integers(1, 3)), decoding + draw(st.sampled_from([0, 0, 0, 1, 3, 20])), decoding))
    full = draw(st.sampled_from([1, 1, 1, 2, 0] if windows else [1, 2]))
    return full, tuple(sorted(windows, key=lambda window: window[2])), draw(st.sampled_from([0, 0, 1, 5]))


@st.composite
def jitters(draw: st.DrawFn) -> StepJitter:
    """From steps that hardly vary to some in which the stall is longer than many steps, and a host that takes more than the step."""
    return StepJitter(
        step_s=draw(st.sampled_from([0.003, 0.02, 5.0])),
        decode_s=draw(st.sampled_from([0.0, 0.0017])),
        spread=draw(st.sampled_from([0.0, 0.3, 2.0])),
        stall_probability=draw(st.sampled_from([0.0, 0.05, 0.5])),
        stall_s=draw(st.sampled_from([0.01, 3.0])),
        seed=draw(st.integers(0, 2**40)),
    )


@st.composite
def cases(
    draw: st.DrawFn,
    policies: tuple[str, ...] = POLICIES,
    orders: tuple[str, ...] = ORDERS,
    max_requests: int = 9,
    grouped: bool = False,
    speculating: bool = False,
    varied: bool = False,
) -> Case:
    """A random case. Two in three are crowded: memory for the longest request and a few blocks more, several requests that want it.
    `grouped`: layers keep different tokens. `speculating`: decoding requests have tokens drafted. `varied`: steps vary."""
    policy = draw(st.sampled_from(policies))
    quarter = draw(st.booleans())
    closed = draw(st.integers(0, 3)) == 0
    crowded = draw(st.integers(0, 2)) > 0
    block_tokens = draw(st.sampled_from([1, 2, 3, 4, 8]))
    watermark_blocks = draw(st.sampled_from([0, 0, 0, 1, 2]))
    requests = draw(rows(max_requests, quarter, not closed, crowded))
    groups = draw(kv_groups()) if grouped else EVERY_TOKEN
    per_block = groups[0] + sum(window[0] for window in groups[1])
    if crowded:
        longest = max(max(1, r.prompt) + r.output for r in requests)
        table = -(-longest // block_tokens)
        more = per_block - groups[0] + groups[2]
        held = groups[0] * table + sum(blocks * min(table, kept) for blocks, kept, _ in groups[1]) + groups[2] + more
        kv_blocks = (held if grouped else table) + watermark_blocks + draw(st.integers(1, 1 + 8 // block_tokens)) * per_block
    else:
        kv_blocks = watermark_blocks + draw(st.integers(2, 24)) * per_block + 2 * groups[2]
    budgets = [8, 16, 33, 64] if crowded else [1, 2, 5, 8, 16, 33, 64]
    return Case(
        rows=requests,
        policy=policy,
        params=draw(params(policy, [4, 8, 8, 16] if speculating else budgets)),
        cost=RoundCost() if quarter else JaggedCost(),
        kv_blocks=kv_blocks,
        block_tokens=block_tokens,
        max_seqs=draw(st.sampled_from([3, 5, 16] if crowded else [1, 2, 3, 5, 16])),
        watermark_blocks=watermark_blocks,
        max_model_len=None if crowded else draw(st.none() | st.integers(2, 70)),
        preemption=draw(st.sampled_from(["recompute", "swap"])),
        host_kv_blocks=draw(st.sampled_from([100, 10, 3, 0])) * (per_block + groups[2]),
        order=draw(st.sampled_from(orders)),
        concurrency=draw(st.integers(3, 5) if crowded else st.integers(1, 4)) if closed else None,
        think_s=draw(st.sampled_from([0.0, 0.0, 0.25, 0.6180339887])) if closed else 0.0,
        groups=groups,
        speculation=draw(st.sampled_from([*KINDS, *DRAWN])) if speculating else None,
        jitter=draw(jitters()) if varied else None,
    )
