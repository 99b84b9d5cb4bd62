"""One small experiment for every study: 60 requests on one device, a tenth of a second to run."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

TINY: dict[str, Any] = {
    "name": "tiny",
    "model": "llama-2-7b",
    "hardware": "a100-sxm-80gb",
    "cluster": {"instances": [{"scheduler": {"policy": "sarathi", "token_budget": 512, "max_seqs": 64}}]},
    "workload": {
        "arrivals": {"kind": "poisson", "rate_per_s": 4.0},
        "lengths": {"prompt": {"kind": "fixed", "tokens": 200}, "output": {"kind": "fixed", "tokens": 20}},
        "count": 60,
    },
    "slo": {"ttft_s": 0.5, "tpot_s": 0.05},
    "seed": 1,
}

RATE = "workload.arrivals.rate_per_s"
BUDGET = "cluster.instances.0.scheduler.token_budget"


@pytest.fixture
def tiny() -> dict[str, Any]:
    return copy.deepcopy(TINY)


@pytest.fixture
def tiny_file(tmp_path: Path) -> Path:
    from simserve.files.yaml_text import dump

    path = tmp_path / "tiny.yaml"
    path.write_text(dump(TINY))
    return path
