"""The measured window: what warm-up and cool-down leave of a run, never negative times, no request where they leave nothing."""

from __future__ import annotations

import pytest
from synthetic import serve

from simserve.report import Result


@pytest.mark.parametrize(("warmup_s", "cooldown_s"), [(0.0, 50.0), (0.0, 1e9), (50.0, 0.0), (3.0, 8.0)])
def test_cuts_longer_than_the_run_leave_nothing(warmup_s: float, cooldown_s: float) -> None:
    """Three requests of 5 steps of 1 s, two of them released at 0 s: a cool-down of the whole run leaves out these as well."""
    records, _ = serve([0.0, 0.0, 5.0], [10] * 3, [5] * 3, slots=4, step_s=1.0, per_request_s=0.0)
    assert 5.0 < records.end_s < 11.0
    result = Result(records, {}, warmup_s=warmup_s, cooldown_s=cooldown_s)
    window = result.measurement.window
    assert window.start_s == window.end_s == warmup_s and window.length_s == 0.0
    assert not result.measurement.in_window.any()


def test_cuts_that_meet_the_run_keep_what_lies_between() -> None:
    records, _ = serve([0.0, 2.0, 4.0], [10] * 3, [5] * 3, slots=4, step_s=1.0, per_request_s=0.0)
    result = Result(records, {}, warmup_s=1.0, cooldown_s=records.end_s - 3.0)
    assert result.measurement.in_window.tolist() == [False, True, False]
