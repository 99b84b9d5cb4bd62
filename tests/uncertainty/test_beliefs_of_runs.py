"""What runs say of themselves: in summaries, tables and comparisons; and that studies do not ask."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

import simserve
from simserve import uncertainty
from simserve.cli import main
from simserve.report.believed import belief_line, belief_rows, with_interval
from simserve.report.compare.comparison import compare
from simserve.report.rows import milliseconds
from simserve.report.terminal import summary_table
from simserve.simulation import simulated
from simserve.study import task
from simserve.uncertainty import facts
from tests.docs.blocks import ROOT, blocks

SPEC = {
    "name": "believed",
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "engine": "vllm-v1",
    "workload": {
        "closed_loop": {"concurrency": 8},
        "lengths": {"prompt": {"kind": "fixed", "tokens": 500}, "output": {"kind": "fixed", "tokens": 60}},
        "count": 40,
    },
}
RESULT = simserve.run(SPEC)
OTHER = simserve.run({**SPEC, "name": "other"}, **{"workload.closed_loop.concurrency": 9})


def test_a_run_says_how_far_to_believe_it_in_one_line_and_by_figure() -> None:
    belief = uncertainty.of_run(RESULT)
    assert belief is not None and belief == uncertainty.of_run(json.loads(json.dumps(RESULT.summary_dict())))
    summary = RESULT.summary_dict()
    assert belief_line(summary) == f"How far to believe it: {belief.line}" and "\n" not in belief.line
    for name in ("ttft.p99", "tpot.mean", "itl.p50", "e2e.p95", "throughput.output_tokens"):
        low, high = belief.intervals[name]
        assert low < high, name
    assert belief.intervals["tpot.mean"][0] < summary["latency"]["all"]["tpot_s"]["mean"] < belief.intervals["tpot.mean"][1]
    assert uncertainty.relative_interval(belief, "attainment") is None


def test_the_page_says_it_as_it_is() -> None:
    """The block of docs/intervals.md runs."""
    (block,) = (block for block in blocks(ROOT / "docs" / "intervals.md") if block.language == "python")
    exec(compile(block.text, "intervals.md", "exec"), {})


def test_a_device_without_tables_makes_an_estimate_with_wider_intervals() -> None:
    guess = uncertainty.of_run(simserve.run({**SPEC, "hardware": "h20"}))
    own = uncertainty.of_run(RESULT)
    assert guess is not None and own is not None and guess.label == "estimate"
    assert guess.relative["tpot.mean"][1] > own.relative["tpot.mean"][1]
    assert guess.relative["tpot.mean"][0] < own.relative["tpot.mean"][0]


def test_studies_do_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object) -> None:
        raise AssertionError("a study's run was asked for its belief")

    monkeypatch.setattr(facts, "facts_of", asked)
    experiment = simserve.load(SPEC)
    outcome = task.evaluate(task.Task(0, experiment))
    assert outcome.error is None and outcome.values is not None
    plain = simulated(experiment)
    assert plain.uncertainty is None and "uncertainty" not in plain.summary_dict()
    with pytest.raises(AssertionError, match="was asked"):
        simserve.run(SPEC)


def test_figures_are_those_of_the_run_without_it() -> None:
    believed, plain = RESULT.summary_dict(), simulated(simserve.load(SPEC)).summary_dict()
    assert {key: value for key, value in believed.items() if key != "uncertainty"} == plain


@pytest.mark.parametrize("width", [80, 140])
def test_the_terminal_shows_line_and_intervals_within_its_width(width: int) -> None:
    out = io.StringIO()
    Console(file=out, width=width).print(summary_table(RESULT))
    text = out.getvalue()
    assert "How far to believe it: " in text and "80 % interval" in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    cell = dict(belief_rows(RESULT.summary_dict(), ("mean",)))["TPOT"][0]
    assert cell in text and " to " in cell


def test_an_interval_is_written_with_its_unit_once() -> None:
    assert with_interval(0.0412, (0.035, 0.052), milliseconds) == "41.2 (35.0 to 52.0) ms"
    assert with_interval(9.0, (5.0, 12.0), milliseconds) == "9,000 ms (5,000 ms to 12.0 s)"
    assert with_interval(0.0412, (0.0411, 0.0413), milliseconds) == with_interval(0.0412, None, milliseconds) == "41.2 ms"


def test_runs_that_differ_by_less_than_what_does_not_cancel_are_not_told_apart() -> None:
    one, other = RESULT.summary_dict(), OTHER.summary_dict()
    found = uncertainty.apart(one, other, "tpot.mean")
    assert found is not None and found.shared and not found.told and 0.0 < found.log_ratio < found.half
    alone = uncertainty.of_run(RESULT)
    assert alone is not None
    assert found.half < 1.41 * alone.relative["tpot.mean"][1] - 1.0, "common errors cancel"
    notes = compare([RESULT, OTHER]).notes
    assert any("less than the error that does not cancel" in note and "TPOT mean" in note for note in notes), notes
    double = simserve.run(SPEC, **{"workload.closed_loop.concurrency": 200, "workload.count": 400})
    assert not any("E2E mean" in note for note in compare([RESULT, double]).notes if "cancel" in note)


def test_a_run_with_another_model_shares_nothing() -> None:
    found = uncertainty.apart(RESULT.summary_dict(), simserve.run({**SPEC, "model": "qwen3-8b"}).summary_dict(), "tpot.mean")
    assert found is not None and found.shared == ""


def test_a_capacity_has_the_interval_of_its_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    workload = {"arrivals": {"kind": "poisson", "rate_per_s": 10.0}, "lengths": SPEC["workload"]["lengths"], "count": 150}  # type: ignore[index]
    Path("c.yaml").write_text(json.dumps({**SPEC, "workload": workload}))
    command = [
        "capacity",
        "c.yaml",
        "--when",
        "tpot.mean <= 0.012",
        "--replicates",
        "1",
        "--tolerance",
        "10%",
        "--jobs",
        "1",
        "--out",
        "found",
    ]
    assert main(command) == 0
    assert "How far to believe it: " in capsys.readouterr().out
    about = json.loads(Path("found/capacity.json").read_text())["uncertainty"]
    low, high = about["relative"]
    assert about["label"] in uncertainty.LABELS and 0.0 < low < 1.0 < high
    from simserve.study.capacity.file import read_capacity

    read = read_capacity("found").belief
    assert read is not None and read.as_dict() == about
