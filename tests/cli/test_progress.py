"""Progress goes to stderr: lines at intervals when piped, a bar on a terminal, nothing when quiet or quick."""

from __future__ import annotations

import io
import sys

import pytest

from simserve.progress import run, stderr
from simserve.progress.count import counting


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_quiet_is_silent() -> None:
    with run.shown(False) as update:
        assert update is None


def test_a_quick_run_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with run.shown() as update:
        assert update is not None
        for ended in range(100):
            update(ended, 100, float(ended))
    assert capsys.readouterr() == ("", "")


def test_a_long_piped_run_prints_a_line_every_ten_seconds(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    monkeypatch.setattr(stderr.time, "monotonic", lambda: now[0])
    with run.shown() as update:
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
    monkeypatch.setattr(stderr, "BAR_AFTER_S", 0.0)
    with run.shown() as update:
        assert update is not None
        update(1, 4, 10.0)
        update(4, 4, 40.0)
    assert "requests" in terminal.getvalue()


def test_a_function_is_called_itself() -> None:
    seen: list[tuple[int, int, float]] = []
    with run.shown(lambda *state: seen.append(state)) as update:
        assert update is not None
        update(1, 4, 10.0)
    assert seen == [(1, 4, 10.0)]


def test_a_count_is_one_line_that_a_terminal_overwrites(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    monkeypatch.setattr(stderr.time, "monotonic", lambda: now[0])
    with counting("cases") as update:
        for second in range(26):
            now[0] = float(second)
            update(second, 25)
    assert capsys.readouterr().err.splitlines() == ["10 of 25 cases", "20 of 25 cases", "25 of 25 cases"]
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with counting("cases") as update:
        update(0, 2)
        update(1, 2)
        update(2, 2)
    erase = "\r\x1b[K"
    assert terminal.getvalue() == f"{erase}0 of 2 cases{erase}2 of 2 cases{erase}", "one line within 0.2 s, and nothing is left"
