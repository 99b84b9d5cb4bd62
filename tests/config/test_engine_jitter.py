"""When runs vary: as the profile has learned, unless the experiment says otherwise or holds figures of a paper."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import simserve
from simserve.config.assemble import assemble, deployment
from simserve.config.engine_profile import load_engine, names
from simserve.config.experiment import Experiment, load
from simserve.errors import ConfigError
from simserve.model import load_model
from simserve.resources import available
from simserve.validation.physical import JITTER

LEARNED = "vllm-v1-async"


def experiment(engine: Any, **more: Any) -> Experiment:
    lengths = {"kind": "fixed", "tokens": 40}
    return load(
        {
            "model": "llama-3.1-8b",
            "hardware": "h100-sxm-80gb",
            "engine": engine,
            "workload": {"arrivals": {"kind": "poisson", "rate_per_s": 20}, "count": 30, "lengths": {"prompt": lengths, "output": lengths}},
            **more,
        }
    )


def test_it_is_on_where_it_was_learned() -> None:
    (spec,) = assemble(experiment(LEARNED, seed=5)).instances
    profile = load_engine(LEARNED)
    assert spec.jitter is not None and profile.jitter is not None
    assert (spec.jitter.spread, spec.jitter.seed) == (profile.jitter.spread, 5)
    assert spec.jitter.step_s == profile.host.per_step_s
    (other,) = assemble(experiment("vllm-v1")).instances
    assert other.jitter is None


def test_what_was_learned_is_within_what_a_host_can_do_and_says_where_from() -> None:
    learned = [profile for profile in map(load_engine, names()) if profile.jitter is not None]
    assert LEARNED in [profile.name for profile in learned]
    for profile in learned:
        for name, value in profile.jitter.model_dump().items():  # type: ignore[union-attr]
            assert JITTER[name].least <= value <= JITTER[name].largest, (profile.name, name)
        assert any(source.startswith("jitter - ") for source in profile.sources), profile.name


def test_an_experiment_turns_it_off_and_changes_it() -> None:
    assert experiment({"name": LEARNED, "jitter": False}).engine.jitter is None
    learned, changed = load_engine(LEARNED).jitter, experiment({"name": LEARNED, "jitter": {"spread": 0.1}}).engine.jitter
    assert learned is not None and changed == learned.model_copy(update={"spread": 0.1})
    assert experiment({"name": LEARNED, "jitter": True}).engine.jitter == learned
    own = experiment({"name": "vllm-v0", "jitter": {"spread": 0.1}}).engine.jitter
    assert own is not None and own.model_dump() == {"spread": 0.1, "stall_probability": 0.0, "stall_s": 0.0}


def test_papers_have_none() -> None:
    paper = {"title": "Some system", "reference": "figure 3"}
    assert experiment(LEARNED, paper=paper).engine.jitter is None
    assert experiment({"name": LEARNED, "jitter": True}, paper=paper).engine.jitter is not None


def test_no_bundled_experiment_varies() -> None:
    assert not [name for name in available("experiments") if load(name).engine.jitter is not None]


@pytest.mark.parametrize("engine", [LEARNED, {"name": LEARNED, "jitter": False}, {"name": "orca", "jitter": {"spread": 0.2}}, "orca"])
@pytest.mark.parametrize("more", [{}, {"paper": {"title": "Some system", "reference": "figure 3"}}])
def test_the_resolved_experiment_is_the_same_run(engine: Any, more: dict[str, Any]) -> None:
    one = experiment(engine, **more)
    again = load(one.resolved())
    assert (again.engine.jitter, again.fingerprint()) == (one.engine.jitter, one.fingerprint())
    assert ("jitter" in one.resolved()["engine"]) == (engine != "orca")


def test_results_say_how_steps_vary() -> None:
    result = simserve.run(experiment(LEARNED).resolved())
    told = result.records.instances[0].cost["engine_profile"]
    assert told["jitter"] == load_engine(LEARNED).jitter.model_dump()  # type: ignore[union-attr]
    assert "jitter" not in simserve.run(experiment("vllm-v1").resolved()).records.instances[0].cost["engine_profile"]


@pytest.mark.parametrize(
    ("engine", "text"),
    [
        ({"name": "vllm-v1", "jitter": True}, "engine.jitter: found true, but no jitter was learned"),
        ({"name": LEARNED, "jitter": "yes"}, "engine.jitter: found text 'yes'"),
        ({"name": LEARNED, "jitter": {"spred": 0.1}}, "did you mean 'spread'"),
        ({"name": LEARNED, "jitter": {"stall_probability": 2}}, "engine.jitter.stall_probability: found 2"),
    ],
)
def test_wrong_words_are_named(engine: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        experiment(engine)


def test_a_host_that_takes_no_time_and_published_times_do_not_vary() -> None:
    free = {"name": LEARNED, "host": {"per_step_s": 0, "per_decode_request_s": 0}}
    assert assemble(experiment(free)).instances[0].jitter is None


def test_a_deployment_without_a_seed_does_not_vary() -> None:
    one = experiment(LEARNED)
    deployed = deployment(one, one.groups[0], load_model("llama-3.1-8b"))
    assert deployed.instance_spec("i").jitter is not None
    assert replace(deployed, jitter_seed=None).instance_spec("i").jitter is None
