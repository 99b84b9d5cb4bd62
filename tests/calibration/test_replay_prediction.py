"""A replay predicts a run's steps with what the run was simulated with: CPU speed of the server, options, KV format."""

from __future__ import annotations

from pathlib import Path

import pytest

import simserve
from simserve.calibration.replay.prediction import ReplayRequest, make_plan
from simserve.config.assemble import assemble
from simserve.contracts import Slice, Step
from simserve.policies.routing.random_choice import RandomChoice
from simserve.policies.scheduling.sarathi import Sarathi

SLOW_HOSTS = """
model: {name: opt-13b, options: {kv_bits: 8}}
hardware: a100-sxm-80gb
engine: {name: vllm-2023, host: {kernel_launch_s: 0.0001}}
workload:
  count: 3
  arrivals: {kind: constant, rate_per_s: 0.2}
  lengths: {prompt: {kind: fixed, tokens: 300}, output: {kind: fixed, tokens: 40}}
"""


@pytest.mark.parametrize("launch_s", [0.0, 1e-4])
def test_a_replay_predicts_what_the_run_was_simulated_with(tmp_path: Path, launch_s: float) -> None:
    """One request at a time leaves nothing to rebuild: prediction and host work add up to the simulated step, on hosts slower than those
    that the engine profile was read from and with a cache of 8 bits. With slow launches the steps take as long as their kernels' launches,
    without any as long as their kernels."""
    (tmp_path / "x.yaml").write_text(SLOW_HOSTS.replace("0.0001", f"{launch_s:.4f}"))
    experiment = simserve.load(tmp_path / "x.yaml")
    simserve.run(experiment).write(tmp_path / "out", steps=True, plots=False, report=False)
    plan = make_plan(ReplayRequest(tmp_path / "out" / "steps.parquet", sample=30))
    cost = assemble(experiment).instances[0].cost
    assert len(plan.steps) == 30 and all(step.exact for step in plan.steps)
    for step in plan.steps:
        chunks = [Slice(*chunk) for chunk in step.chunks]
        host_s = cost.breakdown(Step(len(step.contexts), sum(step.contexts), max(step.contexts, default=0), chunks))["host"]
        assert host_s > experiment.engine.host.per_step_s
        assert step.predicted_s + host_s == pytest.approx(step.simulated_s, rel=1e-6)
    assert any("kv_bits 8" in note for note in plan.notes)


def test_steps_of_a_policy_given_from_python_are_replayed(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(SLOW_HOSTS)
    experiment = simserve.load(tmp_path / "x.yaml")
    simserve.run(experiment, scheduler=Sarathi, router=RandomChoice).write(tmp_path / "out", steps=True, plots=False, report=False)
    assert len(make_plan(ReplayRequest(tmp_path / "out" / "steps.parquet", sample=5)).steps) == 5
