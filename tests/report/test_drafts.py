"""Figures of speculative decoding, from runs that can be counted by hand."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from simserve.engine import InstanceSpec, simulate
from simserve.engine.records import RunRecords
from simserve.policies.scheduling.sarathi import Sarathi
from simserve.report.perfetto.timeline import write_timeline
from simserve.report.result import Result
from simserve.report.step_file import SPECULATION_COLUMNS, STEP_COLUMNS
from simserve.study.quantities import quantity, value_of
from simserve.study.sweep.table import Rows
from simserve.workload.requests import RequestTable, Workload
from tests.engine.clients import test_uneven_emission as slices
from tests.engine.speculation.toys import Drafting, Verifying
from tests.reference.toy_cost import RoundCost


def served(
    outputs: list[int], drafting: Drafting | None, gap_s: float = 0.0, instance: dict[str, Any] | None = None, **more: Any
) -> RunRecords:
    count = len(outputs)
    table = RequestTable.build(gap_s * np.arange(count), np.full(count, 8), np.array(outputs))
    policy = Sarathi(Sarathi.Params(token_budget=64))
    memory = {"kv_blocks": 200, "block_tokens": 4} | (instance or {})
    spec = InstanceSpec("i", policy, Verifying(RoundCost()), speculation=drafting, **memory)
    return simulate(Workload(table), [spec], check=True, **more)


def drafts(records: RunRecords, **cuts: float) -> dict[str, Any]:
    found = Result(records, **cuts).summary_dict()["speculation"]
    assert isinstance(found, dict)
    return found


def test_two_of_three_drafts_are_right_in_every_step() -> None:
    """One request of 13 tokens: the first from its prefill, then 4 steps of 3 tokens, each with 3 drafted."""
    assert drafts(served([13], Drafting(3, right=2))) == {
        "decodes": 4,
        "verifications": 4,
        "drafted_tokens": 12,
        "accepted_tokens": 8,
        "wasted_tokens": 4,
        "acceptance_rate": 8 / 12,
        "acceptance_length": 3.0,
        "tokens_per_step": 3.0,
    }


def test_what_lies_beyond_the_end_of_the_output_is_wasted() -> None:
    """12 tokens: the last step has two to give and drafted three, of which one is used."""
    found = drafts(served([12], Drafting(3, right=2)))
    assert (found["decodes"], found["drafted_tokens"], found["accepted_tokens"], found["wasted_tokens"]) == (4, 12, 7, 5)


def test_steps_without_drafts_count_for_tokens_per_step_only() -> None:
    """A batch of two does not speculate: while both decode each gets one token a step."""
    alone, together = drafts(served([13], Drafting(3, right=3, quiet_at=2))), drafts(served([13, 30], Drafting(3, right=3, quiet_at=2)))
    assert alone["acceptance_length"] == alone["tokens_per_step"] == 4.0
    assert together["verifications"] < together["decodes"]
    assert together["acceptance_length"] > together["tokens_per_step"]
    total = 12 + 29  # tokens after the first of each
    assert together["decodes"] + together["accepted_tokens"] == total


@pytest.mark.parametrize("drafting", [Drafting(3), Drafting(2, more=5), Drafting(3, misses=2), Drafting(1, right=0)])
def test_decodes_and_accepted_tokens_are_all_tokens_but_the_first(drafting: Drafting) -> None:
    records = served([13, 40, 7, 1, 22], drafting, gap_s=3.0)
    found = drafts(records)
    assert found["decodes"] + found["accepted_tokens"] == int(records.requests.generated_tokens.sum()) - 5
    assert found["drafted_tokens"] == found["accepted_tokens"] + found["wasted_tokens"]
    steps = Result(records).steps
    assert int(steps["drafted_tokens"].sum()) == found["drafted_tokens"]
    assert int(steps["accepted_tokens"].sum()) == found["accepted_tokens"]


def test_a_window_counts_the_steps_that_ended_in_it() -> None:
    records = served([40], Drafting(3))
    whole = drafts(records)
    cut = drafts(records, warmup_s=records.end_s / 3, cooldown_s=records.end_s / 3)
    steps = Result(records).steps
    inside = steps[(steps.end_s >= records.end_s / 3) & (steps.end_s <= records.end_s - records.end_s / 3)]
    assert 0 < cut["drafted_tokens"] == int(inside.drafted_tokens.sum()) < whole["drafted_tokens"]


def test_slices_of_a_policy_that_speculates_itself_count_too() -> None:
    """tests/engine/clients/test_uneven_emission.py: every decoding request verifies `k` drafted tokens in a slice of its own."""
    records = slices.serve([13], slices.Every(2), k=3)
    found = drafts(records)
    assert (found["decodes"], found["drafted_tokens"], found["accepted_tokens"], found["acceptance_length"]) == (4, 12, 8, 3.0)
    steps = Result(records).steps
    assert steps.verify_requests.tolist() == [0, 1, 1, 1, 1]
    assert int(steps.verify_tokens.sum()) == 16
    assert int(steps.drafted_tokens.sum()) == 0


# -- gaps --------------------------------------------------------------------------------------------------------------------------------


def test_itl_per_token_and_per_emission() -> None:
    """13 tokens, three a step: of 12 gaps 8 are 0; a client that times its chunks sees the other 4."""
    result = Result(served([13], Drafting(3, right=2)))
    latency = result.summary_dict()["latency"]["all"]
    assert (latency["itl_s"]["count"], latency["itl_emission_s"]["count"]) == (12, 4)
    assert latency["itl_s"]["p50"] == 0
    assert latency["itl_s"]["max"] == latency["itl_emission_s"]["max"]
    assert latency["itl_s"]["mean"] * 12 == pytest.approx(latency["itl_emission_s"]["mean"] * 4)
    assert latency["itl_s"]["mean"] == pytest.approx(latency["tpot_s"]["mean"])
    assert value_of(result, quantity("itl_emission", "p50")) == latency["itl_emission_s"]["p50"]
    assert value_of(result, quantity("itl_emission", "p25")) == pytest.approx(min(np.diff(np.unique(token_times(result.records)))))
    assert value_of(result, quantity("speculation.acceptance_length")) == 3.0


def token_times(records: RunRecords) -> np.ndarray:
    e = records.emissions
    assert (e.last_tick < e.first_tick).all()
    return np.sort(np.repeat(e.prefill_end_s, e.at_once()))


# -- only in results with speculation ----------------------------------------------------------------------------------------------------


def test_a_run_without_speculation_has_nothing_of_it(tmp_path: Path) -> None:
    result = Result(served([13, 20], None))
    summary = result.summary_dict()
    assert "speculation" not in summary
    assert "itl_emission_s" not in summary["latency"]["all"]
    assert list(result.steps.columns) == [column.name for column in STEP_COLUMNS]
    assert value_of(result, quantity("itl_emission", "p99")) is None
    assert value_of(result, quantity("itl_emission", "p98")) is None
    assert value_of(result, quantity("speculation.wasted")) is None
    text = result.write(tmp_path / "out", plots=False, steps=True).joinpath("report.html").read_text()
    assert "cceptance" not in text
    assert "as clients see it" not in text


def test_tables_of_studies_have_its_columns_where_a_run_speculated() -> None:
    names = {"acceptance_length", "itl_emission_p99_s"}
    rows = Rows(2)
    rows.put(0, dict.fromkeys(names), None)
    assert not names & rows.columns().keys()
    rows.put(1, {"acceptance_length": 2.5, "itl_emission_p99_s": None}, None)
    assert names & rows.columns().keys() == {"acceptance_length"}


def test_terminal_page_and_files_show_it(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    result = Result(served([13, 20], Drafting(3, right=2)))
    out = result.write(tmp_path / "out", plots=True, steps=True, timeline=True)
    console = Console(file=io.StringIO(), width=140)
    from simserve.report.terminal import summary_table

    console.print(summary_table(result))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    page = (out / "report.html").read_text()
    for words in (
        "Acceptance length",
        "Tokens per step of a request",
        "Drafts accepted",
        "Wasted tokens",
        "ITL per emission",
    ):
        assert words in shown, words
        assert words in page, words
    assert "as clients see it" in page
    steps = pq.read_table(out / "steps.parquet")
    assert steps.column_names == [column.name for column in (*STEP_COLUMNS, *SPECULATION_COLUMNS)]
    assert steps.to_pandas().equals(result.steps)
    assert json.loads((out / "summary.json").read_text())["speculation"]["acceptance_length"] > 2
    assert '"drafted_tokens":' in (out / "timeline.json").read_text()


def test_tokens_of_a_step_and_of_a_second_hold_the_accepted_ones() -> None:
    """What other figures take from the records: tokens of a step, output tokens over time, attended tokens."""
    from simserve.report.itl import TokenGaps, tokens_between
    from simserve.report.series import bin_edges, output_tokens_in_bins

    records = served([13, 20, 9], Drafting(3), gap_s=2.0)
    result = Result(records)
    total = 13 + 20 + 9
    gaps = TokenGaps.of(records)
    assert output_tokens_in_bins(records, gaps, bin_edges(records)).sum() == total
    assert tokens_between(records, gaps, 0.0, records.end_s) == total
    steps = result.steps
    new = steps.decode_requests + steps.drafted_tokens + steps.prefill_tokens
    seconds = steps.end_s - steps.start_s
    mean = float((new * seconds).sum() / seconds.sum())
    stepwise = Result(served([13, 20, 9], Drafting(3), gap_s=2.0, fast_forward=False))
    assert stepwise.summary_dict()["utilisation"]["step_tokens_mean"] == pytest.approx(mean)
    assert stepwise.steps.drop(columns=["kv_blocks"]).equals(steps.drop(columns=["kv_blocks"]))


def test_steps_written_in_pieces_are_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    from simserve.report import step_file

    records = served([13, 20, 9], Drafting(3), gap_s=2.0)
    whole = Result(records).steps
    monkeypatch.setattr(step_file, "_ROWS_PER_GROUP", 3)
    assert len(list(step_file.step_parts(records))) > 2
    assert Result(records).steps.equals(whole)


def test_energy_counts_the_tokens_and_pairs_that_were_computed() -> None:
    from simserve.report.energy import _totals

    records = served([13, 20, 9], Drafting(3), gap_s=2.0)
    steps, tokens, keys, pairs = _totals(records.lanes)
    assert float((steps * tokens).sum()) == records.counters["computed_tokens"]
    assert float(pairs.sum()) == records.counters["attended_pairs"]
    by_step = Result(records).steps
    decoding = by_step[by_step.prefill_tokens == 0]
    assert float((steps * keys).sum()) >= decoding.context_tokens.sum()  # a step reads the keys of a request once, whatever it drafts
    assert float((steps * keys).sum()) < pairs.sum()


# -- the timeline ------------------------------------------------------------------------------------------------------------------------


def phases_of(records: RunRecords, folder: Path) -> list[list[tuple[str, float, float]]]:
    """By request, (name, begin, end) of its phases in the timeline, in microseconds."""
    write_timeline(records, folder / "t.json")
    found: list[list[tuple[str, float, float]]] = [[] for _ in range(len(records.table))]
    begun: dict[str, tuple[str, float]] = {}
    for event in json.loads((folder / "t.json").read_text())["traceEvents"]:
        if event.get("cat") != "request" or event["name"] == "request" or event["ph"] not in "be":
            continue
        row = event["id2"]["local"]
        if event["ph"] == "b":
            begun[row] = event["name"], event["ts"]
        else:
            found[int(row)].append((*begun[row], event["ts"]))
    return found


@pytest.mark.parametrize("drafting", [Drafting(3, right=2), Drafting(3, misses=2), Drafting(3, quiet_at=2), Drafting(1, right=0)])
def test_steps_that_follow_each_other_are_one_decode_phase(drafting: Drafting, tmp_path: Path) -> None:
    """Nothing preempts these requests, so each decodes from its first token to its last."""
    records = served([13, 40, 22], drafting, gap_s=0.5)
    assert not records.requests.preemptions.any()
    for row, phases in enumerate(phases_of(records, tmp_path)):
        assert [name for name, _, _ in phases if name != "queued"] == ["prefill", "decode"]
        decode = phases[-1]
        assert decode[1:] == (round(1e6 * records.requests.first_token_s[row]), round(1e6 * records.requests.finish_s[row]))


def test_slices_of_a_policy_are_one_decode_phase_too(tmp_path: Path) -> None:
    (phases,) = phases_of(slices.serve([13], slices.Every(2), k=3), tmp_path)
    assert [name for name, _, _ in phases if name != "queued"] == ["prefill", "decode"]


@pytest.mark.parametrize("more", [{}, {"preemption": "swap", "host_kv_blocks": 100}])
def test_a_phase_says_preempted_for_each_time_that_a_request_was(more: dict[str, Any], tmp_path: Path) -> None:
    records = served([60, 60, 60, 60], Drafting(3, right=1), instance={"kv_blocks": 40, **more})
    preemptions = records.requests.preemptions
    assert preemptions.sum() >= 2
    for row, phases in enumerate(phases_of(records, tmp_path)):
        assert [name for name, _, _ in phases].count("preempted") == preemptions[row]
        assert all(one[2] == after[1] for one, after in itertools.pairwise(phases))
