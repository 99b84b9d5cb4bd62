"""A third party's policy that raises is named with file and line: it is neither a bug of simserve nor a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import simserve
from simserve import plugins
from simserve.cli import main
from simserve.errors import PolicyError
from simserve.policies import registry

SOURCE = """\
import helpers_of_theirs
from pydantic import BaseModel, Field, model_validator
from simserve.contracts import PolicyParams
from simserve.policies.scheduling.sarathi import Sarathi

class Wrong(Sarathi):
    class Params(Sarathi.Params):
        where: str = "plan"
        @model_validator(mode="after")
        def _check(self):
            if self.where == "parameters":
                return 1 // 0
            return self
    def __init__(self, params):
        super().__init__(params)
        self.where = params.where
        if self.where == "constructor":
            raise KeyError("missing")
    def plan(self, view):
        if self.where == "helper":
            return helpers_of_theirs.plan(view)
        if self.where == "plan":
            return view.no_such_thing
        if self.where == "exit":
            raise SystemExit(0)
        if self.where == "rules":
            return view.new_plan(budget="many")
        if self.where == "silent":
            raise LookupError
        return super().plan(view)

class WrongRouter:
    class Params(PolicyParams):
        pass
    def __init__(self, params):
        pass
    def choose(self, request, view):
        return [][3]

class ListRouter(WrongRouter):
    def choose(self, request, view):
        return [0]

class TakesNothing(WrongRouter):
    def __init__(self):
        pass

class OtherParams(WrongRouter):
    class Params(BaseModel):
        pass

class WrongController:
    class Params(PolicyParams):
        pass
    interval_s = 0.5
    idle = False
    def __init__(self, params):
        pass
    def act(self, cluster):
        raise RuntimeError("x" * 5000)
"""

ORDER = """\
oracle = False
dynamic = False
def key(request):
    return request.row / 0
def victim_key(request):
    return 0
"""

EXPERIMENT = """\
model: llama-2-7b
hardware: a100-sxm-80gb
cluster:
  instances: [{count: 2, parallel: {tp: 1}}]
workload:
  arrivals: {kind: constant, rate_per_s: 4}
  lengths: {prompt: {kind: fixed, tokens: 50}, output: {kind: fixed, tokens: 20}}
  count: 20
output: {plots: false, report: false}
"""

POINTS = {
    "simserve.schedulers": {"wrong": "of_theirs:Wrong"},
    "simserve.routers": {
        "wrong-router": "of_theirs:WrongRouter",
        "list-router": "of_theirs:ListRouter",
        "takes-nothing": "of_theirs:TakesNothing",
        "other-params": "of_theirs:OtherParams",
    },
    "simserve.controllers": {"wrong-controller": "of_theirs:WrongController"},
    "simserve.orders": {"wrong-order": "order_of_theirs"},
}


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An experiment in a folder that can be imported from, with the policies installed."""
    (tmp_path / "of_theirs.py").write_text(SOURCE)
    (tmp_path / "helpers_of_theirs.py").write_text("def plan(view):\n    return view + 1\n")
    (tmp_path / "order_of_theirs.py").write_text(ORDER)
    (tmp_path / "e.yaml").write_text(EXPERIMENT)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(plugins, "entry_points", lambda group: [EntryPoint(n, v, group) for n, v in POINTS.get(group, {}).items()])
    registry._points.cache_clear()
    registry._load.cache_clear()
    yield tmp_path / "e.yaml"
    registry._points.cache_clear()
    registry._load.cache_clear()
    for name in ("of_theirs", "helpers_of_theirs", "order_of_theirs"):
        sys.modules.pop(name, None)


CONTROLLER = "cluster.controllers=[{policy: wrong-controller}]"
SCHEDULER = 'cluster.instances.0.scheduler={policy: wrong, where: "%s"}'


