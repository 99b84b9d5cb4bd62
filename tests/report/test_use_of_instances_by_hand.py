"""How busy instances were: figures from lanes written by hand."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from simserve.engine.records import LaneLog
from simserve.report import step_file
from simserve.report.drafts import _of_slices
from simserve.report.request_file import write_requests
from simserve.report.result import Result
from simserve.report.step_file import write_steps
from simserve.report.utilisation import busy_s, compute_utilisation, instance_use, waiting_intervals
from simserve.report.window import Window
from tests.report.synthetic import serve


def ints(*values: int) -> Any:
    return np.array(values, dtype=np.int64)


def lane(instance: int, spans: list[tuple[float, list[float], int, int, int, int]], number: int = 0, **more: Any) -> LaneLog:
    """Spans (start, ends of the steps, decodes, chunks, their tokens, blocks in use); a chunk of n tokens has n n / 2 pairs."""
    ends = [end for _, of_span, *_ in spans for end in of_span]
    steps = [len(of_span) for _, of_span, *_ in spans]
    start, decodes, chunks, tokens, blocks = (np.array([span[k] for span in spans]) for k in (0, 2, 3, 4, 5))
    return LaneLog(
        instance, number, np.array(ends), np.cumsum([0, *steps[:-1]]), np.array(steps), start.astype(float), decodes, 100 * decodes, chunks,
        tokens, tokens**2 // 2, blocks, np.zeros(len(spans), dtype=np.int64), **more,
    )  # fmt: skip


def records(*lanes: LaneLog, instances: int = 1, end_s: float = 10.0, **more: Any) -> Any:
    info = [SimpleNamespace(name=f"i{k}", policy="p", devices=1, kv_blocks=100, peak_flops_per_s=0.25) for k in range(instances)]
    fields = {"instances": info, "lanes": list(lanes), "end_s": end_s, "counters": {}, **more}
    return SimpleNamespace(**fields)


BUSY = lane(0, [(1.0, [2.0], 0, 2, 30, 10), (2.0, [3.0, 4.0], 3, 0, 0, 20), (6.0, [8.0], 1, 1, 10, 40)])
"""5 s of steps in 10 s: two prompts of 30 tokens in all; two steps of three; one with a chunk of 10 beside one decode."""


# ---- how busy ----


def test_means_over_the_time_of_steps() -> None:
    (use,) = instance_use(records(BUSY), Window(0.0, 10.0))
    assert use["busy_fraction"] == 0.5 and use["steps"] == 4 and use["step_s_mean"] == 5 / 4
    assert use["batch_requests_mean"] == (1 * 2 + 2 * 3 + 2 * 2) / 5 and use["batch_requests_max"] == 3
    assert use["step_tokens_mean"] == (1 * 30 + 2 * 3 + 2 * 11) / 5
    assert use["kv_used_mean"] == pytest.approx((1 * 10 + 2 * 20 + 2 * 40) / 5 / 100 * 0.5) and use["kv_used_max"] == 0.4


def test_a_window_cuts_steps_and_counts_those_that_end_in_it() -> None:
    (use,) = instance_use(records(BUSY), Window(3.5, 7.0))
    assert use["busy_fraction"] == pytest.approx(1.5 / 3.5) and use["steps"] == 1, "the step that ends at 4"
    assert use["batch_requests_max"] == 3 and use["kv_used_max"] == 0.4
    (before,) = instance_use(records(BUSY), Window(4.0, 6.0))
    assert before["steps"] == before["busy_fraction"] == before["kv_used_max"] == 0.0, "the last step ends as the window begins"
    assert math.isnan(before["batch_requests_mean"]) and math.isnan(before["step_s_mean"])


def test_an_instance_that_did_nothing_was_idle_and_of_no_time_nothing_is_known() -> None:
    (idle,) = instance_use(records(), Window(0.0, 10.0))
    assert (idle["busy_fraction"], idle["kv_used_mean"], idle["kv_used_max"], idle["steps"]) == (0.0, 0.0, 0.0, 0)
    assert math.isnan(idle["batch_requests_mean"])
    (unknown,) = instance_use(records(), Window(4.0, 4.0))
    assert math.isnan(unknown["busy_fraction"]) and math.isnan(unknown["steps"])
    (nothing,) = instance_use(records(BUSY), Window(4.0, 4.0))
    assert math.isnan(nothing["busy_fraction"])


def test_steps_of_two_lanes_at_once_are_one_busy_time() -> None:
    other = lane(0, [(0.5, [1.5], 1, 0, 0, 5), (3.5, [7.0], 1, 0, 0, 5)], number=1)
    whole = Window(0.0, 10.0)
    assert busy_s([BUSY], whole) == 5.0 and busy_s([other], whole) == 4.5
    assert busy_s([BUSY, other], whole) == busy_s([other, BUSY], whole) == 3.5 + 4.0, "0.5 to 4 and 3.5 to 8, together 0.5 to 8"
    (use, idle) = instance_use(records(BUSY, other, instances=2), whole)
    assert use["busy_fraction"] == 0.75 and use["steps"] == 6 and idle["busy_fraction"] == 0.0


def test_arithmetic_done_over_what_could_have_been() -> None:
    """Two devices of a quarter of a FLOP a second over 1 s: half a FLOP is possible."""
    assert compute_utilisation(records(instances=2, end_s=1.0, counters={"useful_flops": 0.125})) == 0.25
    assert math.isnan(compute_utilisation(records(end_s=0.0, counters={"useful_flops": 1.0})))
    assert math.isnan(compute_utilisation(records()))


def test_requests_wait_until_their_first_step_their_verdict_or_the_end() -> None:
    nan = math.nan
    columns = SimpleNamespace(
        released_s=np.array([0.0, 1.0, 2.0, nan]), scheduled_s=np.array([0.5, nan, nan, nan]), finish_s=np.array([4.0, 3.0, nan, nan])
    )
    since, until = waiting_intervals(records(requests=columns))
    assert since.tolist() == [0.0, 1.0, 2.0] and until.tolist() == [0.5, 3.0, 10.0]


# ---- drafted tokens of slices ----


def test_verified_slices_count_where_their_span_ends_and_on_their_lane() -> None:
    """Two lanes; of lane 0 spans end at 2, 4 and 8. The window holds the first two. Bursts: (segment, tokens)."""
    verified = np.array([[0, 1, 4, 0], [1, 2, 6, 0], [2, 1, 4, 0]])
    log = lane(0, [(1.0, [2.0], 0, 0, 0, 10), (2.0, [3.0, 4.0], 3, 0, 0, 20), (6.0, [8.0], 1, 0, 0, 40)], verified=verified)
    bursts = np.array([[0, 3], [1, 2], [2, 4], [3, 2]])
    emissions = SimpleNamespace(lane=ints(0, 0, 1, 0), bursts=bursts, prefill_end_s=np.array([2.0, 4.0, 3.0, 8.0]))
    found = _of_slices(records(log, emissions=emissions), 0, log, Window(0.0, 5.0))
    assert found.tolist() == [3, 3, 4 + 6 - 3, (3 - 1) + (2 - 1)]
    assert _of_slices(records(BUSY), 0, BUSY, Window(0.0, 5.0)).tolist() == [0] * 4


# ---- files ----


def test_files_are_written_in_groups_of_a_million_rows(tmp_path: Path) -> None:
    written, _ = serve(np.arange(30) * 0.05, [10] * 30, [12] * 30)
    write_requests(Result(written, {}).measurement, tmp_path / "requests.parquet")
    write_steps(written, tmp_path / "steps.parquet")
    for name, rows in (("requests", 30), ("steps", int(written.lanes[0].span_steps.sum()))):
        metadata = pq.read_metadata(tmp_path / f"{name}.parquet")
        assert (metadata.num_row_groups, metadata.num_rows) == (1, rows) and metadata.row_group(0).column(0).compression == "ZSTD"


@pytest.mark.parametrize(("most", "pieces"), [(1, [1, 2, 1]), (2, [1, 2, 1]), (3, [3, 1]), (4, [4]), (100, [4])])
def test_pieces_of_steps_end_with_a_span(most: int, pieces: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans of 1, 2 and 1 steps in pieces of so many rows: as many spans as fit, one at least."""
    monkeypatch.setattr(step_file, "_ROWS_PER_GROUP", most)
    log = lane(0, [(1.0, [2.0], 0, 2, 30, 10), (2.0, [3.0, 4.0], 3, 0, 0, 20), (6.0, [8.0], 1, 1, 10, 40)])
    found = list(step_file.step_parts(records(log, log)))
    assert [len(part["step"]) for part in found] == 2 * pieces
    assert np.concatenate([part["step"] for part in found]).tolist() == 2 * [0, 1, 2, 3]
    assert np.concatenate([part["start_s"] for part in found]).tolist() == 2 * [1.0, 2.0, 3.0, 6.0]
    assert np.concatenate([part["context_tokens"] for part in found]).tolist() == 2 * [0, 300, 303, 100]
