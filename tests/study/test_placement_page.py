"""docs/placement.md: its command and Python work as they are written, with the answers that it shows."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from simserve.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "placement.md").read_text()


def _block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.S | re.M)
    return str(found)


def test_the_command_gives_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    program, *arguments = shlex.split(_block("bash").replace("\\\n", " "))
    assert program == "simserve" and main([*arguments, "--jobs", "1"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for shown in _block("text").splitlines():
        for part in shown.split("..."):
            assert " ".join(part.split()) in printed
    assert json.loads((tmp_path / "out" / "placed" / "placement.json").read_text())["best"] == "mixed tp2"
    assert main(["run", "out/placed/best.yaml", "--set", "workload.count=50"]) == 0


def test_the_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(_block("python").replace("jobs=1)", "jobs=1, tolerance=0.3)"), "placement.md", "exec"), {})
    assert "prefill tp2 + decode tp1" in capsys.readouterr().out
