"""What an error says of a mapping whose kind decides which keys it has."""

from __future__ import annotations

from pathlib import Path

import pytest

from simserve import load
from simserve.errors import ConfigError

TEXT = """name: a
model: llama-3.1-8b
hardware: h100-sxm-80gb
workload:
  arrivals: {ARRIVALS}
  lengths: {prompt: {kind: fixed, tokens: 5}, output: {kind: fixed, tokens: 2}}
  count: 3
"""


@pytest.mark.parametrize(
    ("arrivals", "words"),
    [
        (
            "rate_per_s: 3",
            "5:13: workload.arrivals: the key kind is required and missing. Allowed: constant, diurnal, gamma, piecewise, poisson",
        ),
        ("kind: poison, rate_per_s: 3", "did you mean 'poisson'"),
    ],
)
def test_a_mapping_without_its_kind_is_told_which_there_are(tmp_path: Path, arrivals: str, words: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(TEXT.replace("ARRIVALS", arrivals))
    with pytest.raises(ConfigError, match=words.replace(".", r"\.")):
        load(path)
