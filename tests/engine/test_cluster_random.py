"""Random clusters in which everything may happen: nothing is lost or doubled, spans change nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.engine import InstanceSpec, simulate
from simserve.engine.records import Status
from simserve.engine.spec import ClusterSpec, Failures, MigrationSpec
from simserve.policies import registry
from simserve.workload.requests import RequestTable, Workload
from tests.engine.cluster_world import LINK, contents, router, spec
from tests.reference.toy_cost import JaggedCost, RoundCost

ROUTERS = registry.router_names()


@st.composite
def clusters(draw: st.DrawFn) -> tuple[Workload, list[InstanceSpec], ClusterSpec]:
    """A random cluster in which everything may happen."""
    n = draw(st.integers(1, 14))
    arrivals = np.sort(np.array(draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.3, 4.0, 7.7]), min_size=n, max_size=n))))
    lengths = st.lists(st.integers(1, 60), min_size=n, max_size=n)
    session = np.array(draw(st.lists(st.integers(-1, 2), min_size=n, max_size=n)))
    priority = np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    prompts = np.array(draw(lengths))
    prefix = None
    if draw(st.booleans()):  # every prompt begins like one of two others
        kinds = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
        prefix = contents([[100 * kind + k for k in range(-(-int(tokens) // 4))] for kind, tokens in zip(kinds, prompts, strict=True)])
    patience_s = None
    if draw(st.booleans()):
        patience_s = np.array(draw(st.lists(st.sampled_from([0.0, 0.25, 0.7, 2.0, 3.31, np.nan]), min_size=n, max_size=n)))
    table = RequestTable.build(
        arrivals, prompts, np.array(draw(lengths)), session=session, priority=priority, prefix=prefix, patience_s=patience_s
    )
    load = Workload(table, concurrency=draw(st.sampled_from([None, None, 3])))
    cost = draw(st.sampled_from([RoundCost(), JaggedCost()]))
    disaggregated = draw(st.booleans())
    roles = ["prefill", "decode", "decode", "prefill"] if disaggregated else ["mixed"] * draw(st.integers(1, 4))
    policy = draw(st.sampled_from(sorted(registry._BUILT_IN_SCHEDULERS)))
    common: dict[str, Any] = {
        "kv_blocks": draw(st.integers(34, 60)),
        "boot_s": 1.0,
        "steps_ahead": draw(st.integers(0, 2)),
        "request_s": draw(st.sampled_from([0.0, 0.0, 0.3])),
        "order": registry.order(draw(st.sampled_from(["fcfs", "priority"]))),
    }
    if policy != "orca":
        common |= {"prefix_caching": prefix is not None and draw(st.booleans())}
        common |= draw(st.sampled_from([{}, {"preemption": "swap", "host_kv_blocks": 20}]))
    specs = [
        spec(f"i{k}", policy, cost, role=role, max_seqs=draw(st.integers(2, 8)), node=k // 2, **common) for k, role in enumerate(roles)
    ]
    if draw(st.booleans()):
        specs = [replace(one, uplink=replace(LINK, bytes_per_s=3000.0)) for one in specs]
    controllers: list[Any] = []
    if draw(st.booleans()):
        migration = registry.controller_class("llumnix-migration")
        pairing, which = draw(st.sampled_from(["defrag", "balanced"])), draw(st.sampled_from(["shortest", "longest", "last"]))
        threshold = draw(st.sampled_from([3.0, 8.0]))
        params = {
            "interval_s": 0.25,
            "threshold": threshold,
            "pairing": pairing,
            "request": which,
            "headroom_blocks": draw(st.sampled_from([0, 3])),
        }
        controllers.append(migration(migration.Params(**params)))
    if draw(st.booleans()) and not disaggregated:
        scaling = registry.controller_class("llumnix-scaling")
        controllers.append(scaling(scaling.Params(interval_s=1.0, scale_up=3.0, scale_down=9.0)))
    failures = None
    if draw(st.booleans()):
        times = draw(st.lists(st.tuples(st.sampled_from([0.25, 0.8, 2.0, 5.0]), st.integers(0, len(specs) - 1)), max_size=3))
        failures = Failures(tuple(times), draw(st.sampled_from([None, 40.0])), 2.0, draw(st.sampled_from(["resume", "retry", "fail"])), 1)
    decode_router = draw(st.sampled_from(ROUTERS))
    push = "pull" if decode_router.startswith("splitwise") else draw(st.sampled_from(["pull", "push", "layers"]))
    cluster = ClusterSpec(
        router=router(draw(st.sampled_from(ROUTERS))),
        decode_router=router(decode_router),
        refresh_s=draw(st.sampled_from([0.0, 0.3])),
        push=push != "pull",
        layerwise=push == "layers",
        controllers=tuple(controllers),
        failures=failures,
        migration=MigrationSpec(draw(st.integers(1, 4)), draw(st.integers(1, 4))),
    )
    return load, specs, cluster


def test_invariants_hold_under_random_failures_migrations_and_transfers() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=400, deadline=None, derandomize=True)
    @given(case=clusters())
    def look(case: tuple[Workload, list[InstanceSpec], ClusterSpec]) -> None:
        load, specs, cluster = case
        records = simulate(load, specs, cluster, check=True)
        moves = records.moves
        seen.update(
            cases=1,
            migrated=moves is not None and bool((moves.outcome == 0).any()),
            gave_up=moves is not None and bool((moves.outcome > 0).any()),
            died=bool(records.counters["instance_failures"]),
            lost_work=bool(records.counters["instance_failures"]) and bool(records.requests.recomputed_tokens.any()),
            transferred=bool(records.counters["transferred_tokens"]),
            scaled=any(state == "draining" for _, _, state in records.instance_states),
            preempted=bool(records.requests.preemptions.any()),
            cached=bool(records.requests.cached_tokens.any()),
            cancelled=bool((records.requests.status == Status.CANCELLED).any()),
            cancelled_late=bool((records.requests.generated_tokens[records.requests.status == Status.CANCELLED] > 0).any()),
        )

    look()
    everything = "migrated", "gave_up", "died", "lost_work", "transferred", "scaled", "preempted", "cached", "cancelled", "cancelled_late"
    assert not [what for what in everything if seen[what] < 10], seen


@settings(max_examples=60, deadline=None, derandomize=True)
@given(case=clusters(), until_s=st.sampled_from([0.5, 2.0, 6.1]))
def test_a_run_cut_short_leaves_consistent_records(case: tuple[Workload, list[InstanceSpec], ClusterSpec], until_s: float) -> None:
    load, specs, cluster = case
    simulate(load, specs, cluster, check=True, until_s=until_s)
