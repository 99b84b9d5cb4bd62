"""Random cases in which what was built apart comes together: drawn as plain values, and built as a workload, instances and a cluster."""

from __future__ import annotations

from typing import Any

import numpy as np

from simserve.contracts import capable
from simserve.engine import InstanceSpec
from simserve.engine.kv_groups import KvGroups, KvWindow
from simserve.engine.spec import ClusterSpec, Failures, LinkSpec, MigrationSpec
from simserve.policies import registry
from simserve.workload.contents import AlsoAfter, PrefixBlocks
from simserve.workload.requests import Labels, RequestTable, Workload
from tests.engine.seam_world import Accepts, Adapters, Drafting, Hesitating, Script, Seams, Tier
from tests.engine.speculation.toys import DRAWN, KINDS
from tests.reference.toy_cost import JaggedCost, RoundCost

SPECULATIONS = [*KINDS, *DRAWN]

Drawn = dict[str, Any]
"""A case: plain JSON values, so that it can be printed, made smaller and run again."""

SMALL: dict[str, list[Drawn]] = {
    "vllm-v0": [{"max_num_batched_tokens": 64}, {"chunked": True, "max_num_batched_tokens": 16}],
    "vllm-v1": [{"max_num_batched_tokens": 16}, {"max_num_batched_tokens": 8, "long_prefill_token_threshold": 3}],
    "sarathi": [{"token_budget": 16}, {"token_budget": 5}, {"token_budget": 16, "hybrid": False}],
    "fastgen": [{"token_budget": 16}, {"token_budget": 7}],
    "distserve": [{"max_num_batched_tokens": 64}],
    "layered": [{"max_num_batched_tokens": 64, "group_tokens": 2}],
    "sglang": [{"chunked_prefill_size": 16}, {"chunked_prefill_size": -1}],
    "past-future": [{"wait_steps": 2, "window": 4, "seed": 1}, {"predict": "oracle"}],
    "orca": [{"reserve": "max"}, {"reserve": "oracle"}],
    "static": [{}],
    "xy-serve": [{"token_budget": 16}, {"token_budget": 16, "reserved_tokens": 7}],
}


