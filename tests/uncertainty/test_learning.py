"""What intervals are learned by: they hold as often as they say, groups borrow from those around them, labels only widen."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simserve.uncertainty.belief import LABELS
from simserve.uncertainty.cancelling import ALL_THREE, MODEL_AND_DEVICE, learned_differences
from simserve.uncertainty.learning import (
    Choice,
    Row,
    Spread,
    best_choice,
    halves,
    learned,
    spread_at,
    without_own_model,
)

RNG = np.random.Generator(np.random.PCG64(7))
PLAIN = Choice(1.0, 0.1)
GROUP = ("first", "dense")


def rows(
    sigma: float, models: int, of_each: int, *, label: str = "fitted", engine: str = "vllm", kernels: float = 0.0, reacts: float = 1.0
) -> list[Row]:
    """Errors of models and of runs, half of the variance each."""
    out = []
    for model in range(models):
        of_model = RNG.normal(0.0, sigma / math.sqrt(2.0))
        for run in range(of_each):
            error = of_model + RNG.normal(0.0, sigma / math.sqrt(2.0))
            out.append(Row((*GROUP, label, engine), f"{engine} {label} {model}", f"run {run}", error * reacts, reacts, kernels))
    return out


def inside(spread: Spread, errors: np.ndarray, kernels: float = 0.0) -> float:
    ends = halves(1.0, kernels, spread)
    return float(np.mean([ends.hold(error) for error in errors]))


def test_the_interval_of_a_lognormal_error_holds_four_of_five_new_draws() -> None:
    found = learned(rows(0.2, 400, 10), PLAIN)[(*GROUP, "fitted")]
    assert 0.78 <= inside(found, RNG.normal(0.0, 0.2, 10_000)) <= 0.82
    assert (found.low, found.high) == pytest.approx((1.2816 * 0.2, 1.2816 * 0.2), rel=0.08)


def test_a_wrong_calibration_does_not_hold() -> None:
    """What the test above would say of an interval that forgets half of the error, or doubles it."""
    found = learned(rows(0.2, 400, 10), PLAIN)[GROUP]
    new = RNG.normal(0.0, 0.2, 10_000)
    assert inside(found._replace(low=found.low / 2.0, high=found.high / 2.0), new) < 0.6
    assert inside(found._replace(low=2.0 * found.low, high=2.0 * found.high), new) > 0.97
    assert inside(found._replace(low=found.high * 0.3), new) < 0.75, "one side is enough"


def test_an_error_with_a_level_has_an_interval_with_one_side() -> None:
    """All measurements are above: nothing is taken off below but what the kernels may be off by."""
    above = [row._replace(log_error=abs(row.log_error)) for row in rows(0.2, 200, 5)]
    found = learned(above, PLAIN)[GROUP]
    assert found.low == 0.0 and found.high > 0.2
    assert halves(1.0, 0.05, found).low == pytest.approx(1.2816 * 0.05)


def test_what_kernels_explain_is_not_learned_again() -> None:
    """All of the error is the kernels': nothing remains, and the interval still holds."""
    found = learned(rows(0.2, 400, 10, kernels=0.2), PLAIN)[GROUP]
    assert max(found.low, found.high) < 0.1
    assert 0.77 <= inside(found, RNG.normal(0.0, 0.2, 10_000), kernels=0.2) <= 0.85


def test_a_figure_that_moves_three_times_as_much_as_its_steps_has_an_interval_three_times_as_wide() -> None:
    found = learned(rows(0.1, 400, 5, reacts=3.0), PLAIN)[GROUP]
    assert found.high == pytest.approx(1.2816 * 0.1, rel=0.15), "in units of step time"
    assert halves(3.0, 0.0, found).high == pytest.approx(3.0 * halves(1.0, 0.0, found).high)


def test_each_model_weighs_alike_however_many_rows_it_has() -> None:
    path = ("rate", "dense", "fitted")
    many = [Row(path, "one", f"run {k}", 1.0, 1.0, 0.0) for k in range(1000)]
    few = [Row(path, f"model {k}", "run", 0.1, 1.0, 0.0) for k in range(20)]
    assert learned([*many, *few], PLAIN)[path].high == pytest.approx(0.1)


def test_a_small_group_is_like_the_one_around_it_and_a_large_one_is_its_own() -> None:
    wide = rows(0.5, 60, 4)
    for narrow, near in ((rows(0.05, 2, 4, engine="mindie"), 0.5), (rows(0.05, 60, 4, engine="sglang"), 0.05)):
        found = learned([*wide, *narrow], Choice(4.0, 0.1))[narrow[0].path]
        deviation = (found.low + found.high) / 2.0 / 1.2816
        assert abs(math.log(deviation / near)) < math.log(2.2), (narrow[0].path, deviation)


