from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from builders import case

from simserve.config.engine_profile import FOLDER, load_engine, names
from simserve.errors import ConfigError
from simserve.serving.budget import error_budget
from simserve.serving.case import Lengths, Load
from simserve.serving.engine_file import with_overheads
from simserve.serving.fit import fit_overheads
from simserve.serving.learn import LESSONS
from simserve.serving.machine import overheads_of
from simserve.serving.predict import predict

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
    assert max(result.after_percent.values()) < 2.0 < max(result.before_percent.values())


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
    assert after["name"] == "mine" and after["validated"] is True
    changed = {"host", "request_path", "name", "validated", "sources"}
    assert {k: v for k, v in before.items() if k not in changed} == {k: v for k, v in after.items() if k not in changed}


def test_every_lesson_is_of_a_bundled_profile() -> None:
    assert {lesson.profile for lesson in LESSONS} <= set(names())


def test_a_budget_gives_slow_steps_to_the_steps_and_a_late_start_to_the_rest() -> None:
    honest = overheads_of(load_engine("vllm-v1"))
    truth = predict(case(), replace(honest, host=replace(honest.host, per_step_s=honest.host.per_step_s + 0.004)))
    slow = {b.metric: b for b in error_budget(case(measured={m: truth[m] for m in ("tpot_mean", "e2e_mean")}))}
    assert slow["e2e_mean"].steps_percent < -10 and abs(slow["e2e_mean"].queueing_percent) < 3
    truth = predict(case(), honest)
    late = {b.metric: b for b in error_budget(case(measured={"tpot_mean": truth["tpot_mean"], "ttft_mean": truth["ttft_mean"] + 0.1}))}
    assert late["ttft_mean"].queueing_percent < -30 and abs(late["ttft_mean"].steps_percent) < 3
    assert late["tpot_mean"].stretch == pytest.approx(1.0, abs=0.01)
