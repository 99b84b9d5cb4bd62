"""docs/metrics.md defines what the catalogue names: each latency with its unit, each figure, each SLO target."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from simserve.catalogue import FIGURES, METRICS, OF_REQUESTS, TARGETS, Figure, Metric, Target, metric

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
UNITS = {"%": "fraction", "/s": "1/s", "J": "J", "W": "W", "B": "B"}
"""Units of tables, and of the page."""
SPELT_OUT = {"completed_fraction", "failed_in_trace", "arrival_period_s", "measured_requests", "requests", "expert_bytes_per_request"}
"""Columns of studies whose figure has no key of that name in summary.json: docs/studies.md says what they are."""


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}.*?(?=^## |\Z)", PAGE, re.M | re.S)
    assert found, f"docs/metrics.md has no section '{title}'"
    return found[0]


def rows(text: str) -> dict[str, list[str]]:
    """The first name of each row of the tables -> its other cells."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")]
    return {re.findall(r"`([^`]+)`", cells[0])[0]: [*cells[1:], cells[0]] for cells in lines}


def undefined_latencies(metrics: tuple[Metric, ...]) -> list[str]:
    """What the table of latencies does not define, or in another unit."""
    table = rows(section("Latency of a request"))
    return [each.name for each in metrics if each.name not in table or table[each.name][1] != each.unit]


def undefined_targets(targets: tuple[Target, ...]) -> list[str]:
    text = section("Service level objectives")
    families = {"itl_p": "itl_pNN_s", "itl_e": "itl_emaNN_s"}
    return [each.name for each in targets if f"`{families.get(each.name[:5], each.name)}`" not in text]


def undefined_figures(figures: tuple[Figure, ...]) -> list[str]:
    """What no table or sentence names, or a table gives in another unit."""
    table, missing = rows(PAGE), []
    for each in figures:
        key = each.path[-1] if each.path else each.column
        if each.column in SPELT_OUT and not each.label:
            continue
        unit = UNITS.get(each.unit)
        named = f"`{key}`" in PAGE or f"`{key.removesuffix('_mean').removesuffix('_max')}`" in PAGE
        if not named or (unit and key in table and table[key][1] not in (unit, "")):
            missing.append(key)
    return missing


def test_every_latency_of_a_request_is_defined_in_its_unit() -> None:
    assert undefined_latencies(OF_REQUESTS) == []


def test_the_latency_of_tokens_is_defined() -> None:
    assert [f"`{each.name}` ({each.label}" in section("Latency of a token") for each in METRICS if each.over == "token"] == [True]


def test_every_slo_target_is_described() -> None:
    assert undefined_targets(TARGETS) == []


def test_every_figure_is_defined_in_its_unit() -> None:
    assert undefined_figures(FIGURES) == []


def test_what_the_page_does_not_say_is_found() -> None:
    ten = replace(metric("ttft_s"), name="first_ten_s", quantity="first_ten", label="First ten")
    assert undefined_latencies((*OF_REQUESTS, ten)) == ["first_ten_s"]
    assert undefined_latencies((replace(metric("tpot_s"), unit="s/token"),)) == ["tpot_s"]
    assert undefined_targets((Target("first_ten_s", ""),)) == ["first_ten_s"]
    assert undefined_figures((Figure("fairness", "higher", "fairness", ("slo", "fairness")),)) == ["fairness"]
    assert undefined_figures((replace(FIGURES[0], unit="/s", path=("energy", "mean_power_w")),)) == ["mean_power_w"]


def test_the_catalogue_names_nothing_twice() -> None:
    for names in ([each.name for each in METRICS], [each.quantity for each in METRICS], [each.name for each in TARGETS]):
        assert len(set(names)) == len(names)
    for names in ([each.column for each in FIGURES], [each.quantity for each in FIGURES if each.quantity]):
        assert len(set(names)) == len(names)
    assert {each.target for each in METRICS if each.target} <= {each.meaning for each in TARGETS}
