"""An experiment file to break on purpose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

TEXT = """\
model: llama-2-7b
hardware: a100-sxm-80gb
engine: {name: vllm-v1, max_num_seqs: 64}
cluster:
  instances:
    - count: 1
      parallel: {tp: 1}
      scheduler: {policy: sarathi, token_budget: 512}
    - count: 2
workload:
  arrivals: {kind: poisson, rate_per_s: 2.0}
  lengths: {prompt: {kind: fixed, tokens: 100}, output: {kind: fixed, tokens: 10}}
  count: 50
slo: {ttft_s: 2.0}
seed: 3
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes the experiment with pieces of its text replaced: write(("seed: 3", "sede: 3"))."""

    def written(*changes: tuple[str, str]) -> Path:
        text = TEXT
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        path = tmp_path / "exp.yaml"
        path.write_text(text)
        return path

    return written
