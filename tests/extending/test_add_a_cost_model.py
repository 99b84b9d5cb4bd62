"""A cost model of another package: around the experiment's own, or with parameters; what it answers wrongly ends the run with its name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, blocks
from tests.extending.package import Package

TWICE = """
from simserve.contracts import CostWrapper


class Twice(CostWrapper):
    def stage_times(self, step):
        return tuple(2 * seconds for seconds in self.inner.stage_times(step))

    def describe(self):
        return {**self.inner.describe(), "twice": True}
"""

POINTS = '[project.entry-points."simserve.cost_models"]\ntwice = "twice:Twice"\n'

EXPERIMENT = """\
model: llama-2-7b
hardware: a100-sxm-80gb
engine: {name: vllm-v1, request_path: {per_request_s: 0, per_prompt_token_s: 0}}
cluster: {instances: [{parallel: {pp: PP}}]}
workload:
  arrivals: {kind: constant, rate_per_s: 0.2}
  lengths: {prompt: {kind: uniform, low_tokens: 100, high_tokens: 900}, output: {kind: fixed, tokens: 40}}
  count: 8
"""

BANDS = """
import json, simserve
from simserve.study.cache import run_key
band = simserve.run("experiment.yaml", intervals=8).intervals["latency"]["all"]["tpot_s"]["mean"]
plain = simserve.run("experiment.yaml", intervals=8, **{"cost": None}).intervals["latency"]["all"]["tpot_s"]["mean"]
print(json.dumps([band, plain, run_key(simserve.load("experiment.yaml"))]))
"""


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return Package(tmp_path, "twice-as-long", {"twice.py": TWICE}, POINTS)


@pytest.mark.parametrize("stages", [1, 2])
def test_two_methods_change_every_step(package: Package, stages: int) -> None:
    experiment = EXPERIMENT.replace("PP", str(stages))
    _, plain = package.run(experiment)
    summary, requests = package.run(experiment + "cost: {model: twice}\n")
    taken, before = requests.finish_s - requests.scheduled_s, plain.finish_s - plain.scheduled_s  # each is alone
    assert taken.to_numpy() == pytest.approx(2 * before.to_numpy())
    about = summary["simulated"][0]["cost"]
    assert about["twice"] is True and about["cost_model"] == "cost model 'twice' of twice-as-long 1.0"
    assert summary["experiment"]["cost"] == {"model": "twice"}


def test_bands_are_around_it_and_a_changed_source_is_another_run(package: Package) -> None:
    (package.folder / "experiment.yaml").write_text(EXPERIMENT.replace("PP", "1") + "cost: {model: twice}\n")
    found = package.python("-c", BANDS)
    assert found.returncode == 0, found.stderr
    band, plain, key = json.loads(found.stdout)
    assert band[0] < band[1] and band == pytest.approx([2 * end for end in plain])
    (package.folder / "twice.py").write_text(TWICE + "# changed\n")
    assert json.loads(package.python("-c", BANDS).stdout)[2] != key


def test_the_one_of_the_documentation_has_parameters(tmp_path: Path) -> None:
    (text,) = [block.text for block in blocks(ROOT / "docs" / "cost-models.md") if block.title == "throttled.py"]
    package = Package(tmp_path, "throttled", {"throttled.py": text}, POINTS.replace("twice:Twice", "throttled:Throttled"))
    experiment = EXPERIMENT.replace("PP", "1")
    _, plain = package.run(experiment)
    summary, requests = package.run(experiment + "cost: {model: twice, factor: 2, from_tokens: 500}\n")
    assert summary["experiment"]["cost"] == {"model": "twice", "factor": 2.0, "from_tokens": 500}
    assert "throttling by 2" in summary["unvalidated"]
    first, before = requests.first_token_s - requests.scheduled_s, plain.first_token_s - plain.scheduled_s
    long = requests.prompt_tokens >= 500
    assert 0 < long.sum() < 8
    assert first[long].to_numpy() == pytest.approx(2 * before[long].to_numpy()) and first[~long].to_numpy() == pytest.approx(
        before[~long].to_numpy()
    )
    assert (
        "cost model" in (line := package.refused("run", "experiment.yaml", "--set", "cost.model=twic")) and "did you mean 'twice'" in line
    )
    assert "has no parameter 'factr'" in package.refused("run", "experiment.yaml", "--set", "cost.factr=2")
    branch = json.loads(package.simserve("schema"))["$defs"]["CostSection"]["oneOf"][1]
    assert set(branch["properties"]) == {"polynomial", "model", "factor", "from_tokens"}
    (listed,) = json.loads(package.simserve("plugins", "--json"))
    assert listed == {"kind": "cost model", "name": "twice", "package": package.name, "place": "throttled:Throttled", "problem": ""}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("2 * seconds", "0 * seconds", "a step takes 0.0 s; times must be finite and above 0"),
        ("2 * seconds", "float('nan') * seconds", "a step takes nan s"),
        ("2 * seconds", "1 / 0", "failed in "),
        ("return tuple(", "return ()\n        tuple(", "0 stage times for 1 pipeline stages"),
        ('"twice": True', '"twice": {1, 2}', "describe() must give plain JSON types"),
        ("(CostWrapper)", "", "it must be a class derived from simserve.contracts.CostWrapper or CostModel"),
        ("    def stage_times", "    def __init__(self):\n        pass\n\n    def stage_times", "cannot be made: TypeError"),
    ],
)
def test_what_is_wrong_with_it_has_its_name(package: Package, old: str, new: str, words: str) -> None:
    assert old in TWICE
    (package.folder / "twice.py").write_text(TWICE.replace(old, new))
    (package.folder / "e.yaml").write_text(EXPERIMENT.replace("PP", "1") + "cost: {model: twice}\noutput: {plots: false, report: false}\n")
    line = package.refused("run", "e.yaml", "-q", "--out", "out")
    assert "cost model 'twice' of twice-as-long 1.0" in line and words in line
