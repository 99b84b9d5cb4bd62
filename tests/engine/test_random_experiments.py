"""Random experiments as users would write them, under `--check`: none may crash, hang or break an invariant. The long hunt is
`python -m tests.engine.campaign`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.engine.campaign import outcome, run
from tests.engine.random_experiments import RandomExperiment, experiment
from tests.engine.unrolled import token_times
from tests.engine.wider_experiments import wider

FAULTS = {
    39: "an order that knows output lengths on decode instances only",
    54: "the same, reached by another policy",
    74: "random failures went on for ever beside a request that no instance would take",
    108: "three lanes preempted each other for ever",
    138: "scaling stopped the last decode instance",
    181: "the same, with several requests left",
    451: "tokens of a request that was held when the run was cut were lost",
    623: "a preempted prefill kept its memory on the decode instance, for which others waited",
    660: "a request that had arrived got no sequence slot although the last had just been given up, and the policy was blamed",
    666: "lanes with nothing but arrived requests counted as empty",
    694: "a retry before any request had got a token",
    2276: "a span of verifying steps forgot contents later than the same steps one by one",
    3598: "newcomers whom a plan had ignored were not in the order of the queue when an instance's load was asked for",
    700158: "a request without output beside those whose drafts were worked out together",
}
"""Seed -> what was wrong when the hunt found it."""

WIDER_FAULTS = {
    88_000_025: "tokens of a request that a policy refused where it had been sent to decode were emitted, and counted nowhere",
    88_001_079: "an index of whole sequences forgot contents when a step had its memory, and the plan made before held on",
}
"""The same of `wider_experiments.py`."""


def shown(found: dict[str, object], option: str = "") -> str:
    return f"python -m tests.engine.campaign {option}--seeds {found['seed']}: {found}"


@pytest.mark.parametrize("seed", FAULTS)
def test_experiments_that_showed_a_fault(seed: int, tmp_path: Path) -> None:
    found = outcome(experiment(seed), tmp_path)
    assert found["kind"] == "ok", (FAULTS[seed], shown(found))


@pytest.mark.parametrize("seed", WIDER_FAULTS)
def test_wider_experiments_that_showed_a_fault(seed: int, tmp_path: Path) -> None:
    found = outcome(wider(seed), tmp_path)
    assert found["kind"] == "ok", (WIDER_FAULTS[seed], shown(found, "--wider "))


def test_random_experiments_keep_the_invariants(tmp_path: Path) -> None:
    seen = [outcome(experiment(seed), tmp_path) for seed in range(10_000, 10_030)]
    for found in seen:
        assert found["kind"] == "ok", shown(found)
    for what in ("preemptions", "staged", "cut", "transferred", "died", "cached"):
        assert any(found[what] for found in seen), what


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(20_000, 22_000, 100))
def test_many_random_experiments_keep_the_invariants(first: int, tmp_path: Path) -> None:
    for seed in range(first, first + 100):
        found = outcome(experiment(seed), tmp_path)
        assert found["kind"] in ("ok", "refused"), shown(found)


def test_wider_experiments_keep_the_invariants_or_are_refused(tmp_path: Path) -> None:
    seen = [outcome(wider(seed), tmp_path) for seed in range(10_000, 10_040)]
    for found in seen:
        assert found["kind"] in ("ok", "refused"), shown(found, "--wider ")
    served = [found for found in seen if found["kind"] == "ok"]
    assert len(served) > len(seen) / 2
    for what in ("preemptions", "staged", "cut", "cancelled", "transferred", "died"):
        assert any(found[what] for found in served), what


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(20_000, 21_500, 100))
def test_many_wider_experiments_keep_the_invariants_or_are_refused(first: int, tmp_path: Path) -> None:
    for seed in range(first, first + 100):
        found = outcome(wider(seed), tmp_path)
        assert found["kind"] in ("ok", "refused"), shown(found, "--wider ")


@pytest.mark.parametrize("draw", [experiment, wider])
def test_the_same_seed_draws_the_same_experiment(draw: Callable[[int], RandomExperiment]) -> None:
    assert draw(7) == draw(7) != draw(8)


@pytest.mark.parametrize("seed", [3, 6, 9, 17, 21, 29, 41, 63, 67, 84])
def test_a_run_that_is_cut_is_the_beginning_of_the_whole_run(seed: int, tmp_path: Path) -> None:
    """A request that has got tokens by then has got just these, wherever it is when the run is cut."""
    drawn = experiment(seed)
    mapping = {key: value for key, value in drawn.mapping.items() if key != "until_s"}
    if mapping["cluster"].get("failures", {}).get("rule") == "retry":  # tokens of a try that failed do not count
        mapping["cluster"] = mapping["cluster"] | {"failures": mapping["cluster"]["failures"] | {"rule": "resume"}}
    whole = run(RandomExperiment(seed, mapping, drawn.trace), tmp_path, check=False).records
    ends = np.sort(np.concatenate([lane.step_end_s for lane in whole.lanes]))
    for fraction in (0.3, 0.6, 0.9):
        at_s = float(ends[int(fraction * len(ends))]) + 1e-7
        cut = run(RandomExperiment(seed, mapping | {"until_s": at_s}, drawn.trace), tmp_path, check=False).records
        expected = [[t for t in times if t < at_s] for times in token_times(whole)]
        assert token_times(cut) == expected
        assert cut.requests.generated_tokens.tolist() == [len(times) for times in expected]
