"""A run with layered prefill in tables and totals: what passes through a part of the layers is shown where it runs and counted once."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from simserve.engine.records import LaneLog
from simserve.report.energy import _totals
from simserve.report.perfetto.steps import step_events
from simserve.report.rows import with_unit
from simserve.report.series import prompt_tokens_in_bins
from simserve.report.step_file import step_columns


def column(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


LANE = LaneLog(
    instance=0,
    lane=0,
    step_end_s=np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
    span_first_step=column(0, 1, 2, 3),
    span_steps=column(1, 1, 1, 3),
    span_start_s=np.array([0.0, 1.0, 2.0, 3.0]),
    span_decode_requests=column(2, 2, 2, 3),
    span_context_tokens=column(100, 102, 104, 200),
    span_prefill_requests=column(1, 1, 1, 0),
    span_prefill_tokens=column(90, 90, 90, 0),
    span_prefill_pairs=column(4095, 4095, 4095, 0),
    span_kv_blocks=column(9, 9, 9, 9),
    span_waiting=column(0, 0, 0, 0),
    layered=np.array([[0, 0, 3], [1, 1, 3], [2, 2, 3]]),
)
"""90 tokens in three groups beside two decodes, then three steps of decodes."""


def test_steps_say_which_layers_a_chunk_passed() -> None:
    steps = step_columns(LANE)
    assert steps["layer_group"].tolist() == [0, 1, 2, 0, 0, 0]
    assert steps["layer_groups"].tolist() == [3, 3, 3, 1, 1, 1]
    assert steps["prefill_tokens"].tolist() == [90, 90, 90, 0, 0, 0]
    assert step_columns(LANE, 2, 4)["layer_group"].tolist() == [2, 0, 0, 0]


def test_prompt_tokens_are_computed_with_the_last_group() -> None:
    _, tokens, pairs = LANE.computed_prefills()
    assert tokens.tolist() == [0, 0, 90, 0] and pairs.tolist() == [0, 0, 4095, 0]
    bins = prompt_tokens_in_bins(SimpleNamespace(lanes=(LANE,)), np.array([0.0, 2.5, 6.0]))
    assert bins.tolist() == [0.0, 90.0]


def test_the_timeline_names_the_group() -> None:
    events = [event for _, event in step_events(SimpleNamespace(lanes=(LANE,), instances=(None,)), set(), 9.0) if '"ph":"X"' in event]
    names = [json.loads(event)["name"] for event in events]
    assert names == [*(f"prefill 90 in layer group {g} of 3 + decode 2" for g in (1, 2, 3)), "decode 3 (3 steps)"]


def test_bytes_are_shown_as_gigabytes() -> None:
    assert with_unit(5.8e10, "B") == "58 GB"
    assert with_unit(9.21e11, "B") == "921 GB"


def test_totals_of_a_sweep_are_those_of_one_chunk() -> None:
    """Three thirds of a step hold the chunk, the rest of each step holds the decodes alone."""
    steps, tokens, attended, pairs = _totals([LANE])
    assert steps.sum() == pytest.approx(6)
    assert (steps * tokens).sum() == pytest.approx(3 * 2 + 3 * 3 + 90)
    decoded = 100 + 102 + 104 + (200 + 203 + 206)
    assert pairs.sum() == pytest.approx(decoded + 4095)
    assert (steps * attended).sum() == pytest.approx(decoded + 4095 / 90)
    assert steps[tokens == 92].sum() == pytest.approx(1)
