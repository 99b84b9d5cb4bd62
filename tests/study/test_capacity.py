"""Capacity: the highest load at which something holds, and plain words where there is none."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import simserve
import simserve.simulation
from simserve.cli import main
from simserve.errors import ConfigError
from simserve.study.search import Search
from simserve.study.statistics import mean_interval
from tests.study.conftest import RATE


@pytest.mark.parametrize("truth", [0.013, 0.9, 1.0, 7.3, 4096.5])
@pytest.mark.parametrize("start", [0.5, 1.0, 64.0])
def test_a_search_brackets_the_truth_within_its_tolerance(truth: float, start: float) -> None:
    search, probes = Search(start, 0.02), 0
    while (rate := search.next_rate()) is not None:
        search.tell(rate, rate <= truth, at_an_end=False)
        probes += 1
    assert search.outcome == "found" and search.low is not None and search.high is not None
    assert search.low <= truth < search.high <= 1.02 * search.low * (1 + 1e-9)
    assert probes <= 2 + abs(math.log2(truth / start)) + 7


@pytest.mark.parametrize("truth", [1, 2, 17, 100])
def test_a_search_over_whole_numbers_ends_at_the_last_that_holds(truth: int) -> None:
    search = Search(8, 1e-6, whole=True)
    while (rate := search.next_rate()) is not None:
        assert rate == int(rate) >= 1
        search.tell(rate, rate <= truth, at_an_end=False)
    assert search.low == truth


def test_searches_end_where_nothing_changes_any_more() -> None:
    never, always = Search(1.0, 0.02), Search(1.0, 0.02)
    never.tell(1.0, False, at_an_end=True)
    always.tell(1.0, True, at_an_end=True)
    assert (never.outcome, always.outcome) == ("never", "always")
    endless = Search(1.0, 0.02)
    while (rate := endless.next_rate()) is not None:
        endless.tell(rate, True, at_an_end=False)
    assert endless.outcome == "always"


def test_intervals_of_means() -> None:
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2.0 and high - mean == pytest.approx(4.302652729911275 / math.sqrt(3)) and mean - low == pytest.approx(high - mean)
    assert mean_interval([5.0]) == (5.0, -math.inf, math.inf)
    assert mean_interval([5.0, 5.0]) == (5.0, 5.0, 5.0)


def test_a_single_server_saturates_at_its_service_rate(tiny: dict[str, Any]) -> None:
    # One request at a time, always the same size: a queue that is stable up to one over the service time, whatever the arrivals.
    tiny["cluster"]["instances"][0]["scheduler"] = {"policy": "orca", "max_seqs": 1}
    tiny["workload"]["count"] = 300
    service_s = simserve.run(tiny, **{RATE: 0.01, "workload.count": 1}).summary_dict()["latency"]["all"]["e2e_s"]["mean"]
    found = simserve.capacity(tiny, "completed >= 1", replicates=1, tolerance=0.1, jobs=1)
    assert found.saturates and "saturates" in found.message
    assert found.rate == pytest.approx(1 / service_s, rel=0.15)


def test_the_answer_is_between_what_was_seen_to_hold_and_to_fail(tiny: dict[str, Any]) -> None:
    found = simserve.capacity(tiny, "ttft.p90 <= 0.06", replicates=2, tolerance=0.05, jobs=1)
    assert found.outcome == "found" and found.rate is not None and found.interval is not None
    for replicate in found.replicates:
        assert replicate.low is not None and replicate.high is not None and replicate.high <= 1.05 * replicate.low * (1 + 1e-9)
    frame = found.frame
    assert (frame.loc[frame["holds"], "ttft_p90_s"] <= 0.06).all() and (frame.loc[~frame["holds"], "ttft_p90_s"] > 0.06).all()
    assert found.interval[0] <= found.rate <= found.interval[1]
    looser = simserve.capacity(tiny, "ttft.p90 <= 0.2", replicates=1, tolerance=0.2, jobs=1)
    assert looser.rate is not None and looser.rate > found.rate
    assert "rests on about 6 of 60 requests" in " ".join(found.notes)


def test_never_and_always_are_said(tiny: dict[str, Any]) -> None:
    never = simserve.capacity(tiny, "ttft.p50 <= 0.0001", replicates=1, jobs=1)
    assert never.outcome == "never" and never.rate is None and "Never holds" in never.message
    tiny["workload"]["count"] = 8  # never a queue to speak of, however fast they arrive
    always = simserve.capacity(tiny, "ttft.p50 <= 1000", replicates=1, jobs=1)
    assert always.outcome == "always" and always.rate is None and "more requests" in always.message


def test_the_default_predicate_is_the_experiments_slo(tiny: dict[str, Any]) -> None:
    assert simserve.capacity(tiny, replicates=1, tolerance=0.3, jobs=1).predicate.text == "attainment >= 0.99"
    del tiny["slo"]
    with pytest.raises(ConfigError, match="states no SLO"):
        simserve.capacity(tiny)


def test_a_replayed_trace_needs_one_search(tiny: dict[str, Any], tmp_path: Path) -> None:
    rows = "\n".join(f"{second},GPT-4,200,20,220,Conversation log" for second in range(80))
    (tmp_path / "t.csv").write_text(f"Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n{rows}\n")
    tiny["workload"] = {"trace": {"format": "burstgpt", "path": str(tmp_path / "t.csv")}}
    found = simserve.capacity(tiny, "ttft.p99 <= 0.1", replicates=3, tolerance=0.1, jobs=1)
    assert found.rate_key == "workload.trace.rate_scale" and len(found.replicates) == 1 and found.interval is None
    assert any("seed changes nothing" in note for note in found.notes)


def test_clients_of_a_closed_loop_are_whole(tiny: dict[str, Any]) -> None:
    del tiny["workload"]["arrivals"]
    tiny["workload"]["closed_loop"] = {"concurrency": 4}
    found = simserve.capacity(tiny, "tpot.p99 <= 0.016", replicates=1, jobs=1)
    assert found.rate_key.endswith("concurrency") and found.rate == int(found.rate or 0.5)


def test_the_command_writes_what_it_says(tiny_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tiny_file.with_name("cap")
    arguments = ["capacity", str(tiny_file), "--when", "ttft.p90 <= 0.06", "--replicates", "2", "--tolerance", "30%", "--jobs", "1"]
    assert main([*arguments, "--json", "--out", str(out)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "capacity.json").read_text()) and printed["outcome"] == "found"
    assert {file.name for file in out.iterdir()} == {"capacity.json", "probes.parquet", "goodput.png", "frontier.png", "runs"}
    assert main([*arguments, "--out", str(out)]) == 2


class _Counted:
    """Stands in for one simulation: counts, and interrupts where it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls, self.interrupt_at, self.run = 0, 0, simserve.simulation.simulated
        monkeypatch.setattr("simserve.simulation.simulated", self)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls == self.interrupt_at:
            raise KeyboardInterrupt
        return self.run(*arguments, **options)