def test_less_believable_labels_are_never_narrower() -> None:
    """Even where the estimates at hand happen to be the best of all."""
    lucky = [rows(sigma, 30, 5, label=label) for label, sigma in zip(LABELS, (0.3, 0.2, 0.1, 0.05), strict=True)]
    found = learned([row for part in lucky for row in part], PLAIN)
    for tail in ((), ("vllm",)):
        for side in ("low", "high"):
            ends = [getattr(found[(*GROUP, label, *tail)], side) for label in LABELS]
            assert ends == sorted(ends), ends


def test_as_many_hold_of_models_left_out_as_it_says_though_models_have_levels_of_their_own_and_are_few() -> None:
    every = rows(0.3, 12, 6)
    choice, told = best_choice(every)
    assert choice.tail < 0.1, "quantiles of few models are too near"
    assert 0.75 <= told <= 0.85
    found = [ends.hold(row.log_error) for row, ends in without_own_model(every, choice)]
    assert len(found) == len(every) and float(np.mean(found)) == pytest.approx(told), "every model has as many rows"


def test_a_row_teaches_nothing_of_itself() -> None:
    """One model is off by a factor of ten: with it left out, its own interval knows nothing of that."""
    usual = rows(0.1, 30, 4)
    strange = [Row(usual[0].path, "strange", "run", math.log(10.0), 1.0, 0.0)]
    ends = {row.model: ends for row, ends in without_own_model([*usual, *strange], PLAIN)}
    assert ends["strange"] == halves(1.0, 0.0, learned(usual, PLAIN)[usual[0].path])


def test_the_pull_is_strong_where_engines_are_alike_and_weak_where_they_are_not() -> None:
    names = [f"engine {k}" for k in range(8)]
    alike = [row for name in names for row in rows(0.2, 6, 4, engine=name)]
    apart = [row for k, name in enumerate(names) for row in rows(0.02 * 3.0 ** (k % 4), 6, 4, engine=name)]
    assert best_choice(apart)[0].pull < best_choice(alike)[0].pull


def test_what_no_row_is_like_is_taken_from_the_label_that_is_nearest_and_less_believable() -> None:
    fitted, estimate = Spread(0.2, 0.2, 9, 9), Spread(0.9, 0.9, 9, 9)
    found = {GROUP: Spread(0.1, 0.1, 9, 9), (*GROUP, "fitted"): fitted, (*GROUP, "estimate"): estimate}
    assert spread_at(found, (*GROUP, "extrapolated", "vllm")) == estimate
    assert spread_at(found, (*GROUP, "fitted", "other")) == fitted
    assert spread_at(found, (*GROUP, "measured")) == fitted
    assert spread_at(found, ("first", "experts", "fitted")) is None


def test_what_two_runs_share_cancels_between_them() -> None:
    """Models are off by 30 %, engines by 10 % beside that, runs by 3 %: between runs of all three the 3 % remain, of two engines 10 %."""
    every, settings = [], []
    for model in range(40):
        of_model = RNG.normal(0.0, 0.3)
        for engine in ("a", "b"):
            of_engine = of_model + RNG.normal(0.0, 0.1)
            for run in range(5):
                error = of_engine + RNG.normal(0.0, 0.03)
                every.append(Row((*GROUP, "fitted", engine), f"{model}", f"{run}", error, 1.0, 0.0, "ttft_mean"))
                settings.append((f"{model}", "device", engine))
    found = learned_differences(every, settings)
    assert found["first", ALL_THREE].half(0.05) == pytest.approx(1.2816 * 0.03 * math.sqrt(2.0), rel=0.15)
    assert found["first", MODEL_AND_DEVICE].half(0.05) == pytest.approx(1.2816 * math.hypot(0.1, 0.03) * math.sqrt(2.0), rel=0.25)


def test_the_further_apart_predictions_are_the_less_sure_is_their_difference() -> None:
    """Errors grow with the logarithm of the load, 20 % of it: a twentieth more load is sure, ten times as much is not."""
    every, settings = [], []
    for model in range(20):
        own = RNG.normal(0.0, 0.2)
        for load in (0.0, 0.01, 0.7, 1.4, 2.8):
            every.append(Row((*GROUP, "fitted", "a"), f"{model}", "", own * load + RNG.normal(0.0, 0.01), 1.0, 0.0, "tpot_mean", load))
            settings.append((f"{model}", "device", "a"))
    found = learned_differences(every, settings)["first", ALL_THREE]
    assert found.half(0.01) < 0.03 and found.half(2.3) == pytest.approx(2.3 * 1.2816 * 0.2, rel=0.35)
