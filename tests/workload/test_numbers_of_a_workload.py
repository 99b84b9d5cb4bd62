"""Every number that a workload section may state: the least and the most of it, and what holds when nothing is said."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError

from simserve.bounds import LEAST_RATE_PER_S, MOST_EXACT, MOST_RATE_PER_S, MOST_REQUESTS, MOST_S, MOST_SEED, MOST_TOKENS
from simserve.workload.config import BurstGptLikeSource, ClosedLoop, SloClassRule, TraceSource, WorkloadConfig, _classified
from simserve.workload.generators.arrivals import Diurnal, Gamma, Piecewise, Poisson, RatePiece, Weibull
from simserve.workload.generators.lengths import Fixed, Lognormal, Normal, Uniform, Zipf
from simserve.workload.requests import Labels, RequestTable
from simserve.workload.shaping import TokenLimits
from tests.frozen import changeable

NEEDED: dict[type[BaseModel], dict[str, Any]] = {
    Poisson: {"rate_per_s": 1.0},
    Gamma: {"rate_per_s": 1.0, "cv": 1.0},
    Weibull: {"rate_per_s": 1.0, "shape": 1.0},
    RatePiece: {"duration_s": 1.0, "rate_per_s": 1.0},
    Diurnal: {"rate_per_s": 1.0},
    Fixed: {"tokens": 1},
    Uniform: {"low_tokens": 1, "high_tokens": MOST_TOKENS},
    Normal: {"mean_tokens": 100.0, "sd_tokens": 1.0, "max_tokens": MOST_TOKENS},
    Lognormal: {"median_tokens": 100.0, "sigma": 1.0, "max_tokens": MOST_TOKENS},
    Zipf: {"exponent": 1.0, "high_tokens": 10_000_000},
    ClosedLoop: {"concurrency": 1},
    SloClassRule: {"name": "chat", "fraction": 0.5},
    TraceSource: {"path": "a.csv"},
    BurstGptLikeSource: {},
    WorkloadConfig: {"burstgpt_like": {}},
    TokenLimits: {},
}
"""A model and what it needs beside the number in question."""

ABOVE_0 = 0.0, False
"""Above 0, not 0 itself."""

NUMBERS: list[tuple[type[BaseModel], str, Any, Any]] = [
    (Poisson, "rate_per_s", LEAST_RATE_PER_S, MOST_RATE_PER_S),
    (Gamma, "cv", 1e-3, 100),
    (Weibull, "shape", 0.1, 1000),
    (RatePiece, "duration_s", 1e-6, MOST_S),
    (RatePiece, "rate_per_s", 0, MOST_RATE_PER_S),
    (Diurnal, "rate_per_s", LEAST_RATE_PER_S, MOST_RATE_PER_S),
    (Diurnal, "peak_to_trough", 1, 1e6),
    (Diurnal, "period_s", 1e-6, MOST_S),
    (Diurnal, "peak_s", 0, MOST_S),
    (Fixed, "tokens", 1, MOST_TOKENS),
    (Uniform, "low_tokens", 1, MOST_TOKENS),
    (Uniform, "high_tokens", 1, MOST_TOKENS),
    (Normal, "mean_tokens", ABOVE_0, MOST_TOKENS),
    (Normal, "sd_tokens", 0, MOST_TOKENS),
    (Normal, "min_tokens", 1, MOST_TOKENS),
    (Normal, "max_tokens", 1, MOST_TOKENS),
    (Lognormal, "median_tokens", ABOVE_0, MOST_TOKENS),
    (Lognormal, "sigma", 0, 10),
    (Zipf, "exponent", 0, 20),
    (Zipf, "low_tokens", 1, 10_000_000),
    (Zipf, "high_tokens", 1, 10_000_000),
    (ClosedLoop, "concurrency", 1, MOST_REQUESTS),
    (ClosedLoop, "think_s", 0, MOST_S),
    (SloClassRule, "fraction", ABOVE_0, 1),
    (SloClassRule, "priority", -MOST_EXACT, MOST_EXACT),
    (TraceSource, "start_s", 0, MOST_S),
    (TraceSource, "duration_s", ABOVE_0, MOST_S),
    (TraceSource, "resample", 1, MOST_REQUESTS),
    (TraceSource, "limit", 1, MOST_REQUESTS),
    (TraceSource, "rate_scale", LEAST_RATE_PER_S, MOST_RATE_PER_S),
    (TraceSource, "block_tokens", 1, 1_000_000),
    (BurstGptLikeSource, "days", ABOVE_0, 3660),
    (BurstGptLikeSource, "start_day", 0, 3660),
    (BurstGptLikeSource, "prefix_block_tokens", 1, MOST_TOKENS),
    (BurstGptLikeSource, "seed", 0, MOST_SEED),
    (WorkloadConfig, "max_concurrency", 1, 100_000_000),
    (WorkloadConfig, "priority", -MOST_EXACT, MOST_EXACT),
    (WorkloadConfig, "patience_s", 0, MOST_S),
    (WorkloadConfig, "max_output_tokens", 1, MOST_TOKENS),
    (TokenLimits, "prompt_tokens", 1, MOST_TOKENS),
    (TokenLimits, "output_tokens", 1, MOST_TOKENS),
    (TokenLimits, "total_tokens", 2, 2 * MOST_TOKENS),
]


def made(model: type[BaseModel], key: str, value: Any) -> Any:
    return getattr(model(**{**NEEDED[model], key: value}), key)


@pytest.mark.parametrize(("model", "key", "least", "most"), NUMBERS, ids=lambda x: getattr(x, "__name__", str(x)))
def test_the_least_and_the_most(model: type[BaseModel], key: str, least: Any, most: Any) -> None:
    whole = "int" in str(model.model_fields[key].annotation)
    assert made(model, key, most) == most
    if least == ABOVE_0:
        assert made(model, key, 1e-9) == 1e-9
        below = 0.0
    else:
        assert made(model, key, least) == least
        below = least - 1 if whole else math.nextafter(least, -math.inf)
    for outside in (below, most + 1 if whole else math.nextafter(most, math.inf), math.nan, math.inf, -math.inf):
        with pytest.raises(ValidationError):
            made(model, key, outside)


@pytest.mark.parametrize(
    ("model", "defaults"),
    [
        (Diurnal, {"peak_to_trough": 4.0, "period_s": 86400.0, "peak_s": 54000.0}),  # a day whose busiest hour is three in the afternoon
        (Zipf, {"low_tokens": 1}),
        (ClosedLoop, {"think_s": 0.0}),
        (TraceSource, {
            "start_s": 0.0, "duration_s": None, "resample": None, "limit": None, "rate_scale": 1.0, "sessions": "replay", "strict": False,
            "format": None, "time_unit": None, "block_tokens": None,
        }),
        (BurstGptLikeSource, {
            "days": 1.0, "start_day": 9.0, "conversations": True, "api": True, "failures": True, "multi_turn": False, "seed": None,
            "prefix_block_tokens": None,
        }),  # the first day with API traffic
        (WorkloadConfig, {
            "max_concurrency": None, "priority": None, "patience_s": None, "max_output_tokens": None, "slo_classes": (), "count": None,
        }),
        (SloClassRule, {"priority": None, "model": None, "log_type": None}),
        (TokenLimits, {"prompt_tokens": None, "output_tokens": None, "total_tokens": None}),
    ],
)  # fmt: skip
def test_what_is_not_said(model: type[BaseModel], defaults: dict[str, Any]) -> None:
    one = model(**NEEDED[model])
    assert {key: getattr(one, key) for key in defaults} == defaults


def test_lengths_between_1_and_131072_tokens_unless_stated() -> None:
    for one in (Normal(mean_tokens=10, sd_tokens=1), Lognormal(median_tokens=10, sigma=1)):
        assert (one.min_tokens, one.max_tokens) == (1, 131_072)


def test_models_and_their_parts_take_no_other_keys_and_do_not_change() -> None:
    for model, needed in NEEDED.items():
        with pytest.raises(ValidationError, match="other"):
            model(**needed, other=1)
        with pytest.raises(ValidationError, match="frozen"):
            model(**needed).__setattr__(next(iter(model.model_fields)), 1)


def test_a_piece_rests_or_has_a_rate_that_can_be_served() -> None:
    def pieces(*rates: float) -> Piecewise:
        return Piecewise(pieces=tuple(RatePiece(duration_s=1.0, rate_per_s=rate) for rate in rates))

    assert pieces(0.0, LEAST_RATE_PER_S).mean_rate_per_s() == LEAST_RATE_PER_S / 2
    assert pieces(LEAST_RATE_PER_S).mean_rate_per_s() == LEAST_RATE_PER_S
    with pytest.raises(ValidationError, match="at least one stretch needs a rate above 0"):
        pieces(0.0, 0.0)
    with pytest.raises(ValidationError, match="0 or at least"):
        pieces(1.0, LEAST_RATE_PER_S / 2)


@pytest.mark.parametrize(("fractions", "fits"), [((0.5, 0.5), True), ((0.1,) * 10, True), ((0.7, 0.3001), False), ((1.0,), True)])
def test_fractions_of_classes_add_up_to_1_at_most(fractions: tuple[float, ...], fits: bool) -> None:
    rules = [{"name": f"class{number}", "fraction": fraction} for number, fraction in enumerate(fractions)]
    if fits:
        assert len(WorkloadConfig(burstgpt_like={}, slo_classes=rules).slo_classes) == len(fractions)
    else:
        with pytest.raises(ValidationError, match=r"add up to 1\.0001, more than 1"):
            WorkloadConfig(burstgpt_like={}, slo_classes=rules)


def test_as_many_requests_may_be_expected_as_may_be_counted() -> None:
    def generated(duration_s: float, **more: Any) -> WorkloadConfig:
        fixed = {"kind": "fixed", "tokens": 1}
        arrivals = {"kind": "constant", "rate_per_s": 1000.0}
        return WorkloadConfig(arrivals=arrivals, lengths={"prompt": fixed, "output": fixed}, duration_s=duration_s, **more)

    assert generated(MOST_REQUESTS / 1000).duration_s == MOST_REQUESTS / 1000
    with pytest.raises(ValidationError, match="about 101,000,000 requests arrive within duration_s"):
        generated(1.01 * MOST_REQUESTS / 1000)
    assert generated(1.01 * MOST_REQUESTS / 1000, count=5).count == 5, "the count ends it before"


def test_what_is_said_of_a_workload_stays() -> None:
    assert changeable("simserve.workload") == set()


def test_rules_by_label_come_before_fractions_wherever_they_stand() -> None:
    """All requests of no rule by label get the priority of the class that takes every one of them; those of GPT-4 keep their own."""
    four = np.full(4, 5)
    table = RequestTable.build(
        np.arange(4.0), four, four, label_model=Labels.of(["GPT-4", "other", "GPT-4", "other"]), priority=np.arange(4)
    )
    rules = ({"name": "rest", "fraction": 1.0, "priority": 9}, {"name": "large", "model": "GPT-4"})
    for order in (rules, rules[::-1]):
        found = _classified(table, WorkloadConfig(burstgpt_like={}, slo_classes=order), np.random.default_rng(0))
        assert [found.slo_class.names[code] for code in found.slo_class.codes] == ["large", "rest", "large", "rest"]
        assert found.priority.tolist() == [0, 9, 2, 9]
