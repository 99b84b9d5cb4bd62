"""What intervals are learned by: they hold as often as they say, groups borrow from those around them, labels only widen."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simserve.uncertainty.belief import LABELS
from simserve.uncertainty.learning import Row, Spread, best_pull, half_width, learned, spread_at, without_own_model

RNG = np.random.Generator(np.random.PCG64(7))


def rows(
    sigma: float, models: int, of_each: int, *, label: str = "fitted", engine: str = "vllm", kernels: float = 0.0, reacts: float = 1.0
) -> list[Row]:
    """Errors of models and of runs, half of the variance each."""
    out = []
    for model in range(models):
        of_model = RNG.normal(0.0, sigma / math.sqrt(2.0))
        for run in range(of_each):
            error = of_model + RNG.normal(0.0, sigma / math.sqrt(2.0))
            out.append(
                Row(("first mean", label, "dense", engine), f"{engine} {label} {model}", f"run {run}", error * reacts, reacts, kernels)
            )
    return out


def test_the_interval_of_a_lognormal_error_holds_four_of_five_new_draws() -> None:
    found = learned(rows(0.2, 200, 10), pull=1.0)
    half = half_width(1.0, 0.0, found[("first mean", "fitted")].log)
    new = RNG.normal(0.0, 0.2, 10_000)
    assert 0.78 <= float((np.abs(new) <= half).mean()) <= 0.82
    assert half == pytest.approx(1.2816 * 0.2, rel=0.05)


def test_a_wrong_calibration_does_not_hold() -> None:
    """What the test above would say of an interval that forgets half of the error, or doubles it."""
    half = half_width(1.0, 0.0, learned(rows(0.2, 200, 10), pull=1.0)[("first mean",)].log)
    new = np.abs(RNG.normal(0.0, 0.2, 10_000))
    assert float((new <= half / 2.0).mean()) < 0.6 and float((new <= 2.0 * half).mean()) > 0.97


def test_what_kernels_explain_is_not_learned_again() -> None:
    """All of the error is the kernels': nothing remains, and the interval still holds."""
    found = learned(rows(0.2, 200, 10, kernels=0.2), pull=1.0)[("first mean",)]
    assert found.log < 0.05
    new = np.abs(RNG.normal(0.0, 0.2, 10_000))
    assert 0.77 <= float((new <= half_width(1.0, 0.2, found.log)).mean()) <= 0.83


def test_a_figure_that_moves_three_times_as_much_as_its_steps_has_an_interval_three_times_as_wide() -> None:
    found = learned(rows(0.1, 200, 5, reacts=3.0), pull=1.0)[("first mean",)]
    assert found.log == pytest.approx(1.2816 * 0.1, rel=0.1), "in units of step time"
    assert half_width(3.0, 0.0, found.log) == pytest.approx(3.0 * half_width(1.0, 0.0, found.log))


def test_each_model_weighs_alike_however_many_rows_it_has() -> None:
    many = [Row(("rate load", "fitted"), "one", f"run {k}", 1.0, 1.0, 0.0) for k in range(1000)]
    few = [Row(("rate load", "fitted"), f"model {k}", "run", 0.1, 1.0, 0.0) for k in range(20)]
    assert learned([*many, *few], pull=1.0)[("rate load",)].log == pytest.approx(0.1)


def test_a_small_group_is_like_the_one_around_it_and_a_large_one_is_its_own() -> None:
    wide = rows(0.5, 60, 4)
    for narrow, near in ((rows(0.05, 2, 4, engine="mindie"), 0.5), (rows(0.05, 60, 4, engine="sglang"), 0.05)):
        found = learned([*wide, *narrow], pull=4.0)
        log = found[narrow[0].path].log / 1.2816
        assert abs(math.log(log / near)) < math.log(2.2), (narrow[0].path, log)


def test_less_believable_labels_are_never_narrower() -> None:
    """Even where the estimates at hand happen to be the best of all."""
    lucky = [rows(sigma, 30, 5, label=label) for label, sigma in zip(LABELS, (0.3, 0.2, 0.1, 0.05), strict=True)]
    found = learned([row for part in lucky for row in part], pull=1.0)
    for tail in ((), ("dense",), ("dense", "vllm")):
        logs = [found[("first mean", label, *tail)].log for label in LABELS]
        assert logs == sorted(logs), logs


def test_coverage_of_models_left_out_is_what_it_says_though_their_errors_have_a_level_of_their_own() -> None:
    every = rows(0.3, 60, 6)
    inside = [abs(row.log_error) <= half for row, half in without_own_model(every, 2.0)]
    assert len(inside) == len(every) and 0.75 <= float(np.mean(inside)) <= 0.87


def test_a_row_teaches_nothing_of_itself() -> None:
    """One model is off by a factor of ten: with it left out, its own interval knows nothing of that."""
    usual = rows(0.1, 30, 4)
    strange = [Row(usual[0].path, "strange", "run", math.log(10.0), 1.0, 0.0)]
    halves = {row.model: half for row, half in without_own_model([*usual, *strange], 1.0)}
    alone = half_width(1.0, 0.0, learned(usual, 1.0)[usual[0].path].log)
    assert halves["strange"] == pytest.approx(alone)


def test_the_pull_is_strong_where_engines_are_alike_and_weak_where_they_are_not() -> None:
    names = [f"engine {k}" for k in range(8)]
    alike = [row for name in names for row in rows(0.2, 6, 4, engine=name)]
    apart = [row for k, name in enumerate(names) for row in rows(0.02 * 3.0 ** (k % 4), 6, 4, engine=name)]
    assert best_pull(apart)[0] < best_pull(alike)[0]


def test_what_no_row_is_like_is_taken_from_the_label_that_is_nearest_and_less_believable() -> None:
    found = {("a",): Spread(0.1, 9, 9), ("a", "fitted"): Spread(0.2, 9, 9), ("a", "estimate"): Spread(0.9, 9, 9)}
    assert spread_at(found, ("a", "extrapolated", "dense")) == found[("a", "estimate")]
    assert spread_at(found, ("a", "fitted", "dense", "other")) == found[("a", "fitted")]
    assert spread_at(found, ("a", "measured")) == found[("a", "fitted")]
    assert spread_at(found, ("b", "fitted")) is None