def test_an_interrupted_search_continues(tiny_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    runs = _Counted(monkeypatch)
    command = ["capacity", str(tiny_file), "--when", "ttft.p90 <= 0.06", "--replicates", "2", "--tolerance", "20%", "--jobs", "1"]
    whole, broken = tiny_file.with_name("whole"), tiny_file.with_name("broken")
    assert main([*command, "--out", str(whole)]) == 0
    needed = runs.calls
    runs.calls, runs.interrupt_at = 0, 6
    assert main([*command, "--out", str(broken)]) == 130
    assert "kept in" in capsys.readouterr().err and not (broken / "capacity.json").exists()
    assert main([*command, "--out", str(broken)]) == 2 and "--resume" in capsys.readouterr().err
    assert main([*command, "--out", str(broken), "--resume"]) == 0
    assert runs.calls == needed + 1, "a finished probe was run again"
    assert (broken / "capacity.json").read_bytes() == (whole / "capacity.json").read_bytes()


def test_another_question_takes_the_probes_that_are_there(tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = _Counted(monkeypatch)
    options = {"replicates": 1, "tolerance": 0.3, "jobs": 1, "out": tmp_path / "c"}
    simserve.capacity(tiny, "ttft.p90 <= 0.06", **options)  # type: ignore[arg-type]
    first, runs.calls = runs.calls, 0
    simserve.capacity(tiny, "ttft.p90 <= 0.07", resume=True, **options)  # type: ignore[arg-type]
    assert runs.calls < first
    runs.calls = 0
    simserve.capacity(tiny, "ttft.p97_5 <= 0.06", resume=True, **options)  # type: ignore[arg-type]
    assert runs.calls > 0, "a probe without the percentile that is asked for cannot answer"


def test_force_starts_again(tiny_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = _Counted(monkeypatch)
    command = ["capacity", str(tiny_file), "--when", "ttft.p90 <= 0.06", "--replicates", "1", "--tolerance", "40%", "--jobs", "1"]
    assert main([*command, "--out", str(tiny_file.with_name("c"))]) == 0
    first = runs.calls
    assert main([*command, "--out", str(tiny_file.with_name("c")), "--force"]) == 0 and runs.calls == 2 * first
    assert main([*command, "--resume"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--when", "tttf.p99 < 1"], "did you mean 'ttft.p99'"),
        (["--when", "classes.chat.attainment > 0"], "no request of the workload is of the SLO class 'chat'"),
        (["--tolerance", "0"], "tolerance"),
        (["--tolerance", "2 percent"], "expected a fraction"),
        (["--rate-key", "workload.arrivals.rate"], "found nothing"),
        (["--rate-key", "model"], "expected a number"),
        (["--replicates", "0"], "at least 1"),
        (["--set", "workload.arrivals={kind: piecewise, pieces: [{duration_s: 5, rate_per_s: 2}]}"], "no single rate"),
    ],
)
def test_bad_input_is_one_message(tiny_file: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["capacity", str(tiny_file), "--jobs", "1", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
