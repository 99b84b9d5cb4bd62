"""timeline.json: a valid trace whose slices, tracks and arrows say what happened."""

import itertools
import json
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from trace_format import problems

import simserve
from simserve.engine.records import Moves
from simserve.report.perfetto.timeline import write_timeline


def events_of(records, path, **options):
    write_timeline(records, path / "t.json", **options)
    return json.loads((path / "t.json").read_text())["traceEvents"]


def phases(events, row):
    """(process, phase, begin, end) of a request, in order of time; the request's own slices are left out."""
    begun, out = {}, []
    for e in events:
        if e["ph"] in "be" and e["cat"] == "request" and e["id2"]["local"] == str(row) and e["name"] != "request":
            if e["ph"] == "b":
                begun[e["pid"]] = e
            else:
                out.append((e["pid"], e["name"], begun[e["pid"]]["ts"], e["ts"]))
    return out


@pytest.fixture(scope="module")
def transferred():
    """A run in which every request is prefilled on one instance and decoded on another."""
    experiment = simserve.load("disaggregated", **{"workload.count": 150})
    disaggregated = experiment.spec.variants["disaggregated"]
    return simserve.run(simserve.load("disaggregated", **{"workload.count": 150, "variants": {}, "claims": [], **disaggregated})).records


@pytest.fixture(scope="module")
def pipelined():
    """Two stages, memory for few requests: several lanes and preemptions."""
    changes = {"workload.trace.duration_s": 200, "cluster.instances.0.parallel.pp": 2, "cluster.instances.0.kv.memory_utilisation": 0.1}
    return simserve.run(simserve.load("quickstart", **changes)).records


def test_slices_add_up(two_classes, tmp_path):
    records, times = two_classes
    events = events_of(records, tmp_path)
    assert problems(events) == []
    steps = [e for e in events if e["ph"] == "X"]
    lane = records.lanes[0]
    assert len(steps) == len(lane.span_steps)
    assert sum(e["dur"] for e in steps) == pytest.approx(1e6 * (lane.step_end_s - lane.span_start_s).sum(), rel=1e-4)
    # The phases of a request fill its time in the system without gap or overlap.
    row = int(np.argmax(records.requests.preemptions))
    ours = phases(events, row)
    assert any(name == "preempted" for _, name, _, _ in ours)
    assert all(a[3] == b[2] for a, b in itertools.pairwise(ours))
    assert (ours[0][2], ours[-1][3]) == (round(1e6 * records.table.arrival_s[row]), round(1e6 * times[row][-1]))


def test_requests_that_were_never_served_have_a_process_of_their_own(two_classes, tmp_path):
    records, _ = two_classes
    events = events_of(records, tmp_path)
    (pid,) = [e["pid"] for e in events if e["ph"] == "M" and e["args"].get("name") == "not on an instance"]
    rows = {int(e["id2"]["local"]) for e in events if e["ph"] == "b" and e["pid"] == pid}
    assert rows == set(np.flatnonzero(records.requests.instance < 0).tolist()) and rows


def test_counters_are_the_lane_logs(two_classes, tmp_path):
    records, _ = two_classes
    seen = defaultdict(dict)
    for e in events_of(records, tmp_path):
        for unit, value in e["args"].items() if e["ph"] == "C" else ():
            seen[f"{e['name']} {unit}"][e["ts"]] = value
    assert set(seen) == {"requests running", "requests waiting", "KV cache blocks in use"}
    lane = records.lanes[0]
    starts = np.round(1e6 * lane.span_start_s).astype(int)
    for name, truth in (
        ("requests running", lane.span_decode_requests + lane.span_prefill_requests),
        ("requests waiting", lane.span_waiting),
        ("KV cache blocks in use", lane.span_kv_blocks),
    ):
        times = sorted(seen[name])
        shown = [seen[name][times[np.searchsorted(times, start, side="right") - 1]] for start in starts]
        assert shown == truth.tolist(), name
        assert seen[name][times[-1]] == 0, "an idle instance runs nothing and holds nothing"


def test_a_long_timeline_is_cut_and_says_where(two_classes, tmp_path):
    records, _ = two_classes
    cut = write_timeline(records, tmp_path / "t.json", max_events=2000)
    trace = json.loads((tmp_path / "t.json").read_text())
    assert 0 < cut < records.end_s and trace["otherData"]["cut_at_s"] == cut
    assert 1000 < len(trace["traceEvents"]) < 2500 and problems(trace["traceEvents"]) == []
    assert all(e["ts"] <= 1e6 * cut + 1 for e in trace["traceEvents"] if e["ph"] == "X")


