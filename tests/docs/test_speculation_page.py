"""docs/speculation.md: its experiment runs, its sweep gives its table, and it names every key and every figure."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import simserve
from simserve.catalogue import FIGURES
from simserve.cli import main
from simserve.config import engine_profile
from simserve.config.speculation_section import AcceptanceSection, SpeculationSection
from tests.docs.blocks import ROOT, blocks

PAGE = ROOT / "docs" / "speculation.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_experiment_runs(tmp_path: Path) -> None:
    (block,) = [block for block in blocks(PAGE) if block.title == "eagle3.yaml"]
    (tmp_path / block.title).write_text(block.text)
    out = tmp_path / "out"
    assert main(["run", str(tmp_path / block.title), "--out", str(out), "--check", "--quiet", "--no-plots", "--no-report"]) == 0
    found = json.loads((out / "summary.json").read_text())["speculation"]
    assert found["acceptance_length"] == pytest.approx(2.9, abs=0.1)


def test_the_sweep_gives_the_table() -> None:
    rows = [[float(cell.replace(",", "")) for cell in row.strip("|").split("|")] for row in re.findall(r"^\| \d+ \|.*\|$", TEXT, re.M)]
    (command,) = [block.text for block in blocks(PAGE) if block.language == "bash"]
    clients = [int(number) for number in re.findall(r"concurrency=([\d,]+)", command)[0].split(",")]
    assert [row[0] for row in rows] == clients
    experiment = simserve.load("speculation_eagle3", **{"workload.count": 512})
    over = {"speculation.tokens": [0, 3], "workload.closed_loop.concurrency": clients}
    found = simserve.sweep(experiment, over, jobs=1).frame["output_tokens_per_s"].tolist()
    without, drafted = found[: len(clients)], found[len(clients) :]
    for row, one, other in zip(rows, without, drafted, strict=True):
        assert row[1:] == [round(one), round(other), round(other / one, 2)]
    gains = [row[3] for row in rows]
    assert gains == sorted(gains, reverse=True)


def test_every_key_is_on_the_page() -> None:
    for key in (*SpeculationSection.model_fields, *AcceptanceSection.model_fields):
        assert f"`{key}`" in TEXT or re.search(rf"`{key}:|^  {key}:", TEXT, re.M), key


def test_engines_flags_on_the_page_exist() -> None:
    flags = {flag for name in engine_profile.names() for flag in engine_profile.load_engine(name).all_flags()}
    parts = {part for flag in flags for part in flag.split(".")}
    section = TEXT.split("### Engines' own names")[1].split("\n## ")[0]
    table = "\n".join(line.split("|")[2] for line in section.splitlines() if line.startswith("| ") and "flags" not in line)
    for name in re.findall(r"\b[a-zA-Z]+_[a-zA-Z_]+\b", table):
        assert name in parts, name


def test_the_figures_are_those_of_the_metrics_page() -> None:
    metrics = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8").split("## Speculative decoding")[1].split("\n## ")[0]
    for figure in FIGURES:
        if figure.speculative:
            assert f"| `{figure.path[-1]}` |" in metrics
