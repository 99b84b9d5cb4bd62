"""docs/glossary.md: every key and figure that it names exists."""

from __future__ import annotations

import json
import re

import pytest

from simserve.config.json_schema import experiment_schema
from tests.docs.blocks import ROOT

PAGE = ROOT / "docs" / "glossary.md"
LINES = PAGE.read_text(encoding="utf-8").splitlines()
ROWS = [line.split("|") for line in LINES if line.startswith("| ") and not line.startswith("| term")]
SECTIONS = ("slo", "workload", "metrics", "cluster", "parallel", "kv", "scheduler", "engine")
KEYS = sorted({key for row in ROWS for key in re.findall(r"`([a-z_]+(?:\.[a-z_*]+)+)`", row[4]) if key.split(".")[0] in SECTIONS})


def test_each_row_has_a_term_a_meaning_a_unit_and_a_place():
    assert len(ROWS) > 40
    for row in ROWS:
        assert len(row) == 6 and all(cell.strip() for cell in row[1:5]), row


def test_terms_are_defined_once():
    terms = [row[1].strip().lower() for row in ROWS]
    assert len(terms) == len(set(terms))


@pytest.mark.parametrize("key", KEYS)
def test_keys_are_those_of_an_experiment(key):
    text = json.dumps(experiment_schema())
    for part in key.split("."):
        assert part == "*" or f'"{part}"' in text, key


def test_figures_are_on_the_page_of_metrics():
    metrics = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    text = "\n".join(LINES)
    for name in ("ttft_s", "tpot_s", "itl_s", "e2e_s", "queueing_s", "attainment", "goodput_per_s", "hit_rate", "transferred_tokens"):
        assert f"`{name}`" in text and f"`{name}`" in metrics, name


def test_the_site_and_the_readme_lead_to_it():
    for page in ("mkdocs.yml", "README.md", "docs/index.md"):
        assert "glossary.md" in (ROOT / page).read_text(encoding="utf-8"), page
