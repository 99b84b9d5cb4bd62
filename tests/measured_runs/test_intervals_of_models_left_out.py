"""The coverage that the report states: honest on runs with a known error, and every table has its rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import yaml

from benchmarks.measured_runs.goals import interval_goals
from benchmarks.measured_runs.intervals import coverage_table, inside_percent, label_table, learn_intervals, sentence
from simserve.uncertainty.residuals import load
from simserve.validation.believed import rows_of
from simserve.validation.case import Case, Lengths, Load
from simserve.validation.evaluate import Outcome

MODELS = ("llama-2-7b", "llama-2-13b", "llama-2-70b", "llama-3.1-405b", "qwen3-8b", "qwen3-32b", "mistral-7b", "qwen2-7b")
ABOUT = dict.fromkeys(("queueing", "ttft", "tpot", "e2e"), 1.0) | {"rate": -1.0, "waiting": 0.0, "calm": 1.0, "beyond": 1.0}
ABOUT |= {f"{step}_{part}": value for step in ("first", "next") for part, value in (("log", 0.02), ("host", 0.1), ("unmeasured", 0.0))}


def outcomes(sigma: float, *, wrong_by: float = 0.0, seed: int = 3) -> list[Outcome]:
    """Ten runs of each model under two engines, off by `sigma`: half of the variance is the model's. `wrong_by` shifts the first model."""
    rng = np.random.Generator(np.random.PCG64(seed))
    found = []
    for k, model in enumerate(MODELS):
        of_model = rng.normal(0.0, sigma / math.sqrt(2.0)) + (wrong_by if k == 0 else 0.0)
        for run in range(20):
            errors = {
                metric: math.exp(of_model + rng.normal(0.0, sigma / math.sqrt(2.0))) for metric in ("ttft_mean", "tpot_mean", "e2e_mean")
            }
            profile, engine = (("vllm-v1", "vllm"), ("tensorrt-llm-1.0", "trtllm"))[run % 2]
            load_ = Load("closed", Lengths(500.0), Lengths(100.0), requests=40, concurrency=4)
            case = Case("made", f"{model} {run}", f"{model}/{run}", engine, "0.11", profile, "h100-sxm-80gb", model, load_, errors)
            found.append(Outcome(case, dict.fromkeys(errors, 1.0) | {f"about_{name}": value for name, value in ABOUT.items()}))
    return found


def test_four_of_five_lie_inside_whatever_the_size_of_the_error() -> None:
    for sigma in (0.05, 0.4):
        judged = learn_intervals(outcomes(sigma), []).judged
        assert len(judged) == 20 * len(MODELS) * 3
        assert 75.0 <= inside_percent(judged) <= 88.0, (sigma, inside_percent(judged))


def test_a_model_that_is_off_by_a_factor_of_five_lies_outside_and_is_counted() -> None:
    """Its own rows teach nothing of it, and those of the others say nothing of such an error."""
    judged = learn_intervals(outcomes(0.05, wrong_by=math.log(5.0)), []).judged
    first = [one for one in judged if one.row.run.startswith(f"made/{MODELS[0]}/")]
    assert len(first) == 60 and not any(one.inside for one in first)


def test_what_is_written_is_what_a_run_reads(tmp_path: object) -> None:
    from pathlib import Path

    learned = learn_intervals(outcomes(0.2), outcomes(0.2, seed=4))
    path = Path(str(tmp_path)) / "residuals.yaml"
    path.write_text(learned.text)
    assert yaml.safe_load(learned.text)["lengths"]["vllm-v1 / h100-sxm-80gb"] == [500, 100]
    found = load(path)
    assert found.seen("vllm-v1", "h100-sxm-80gb") == {"prompt": 500.0, "output": 100.0} and found.seen("vllm-v1", "h20") == {}
    spread = found.spread(("next", "dense", "measured", "vllm"))
    assert spread is not None and 0.1 < spread.high < 0.5
    assert found.spread(("next", "experts", "measured", "vllm")) is None


def test_the_tables_have_a_line_for_each_group_and_the_goal_its_verdict() -> None:
    every = outcomes(0.2)
    judged = learn_intervals(every, []).judged
    table = coverage_table(judged)
    assert "| made | first tokens | 160 |" in table and "| made | whole requests | 160 |" in table and "| all | | 480 |" in table
    assert "dense | " in label_table(judged) and f"Of 480 measured figures of {len({o.row.model for o in judged})} models" in sentence(
        judged
    )
    assert interval_goals(every, judged).count("| met |") == 2
    assert "missed" in interval_goals([*every, *[Outcome(every[0].case, {}, "why")] * 20], judged)


def test_rates_that_the_load_decides_teach_nothing() -> None:
    (outcome,) = outcomes(0.1)[:1]
    case = outcome.case
    rate = Outcome(
        Case(case.dataset, "", "r", "vllm", "", case.profile, case.gpu, case.model, case.load, {"output_tokens_per_s": 2.0}),
        outcome.predicted | {"output_tokens_per_s": 1.0},
    )
    given = Outcome(rate.case, rate.predicted | {"about_rate": -0.1})
    assert [row.path[0] for row in rows_of([rate], measured=False)] == ["rate"] and rows_of([given], measured=False) == []
    (row,) = rows_of([rate], measured=False)
    assert row.log_error == pytest.approx(math.log(2.0)) and row.kernels == 0.02
