"""The whole profile that docs/ascend.md shows to owners of a device is one, and runs."""

from __future__ import annotations

from pathlib import Path

import simserve
from simserve.hardware import load_profile
from tests.docs.blocks import ROOT, blocks


def test_the_profile_of_the_page_is_a_whole_one_and_runs(tmp_path: Path) -> None:
    (block,) = [block for block in blocks(ROOT / "docs" / "ascend.md") if block.title.endswith(".yaml")]
    path = tmp_path / block.title
    path.write_text(block.text, encoding="utf-8")
    profile = load_profile(path)
    assert {entry.operator: entry.status for entry in profile.document.efficiencies} == {"gemm": "assumed", "all_reduce": "measured"}
    result = simserve.run(
        {
            "model": "qwen3-8b",
            "hardware": str(path),
            "engine": "vllm-ascend",
            "cluster": {"instances": [{"parallel": {"tp": 2}, "max_model_len": 4096}]},
            "workload": {
                "closed_loop": {"concurrency": 2},
                "lengths": {"prompt": {"kind": "fixed", "tokens": 64}, "output": {"kind": "fixed", "tokens": 4}},
                "count": 4,
            },
        }
    )
    (line,) = [line for line in result.summary_dict()["warnings"] if line.startswith("Operators of")]
    assert "measured: all_reduce (8 %)" in line and "assumed: gemm" in line
