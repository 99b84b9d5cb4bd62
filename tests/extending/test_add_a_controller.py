"""A controller of another package: it migrates, starts or drains at its own times."""

from __future__ import annotations

from pathlib import Path

from tests.extending.package import Package

SHIFT = '''
from simserve.contracts import Controller, Field, PolicyParams


class NightShift(Controller):
    """From a stated time on the last instance takes no new requests."""

    class Params(PolicyParams):
        from_s: float = Field(5.0, ge=0, description="Simulated seconds at which the shift ends.")

    interval_s = 0.5

    def act(self, cluster):
        last = len(cluster.states) - 1
        if cluster.now >= self.params.from_s and cluster.states[last] == "up":
            cluster.drain(last)
'''

POINTS = '[project.entry-points."simserve.controllers"]\nnight-shift = "shift:NightShift"\n'

EXPERIMENT = """\
model: llama-2-7b
hardware: a100-sxm-80gb
cluster: {instances: [{count: 2}], controllers: [{policy: night-shift, from_s: 10}]}
workload:
  arrivals: {kind: constant, rate_per_s: 4}
  lengths: {prompt: {kind: fixed, tokens: 100}, output: {kind: fixed, tokens: 100}}
  count: 80
"""


def test_it_acts_at_its_time(tmp_path: Path) -> None:
    package = Package(tmp_path, "night-shift", {"shift.py": SHIFT}, POINTS)
    summary, requests = package.run(EXPERIMENT)
    assert summary["requests"]["completed"] == 80
    number = requests.instance.astype(str).str[-1]
    early = requests.released_s < 10
    assert set(number[early]) == {"0", "1"} and set(number[requests.released_s > 10.5]) == {"0"}
    assert 1 < summary["cluster"]["instances_mean"] < 2
    assert f"night-shift ({package.name}): " in package.simserve("policies", "night-shift")


def test_what_it_may_not_do_is_refused_by_its_name(tmp_path: Path) -> None:
    package = Package(tmp_path, "night-shift", {"shift.py": SHIFT.replace("drain(last)", "drain(last + 5)")}, POINTS)
    (tmp_path / "e.yaml").write_text(EXPERIMENT)
    assert "controller" in (line := package.refused("run", "e.yaml", "-q")) and "NightShift" in line
