from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import yaml
from builders import case

from simserve.config.engine_profile import FOLDER, load_engine, names
from simserve.errors import ConfigError
from simserve.validation.budget import error_budget
from simserve.validation.case import Lengths, Load
from simserve.validation.engine_file import with_overheads
from simserve.validation.fit import fit_overheads
from simserve.validation.identify import doubts, identified, refusal
from simserve.validation.machine import overheads_of
from simserve.validation.predict import predict

TRUTH = overheads_of(load_engine("vllm-v1"))
TRUTH = replace(TRUTH, host=replace(TRUTH.host, per_step_s=0.004), request_s=0.03)


def sweep() -> list:  # type: ignore[type-arg]
    """A load sweep of an engine whose overheads are TRUTH."""
    found = []
    for clients in (1, 4, 16):
        one = case(
            label=f"{clients} clients", load=Load("closed", Lengths(256.0), Lengths(48.0), requests=6 * clients, concurrency=clients)
        )
        metrics = predict(one, TRUTH)
        found.append(replace(one, measured={m: metrics[m] for m in ("ttft_mean", "tpot_mean")}))
    return found


def test_overheads_of_a_load_sweep_are_found_again() -> None:
    result = fit_overheads(sweep(), parameters=("per_step_s", "request_s"))
    assert result.values["per_step_s"] == pytest.approx(0.004, rel=0.1)
    assert result.values["request_s"] == pytest.approx(0.03, rel=0.1)
    assert max(result.after_percent.values()) < 3.0 < max(result.before_percent.values())


def test_nothing_to_learn_from_is_said_with_the_reason() -> None:
    with pytest.raises(ConfigError, match="no hardware profile for x"):
        fit_overheads([case(skip="no hardware profile for x")])
    with pytest.raises(ConfigError, match="belong to one engine"):
        fit_overheads([case(), case(profile="vllm-v0")])
    with pytest.raises(ConfigError, match="'magic' is not an overhead"):
        fit_overheads([case()], parameters=("magic",))


@pytest.mark.parametrize("name", names())
def test_learned_overheads_are_written_without_touching_the_rest(name: str) -> None:
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    before, after = yaml.safe_load(text), yaml.safe_load(with_overheads(text, TRUTH, "a test", name="mine"))
    assert after["host"]["per_step_s"] == 0.004 and after["request_path"]["per_request_s"] == 0.03
    assert after["name"] == "mine"
    changed = {"host", "request_path", "name", "sources"}
    assert {k: v for k, v in before.items() if k not in changed} == {k: v for k, v in after.items() if k not in changed}


@pytest.mark.parametrize("name", ["mine", "256", "1e3", "true", "a b: c"])
def test_a_profile_may_have_any_name(name: str) -> None:
    text = (FOLDER / "vllm-v1.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(with_overheads(text, TRUTH, "x", name=name))["name"] == name


def test_the_origin_of_overheads_may_be_any_text() -> None:
    text = (FOLDER / "vllm-v1.yaml").read_text(encoding="utf-8")
    for provenance in ("runs in a: b", "runs in x # y", 'runs in "q"', "runs in a\\b", "runs:"):
        written = with_overheads(text, TRUTH, provenance)
        assert f"host seconds - {provenance}" in yaml.safe_load(written)["sources"]
        again = yaml.safe_load(with_overheads(written, TRUTH, "later"))["sources"]
        assert "host seconds - later" in again and len(again) == len(yaml.safe_load(text)["sources"])


def test_a_budget_gives_slow_steps_to_the_steps_and_a_late_start_to_the_rest() -> None:
    honest = overheads_of(load_engine("vllm-v1"))
    truth = predict(case(), replace(honest, host=replace(honest.host, per_step_s=honest.host.per_step_s + 0.004)))
    slow = {b.metric: b for b in error_budget(case(measured={m: truth[m] for m in ("tpot_mean", "e2e_mean")}))}
    assert slow["e2e_mean"].steps_percent < -10 and abs(slow["e2e_mean"].queueing_percent) < 3
    truth = predict(case(), honest)
    late = {b.metric: b for b in error_budget(case(measured={"tpot_mean": truth["tpot_mean"], "ttft_mean": truth["ttft_mean"] + 0.1}))}
    assert late["ttft_mean"].queueing_percent < -30 and abs(late["ttft_mean"].steps_percent) < 3
    assert late["tpot_mean"].stretch == pytest.approx(1.0, abs=0.01)


def linear(effects: dict[str, list[float]]):  # type: ignore[no-untyped-def]
    """Residuals that depend linearly on parameters in units of their largest value."""
    matrix = np.array(list(effects.values()))
    return tuple(effects), np.full(len(effects), 0.1), np.ones(len(effects)), lambda values: values @ matrix


def test_a_parameter_that_others_imitate_or_that_nothing_depends_on_is_not_identified() -> None:
    # TTFT at two prompt lengths, TPOT at two batch sizes
    found = identified(
        *linear(
            {
                "per_step_s": [0.5, 0.5, 3.0, 2.0],
                "request_s": [1.0, 1.0, 0.0, 0.0],
                "per_decode_request_s": [0.001, 0.001, 0.002, 0.001],
                "request_per_prompt_token_s": [0.2, 2.0, 0.0, 0.0],
            }
        )
    )
    assert found.fitted == ("per_step_s", "request_s", "request_per_prompt_token_s")
    assert found.kept == {"per_decode_request_s": "the runs do not depend on it"}
    one_length = identified(
        *linear({"per_step_s": [0.5, 0.4, 3.0], "request_s": [1.0, 1.0, 0.0], "request_per_prompt_token_s": [0.7, 0.71, 0.0]})
    )
    assert one_length.fitted == ("per_step_s", "request_s")
    assert one_length.kept == {"request_per_prompt_token_s": "the runs cannot tell it from request_s"}


def test_never_more_parameters_than_measured_values() -> None:
    rng = np.random.default_rng(0)
    names = ("per_step_s", "request_s", "per_decode_request_s", "per_prefill_token_s")
    found = identified(*linear({name: rng.normal(size=2).tolist() for name in names}))
    assert len(found.fitted) <= 2 and set(found.fitted) | set(found.kept) == set(names)


def test_values_at_their_bounds_and_fits_that_explain_nothing_are_refused() -> None:
    largest = {"per_step_s": 0.06, "request_s": 1.0}
    fine = {"per_step_s": 0.001, "request_s": 0.02}
    assert not refusal(fine, largest, {"ttft_mean": 12.0})
    assert "request_s ends at the largest value" in refusal(fine | {"request_s": 0.999}, largest, {"ttft_mean": 12.0})
    assert "median error of ttft_mean 180 %" in refusal(fine, largest, {"tpot_mean": 3.0, "ttft_mean": 180.0})


def test_what_to_doubt_is_said() -> None:
    said = "\n".join(doubts({"per_step_s": 0.0}, {"ttft_mean": 10.0}, {"ttft_mean": 30.0}, runs=1, rows=1, skipped_rows=4))
    for part in ("learned from 1 run;", "4 of 5 rows", "30 % after", "per_step_s ends at 0", "no error is smaller", "in sample"):
        assert part in said
    assert doubts({"per_step_s": 1e-3}, {"ttft_mean": 10.0}, {"ttft_mean": 3.0}, runs=5, rows=5, skipped_rows=0) == [
        "errors are in sample: no run was kept to judge by"
    ]
