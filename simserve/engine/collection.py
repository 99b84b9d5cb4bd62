"""What a run leaves behind, put together when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simserve.engine.lane_logs import Totals, infos, lane_logs
from simserve.engine.pieces import InPieces
from simserve.engine.records import RunRecords
from simserve.engine.sliding import as_array

if TYPE_CHECKING:
    from simserve.engine.simulate import Simulation


def collected(run: Simulation) -> RunRecords:
    """The records of a run that is over, or cut."""
    running = [lane for instance in run.instances for lane in instance.lanes]
    lanes = lane_logs(running, [as_array(lane.step_end_s) for lane in running])
    columns, emissions = run.recorder.request_columns(), run.recorder.emissions(lanes)
    totals = Totals(len(lanes))
    totals.add(lanes)
    ends = [float(lane.step_end_s[-1]) for lane in lanes if len(lane.step_end_s)]
    finished = columns.finish_s[np.isfinite(columns.finish_s)]
    if len(finished):
        ends.append(float(finished.max()))
    if run.cut_s is not None:
        ends.append(run.cut_s)
    return RunRecords(
        table=run.table,
        requests=columns,
        lanes=lanes,
        emissions=emissions,
        instances=infos(run.instances),
        end_s=max(ends, default=0.0),
        moves=run.cluster.migrations.columns() if run.cluster.spec.controllers else None,
        instance_states=tuple(run.cluster.states),
        roles=tuple(run.cluster.roles),
        scaling=run.cluster.scaling_log(),
        counters=counters(run, totals, float(columns.preemptions.sum()), float(columns.reread_tokens.sum())),
    )


def counters(run: Simulation, totals: Totals, preemptions: float, reread_tokens: float) -> dict[str, float]:
    """The counters of the records (`RunRecords.counters`)."""
    steps, plans, new, pairs, _ = totals.of_lane.sum(axis=0).tolist()
    return {
        "steps": steps,
        "plans": plans,
        "computed_tokens": new,
        "attended_pairs": pairs,
        "useful_flops": totals.flops(run.instances),
        "preemptions": preemptions,
        "reread_tokens": reread_tokens,
        "kv_blocks_in_use_at_end": float(sum(instance.kv.used_blocks for instance in run.instances)),
        "swapped_tokens": float(sum(instance.swapped_tokens for instance in run.instances)),
        "instance_failures": float(run.cluster.failures),
        "transferred_tokens": float(run.cluster.kv_transfers.moved_tokens if run.cluster.kv_transfers is not None else 0),
        "migrated_tokens": float(run.cluster.migrations.moved_tokens),
        **({"cancelled_tokens": float(cancelled)} if (cancelled := run.recorder.cancelled_tokens) else {}),
        **({"overrun_tokens": float(overrun)} if (overrun := run.recorder.overrun_tokens) else {}),
        **({"void_burst_tokens": float(void)} if (void := run.recorder.void_burst_tokens) else {}),
    }


def rest_of(run: Simulation, pieces: InPieces) -> RunRecords:
    """The records of a run as a whole, whose requests and steps have left in pieces: there are none here."""
    pieces.finish(run.cut_s)
    requests, noted = run.recorder.take(0)
    return RunRecords(
        table=run.table,
        requests=requests,
        lanes=(),
        emissions=noted.emissions([]),
        instances=pieces.instances,
        end_s=pieces.end_s,
        moves=run.cluster.migrations.columns() if run.cluster.spec.controllers else None,
        instance_states=tuple(run.cluster.states),
        roles=tuple(run.cluster.roles),
        scaling=run.cluster.scaling_log(),
        counters=counters(run, pieces.totals, pieces.preemptions, pieces.reread_tokens),
    )