@pytest.mark.parametrize(
    ("change", "policy", "place", "words"),
    [
        (SCHEDULER % "plan", "scheduling policy 'wrong'", "plan, FOLDER/of_theirs.py:23", "AttributeError: "),
        (SCHEDULER % "exit", "scheduling policy 'wrong'", "plan, FOLDER/of_theirs.py:25", "SystemExit: 0"),
        (SCHEDULER % "silent", "scheduling policy 'wrong'", "plan, FOLDER/of_theirs.py:29", "LookupError (--debug"),
        (SCHEDULER % "helper", "scheduling policy 'wrong'", "plan, FOLDER/of_theirs.py:21", "TypeError: "),
        (SCHEDULER % "constructor", "scheduling policy 'wrong'", "__init__, FOLDER/of_theirs.py:18", "KeyError: 'missing'"),
        (SCHEDULER % "parameters", "scheduling policy 'wrong'", "_check, FOLDER/of_theirs.py:12", "ZeroDivisionError: "),
        ("cluster.router.policy=wrong-router", "routing policy 'wrong-router'", "choose, FOLDER/of_theirs.py:38", "IndexError: "),
        (
            "cluster.controllers=[{policy: wrong-controller}]",
            "controller 'wrong-controller'",
            "act, FOLDER/of_theirs.py:60",
            "RuntimeError: xxx",
        ),
        (
            "cluster.instances.0.order=wrong-order",
            "queue discipline 'wrong-order'",
            "key, FOLDER/order_of_theirs.py:4",
            "ZeroDivisionError: ",
        ),
    ],
)
def test_a_policy_that_raises_is_named_with_file_and_line(
    experiment: Path, change: str, policy: str, place: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = experiment.parent / "out"
    assert main(["run", str(experiment), "--set", change, "--out", str(out), "-q"]) == 2
    message = capsys.readouterr().err
    assert f"{policy} failed in {place.replace('FOLDER', str(experiment.parent))}: {words}" in message
    assert "bug in simserve" not in message and "Traceback" not in message and len(message) < 600
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("list-router", "router 'ListRouter' sends <request 0: waiting, 0/50 tokens> to [0]; instances that take requests: 0, 1"),
        ("takes-nothing", "it must be made by TakesNothing(params)"),
        ("other-params", "its Params must be a subclass of PolicyParams"),
    ],
)
def test_an_answer_or_a_class_of_another_shape_is_said(experiment: Path, name: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(experiment), "--set", f"cluster.router.policy={name}", "--out", str(experiment.parent / "out"), "-q"]) == 2
    message = capsys.readouterr().err
    assert words in message and "bug in simserve" not in message and len(message.strip().splitlines()) == 1


def test_what_a_policy_lacks_is_said(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = experiment.parent / "of_theirs.py"
    source.write_text(source.read_text().replace("    interval_s = 0.5\n", ""))
    change = "cluster.controllers=[{policy: wrong-controller}]"
    assert main(["run", str(experiment), "--set", change, "--out", str(experiment.parent / "out"), "-q"]) == 2
    assert "cluster.controllers.0: interval_s is nothing, expected seconds" in capsys.readouterr().err


def test_a_rule_that_a_policy_breaks_is_said_in_the_words_of_the_rule(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It comes out of the policy's own code as well, and says more than that the policy failed."""
    assert main(["run", str(experiment), "--set", SCHEDULER % "rules", "--out", str(experiment.parent / "out"), "-q"]) == 2
    message = capsys.readouterr().err
    assert "states a budget of 'many' tokens, which is no whole number (invariant I10)" in message and "failed in" not in message


def test_what_a_failing_policy_says_is_shown_in_part(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(experiment), "--set", CONTROLLER, "--out", str(experiment.parent / "out"), "-q"]) == 2
    said = capsys.readouterr().err
    assert 150 < said.count("x") < 250


def test_python_users_get_the_same_error_with_its_cause(experiment: Path) -> None:
    with pytest.raises(PolicyError, match="scheduling policy 'wrong' failed in plan") as caught:
        simserve.run(experiment, **{"cluster.instances.0.scheduler": {"policy": "wrong"}})
    assert isinstance(caught.value.__cause__, AttributeError)


def test_a_fault_of_ours_beside_an_installed_policy_stays_ours(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from simserve.policies.scheduling.sarathi import Sarathi

    def broken(self: Sarathi, view: object) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(Sarathi, "plan", broken)
    with pytest.raises(RuntimeError, match="ours"):
        simserve.run(experiment, **{"cluster.instances.0.scheduler": {"policy": "sarathi"}})
