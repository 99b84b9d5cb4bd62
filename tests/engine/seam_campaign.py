"""A hunt at engine level: what was built apart is drawn together, under `check=True`, with a time limit for each case.

    python -m tests.engine.seam_campaign --seeds 0-4999 [--log FILE]

Verifying schedulers, loads, clients that give up, appended requests, changing roles, windows and recurrent state, contents of outputs,
pipeline stages, deaths, migrations, stale signals: a case takes some of each. Every case runs stepped and spanned, and both must leave the
same token times, moves and counters; one in three is served once more in pieces. What ends in anything but records or a plain refusal is
made smaller and printed as a mapping that `outcome` runs again.
"""

from __future__ import annotations

import argparse
import copy
import json
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from simserve.contracts import capable
from simserve.engine import InstanceSpec, LiveRun, simulate
from simserve.engine.kv_groups import KvGroups, KvWindow
from simserve.engine.records import EndedRequest, RunRecords, Status
from simserve.engine.spec import ClusterSpec, Failures, LinkSpec, MigrationSpec
from simserve.errors import ConfigError
from simserve.policies import registry
from simserve.workload.contents import AlsoAfter, PrefixBlocks
from simserve.workload.requests import Labels, RequestTable, Workload
from tests.engine.campaign import TooSlow
from tests.engine.clients.test_appended_requests import pieces_of, same
from tests.engine.seam_world import Accepts, Adapters, Drafting, Hesitating, Script, Seams, Tier
from tests.engine.unrolled import token_times
from tests.reference.toy_cost import JaggedCost, RoundCost

SECONDS = 20
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
    rows = []
    for _ in range(n):
        gap, prompt = float(one(0, 0, 0.25, 0.3, 1.0, 2.6)), int(rng.integers(1, longest + 1))
        rows.append([gap, prompt, int(rng.integers(0 if maybe(0.1) else 1, longest + 1))])
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
            "k": one(0, 1, 3, 7), "budget": one(4, 9, 32, 200),
            "stretch_s": one(0.25, 0.7, 2.0), "drafts": one(1, 2, 3), "whole": maybe(0.6),
            "evict": maybe(0.4), "lingers": maybe(0.2), "held": maybe(0.7),
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


def run(case: Drawn) -> RunRecords:
    """The checked records of a case. AssertionError where spans, or serving in pieces, change what it leaves."""
    load = workload(case)
    records = simulate(load, instances(case), cluster(case), check=True, until_s=case.get("until_s"))
    stepped, spanned = (
        simulate(load, instances(case), cluster(case), fast_forward=fast, until_s=case.get("until_s")) for fast in (False, True)
    )
    assert same(records, spanned) == [], f"checking changes {same(records, spanned)}"
    agree(stepped, spanned, "spans change")
    if "pieces" in case and not {"until_s", "concurrency", "also"} & case.keys():
        agree(in_pieces(case, load, True), in_pieces(case, load, False), "spans change, in pieces,")
        if not case["reacts"]:
            assert same(spanned, in_pieces(case, load, True)) == [], f"pieces change {same(spanned, in_pieces(case, load, True))}"
    return records


SPANS = {"plans", "kv_blocks_in_use_at_end"}
"""Counters that spans may change: of plans, and of a run that is cut the blocks of the step in progress."""


def agree(one: RunRecords, other: RunRecords, what: str) -> None:
    for name in ("lives", "roles", "counters", "end_s"):
        a, b = getattr(one, name), getattr(other, name)
        if name == "counters":
            a, b = ({key: value for key, value in each.items() if key not in SPANS} for each in (a, b))
        assert a == b, f"{what} {name}: {a} and {b}"
    assert token_times(one) == token_times(other), f"{what} token times"
    assert (one.moves is None) == (other.moves is None), f"{what} moves"
    different = [name for name in same(one, other) if name.startswith((".requests", ".moves", ".emissions.bursts"))]
    assert not different, f"{what} {different}"


def in_pieces(case: Drawn, load: Workload, fast: bool) -> RunRecords:
    """Served as a run to which requests are appended; a client that `reacts` cancels some and repeats others."""
    whole, found = load.requests, case.get("prefix") or {"run": 0, "outputs": False}

    def hears(ended: EndedRequest) -> None:
        if ended.row % 4 == 1:
            live.cancel((ended.row * 7 + 3) % len(live))
        if ended.row % 3 == 0 and len(live) < len(whole) + 4 and pieces_done:
            again = whole.take(np.array([0]))
            live.append(again, after=np.array([ended.row]))

    pieces_done: list[bool] = []
    live = LiveRun(
        instances(case), cluster(case), sink=hears if case["reacts"] else None, fast_forward=fast, max_concurrency=load.max_concurrency,
        prefix_block_tokens=found["run"], prefix_outputs=found["outputs"],
    )  # fmt: skip
    for piece, after, attempts in pieces_of(whole, case["pieces"]):
        own = piece.arrival_s[after < 0]
        if len(own):
            live.advance(live.now + 0.5 * (float(own[0]) - live.now))
        try:
            live.append(piece, after=after, attempt_of=attempts)
        except ValueError:  # a row of a later piece whose parent ended too early: everything at once
            if case["reacts"]:
                continue
            live = LiveRun(
                instances(case), cluster(case), fast_forward=fast, max_concurrency=load.max_concurrency,
                prefix_block_tokens=found["run"], prefix_outputs=found["outputs"],
            )  # fmt: skip
            live.append(whole, after=whole.after)
            break
    pieces_done.append(True)
    return live.close()


