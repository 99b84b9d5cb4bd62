"""docs/planning.md: its sections load, its commands work, and the fates it explains are those that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import simserve
from simserve.cli import main
from simserve.files import yaml_text
from simserve.study.plan.figures import Fate
from simserve.study.plan.search import specify

PAGE = (Path(__file__).parents[2] / "docs" / "planning.md").read_text()
CHAT = Path(__file__).parents[2] / "experiments" / "plan_chat.yaml"


def _blocks(language: str) -> list[str]:
    return [str(found) for found in re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.S | re.M)]


def test_the_sections_load() -> None:
    prices, section = (yaml_text.parse(text, "planning.md").data for text in _blocks("yaml"))
    loaded = simserve.load("quickstart", hardware="h100-sxm-80gb", prices=prices["prices"])
    assert loaded.rates().of("h100-sxm-80gb") == 2.10 and loaded.rates().pue == 1.2
    spec = specify(CHAT, changes={"plan": section["plan"] | {"limit": 10_000_000}})
    assert spec.space.count() > 10_000 and spec.predicate.text == "attainment >= 0.99"


def test_the_commands_are_written_as_they_are_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").symlink_to(CHAT.parent)
    capacity, planned, deployed = (shlex.split(text) for text in _blocks("bash"))
    few = ["--set", "workload.trace.duration_s=300", "--replicates", "1", "--jobs", "1", "-q"]
    assert capacity[0] == "simserve" and main([*capacity[1:], *few]) == 0
    small = ["--set", "workload.count=90", "--set", "plan.hardware=[h100-sxm-80gb]", "--set", "plan.max_num_seqs=[256]", "--jobs", "1"]
    capsys.readouterr()
    assert planned[0] == "simserve" and main([*planned[1:], *small]) == 0
    assert capsys.readouterr().out.startswith("Deploy ")
    assert (tmp_path / "out" / "planned" / "plan.json").is_file()
    assert main(["run", "out/planned/best.yaml", "--set", "workload.count=50", "-q"]) == 0
    monkeypatch.setenv("COLUMNS", "80")
    capsys.readouterr()
    assert deployed[0] == "simserve" and main([*deployed[1:], "-q"]) == 0
    (shown,) = _blocks("text")
    assert capsys.readouterr().out.strip().startswith(shown.strip()), "the page shows what is printed"
    assert {"commands.sh", "kubernetes.yaml"} <= {path.name for path in (tmp_path / "out" / "deploy").iterdir()}


def test_every_fate_is_explained() -> None:
    rows = {line.split("|")[1].strip() for line in PAGE.splitlines() if line.startswith("| ")}
    assert {str(fate) for fate in Fate} <= rows
