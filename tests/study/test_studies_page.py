"""docs/studies.md: its commands, Python and YAML work as they are written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from simserve.cli import main
from simserve.study.quantities import standard
from simserve.study.regress.suite import load_suite
from simserve.study.sweep.run import specify

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "studies.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.S | re.M)


@pytest.mark.parametrize("block", [block for block in _blocks("bash") if "regress" not in block], ids=lambda block: block.split()[1])
def test_commands(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program, *arguments = shlex.split(block.replace("\\\n", " "))
    assert program == "simserve" and main([*arguments, "--jobs", "1"]) == 0


def test_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = _blocks("python")
    assert len(found) == 4
    for block in found[:3]:
        exec(compile(block, "studies.md", "exec"), {})
    compile(found[3], "studies.md", "exec")  # a test of a suite: tests/study/test_regress.py runs one like it


def test_files(tmp_path: Path) -> None:
    sweep, suite = _blocks("yaml")
    (tmp_path / "budgets.yaml").write_text(sweep)
    (tmp_path / "gate.yaml").write_text(suite)
    spec = specify(tmp_path / "budgets.yaml")
    assert spec.design.count() == 12 and spec.seeds == (0, 1, 2)
    assert [case.name for case in load_suite(tmp_path / "gate.yaml").cases] == ["steady/ours"]


def test_every_column_is_listed() -> None:
    for quantity in standard():
        name = quantity.column if "." not in quantity.column else quantity.column.split(".")[1]
        assert f"`{name}`" in PAGE or quantity.stat, f"{name} is not in docs/studies.md"


def test_the_workflow_is_a_workflow_that_runs_the_command() -> None:
    workflow = yaml.safe_load((ROOT / "docs" / "ci" / "simserve-regress.yml").read_text())
    steps = workflow["jobs"]["regress"]["steps"]
    assert any("simserve regress" in step.get("run", "") for step in steps)
