"""The rules of the Trace Event Format (Google, 2016), as far as a timeline uses it, and those of Perfetto's reader that it states nowhere:
slices of a thread may not overlap by a nanosecond, thread numbers are unique over the whole file, an arrow binds to the slice around it."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict

REQUIRED = {
    "M": {"pid", "name", "args"},
    "X": {"pid", "tid", "ts", "dur", "name", "args"},
    "C": {"pid", "ts", "name", "args"},
    "b": {"pid", "ts", "name", "cat", "id2"},
    "e": {"pid", "ts", "name", "cat", "id2"},
    "s": {"pid", "tid", "ts", "name", "cat", "id"},
    "f": {"pid", "tid", "ts", "name", "cat", "id", "bp"},
    "i": {"pid", "ts", "name", "s"},
}
NAMES = {"process_name", "thread_name", "process_sort_index"}


def problems(events):
    """What is wrong with a list of events, in words."""
    found = []
    for event in events:
        missing = REQUIRED.get(event.get("ph"), {"ph"}) - event.keys()
        if missing:
            found.append(f"{event}: lacks {sorted(missing)}")
        if event.get("ph") == "M":
            if event["name"] not in NAMES:
                found.append(f"{event}: unknown metadata")
        elif not (isinstance(event.get("ts"), int) and event["ts"] >= 0):
            found.append(f"{event}: its time is not a whole number of microseconds from 0 on")
    if found:
        return found
    timed = [event for event in events if event["ph"] != "M"]
    if any(a["ts"] > b["ts"] for a, b in itertools.pairwise(timed)):
        found.append("not sorted by time")
    return found + _threads(events) + _tracks(timed) + _arrows(timed) + _counters(timed)


def _threads(events):
    found = []
    named = {kind: Counter() for kind in ("process_name", "thread_name")}
    for event in events:
        if event["ph"] == "M" and event["name"] in named:
            named[event["name"]][event["pid"] if event["name"] == "process_name" else event["tid"]] += 1
    found += [f"{kind} {number} is named twice" for kind, of in named.items() for number, count in of.items() if count > 1]
    found += [f"thread {tid} has the number of a process" for tid in named["thread_name"] if tid in named["process_name"]]
    unnamed = {e["pid"] for e in events} - named["process_name"].keys()
    found += [f"process {pid} has no name" for pid in sorted(unnamed)]
    for tid, slices in _slices(events).items():
        if tid not in named["thread_name"]:
            found.append(f"thread {tid} has no name")
        found += [f"slices overlap on thread {tid} at {a[1]}" for a, b in itertools.pairwise(slices) if b[0] < a[1]]
        found += [f"a slice of negative length on thread {tid}" for begin, end in slices if end < begin]
    return found


def _slices(events):
    slices = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            slices[event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    return slices


def _tracks(timed):
    """Asynchronous slices nest: an end closes what was begun last on its track."""
    found, tracks = [], defaultdict(list)
    for event in timed:
        if event["ph"] not in "be":
            continue
        track = tracks[event["pid"], event["cat"], event["id2"]["local"]]
        if event["ph"] == "b":
            track.append(event["name"])
        elif not track or track.pop() != event["name"]:
            found.append(f"{event}: ends what is not open")
    return found + [f"{key}: {names} never end" for key, names in tracks.items() if names]


def _arrows(timed):
    found, slices = [], _slices(timed)
    ends = {kind: {e["id"]: e for e in timed if e["ph"] == kind} for kind in "sf"}
    if ends["s"].keys() != ends["f"].keys() or sum(e["ph"] in "sf" for e in timed) != 2 * len(ends["s"]):
        found.append("arrows without beginning or end, or with two")
    for arrows in ends.values():
        for arrow in arrows.values():
            around = [1 for begin, end in slices[arrow["tid"]] if begin < arrow["ts"] < end]
            if len(around) != 1:
                found.append(f"{arrow}: is inside {len(around)} slices")
    found += [f"arrow {k} points back" for k, s in ends["s"].items() if k in ends["f"] and ends["f"][k]["ts"] < s["ts"]]
    return found


def _counters(timed):
    values = [value for e in timed if e["ph"] == "C" for value in e["args"].values()]
    return ["a counter without a number, or below 0"] if any(not isinstance(v, int) or v < 0 for v in values) else []