def draw(seed: int) -> Drawn:
    """The case of a seed."""
    rng = np.random.default_rng(seed)

    def one(*values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    def maybe(often: float) -> bool:
        return bool(rng.random() < often)

    n = int(rng.integers(2, 16))
    longest = one(10, 30, 60)
    rows = [
        [float(one(0, 0, 0.25, 0.3, 1.0, 2.6)), int(rng.integers(1, longest + 1)), int(rng.integers(maybe(0.9), longest + 1))]
        for _ in range(n)
    ]
    roles = one(["mixed"], ["mixed", "mixed"], ["mixed"] * 3, ["prefill", "decode"], ["prefill", "decode", "mixed", "decode"],
                ["prefill", "decode", "decode", "prefill"])  # fmt: skip
    case: Drawn = {
        "seed": seed,
        "rows": rows,
        "roles": roles,
        "cost": one("round", "jagged"),
        "kv_blocks": longest // 2 + int(rng.integers(3, one(6, 12, 40))),
    }
    case["stages"] = [one(1, 1, 1, 2, 3) for _ in roles] if maybe(0.4) else [1] * len(roles)
    if maybe(0.6):
        case["drafting"] = {
            "k": one(0, 1, 3, 7), "budget": one(4, 9, 32, 200), "stretch_s": one(0.25, 0.7, 2.0), "drafts": one(1, 2, 3),
            "whole": maybe(0.6), "evict": maybe(0.4), "lingers": maybe(0.2), "held": maybe(0.7),
        }  # fmt: skip
        case["accepts"] = one("some", "some", "all", "none")
        case["drafts_at"] = [k for k in range(len(roles)) if maybe(0.7)] or [0]
    case["policy"] = one(*sorted(SMALL))
    case["params"] = one(*SMALL[case["policy"]])
    case["max_seqs"] = one(1, 2, 3, 5, 8)
    case["order"] = one("fcfs", "fcfs", "priority", "shortest-job", "longest-prefix")
    if maybe(0.4):
        case["host_kv_blocks"] = one(0, 6, 40)
    if maybe(0.3):
        case["watermark_blocks"] = one(1, 2)
    if maybe(0.3):
        case["steps_ahead"] = one(1, 2)
    if maybe(0.2):
        case["request_s"] = one(0.25, 0.31)
    if maybe(0.35):
        windows = [[one(1, 2), one(2, 3, 6), 2]] if maybe(0.8) else []
        case["groups"] = [one(1, 1, 2), windows, one(0, 0, 1, 4)]
    if maybe(0.4):
        case["prefix"] = {"kinds": [int(rng.integers(0, 2)) for _ in rows], "outputs": maybe(0.5), "run": one(4, 4, 8)}
    if maybe(0.4):
        case["patience_s"] = [one(None, None, 0.0, 0.25, 0.7, 2.0, 3.31, 9.0) for _ in rows]
    if maybe(0.4):
        case["adapter"] = [one("", "a", "b") for _ in rows]
    if maybe(0.2):
        case["salt"] = [one("", "s") for _ in rows]
    if maybe(0.3):
        case["after"] = [int(rng.integers(0, k)) if k and maybe(0.4) else -1 for k in range(n)]
        also = [int(rng.integers(0, k)) if k else 0 for k in range(n)]
        case["also"] = [
            [row] if parent >= 0 and row != parent and maybe(0.5) else [] for row, parent in zip(also, case["after"], strict=True)
        ]
    elif maybe(0.2):
        case["concurrency"] = one(1, 3)
    elif maybe(0.2):
        case["max_concurrency"] = one(1, 3)
    if maybe(0.4):
        case["tier"] = [one(1, 2, 3), one(0.0, 0.25, 0.33, 2.0), one(0.0, 0.5, 1.0)]
    if maybe(0.3):
        case["adapters_s"] = one(0.25, 1.3)
    case["router"], case["decode_router"] = one(*registry.router_names()), one(*registry.router_names())
    if maybe(0.2):
        case["hesitates"] = [one(1, 2, 4), one(10**9, 40)]
    if maybe(0.2):
        case["decode_hesitates"] = one(1, 3)
    case["kv_transfer"] = one("pull", "push", "layers")
    if maybe(0.3):
        case["refresh_s"] = one(0.3, 1.0)
    if maybe(0.5):
        count = len(roles)
        orders = []
        for _ in range(int(rng.integers(1, 13))):
            what, first = one("migrate", "migrate", "migrate", "migrate", "role", "role", "drain", "start"), int(rng.integers(count))
            other = one("prefill", "decode", "mixed") if what == "role" else int(rng.integers(count))
            orders.append([0.25 * int(rng.integers(1, 60)), what, first, other])
        case["orders"] = orders
        case["migration"] = [one(1, 2, 16), one(1, 3)]
    if maybe(0.35):
        case["deaths"] = [[one(0.25, 0.8, 1.0, 2.0, 5.0), int(rng.integers(len(roles)))] for _ in range(int(rng.integers(1, 4)))]
        case["rule"], case["restart_s"] = one("resume", "retry", "fail"), one(0.25, 2.0)
    if maybe(0.1):
        case["until_s"] = one(0.5, 2.0, 6.1)
    if maybe(0.35):
        case["pieces"] = [int(rng.integers(1, n)) for _ in range(int(rng.integers(0, 3)))]
        case["reacts"] = maybe(0.5)
    case["link"] = [one(10_000.0, 700.0), one(0.0, 0.05, 0.25)]
    dice = np.random.default_rng([seed, 1])  # of its own: the cases of seeds that do not speculate are what they were
    if dice.random() < 0.5:
        case["speculation"] = [int(dice.integers(len(SPECULATIONS))), [k for k in range(len(roles)) if dice.random() < 0.8]]
    return case


def workload(case: Drawn) -> Workload:
    rows = case["rows"]
    n, after = len(rows), case.get("after") or [-1] * len(rows)
    arrivals, clock = [], 0.0
    for (gap, _, _), parent in zip(rows, after, strict=True):
        clock += gap if parent < 0 else 0.0
        arrivals.append(gap if parent >= 0 else clock)
    others: Drawn = {"session": np.arange(n) % 3, "priority": np.arange(n) * 7 % 3, "after": np.array(after)}
    if case.get("patience_s"):
        others["patience_s"] = np.array([np.nan if s is None else s for s in case["patience_s"]])
    for name in ("adapter", "salt"):
        if case.get(name):
            others[name] = Labels.of(case[name])
    if any(case.get("also") or []):
        also = case["also"]
        others["also_after"] = AlsoAfter(np.cumsum([0, *map(len, also)]), np.array([row for each in also for row in each], dtype=np.int64))
    if found := case.get("prefix"):
        ids = []
        for row, ((_, prompt, output), kind) in enumerate(zip(rows, found["kinds"], strict=True)):
            runs = -(-(prompt + output * found["outputs"]) // found["run"])
            ids.append([100 * kind + k if k < 2 or row % 3 else 1000 * (row + 2) + k for k in range(runs)])
        offsets = np.cumsum([0, *map(len, ids)]).astype(np.int64)
        others["prefix"] = PrefixBlocks(
            offsets, np.array([key for each in ids for key in each], dtype=np.int64), found["run"], found["outputs"]
        )
    table = RequestTable.build(np.array(arrivals), np.array([r[1] for r in rows]), np.array([r[2] for r in rows]), **others)
    return Workload(table, case.get("concurrency"), 0.3 if case.get("concurrency") else 0.0, case.get("max_concurrency"))


def instances(case: Drawn) -> list[InstanceSpec]:
    specs = []
    full, windows, state = case.get("groups") or (1, [], 0)
    groups = KvGroups(full, tuple(KvWindow(*window) for window in windows), state) if case.get("groups") else None
    link = LinkSpec(*case["link"], kv_bytes_per_token=100.0, layers=4, windows=((8, 50.0),) if windows else (), state_bytes=64.0 * state)
    for k, role in enumerate(case["roles"]):
        policy: Any = None
        if "drafting" in case and k in case["drafts_at"]:
            policy = Drafting(Drafting.Params(**case["drafting"], max_seqs=case["max_seqs"]))
        else:
            cls = registry.scheduler_class(case["policy"])
            policy = cls(cls.Params(**case["params"], max_seqs=case["max_seqs"]))
        stages = 1 if capable(policy, "single_stage") else case["stages"][k]
        loads: list[Any] = [Tier(*case["tier"])] if case.get("tier") else []
        loads += [Adapters(case["adapters_s"])] if case.get("adapters_s") else []
        specs.append(
            InstanceSpec(
                f"i{k}",
                policy,
                Seams(RoundCost() if case["cost"] == "round" else JaggedCost(), stages),
                kv_blocks=case["kv_blocks"] * (groups.per_block if groups else 1) + state * case["max_seqs"],
                block_tokens=4,
                max_seqs=case["max_seqs"],
                watermark_blocks=case.get("watermark_blocks", 0),
                preemption="swap" if case.get("host_kv_blocks") else "recompute",
                host_kv_blocks=case.get("host_kv_blocks", 0),
                order=registry.order(case["order"]),
                speculation=SPECULATIONS[case["speculation"][0]] if k in case.get("speculation", [0, []])[1] else None,
                acceptance=Accepts(case["accepts"]) if "accepts" in case else None,
                loads=tuple(loads),
                prefix_caching=bool(case.get("prefix")),
                request_s=case.get("request_s", 0.0),
                steps_ahead=case.get("steps_ahead", 0),
                role=role,
                link=link,
                node=k // 2,
                uplink=link if case["seed"] % 2 else None,
                boot_s=1.0,
                kv_groups=groups,
            )
        )
    return specs


def cluster(case: Drawn) -> ClusterSpec:
    def router(name: str) -> Any:
        cls = registry.router_class(name)
        return cls(cls.Params())

    entry, decode = router(case["router"]), router(case["decode_router"])
    kv_transfer = "pull" if capable(decode, "crosses_roles") else case["kv_transfer"]
    return ClusterSpec(
        router=Hesitating(entry, *case["hesitates"]) if case.get("hesitates") else entry,
        decode_router=Hesitating(decode, case["decode_hesitates"]) if case.get("decode_hesitates") else decode,
        refresh_s=case.get("refresh_s", 0.0),
        push=kv_transfer != "pull",
        layerwise=kv_transfer == "layers",
        controllers=(Script(case["orders"]),) if case.get("orders") else (),
        failures=Failures(tuple(map(tuple, case["deaths"])), None, case["restart_s"], case["rule"]) if case.get("deaths") else None,
        migration=MigrationSpec(*case["migration"]) if case.get("migration") else MigrationSpec(),
    )
