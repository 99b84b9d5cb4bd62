"""Tables on narrow and wide terminals: every percentile, no header and no cell broken inside a word, nothing over the edge."""

from __future__ import annotations

import json
import re

import pytest
from synthetic import poisson, serve

from simserve.catalogue import METRICS
from simserve.cli import main
from simserve.report import Result
from simserve.report.compare.comparison import compare
from simserve.report.compare.terminal import compare_table, folded
from simserve.report.rows import STATS
from simserve.report.terminal import summary_table
from tests.report.printed import printed

WIDTHS = (60, 80, 140)
NAMES = ("quickstart", "budget-of-2048-tokens", "llama-3.1-70b_on_4x_h100-sxm-80gb", "half the traffic")


@pytest.fixture(scope="module")
def runs():
    return [Result(serve(*poisson(120, 5), step_s=0.01 * (k + 1))[0], {"name": name}, {"ttft_s": 1}) for k, name in enumerate(NAMES)]


@pytest.mark.parametrize("width", WIDTHS)
def test_p95_stands_wherever_p99_does(result, width):
    text = printed(summary_table(result), width)
    heads = [line for line in text.splitlines() if "p99" in line]
    assert heads and all("p95" in line for line in heads)
    assert max(map(len, text.splitlines())) <= width
    comparison = compare([result, result])
    for rows in (comparison.rows, *(rows for _, rows in comparison.by_class)):
        names = [row.name for row in rows]
        assert all(name.replace("p99", "p95") in names for name in names if name.endswith("p99"))


def test_a_wide_terminal_has_every_statistic_and_80_columns_all_but_one(result):
    def head(width):
        return next(line.split()[1:] for line in printed(summary_table(result), width).splitlines() if line.split()[:1] == ["latency"])

    assert head(140) == list(STATS)
    assert set(STATS) - set(head(80)) <= {"p90"} and {"mean", "p50", "p95", "p99", "max"} <= set(head(80))


@pytest.mark.parametrize("width", WIDTHS)
def test_runs_that_do_not_fit_beside_the_first_follow_below(runs, width):
    text = printed(compare_table(runs), width)
    assert max(map(len, text.splitlines())) <= width and "…" not in text
    tables = text.count("TTFT p95")
    assert tables == {60: 3, 80: 2, 140: 1}[width], text
    for metric in (known.label for known in METRICS if not known.speculative):
        assert len(re.findall(rf"^ *{metric} p95 ", text, re.M)) == tables
    heads = [line for block in re.split(r"─+", text)[:-1] for line in block.splitlines()[-6:]]
    for name in NAMES:  # each part of a name stands somewhere whole
        for part in re.split(r"(?<=[-_./ ])", name):
            assert any(part.strip() in line for line in heads), (name, part)


def test_names_break_between_their_parts_only():
    assert folded("budget-of-2048-tokens", 12) == "budget-of-\n2048-tokens"
    assert folded("half the traffic", 10) == "half the\ntraffic"
    assert folded("averyveryverylongword-x", 8) == "averyveryverylongword-\nx"
    assert folded("short", 8) == "short" and folded("", 8) == ""


LISTINGS = {
    "models": "model params active layers KiB/token context",
    "engines": "engine versions overheads validated schedules equal",
    "hardware": "profile vendor memory TFLOP/s fitted operators",
    "policies": "scheduling policy parameters router controller",
    "trace info traces/burstgpt-sample.csv": "prompt tokens output tokens arrival gap p95 p99",
}


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("command", LISTINGS)
def test_listings_keep_the_words_of_their_headers(command, width, capsys, monkeypatch):
    from tests.docs.blocks import ROOT

    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(command.split()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    words = set(" ".join(lines).replace(",", " ").split())
    assert set(LISTINGS[command].split()) <= words


def test_json_of_a_comparison_has_what_the_table_shows(runs, tmp_path, capsys):
    places = [str(run.write(tmp_path / f"r{k}", plots=False, report=False)) for k, run in enumerate(runs[:2])]
    assert main(["compare", *places, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    ours = compare(runs[:2])
    assert found["names"] == list(ours.names) and found["notes"] == list(ours.notes)
    assert [figure["name"] for figure in found["figures"]] == [row.name for row in ours.rows]
    assert found["figures"][0]["values"] == pytest.approx(list(ours.rows[0].values))
    assert found == json.loads(json.dumps(ours.as_dict()))
