"""A scheduler of another package that plans slices of a kind of its own, and the cost model that prices them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.extending.package import Package

SPARE = '''
"""Prompts of low priority are computed in the background: on units that the rest of the step leaves idle."""

from simserve.contracts import PREFILL, CostWrapper, Scheduler, Step

BACKGROUND = "background"


class InTheBackground(Scheduler):
    """All running requests decode; whole prompts are computed at once, those of low priority in the background."""

    def plan(self, view):
        plan = view.new_plan()
        plan.decode(view.decoding)
        for request in view.waiting:
            if not plan.admit(request):
                break
            plan.prefill(request, request.prefill_left, kind=BACKGROUND if request.priority < 0 else PREFILL)
        return plan if plan.slices else plan.hold()


class HalfPrice(CostWrapper):
    """What a slice in the background adds to a step is half of what it would add as a prompt's chunk."""

    def __init__(self, inner):
        super().__init__(inner)
        self.slice_kinds = inner.slice_kinds | {BACKGROUND}

    def stage_times(self, step):
        others = [piece for piece in step.slices if piece.kind != BACKGROUND]
        if len(others) == len(step.slices):
            return self.inner.stage_times(step)
        batch = (step.decodes, step.context_tokens, step.longest_tokens)
        whole = self.inner.stage_times(Step(*batch, [piece._replace(kind=PREFILL) for piece in step.slices]))
        without = self.inner.stage_times(Step(*batch, others)) if step.decodes or others else (0.0,) * self.stages
        return tuple(0.5 * (a + b) for a, b in zip(whole, without, strict=True))
'''

POINTS = """\
[project.entry-points."simserve.schedulers"]
in-the-background = "spare:InTheBackground"

[project.entry-points."simserve.cost_models"]
half-price = "spare:HalfPrice"
"""

EXPERIMENT = """\
model: llama-2-7b
hardware: a100-sxm-80gb
engine: {name: vllm-v1, request_path: {per_request_s: 0, per_prompt_token_s: 0}}
cluster: {instances: [{scheduler: {policy: in-the-background}}]}
workload:
  arrivals: {kind: constant, rate_per_s: RATE}
  lengths: {prompt: {kind: fixed, tokens: 600}, output: {kind: fixed, tokens: 30}}
  slo_classes: [{name: background, fraction: 0.5, priority: -1}]
  count: 40
"""


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return Package(tmp_path, "spare-units", {"spare.py": SPARE}, POINTS)


def test_its_slices_take_what_its_cost_model_says(package: Package) -> None:
    _, requests = package.run(EXPERIMENT.replace("RATE", "0.5") + "cost: {model: half-price}\n")  # each request is alone
    first = requests.first_token_s - requests.scheduled_s
    background = requests.slo_class.astype(str) == "background"
    assert 5 < background.sum() < 35
    assert first[background].to_numpy() == pytest.approx(0.5 * first[~background].iloc[0])
    assert first[~background].to_numpy() == pytest.approx(first[~background].iloc[0])


def test_beside_others_every_invariant_holds(package: Package) -> None:
    summary, _ = package.run(EXPERIMENT.replace("RATE", "20") + "cost: {model: half-price}\n")
    assert summary["requests"]["completed"] == 40 and summary["utilisation"]["batch_requests_mean"] > 3
    assert summary["experiment"]["cluster"]["instances"][0]["scheduler"]["policy"] == "in-the-background"


def test_without_a_cost_model_that_prices_the_kind_it_is_refused(package: Package) -> None:
    (package.folder / "e.yaml").write_text(EXPERIMENT.replace("RATE", "1"))
    line = package.refused("run", "e.yaml", "-q")
    assert "in-the-background" in line or "InTheBackground" in line
    assert "'background'" in line and "prefill" in line
