"""Every workload section shown in docs/workloads.md is one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from simserve.workload.config import WorkloadConfig

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = [block.split("```")[0] for block in (ROOT / "docs" / "workloads.md").read_text().split("```yaml\n")[1:]]


@pytest.mark.parametrize("block", BLOCKS)
def test_documented_sections_are_valid(block):
    WorkloadConfig.model_validate(yaml.safe_load(block)["workload"])


def test_there_are_some():
    assert len(BLOCKS) >= 5
