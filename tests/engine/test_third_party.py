"""Policies of another package: a scheduler, a router, a controller and an order that simserve has never heard of, used by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]

POLICIES = '''
from pydantic import Field

from simserve.contracts import PolicyParams, SchedulerParams


class OneByOne:
    """One request at a time, whole prompts."""

    class Params(SchedulerParams):
        max_seqs: int = Field(1, gt=0, description="Requests at once.")

    oracle = False

    def __init__(self, params):
        self.params = params

    def plan(self, view):
        plan = view.new_plan()
        plan.decode(view.decoding)
        for request in view.waiting:
            if view.running >= self.params.max_seqs or not plan.admit(request):
                break
            plan.prefill(request, request.prefill_left)
        return plan


class LongAndShort:
    """Long prompts to the last instance, the others to the first."""

    class Params(PolicyParams):
        long_tokens: int = Field(100, gt=0, description="Tokens of a long prompt.")

    def __init__(self, params):
        self.params = params

    def choose(self, request, view):
        return view.open[-1] if request.prompt_tokens >= self.params.long_tokens else view.open[0]


class Curfew:
    """Sends the first instance home at a stated time."""

    class Params(PolicyParams):
        at_s: float = Field(5.0, gt=0, description="When.")

    idle = False
    interval_s = 1.0

    def __init__(self, params):
        self.params = params

    def act(self, cluster):
        if cluster.now >= self.params.at_s and cluster.states[0] == "up":
            cluster.drain(0)
'''

LATEST_FIRST = """
oracle = False
dynamic = False


def key(request):
    return -request.row


def victim_key(request):
    return request.admission
"""

POINTS = {
    "simserve.schedulers": {"one-by-one": "their_policies:OneByOne"},
    "simserve.routers": {"long-and-short": "their_policies:LongAndShort"},
    "simserve.controllers": {"curfew": "their_policies:Curfew"},
    "simserve.orders": {"latest-first": "latest_first"},
}

EXPERIMENT = """\
model: llama-2-7b
hardware: a100-sxm-80gb
cluster:
  instances:
    - count: 2
      order: latest-first
      scheduler: {policy: one-by-one}
  router: {policy: long-and-short, long_tokens: 150}
  controllers: [{policy: curfew, at_s: 20}]
workload:
  arrivals: {kind: constant, rate_per_s: 4}
  lengths: {prompt: {kind: uniform, low_tokens: 100, high_tokens: 199}, output: {kind: fixed, tokens: 40}}
  count: 120
"""

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder as an installer would leave it."""
    (tmp_path / "their_policies.py").write_text(POLICIES)
    (tmp_path / "latest_first.py").write_text(LATEST_FIRST)
    (tmp_path / "theirs.yaml").write_text(EXPERIMENT)
    install(tmp_path, POINTS)
    return tmp_path


def install(folder: Path, points: dict[str, dict[str, str]]) -> None:
    info = folder / "their_policies-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-policies\nVersion: 1.0\n")
    lines = [line for group, names in points.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in names.items()), "")]
    (info / "entry_points.txt").write_text("\n".join(lines))


def simserve(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "MPLBACKEND": "agg", "COLUMNS": "120"}
    command = [sys.executable, "-m", "simserve", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_they_work_by_name_without_touching_simserve(package: Path) -> None:
    run = simserve(package, "run", "theirs.yaml", "--out", "out", "--check", "--no-plots", "--no-report")
    assert run.returncode == 0, run.stderr
    summary = json.loads((package / "out" / "summary.json").read_text())
    requests = pd.read_parquet(package / "out" / "requests.parquet")
    assert summary["requests"]["completed"] == 120

    number = requests.instance.astype(str).str[-1].astype(int)
    early, long = requests.released_s < 20, requests.prompt_tokens >= 150
    assert (number[early & ~long] == 0).all() and (number[early & long] == 1).all()
    # After the curfew there is one instance, and the other was paid for until its queue was empty.
    assert (number[~early] == 1).all() and (~early & ~long).any()
    assert summary["cluster"]["instance_s"] < 2 * summary["window"]["run_s"]

    # One at a time: no request starts while another runs on the same instance. The latest first: of two that wait, the newer starts.
    for _, own in requests.groupby(number):
        own = own.sort_values("scheduled_s")
        assert (own.scheduled_s.to_numpy()[1:] >= own.finish_s.to_numpy()[:-1] - 1e-9).all()
        starts = list(own[["released_s", "scheduled_s"]].itertuples(index=False))
        for released_s, start_s in starts:
            waited = [other for other in starts if other.released_s + 0.1 < start_s < other.scheduled_s]  # tokenised meanwhile
            assert all(other.released_s <= released_s for other in waited)


def test_their_parameters_are_checked_listed_and_in_the_schema(package: Path) -> None:
    wrong = simserve(package, "run", "theirs.yaml", "--set", "cluster.router.long_token=3")
    assert wrong.returncode == 2
    assert "policy long-and-short has no parameter 'long_token'; did you mean 'long_tokens'?" in wrong.stderr
    near = simserve(package, "run", "theirs.yaml", "--set", "cluster.controllers.0.policy=curfow")
    assert near.returncode == 2 and "unknown controller 'curfow'; did you mean 'curfew'?" in near.stderr
    schema = json.loads(simserve(package, "schema").stdout)["$defs"]
    assert "at_s" in schema["controller curfew"]["properties"] and "long_tokens" in schema["router long-and-short"]["properties"]
    assert "latest-first" in schema["InstanceSection"]["properties"]["order"]["enum"]
    listed = simserve(package, "policies")
    assert "one-by-one" in listed.stdout and "latest-first" in listed.stdout


@pytest.mark.parametrize(
    ("group", "name", "target", "words"),
    [
        (
            "schedulers",
            "one-by-one",
            "their_policies:Absent",
            "policy 'one-by-one' of their-policies 1.0 cannot be loaded from their_policies:Absent",
        ),
        (
            "routers",
            "long-and-short",
            "nowhere:X",
            "'long-and-short' of their-policies 1.0 cannot be loaded from nowhere:X: ModuleNotFoundError",
        ),
        ("routers", "long-and-short", "their_policies:Curfew", "it must be a class with Params, choose"),
        ("controllers", "curfew", "broken", "controller 'curfew' of their-policies 1.0 cannot be loaded from broken: ZeroDivisionError"),
        ("orders", "latest-first", "their_policies:Curfew", "it must be a module with key, victim_key, oracle, dynamic"),
    ],
)
def test_a_broken_entry_point_is_one_clear_message(package: Path, group: str, name: str, target: str, words: str) -> None:
    (package / "broken.py").write_text("1 / 0\n")
    install(package, POINTS | {f"simserve.{group}": {name: target}})
    run = simserve(package, "run", "theirs.yaml")
    assert run.returncode == 2
    assert words in run.stderr and "Traceback" not in run.stderr and len(run.stderr.strip().splitlines()) == 1


def test_a_broken_entry_point_that_is_not_used_does_no_harm_and_a_built_in_name_cannot_be_taken(package: Path) -> None:
    install(package, {"simserve.routers": {"broken": "nowhere:X", "round-robin": "nowhere:Y"}})
    run = simserve(package, "run", "quickstart", "--set", "workload.trace.duration_s=120", "--no-plots", "--no-report", "--out", "out")
    assert run.returncode == 0, run.stderr
