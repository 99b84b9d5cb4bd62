"""Progress goes to stderr: lines at intervals when piped, a bar on a terminal, nothing when quiet or quick."""

from __future__ import annotations

import io
import sys

import pytest

from simserve.cli import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_quiet_is_silent() -> None:
    with progress.shown(quiet=True) as update:
        assert update is None


def test_a_quick_run_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown() as update:
        assert update is not None
        for ended in range(100):
            update(ended, 100, float(ended))
    assert capsys.readouterr() == ("", "")


def test_a_long_piped_run_prints_a_line_every_ten_seconds(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.shown() as update:
        assert update is not None
        for second in range(36):
            now[0] = float(second)
            update(second, 40, 100.0 * second)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "10 of 40 requests (25 %), simulated 1,000 s",
        "20 of 40 requests (50 %), simulated 2,000 s",
        "30 of 40 requests (75 %), simulated 3,000 s",
    ]


def test_a_terminal_gets_a_bar_that_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "BAR_AFTER_S", 0.0)
    with progress.shown() as update:
        assert update is not None
        update(1, 4, 10.0)
        update(4, 4, 40.0)
    assert "requests" in terminal.getvalue()
