"""Random small clusters: several tight instances, contents shared by prompts, roles with a slow link, deaths in between."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from simserve.engine import InstanceSpec, simulate
from simserve.engine.records import RunRecords
from simserve.engine.spec import ClusterSpec, Failures, LinkSpec
from simserve.policies.registry import router_class, scheduler_class
from simserve.workload.requests import Labels, PrefixBlocks, Workload
from tests.engine.strategies import POLICIES, Case, cases
from tests.reference.naive_cluster import NaiveCluster
from tests.reference.naive_migration import Plan
from tests.reference.naive_policies import NAIVE_POLICIES

IN_CLUSTERS = tuple(name for name in POLICIES if name != "xy-serve")
"""One instance alone tells all of XY-Serve's rule (tests/policies/test_xy_serve_rules.py)."""
ROUTERS = ("round-robin", "least-outstanding", "least-tokens", "shortest-queue")


@dataclass(frozen=True)
class ClusterCase:
    """`base` gives the requests, and the policy and size of every instance; `extra_blocks[i]` more KV blocks has instance i. `contents`
    are of prompts, or with `outputs` of prompts and outputs."""

    base: Case
    roles: tuple[str, ...] = ("mixed",)
    extra_blocks: tuple[int, ...] = (0,)
    contents: tuple[tuple[int, ...], ...] = ()
    run_blocks: int = 1
    outputs: bool = False
    adapters: tuple[str, ...] = ()
    salts: tuple[str, ...] = ()
    router: str = "round-robin"
    decode_router: str = "least-outstanding"
    link: tuple[float, float] = (1024.0, 0.0)
    kv_bytes_per_token: float = 16.0
    kv_transfer: str = "pull"
    layers: int = 4
    failures: tuple[tuple[float, int], ...] = ()
    restart_s: float = 1.0
    rule: str = "resume"
    windows: tuple[tuple[int, float], ...] = ()
    state_bytes: float = 0.0
    patience_s: tuple[float, ...] = ()

    def workload(self) -> Workload:
        work = self._of_clients(self.base.workload())
        if not self.contents:
            return work
        offsets = np.cumsum([0, *map(len, self.contents)]).astype(np.int64)
        ids = np.array([key for one in self.contents for key in one], dtype=np.int64)
        prefix = PrefixBlocks(offsets, ids, self.run_blocks * self.base.block_tokens, self.outputs)
        given = {"adapter": self.adapters, "salt": self.salts}
        others = {name: Labels.of(list(texts)) for name, texts in given.items() if any(texts)}
        return replace(work, requests=replace(work.requests, prefix=prefix, others={**work.requests.others, **others}))

    def _of_clients(self, work: Workload) -> Workload:
        if not self.patience_s:
            return work
        return replace(work, requests=replace(work.requests, others={"patience_s": np.array(self.patience_s)}))

    def engine(self, **options: Any) -> RunRecords:
        return simulate(self.workload(), [self._spec(i) for i in range(len(self.roles))], self._cluster(), **options)

    def _spec(self, i: int) -> InstanceSpec:
        cls = scheduler_class(self.base.policy)
        scheduler = cls(cls.Params(**dict(self.base.params), max_seqs=self.base.max_seqs))
        bytes_per_s, latency_s = self.link
        return replace(
            self.base.spec(scheduler),
            name=f"i{i}",
            kv_blocks=self.base.kv_blocks + self.extra_blocks[i],
            role=self.roles[i],
            link=LinkSpec(
                bytes_per_s, latency_s, self.kv_bytes_per_token, layers=self.layers, windows=self.windows, state_bytes=self.state_bytes
            )
            if self.roles[i] == "prefill"
            else None,
            prefix_caching=bool(self.contents),
        )

    def _cluster(self) -> ClusterSpec:
        router, decode = (router_class(name) for name in (self.router, self.decode_router))
        failures = Failures(self.failures, None, self.restart_s, self.rule) if self.failures else None
        push, layerwise = self.kv_transfer != "pull", self.kv_transfer == "push-layerwise"
        return ClusterSpec(router(router.Params()), decode(decode.Params()), push=push, layerwise=layerwise, failures=failures)

    def naive_options(self) -> dict[str, Any]:
        """What the naive instances are told beside these."""
        return {}

    def naive_migrations(self) -> Plan | None:
        """The live migrations of the naive cluster."""
        return None

    def naive(self) -> NaiveCluster:
        base = self.base
        same = (
            "block_tokens",
            "max_seqs",
            "watermark_blocks",
            "max_model_len",
            "preemption",
            "host_kv_blocks",
            "order",
            "speculation",
            "jitter",
        )
        instances = [
            {
                **{name: getattr(base, name) for name in same},
                "policy": NAIVE_POLICIES[base.policy](**dict(base.params)),
                "kv_blocks": base.kv_blocks + extra,
                "role": role,
                "prefix_caching": bool(self.contents),
                "link": self.link,
                "groups": base.groups,
                "cost": base.step_cost,
                **self.naive_options(),
            }
            for role, extra in zip(self.roles, self.extra_blocks, strict=True)
        ]
        return NaiveCluster(
            self.workload(), instances, self.router, self.decode_router, self.kv_bytes_per_token, self.failures, self.restart_s, self.rule,
            self.kv_transfer, self.layers, self.windows, self.state_bytes, self.naive_migrations(),
        ).run()  # fmt: skip


