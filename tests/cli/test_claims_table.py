"""The table of claims on the terminal: every figure whole, at any width."""

from __future__ import annotations

import pytest

from simserve.cli.claims import show_outcomes
from simserve.study.claims.check import Outcome

VALUES: dict[str, float | None] = {"contiguous": 0.0671, "blocks_of_128_tokens": 0.0735, "blocks": 0.118, "blocks_of_8_heads": 0.323}
ORDER = Outcome(
    "probes.transfer rises: contiguous, blocks_of_128_tokens, blocks, blocks_of_8_heads", None, None, None, None, True, VALUES, ""
)
BYTES = Outcome("experts.per_request of chunk_512", 9.55e11, 924_543_000_000, 8.595e11, 1.0505e12, True, {}, "")


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_figures_are_not_cut(columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    show_outcomes([ORDER, BYTES])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= columns and "…" not in text
    words = text.split()
    assert {"0.0671", "0.0735", "0.118", "0.323", "9.245e+11", "8.595e+11"} <= set(words)
    assert words.count("in") == 2
