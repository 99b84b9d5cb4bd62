"""A hunt at engine level: what was built apart is drawn together, under `check=True`, with a time limit for each case.

    python -m tests.engine.seam_campaign --seeds 0-4999

Verifying schedulers, instances that speculate, loads, clients that give up, appended requests, changing roles, windows and recurrent state,
contents of outputs, pipeline stages, deaths, migrations, stale signals: a case takes some of each. Every case runs stepped and spanned, and
both must leave the same token times, moves and counters; one in three is served once more in pieces. What ends in anything but records or a
plain refusal is made smaller and printed as a mapping that `outcome` runs again.
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

from simserve.engine import LiveRun, simulate
from simserve.engine.records import EndedRequest, RunRecords, Status
from simserve.errors import ConfigError
from simserve.workload.requests import Workload
from tests.engine.campaign import TooSlow
from tests.engine.clients.test_appended_requests import pieces_of, same
from tests.engine.seam_cases import Drawn, cluster, draw, instances, workload
from tests.engine.unrolled import token_times

SECONDS = 20


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
    for name in ("instance_states", "roles", "counters", "end_s"):
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
                "pieces": "pieces" in case, "speculated": any(len(lane.ticks) and lane.ticks[:, 1].any() for lane in records.lanes),
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
PLAIN = {"order": "fcfs", "router": "round-robin", "decode_router": "least-outstanding", "kv_transfer": "pull", "cost": "round",
         "max_seqs": 8, "kv_blocks": 60}  # fmt: skip


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
