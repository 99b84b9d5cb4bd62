"""docs/reports.md: its commands and Python run as they are written, and it names every plot."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from simserve.cli import main
from simserve.report.compare.plots import ComparisonPlots
from simserve.report.plots.run import Plots
from simserve.report.plots.stored import StoredPlots
from simserve.study.capacity.plots import CapacityPlots
from simserve.study.sweep.plots import SweepPlots

PAGE = (Path(__file__).parents[2] / "docs" / "reports.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.S | re.M)


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in _blocks("bash"):
        for line in block.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "simserve" and main(arguments) == 0
    for file in ("sarathi/report.html", "policies.html", "closer/timeline.json"):
        assert (tmp_path / "out" / file).is_file()


def test_python() -> None:
    (block,) = _blocks("python")
    exec(compile(block, "reports.md", "exec"), {})


def test_every_plot_is_listed() -> None:
    rows = re.findall(r"^\| .*`(?:simserve\.\w+|Result\.read)\(.*?\| (.*) \|$", PAGE, re.M)
    for row, plots in zip(rows, (Plots, StoredPlots, ComparisonPlots, SweepPlots, CapacityPlots), strict=True):
        drawn = {name for name in vars(plots) if not name.startswith("_") and callable(getattr(plots, name)) and name != "figures"}
        assert set(re.findall(r"`(\w+)`", row)) == drawn, plots


def test_every_metric_is_listed() -> None:
    from synthetic import poisson, serve

    from simserve.report import Result
    from simserve.report.plots.latency import cdf_panels, over_time_panels
    from simserve.report.plots.load import queue_and_batch_panels, throughput_panels
    from simserve.report.plots.requests import cdf_panels as stored_cdf
    from simserve.report.plots.requests import over_time_panels as stored_over_time

    result = Result(serve(*poisson(5, 5))[0], {})
    m, requests = result.measurement, result.requests
    listed = dict(re.findall(r"^\| `(\w+)` \| (`.*) \|$", PAGE, re.M))
    for name, ours, alone in (
        ("latency_cdf", cdf_panels(m), stored_cdf([("", requests)], {})),
        ("latency_over_time", over_time_panels(m), stored_over_time(requests, 1.0)),
        ("queue_and_batch", queue_and_batch_panels(m), None),
        ("throughput", throughput_panels(m), None),
    ):
        whole, _, rest = listed[name].partition("from requests alone")
        assert set(re.findall(r"`(\w+)`", whole)) == set(ours.draw), name
        if alone is not None:
            left = set(re.findall(r"`(\w+)`", rest))
            assert set(alone.draw) == (set(ours.draw) - left if "all but" in rest else left), name
