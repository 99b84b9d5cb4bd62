"""The invariants of docs/invariants.md as checkers over the records of a run.

Each is a generator of complaints, empty when the rule holds; `complaints` runs them all and puts the rule's number in front. They read
the records only: what a checker needs that the records lack is tested elsewhere (I6, I7, I8 compare runs; I10 is an error at run time).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np

from simserve.engine.records import RunRecords, Status
from simserve.workload.requests import Workload
from tests.engine.speculation.drafts_add_up import drafts_add_up
from tests.engine.unrolled import steps, token_times

FAILED_IN_TRACE = "failed in the trace"
TRUNCATED = "stopped at the context limit"


def i1_ends_once(records: RunRecords, workload: Workload) -> Iterator[str]:
    """Every request ends exactly once: completed, failed or rejected, with a reason where it did not simply complete."""
    r, asked = records.requests, records.table.output_tokens
    for i in range(len(records.table)):
        status, reason, got = Status(r.status[i]), r.reasons[r.reason[i]], int(r.generated_tokens[i])
        if status is Status.UNFINISHED or not math.isfinite(r.finish_s[i]):
            yield f"request {i} never ended ({status.name}, finish {r.finish_s[i]})"
        elif status is Status.COMPLETED:
            if reason not in ("", TRUNCATED) or (reason == "" and got != asked[i]) or (reason == TRUNCATED and not 0 < got < asked[i]):
                yield f"request {i} completed with {got} of {asked[i]} tokens and reason '{reason}'"
        elif not reason or got or (status is Status.FAILED) != (asked[i] == 0 and reason == FAILED_IN_TRACE):
            yield f"request {i} is {status.name} with {got} of {asked[i]} tokens and reason '{reason}'"


def i2_tokens_add_up(records: RunRecords, workload: Workload) -> Iterator[str]:
    """Tokens computed = tokens asked + recomputed; tokens emitted = tokens generated, request by request and step by step."""
    r = records.requests
    times = token_times(records)
    for i, t in enumerate(times):
        if len(t) != r.generated_tokens[i]:
            yield f"request {i} generated {r.generated_tokens[i]} tokens, {len(t)} were emitted"
    emitted_at: dict[float, int] = {}
    for t in (s for ts in times for s in ts):
        emitted_at[t] = emitted_at.get(t, 0) + 1
    all_steps = [s for lane in records.lanes for s in steps(lane)]
    if len(records.lanes) == 1:
        for s in all_steps:
            least = s.decodes + s.verified[1]
            if not least <= emitted_at.pop(s.end_s, 0) <= least + s.prefills:
                yield f"the step ending at {s.end_s} has {s.decodes} decodes and {s.prefills} chunks but another number of emissions"
        if emitted_at:
            yield f"tokens were emitted at {sorted(emitted_at)}, where no step ends"
    stored = np.where(r.generated_tokens > 0, np.maximum(records.table.prompt_tokens, 1) + r.generated_tokens - 1, 0)
    found = r.cached_tokens + r.reread_tokens
    want = int((stored + r.recomputed_tokens - found).sum())
    rejected = sum(s.verified[0] - s.verified[1] for s in all_steps)
    got = sum(s.decodes + s.verified[1] + s.prefill_tokens * s.computes for s in all_steps)
    if got != want:
        yield f"{got} tokens were computed, {want} were asked or recomputed"
    pairs = sum((s.verified[2] or s.context_tokens) + s.prefill_pairs * s.computes for s in all_steps)
    least = int((stored * (stored + 1) // 2 - found * (found + 1) // 2).sum())
    if pairs < least or (pairs > least and not r.recomputed_tokens.any() and not rejected):
        yield f"{pairs} (query, key) pairs were attended, the sequences have {least}"
    yield from drafts_add_up(records)


def i3_blocks_conserved(records: RunRecords, workload: Workload) -> Iterator[str]:
    """KV blocks in use never leave [0, total], hold what is decoding, and are all free at the end; sequence slots are not overbooked."""
    for lane in records.lanes:
        info, contexts = records.instances[lane.instance], lane.step_context_tokens().tolist()
        for j in range(len(lane.span_steps)):
            used, n = int(lane.span_kv_blocks[j]), int(lane.span_decode_requests[j])
            if not 0 <= used <= info.kv_blocks:
                yield f"{used} of {info.kv_blocks} KV blocks are in use after span {j}"
            context = max(contexts[lane.span_first_step[j] :][: lane.span_steps[j]])
            if context > info.kv_blocks * info.block_tokens:
                yield f"span {j} decodes {context} tokens of context out of {info.kv_blocks} blocks of {info.block_tokens}"
            if n + int(lane.span_prefill_requests[j]) > info.max_seqs:
                yield f"span {j} runs more than {info.max_seqs} requests"
    if not (records.requests.status == Status.UNFINISHED).any():
        left = records.counters["kv_blocks_in_use_at_end"]
        if left:
            yield f"{left:.0f} KV blocks are still in use at the end"


def i4_cause_before_effect(records: RunRecords, workload: Workload) -> Iterator[str]:
    """Nothing happens before its cause: releases, steps and tokens are in order of time, and the records of a request agree."""
    r, table, times = records.requests, records.table, token_times(records)
    for i in range(len(table)):
        released, scheduled, first, finish = (float(c[i]) for c in (r.released_s, r.scheduled_s, r.first_token_s, r.finish_s))
        also = table.also_after
        parents = [int(table.after[i])] if table.after[i] >= 0 else []
        if also is not None:
            parents += also.rows[also.offsets[i] : also.offsets[i + 1]].tolist()
        if workload.concurrency is None:
            last = max((float(r.finish_s[parent]) for parent in parents), default=None)
            due = float(table.arrival_s[i]) if last is None else last + float(table.arrival_s[i])
            if released != due:
                yield f"request {i} was released at {released}, due at {due}"
        if finish < released:
            yield f"request {i} ended at {finish}, before its release at {released}"
        if scheduled < released or scheduled >= first or finish < first:
            yield f"request {i}: released {released}, scheduled {scheduled}, first token {first}, finished {finish}"
        if times[i]:
            if times[i][0] != first or (r.status[i] == Status.COMPLETED and times[i][-1] != finish):
                yield f"request {i}: tokens from {times[i][0]} to {times[i][-1]}, but first token {first}, finished {finish}"
            speculates = any(len(lane.ticks) for lane in records.lanes)
            if any(b < a or (b == a and not speculates) for a, b in zip(times[i], times[i][1:], strict=False)):
                yield f"request {i}: its tokens are not in order of time"
    for lane in records.lanes:
        end = 0.0
        for s in steps(lane):
            if s.start_s < end or s.end_s <= s.start_s:
                yield f"a step from {s.start_s} to {s.end_s} follows one that ended at {end}"
            end = s.end_s
    if workload.concurrency is not None:
        for t in set(r.released_s.tolist()):
            inside = int(((r.released_s <= t) & ~(r.finish_s <= t)).sum())
            if inside > workload.concurrency:
                yield f"{inside} requests of {workload.concurrency} clients are in the system at {t}"


def i5_no_idling(records: RunRecords, workload: Workload) -> Iterator[str]:
    """An instance is idle only while no request is in the system (one instance, one lane)."""
    if len(records.lanes) != 1:
        return
    r = records.requests
    end = -math.inf
    for s in steps(records.lanes[0]):
        if s.start_s > end:
            kept = (r.released_s < s.start_s) & (r.finish_s > end) & (r.finish_s > r.released_s)
            if kept.any():
                yield f"idle from {end} to {s.start_s} while request {int(np.argmax(kept))} was in the system"
        end = s.end_s
    late = r.finish_s > max(end, 0.0)
    if (late & (r.finish_s > r.released_s)).any():
        yield f"request {int(np.argmax(late))} ended after the last step"


def i9_little(records: RunRecords, workload: Workload) -> Iterator[str]:
    """Little's law, exactly (rational arithmetic): for the whole system, for the decoding batch, and for the queue at each plan.

    The number in the system comes from the token times, the time in the system from the request columns; the number decoding comes
    from the step log, the time decoding from the emissions. So both sides of each equation are recorded in different places.
    """
    r, times = records.requests, token_times(records)
    served = [i for i in range(len(times)) if times[i] and math.isfinite(r.finish_s[i])]
    events = sorted([(Fraction(float(r.released_s[i])), 1) for i in served] + [(Fraction(times[i][-1]), -1) for i in served])
    area, inside, now = Fraction(0), 0, Fraction(0)
    for t, change in events:
        area, inside, now = area + inside * (t - now), inside + change, t
    spent = sum((Fraction(float(r.finish_s[i])) - Fraction(float(r.released_s[i])) for i in served), Fraction(0))
    if area != spent:
        yield f"the number in the system sums to {float(area)} request-seconds, the times in the system to {float(spent)}"
    if len(records.lanes) != 1:
        return
    (lane,) = records.lanes
    decode_steps = [s for s in steps(lane) if s.decodes]
    logged = sum((s.decodes * (Fraction(s.end_s) - Fraction(s.start_s)) for s in decode_steps), Fraction(0))
    lasted = [Fraction(s.end_s) - Fraction(s.start_s) for s in decode_steps]
    e = records.emissions
    decoded = sum((sum(lasted[a : b + 1], Fraction(0)) for a, b in zip(e.first_tick, e.last_tick, strict=True)), Fraction(0))
    if len(lane.ticks):
        decoded += sum((lasted[tick] for tick in e.first_tick[e.bursts[:, 0]]), Fraction(0))
    if logged != decoded:
        yield f"the decoding batch sums to {float(logged)} request-seconds, the requests to {float(decoded)}"
    preempted = bool(r.preemptions.any())
    queued_until = np.where(np.isnan(r.scheduled_s), r.finish_s, r.scheduled_s)
    for start, waiting in zip(lane.span_start_s, lane.span_waiting, strict=True):
        later = queued_until > start
        least, most = int(((r.released_s < start) & later).sum()), int(((r.released_s <= start) & later).sum())
        if waiting < least or (waiting > most and not preempted):
            yield f"{waiting} requests wait after the plan at {start}, by their own times {least} to {most} do"


CHECKERS: dict[str, Callable[[RunRecords, Workload], Iterator[str]]] = {
    "I1": i1_ends_once,
    "I2": i2_tokens_add_up,
    "I3": i3_blocks_conserved,
    "I4": i4_cause_before_effect,
    "I5": i5_no_idling,
    "I9": i9_little,
}


def complaints(records: RunRecords, workload: Workload) -> list[str]:
    """Every broken rule of a run, as "I3: ..."; empty when all hold."""
    return [f"{name}: {text}" for name, check in CHECKERS.items() for text in check(records, workload)]


def differences(a: RunRecords, b: RunRecords) -> list[str]:
    """I7: what differs between two runs of one case, however their steps are cut into spans; empty when nothing does.

    I6 asks for more (the same spans too) and compares `dump`.
    """
    out = []
    for name in a.requests.__slots__:
        if name not in ("reason", "reasons") and not np.array_equal(getattr(a.requests, name), getattr(b.requests, name), equal_nan=True):
            out.append(f"I7: requests.{name}")
    said = [[r.requests.reasons[k] for k in r.requests.reason] for r in (a, b)]
    if said[0] != said[1]:
        out.append("I7: reasons")
    if token_times(a) != token_times(b):
        out.append("I7: token times")
    if [steps(lane) for lane in a.lanes] != [steps(lane) for lane in b.lanes]:
        out.append("I7: steps")
    if a.end_s != b.end_s:
        out.append("I7: end_s")
    return out


def dump(records: RunRecords) -> bytes:
    """All columns of a run as bytes, for I6."""
    parts: list[bytes] = [repr((records.requests.reasons, records.end_s, sorted(records.counters.items()))).encode()]
    for group in (records.requests, records.emissions, *records.lanes):
        for name in group.__slots__:
            value = getattr(group, name)
            parts.append(name.encode() + (value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()))
    return b"\0".join(parts)
