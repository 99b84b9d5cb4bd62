"""docs/ascend.md: its whole profile loads, and the command under it runs an experiment that states no instances."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

import simserve
from simserve.cli import main
from tests.docs.blocks import ROOT, blocks

PAGE = ROOT / "docs" / "ascend.md"
EXPERIMENT = """\
name: mine
model: qwen3-30b-a3b
hardware: ascend-910b
engine: vllm-ascend
workload:
  arrivals: {kind: poisson, rate_per_s: 1}
  lengths: {prompt: {kind: fixed, tokens: 200}, output: {kind: fixed, tokens: 20}}
  count: 5
"""


def test_a_profile_of_ones_own_runs_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (profile,) = [block for block in blocks(PAGE) if block.language == "yaml"]
    assert profile.title == "my-910b.yaml"
    (tmp_path / profile.title).write_text(profile.text)
    (tmp_path / "my-experiment.yaml").write_text(EXPERIMENT)
    (command,) = [line.strip() for line in PAGE.read_text().splitlines() if "--set hardware=my-910b.yaml" in line]
    words = shlex.split(command)
    assert words[0] == "simserve" and main([*words[1:], "--quiet", "--no-plots", "--no-report"]) == 0
    changes = dict(word.split("=", 1) for word in words if "=" in word)
    (group,) = simserve.load("my-experiment.yaml", hardware=changes["hardware"], **{"cluster.instances.0.parallel.tp": 2}).groups
    assert group.parallel.tp == 2