@st.composite
def contents(draw: st.DrawFn, base: Case, run_blocks: int, outputs: bool) -> tuple[tuple[int, ...], ...]:
    """Every prompt (with its output) begins like one of two, as far as a point where it goes its own way."""
    out = []
    for row in base.rows:
        runs = -(-(row.prompt + row.output * outputs) // (run_blocks * base.block_tokens))
        family, alike = draw(st.integers(0, 1)), draw(st.sampled_from([99, 99, 99, 2, 1]))
        out.append(tuple(1000 * family + j if j < alike else 10_000 + 1000 * len(out) + j for j in range(runs)))
    return tuple(out)


@st.composite
def clusters(
    draw: st.DrawFn,
    *,
    sizes: tuple[int, ...] = (1,),
    caching: bool = False,
    kv_transfers: bool = False,
    deaths: bool = False,
    ways: tuple[str, ...] = ("pull",),
    grouped: bool = False,
    impatient: bool = False,
    speculating: bool = False,
    varied: bool = False,
) -> ClusterCase:
    """A random cluster. `caching`, `kv_transfers` (by one of `ways`): always, otherwise never; `deaths`: one to three; `grouped`: layers
    keep different tokens; `impatient`: some clients give up; `speculating`: decoding requests have tokens drafted; `varied`: steps vary."""
    most = 9 if max(sizes) == 1 else 14
    base = draw(cases(policies=IN_CLUSTERS, max_requests=most, grouped=grouped, speculating=speculating, varied=varied))
    if caching and not base.groups[0]:
        base = replace(base, groups=(1, *base.groups[1:]))
    size = draw(st.sampled_from(sizes))
    roles = ["mixed"] * size
    if kv_transfers:
        others = [draw(st.sampled_from(["prefill", "decode", "mixed"])) for _ in range(size - 2)]
        roles = draw(st.permutations(["prefill", "decode", *others]))
    run_blocks = draw(st.sampled_from([1, 1, 2])) if caching else 1
    round_times = type(base.cost).__name__ == "RoundCost"
    when = st.integers(0, 24).map(lambda k: k * 0.25) if round_times else st.integers(1, 40).map(lambda k: k * 0.0317 + 0.0001)
    outputs = caching and draw(st.booleans())
    whose = st.sampled_from(["", "", "", "a", "b"])
    owners = caching and draw(st.integers(0, 3)) == 0
    adapters, salts = (tuple(draw(whose) for _ in base.rows) if owners else () for _ in range(2))
    times = draw(st.lists(st.tuples(when, st.integers(0, size - 1)), min_size=1, max_size=3)) if deaths else []
    return ClusterCase(
        base,
        roles=tuple(roles),
        extra_blocks=tuple(draw(st.sampled_from([0, 0, 1, 4])) for _ in roles),
        contents=draw(contents(base, run_blocks, outputs)) if caching else (),
        run_blocks=run_blocks,
        outputs=outputs,
        adapters=adapters,
        salts=salts,
        router=draw(st.sampled_from(ROUTERS)),
        decode_router=draw(st.sampled_from(ROUTERS)),
        link=draw(st.sampled_from([(1024.0, 0.0), (512.0, 0.25), (256.0, 0.0), (64.0, 0.5)])) if round_times
        else draw(st.sampled_from([(4096.0, 0.0), (1500.0, 0.0101), (300.0, 0.0777)])),
        kv_transfer=draw(st.sampled_from(ways)),
        layers=draw(st.sampled_from([1, 2, 4, 4])) if len(ways) > 1 else 4,
        failures=tuple(sorted(times)),
        restart_s=draw(st.sampled_from([0.25, 1.0, 4.0] if round_times else [0.0501, 0.7, 3.3])),
        rule=draw(st.sampled_from(["resume", "retry", "fail"])),
        windows=draw(st.sampled_from([(), ((3, 8.0),), ((2, 8.0), (20, 4.0))])) if grouped else (),
        state_bytes=draw(st.sampled_from([0.0, 64.0])) if grouped else 0.0,
        patience_s=tuple(draw(st.one_of(when, when, st.just(math.nan))) for _ in base.rows) if impatient else (),
    )  # fmt: skip