def outcome(case: Drawn, seconds: int = SECONDS) -> Drawn:
    """What became of a case: kind (ok, refused, broken, hung), what was said, how long it took, what happened in it."""
    begin = time.process_time()

    def late(number: int, frame: Any) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    found: Drawn = {"seed": case["seed"], "kind": "ok"}
    try:
        records = run(case)
        r, counters = records.requests, records.counters
        found["seen"] = [
            name
            for name, seen in {
                "verified": len(records.emissions.bursts), "transferred": counters["transferred_tokens"], "roles": records.roles,
                "migrated": records.moves is not None and (records.moves.outcome == 0).any(), "died": counters["instance_failures"],
                "cancelled late": (r.generated_tokens[r.status == Status.CANCELLED] > 0).any(), "preempted": r.preemptions.any(),
                "swapped": counters.get("swapped_tokens"), "cached": r.cached_tokens.any(), "reread": r.reread_tokens.any(),
                "drained": any(state == "draining" for _, _, state in records.instance_states), "windows": case.get("groups"),
                "staged": len(records.lanes) > len(records.instances), "loads": case.get("tier") or case.get("adapters_s"),
                "pieces": "pieces" in case,
            }.items()
            if seen
        ]  # fmt: skip
    except ConfigError as problem:
        found |= {"kind": "refused", "said": str(problem)[:300]}
    except TooSlow:
        found |= {"kind": "hung", "said": f"no end after {seconds} s"}
    except Exception as problem:
        where = traceback.extract_tb(problem.__traceback__)[-1]
        found |= {
            "kind": "broken",
            "said": f"{type(problem).__name__}: {problem}"[:500],
            "where": f"{Path(where.filename).name}:{where.lineno}",
        }
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return found | {"seconds": round(time.process_time() - begin, 2)}


PER_ROW = ("patience_s", "adapter", "salt", "after", "also")
NEEDED = {"seed", "rows", "roles", "cost", "kv_blocks", "stages", "policy", "params", "max_seqs", "order", "router", "decode_router",
          "kv_transfer", "link"}  # fmt: skip
PLAIN = {"order": "fcfs", "router": "round-robin", "decode_router": "least-outstanding", "kv_transfer": "pull",
         "cost": "round", "max_seqs": 8,
         "kv_blocks": 60}  # fmt: skip


def smaller(case: Drawn) -> Iterator[Drawn]:
    """The case with one thing less."""
    for key in [key for key in case if key not in NEEDED and key not in ("accepts", "drafts_at", "rule", "restart_s", "migration", "also")]:
        yield {name: value for name, value in case.items() if name != key}
    for key, value in PLAIN.items():
        if case[key] != value:
            yield case | {key: value}
    if any(stages > 1 for stages in case["stages"]):
        yield case | {"stages": [1] * len(case["roles"])}
    for key in ("orders", "deaths"):
        for place in range(len(case.get(key) or [])):
            yield case | {key: case[key][:place] + case[key][place + 1 :]}
    n = len(case["rows"])
    for last in (n // 2, n - 1) if n > 1 else ():
        less = case | {"rows": case["rows"][:last]}
        less |= {key: case[key][:last] for key in PER_ROW if key in case}
        if "prefix" in case:
            less["prefix"] = case["prefix"] | {"kinds": case["prefix"]["kinds"][:last]}
        yield less
    for place in range(n) if "after" not in case else ():
        less = case | {"rows": case["rows"][:place] + case["rows"][place + 1 :]}
        less |= {key: case[key][:place] + case[key][place + 1 :] for key in PER_ROW if key in case}
        if "prefix" in case:
            less["prefix"] = case["prefix"] | {"kinds": case["prefix"]["kinds"][:place] + case["prefix"]["kinds"][place + 1 :]}
        if n > 1:
            yield less


def minimal(case: Drawn, found: Drawn, tries: int = 250) -> Drawn:
    """The smallest case found that fails in the same place."""
    again = True
    while again and tries > 0:
        again = False
        for other in smaller(copy.deepcopy(case)):
            tries -= 1
            got = outcome(other, 4)
            if got["kind"] == found["kind"] and got.get("where") == found.get("where"):
                case, again = other, True
                break
            if tries <= 0:
                break
    return case


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0-499", help="first and last seed, e.g. 0-4999")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="limit of one case, CPU seconds")
    parser.add_argument("--no-minimal", action="store_true", help="print a failing case as it was drawn")
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    kinds: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for seed in range(int(first), int(last or first) + 1):
        case = draw(seed)
        found = outcome(case, options.seconds)
        kinds[found["kind"]] += 1
        seen.update(found.get("seen", []))
        if found["kind"] in ("broken", "hung"):
            case = case if options.no_minimal else minimal(case, found)
            print(f"seed {seed}: {found['kind']}: {found['said']} ({found.get('where')})\n  {json.dumps(case)}", flush=True)
    print(dict(kinds), dict(seen))
    return 1 if kinds["broken"] or kinds["hung"] else 0


if __name__ == "__main__":
    sys.exit(main())
