"""docs/clusters.md: its experiments run under all checks and do what the page says of them; its table has every router and controller."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from simserve.cli import main
from simserve.policies import registry
from tests.docs.blocks import ROOT, Block, blocks

PAGE = ROOT / "docs" / "clusters.md"
EXPERIMENTS = {block.title: block for block in blocks(PAGE) if block.language == "yaml"}


def summary_of(block: Block, folder: Path) -> dict:
    (folder / block.title).write_text(block.text)
    out = folder / "out"
    assert main(["run", str(folder / block.title), "--out", str(out), "--check", "--quiet", "--no-plots", "--no-report"]) == 0
    return json.loads((out / "summary.json").read_text())


def test_pools_hand_every_prompt_over(tmp_path):
    summary = summary_of(EXPERIMENTS["pools.yaml"], tmp_path)
    assert summary["requests"]["completed"] == 200
    assert summary["cluster"]["transferred_tokens"] == 200 * 900


def test_an_elastic_cluster_migrates_dies_and_grows(tmp_path):
    summary = summary_of(EXPERIMENTS["elastic.yaml"], tmp_path)
    cluster = summary["cluster"]
    assert summary["requests"]["completed"] == summary["requests"]["total"] == 250
    assert cluster["failures"] >= 1 and cluster["availability"] < 1
    assert cluster["instances"] == 4 and 1 < cluster["instances_mean"] < 4
    assert cluster["migration"]["begun"] >= cluster["migration"]["done"] > 0
    assert summary["preemption"]["recomputed_tokens"] > 0


@pytest.mark.parametrize("name", [*registry._BUILT_IN_ROUTERS, *registry._BUILT_IN_CONTROLLERS])
def test_every_router_and_controller_is_in_a_table_with_its_parameters(name):
    (row,) = [line for line in PAGE.read_text().splitlines() if re.match(r"\| `", line) and f"`{name}`" in line.split("|")[1]]
    if name in registry._BUILT_IN_ROUTERS:
        for parameter in registry.router_class(name).Params.model_fields:
            assert f"`{parameter}`" in row