def test_transferred_requests_leave_one_process_and_enter_another(transferred, tmp_path):
    events = events_of(transferred, tmp_path)
    assert problems(events) == []
    names = {e["pid"]: e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "process_name"}
    (prefill,) = [pid for pid, name in names.items() if "prefill)" in name]
    (decode,) = [pid for pid, name in names.items() if "decode)" in name]
    r = transferred.requests
    for row in range(len(transferred.table)):
        ours = phases(events, row)
        assert [(pid, name) for pid, name, _, _ in ours] == [
            (prefill, "queued"), (prefill, "prefill"), (prefill, "KV transfer"), (decode, "decode"),
        ]  # fmt: skip
        assert ours[1][3] == round(1e6 * r.first_token_s[row]) and ours[3][3] == round(1e6 * r.finish_s[row])
        assert ours[2][2] < ours[2][3] == ours[3][2]
    assert sum(e["ph"] == "s" for e in events) == len(transferred.table)
    moving = {e["ts"]: e["args"]["in KV transfer"] for e in events if e["ph"] == "C" and "in KV transfer" in e["args"]}
    assert max(moving.values()) >= 1 and moving[max(moving)] == 0


def test_a_cut_between_two_instances_leaves_no_arrow_in_the_air(transferred, tmp_path):
    for most in range(200, 1200, 90):
        assert problems(events_of(transferred, tmp_path, max_events=most)) == []


def test_lanes_of_a_pipeline_are_threads(pipelined, tmp_path):
    assert pipelined.requests.preemptions.any() and len(pipelined.lanes) == 2
    events = events_of(pipelined, tmp_path)
    assert problems(events) == []
    threads = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
    assert sorted(threads.values()) == ["steps, lane 0", "steps, lane 1"]
    counters = {unit for e in events if e["ph"] == "C" for unit in e["args"]}
    assert {"running in lane 0", "running in lane 1", "waiting", "blocks in use"} == counters


def test_migrations_and_states_of_instances_are_shown(transferred, tmp_path):
    nan = float("nan")
    moves = Moves(
        request=np.array([3, 4]), source=np.array([0, 0]), destination=np.array([1, 1]), start_s=np.array([1.0, 2.0]),
        stop_s=np.array([1.2, nan]), landed_s=np.array([1.25, nan]), stages=np.array([2, 1]), outcome=np.array([0, 1]),
        outcomes=("", "the destination is full"),
    )  # fmt: skip
    records = replace(transferred, moves=moves, instance_states=((5.0, 1, "draining"), (7.5, 1, "off")))
    events = events_of(records, tmp_path)
    assert problems(events) == []
    migrated = {(e["ph"], e["name"]): e["ts"] for e in events if e.get("cat") == "migration"}
    assert migrated == {("b", "migration"): 1_000_000, ("b", "not decoding"): 1_200_000, ("e", "not decoding"): 1_250_000,
                        ("e", "migration"): 1_250_000}  # fmt: skip
    (given_up,) = [e for e in events if e["ph"] == "i"]
    assert given_up["args"]["why not"] == "the destination is full"
    (state,) = [e["tid"] for e in events if e["ph"] == "M" and e["args"].get("name") == "state"]
    shown = [(e["name"], e["ts"], e["dur"]) for e in events if e["ph"] == "X" and e["tid"] == state]
    assert shown == [("draining", 5_000_000, 2_500_000), ("off", 7_500_000, round(1e6 * records.end_s) - 7_500_000)]


def test_the_format_rules_see_what_is_wrong(two_classes, tmp_path):
    good = events_of(two_classes[0], tmp_path)
    at = {ph: next(k for k, e in enumerate(good) if e["ph"] == ph) for ph in "XCbe"}

    def broken(k, **changes):
        return problems([*good[:k], {**good[k], **changes}, *good[k + 1 :]])

    assert not problems(good)
    assert broken(at["X"], dur=good[at["X"]]["dur"] + 10**6), "overlap"
    assert broken(at["X"], ts=0.5) and broken(at["X"], tid=1) and broken(at["C"], args={"running": "3"})
    assert broken(at["b"], name="other") and broken(at["e"], id2={"local": "99999"})
    assert problems(good[: at["e"]] + good[at["e"] + 1 :]), "never ended"
    assert problems([*good[:-1], {**good[-1], "ts": 0}]), "not sorted"
    arrow = {"ph": "s", "cat": "request", "name": "KV transfer", "id": 1, "pid": 1, "tid": 3, "ts": good[-1]["ts"]}
    assert problems([*good, arrow]), "an arrow to nowhere"
    assert Counter(e["ph"] for e in good)["X"] > 100
