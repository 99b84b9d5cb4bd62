"""What the terminal and the pages say in words: numbers with their units, one and several, sentences on traces and clusters, by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from simserve.catalogue import FIGURES as CATALOGUE
from simserve.catalogue import METRICS, SHOWN_FIGURES
from simserve.report.cluster_rows import cluster_facts, cluster_rows
from simserve.report.compare.comparison import _row
from simserve.report.provenance import compared, from_python, operators, simulated, unvalidated
from simserve.report.rows import (
    FIGURES,
    Figure,
    engine,
    interval_figures,
    interval_note,
    interval_rows,
    milliseconds,
    number,
    outcome,
    stack,
    value_at,
    with_unit,
)  # fmt: skip
from simserve.report.workload_notes import trace_line, workload_notes

# ---- numbers ----


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (0, "0"), (0.0, "0"), (1.0, "1"), (-3.0, "-3"), (1.234, "1.23"), (999.4, "999"), (999.96, "1e+03"), (1000.4, "1,000"),
        (-1234.5, "-1,234"), (999_999.4, "999,999"), (1e6, "1.000e+06"), (-2.5e7, "-2.500e+07"), (1e-4, "0.0001"), (9.96e-5, "1.0e-04"),
        (-2e-5, "-2.0e-05"),
    ],
)  # fmt: skip
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(None, "%", "–"), (0.1234, "%", "12.3 %"), (2.5e9, "B", "2.5 GB"), (3.0, "J", "3 J"), (3.0, "", "3")],
)
def test_numbers_with_units(value: float | None, unit: str, text: str) -> None:
    assert with_unit(value, unit) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"), (10.0, "10.0 s"), (9.99, "9,990 ms"), (-12.0, "-12.0 s"), (1.0, "1,000 ms"), (0.9994, "999.4 ms"), (-1.5, "-1,500 ms"),
        (1e-3, "1.0 ms"), (9.99e-4, "0.999 ms"), (-0.0123, "-12.3 ms"), (0.0, "0 ms"),
    ],
)  # fmt: skip
def test_seconds(seconds: float | None, text: str) -> None:
    assert milliseconds(seconds) == text


def test_what_lies_at_a_path() -> None:
    tree = {"a": {"b": 3, "yes": True, "word": "x"}, "c": 1.5}
    assert value_at(tree, ("a", "b")) == 3.0 and value_at(tree, ("c",)) == 1.5
    assert value_at(tree, ("a", "yes")) is value_at(tree, ("a", "word")) is value_at(tree, ("a",)) is value_at(tree, ("c", "d")) is None
    assert value_at(tree, ("z", "d")) is None


NEITHER = {
    "busy_fraction", "compute_utilisation", "batch_requests_mean", "kv_used_mean", "kv_used_max", "mean_power_w",
    "expert_bytes_per_request", "drafted_tokens", "accepted_tokens", "wasted_tokens", "starts", "nodes_mean",
}  # fmt: skip
"""Figures that are neither good nor bad: more of it comes with more of another."""


def test_figures_that_are_neither_better_nor_worse() -> None:
    better = {known.column: figure.better for known, figure in zip(SHOWN_FIGURES, FIGURES, strict=True)}
    assert {name for name, way in better.items() if not way} == NEITHER
    lower = {"waiting_mean", "waiting_max", "preemptions", "joules_per_output_token", "usd_per_hour", "usd_per_million_output_tokens"}
    lower |= {"usd_per_million_input_tokens", "kwh_per_million_output_tokens", "gco2_per_million_output_tokens"}
    lower |= {"usd", "device_hours", "idle_device_hours", "booting_device_hours", "slo_missed", "slo_missed_fraction"}
    lower |= {"cold_requests", "cold_wait_mean_s", "cold_wait_max_s"}
    assert {name for name, way in better.items() if way == "lower"} == lower
    judged = {"acceptance_length", "tokens_per_step", "acceptance_rate", "hit_rate", "goodput_per_s", "attainment", "requests_per_s"}
    assert {name for name, way in better.items() if way == "higher"} == judged | {"output_tokens_per_s", "total_tokens_per_s"}


def test_what_is_shown_only_where_a_run_speculates_and_what_has_a_band() -> None:
    drafts = {"acceptance_length", "tokens_per_step", "acceptance_rate", "drafted_tokens", "accepted_tokens", "wasted_tokens"}
    assert {known.column for known in CATALOGUE if known.speculative} == drafts
    rates = {"attainment", "goodput_per_s", "requests_per_s", "output_tokens_per_s", "total_tokens_per_s"}
    assert {known.column for known in CATALOGUE if known.banded} == rates
    own = [metric for metric in METRICS if metric.formula is None]
    assert {metric.name for metric in own if metric.headline} == {"ttft_s", "itl_s", "tpot_s", "e2e_s"}
    assert {metric.name for metric in own if not metric.banded} == {"queueing_s", "itl_max_s", "itl_emission_s"}
    assert {metric.name for metric in own if metric.speculative} == {"itl_emission_s"} and all(metric.more_is_worse for metric in own)


# ---- what was simulated ----


def group(cost: dict[str, Any], devices: int = 1, instances: int = 1) -> dict[str, Any]:
    return {"cost": cost, "devices": devices, "policy": "sarathi", "instances": ["i"] * instances}


@pytest.mark.parametrize(
    ("group", "line"),
    [
        (group({}), "1 instance on 1 device: sarathi"),
        (group({}, 2, 3), "3 instances, each on 2 devices: sarathi"),
        (group({"model": "m", "hardware": {"name": "h", "version": "2"}}), "1 instance on 1 device: m, h 2, sarathi"),
        (group({"model": {"name": "m"}, "parallel": {"tp": 2, "pp": 1, "ep": 0}}), "1 instance on 1 device: m, tp=2 ep=0, sarathi"),
        (group({"engine": "e"}), "1 instance on 1 device: e, sarathi"),
        (group({"engine_profile": {"engine": "vLLM", "versions": "0.9"}, "engine": "e"}), "1 instance on 1 device: vLLM 0.9, sarathi"),
        (group({"engine_profile": {"engine": "vLLM", "versions": ""}}), "1 instance on 1 device: vLLM, sarathi"),
        (group({"model": "", "hardware": None}), "1 instance on 1 device: sarathi"),
        (group({"draft": {"method": "eagle", "steps": 1}}), "1 instance on 1 device: sarathi, eagle drafting 1 token"),
        (group({"draft": {"method": "eagle", "steps": 3, "top_k": 1}}), "1 instance on 1 device: sarathi, eagle drafting 3 tokens"),
        (
            group({"draft": {"method": "eagle", "steps": 3, "top_k": 2}}),
            "1 instance on 1 device: sarathi, eagle drafting 3 tokens in a tree of top-k 2",
        ),
        (group({"draft": {"steps": 3}}), "1 instance on 1 device: sarathi"),
        (group({"draft": "eagle"}), "1 instance on 1 device: sarathi"),
    ],
)
def test_a_line_for_each_group_of_instances(group: dict[str, Any], line: str) -> None:
    assert stack({"simulated": [group]}) == [line]


def test_the_trace_has_the_last_line() -> None:
    read = {"source": "trace", "file": "t.csv", "read_as": {"summary": "burstgpt, times in s"}}
    assert stack({"simulated": [], "workload": {"provenance": read}}) == ["trace t.csv, read as burstgpt, times in s"]
    assert trace_line({**read, "source": "generated"}) is None and trace_line({"source": "trace"}) is None
    assert engine({}) == "" and engine({"engine": {"name": "n", "version": "1"}}) == "n 1"


def test_equal_instances_are_one_group() -> None:
    def info(name: str, **changes: Any) -> Any:
        same = {"policy": "p", "devices": 1, "kv_blocks": 9, "block_tokens": 4, "max_seqs": 2, "peak_flops_per_s": 1.0, "cost": {"a": 1}}
        return SimpleNamespace(name=name, **{**same, **changes})

    records: Any = SimpleNamespace(instances=[info("a"), info("b", devices=2), info("c"), info("d", cost={"a": 2})])
    assert [each["instances"] for each in simulated(records)] == [["a", "c"], ["b"], ["d"]]
    assert simulated(records)[1]["devices"] == 2 and simulated(records)[2]["cost"] == {"a": 2}


# ---- what it rests on ----


def resting_on(*costs: dict[str, Any], **more: Any) -> Any:
    return SimpleNamespace(instances=[SimpleNamespace(cost=cost) for cost in costs], lanes=[], **more)


@pytest.mark.parametrize(
    ("cost", "names"),
    [
        ({}, []),
        ({"validated": False}, ["cost model"]),
        ({"validated": True, "gemm": {"validated": False}}, ["gemm"]),
        ({"gemm": {"validated": False, "name": "GEMM", "operator": "o"}}, ["GEMM"]),
        ({"gemm": {"validated": False, "operator": "o"}}, ["o"]),
        ({"a": {"b": [{"validated": False}, {"c": {"validated": False}}]}}, ["a.b", "a.b.c"]),
        ({"unvalidated": ["x", {"name": "y"}, {"operator": "z"}, {"other": 1}]}, ["x", "y", "z", "{'other': 1}"]),
        ({"unvalidated": True}, ["cost model"]),
        ({"host": {"unvalidated": True}}, ["host"]),
        ({"host": {"unvalidated": False}}, []),
        ({"a": {"unvalidated": ("x", "x")}, "b": {"unvalidated": ["x", "w"]}}, ["x", "w"]),
    ],
)
def test_what_was_never_compared_with_a_measurement(cost: dict[str, Any], names: list[str]) -> None:
    assert unvalidated(resting_on(cost)) == names
    assert unvalidated(resting_on(cost, cost)) == names


def test_operators_and_their_errors() -> None:
    gemm = {"operator": "gemm", "kernel": "k", "dtype": "bf16", "backend": "vllm", "points": 1234}
    rows = operators({"operators": [{**gemm, "check_mape_percent": {"check": 3.14, "other": 10.0}}, {"name": "no operator"}, "text"]})
    assert rows == [("gemm k", "bf16", "vllm", "1,234", "3.1 % (check), 10.0 % (other)")]
    assert operators({"operators": [{"operator": "gemm"}]}) == [("gemm", "", "", "–", "not stated")]
    assert operators({"operators": [{"operator": "gemm", "check_mape_percent": 2.5, "points": "many"}]}) == [("gemm", "", "", "–", "2.5 %")]
    assert operators({}) == []


def test_errors_on_measured_runs_are_said_once_with_what_they_are_of() -> None:
    metrics = {"ttft": {"median_percent": 9.6}, "itl": {"median_percent": 4.0}, "odd": 3, "none": {"median_percent": None}}
    runs = {"validated": True, "rows": 12, "name": "runs of vLLM", "metrics": metrics}
    said = "Median error on 12 measured runs of vLLM: itl 4 %, ttft 10 %."
    table: Any = {"emissions": SimpleNamespace(bursts=[])}
    assert compared(resting_on({"measured_runs": runs}, {"measured_runs": runs}, **table)) == [said]
    assert compared(resting_on({"measured_runs": {**runs, "validated": False}}, {"measured_runs": None}, {}, **table)) == []
    assert compared(resting_on({"measured_runs": {**runs, "metrics": {}}}, **table)) == []


def test_policy_objects_are_named_with_their_parameters() -> None:
    mine = {"policy": "python:here:Mine", "budget": 3}
    sections = {
        "instances": [{}, {"scheduler": mine}],
        "router": {"policy": "python:there:Ours", "x": 1, "refresh_s": 2, "decode_policy": "y"},
    }
    assert from_python({"cluster": sections}) == [
        {"key": "cluster.instances.1.scheduler", "class": "Mine", "module": "here", "parameters": {"budget": 3}},
        {"key": "cluster.router", "class": "Ours", "module": "there", "parameters": {"x": 1}},
    ]
    decode = {"router": {"policy": "random", "decode_policy": "python:a:B"}}
    assert [each["key"] for each in from_python({"cluster": decode})] == ["cluster.router.decode_policy"]
    assert from_python({}) == from_python({"cluster": {"instances": [{"scheduler": {"policy": "sarathi"}}]}}) == []


# ---- how it went ----


def test_how_the_requests_ended() -> None:
    counts = {"total": 1234, "completed": 1200, "rejected": 30, "failed": 0, "cancelled": 3, "unfinished": 1}
    said = outcome({"requests": counts, "window": {"run_s": 2345.67}})
    assert said == "1,234 requests: 1,200 completed, 30 rejected, 3 cancelled, 1 unfinished. 2,345.7 s simulated."


def test_bands_of_a_run() -> None:
    bands = {
        "low_quantile": 0.05, "high_quantile": 0.95, "draws": 20, "of": "other luck",
        "latency": {"all": {metric.name: {stat: [0.0412, 0.044] for stat in ("mean", "p50", "p90", "p95", "p99")} for metric in METRICS}},
        "rates": {"output_tokens_per_s": [900.0, 1100.0]}, "throughput": None,
    }  # fmt: skip
    bands["throughput"] = {"output_tokens_per_s": [900.0, 1100.0], "requests_per_s": None}
    bands["slo"] = {"all": {"attainment": [0.5, 0.75]}}
    assert interval_figures({"intervals": bands}) == [("Output tokens", "900 to 1,100 /s"), ("SLO attainment", "50.0 to 75.0 %")]
    assert interval_note({"intervals": bands}) == "Bands: 5 % to 95 % of 20 runs with other luck."
    assert interval_note({}) == "" and interval_rows({}) == [] and interval_figures({}) == []
    rows = dict(interval_rows({"intervals": bands}))
    assert rows["TTFT"] == ["41.2 to 44.0 ms"] * 5
    bands["latency"]["all"]["ttft_s"]["p50"] = [0.5, 12.0]  # type: ignore[index]
    bands["latency"]["all"]["ttft_s"]["p99"] = None  # type: ignore[index]
    assert dict(interval_rows({"intervals": bands}))["TTFT"] == ["41.2 to 44.0 ms", "500.0 ms to 12.0 s", *["41.2 to 44.0 ms"] * 2, "–"]


# ---- clusters ----


def a_cluster(**changes: Any) -> dict[str, Any]:
    quiet = {
        "instances": 3, "instances_mean": 3.0, "serving": {"min": 3, "max": 3, "end": 3}, "failures": 0, "availability": 1.0,
        "transferred_tokens": 0, "migration": None,
    }  # fmt: skip
    return {"cluster": {**quiet, **changes}, "requests": {"reasons": {"failed": {"its instance died": changes.pop("lost", 0)}}}}


def test_a_cluster_in_which_nothing_happened() -> None:
    assert cluster_facts(a_cluster()) == [] and cluster_facts({}) == [] and cluster_rows({}) == []


@pytest.mark.parametrize(
    ("changes", "name", "said"),
    [
        (
            {"serving": {"min": 2, "max": 3, "end": 2}, "instances_mean": 2.5},
            "Instances paid for", "2.5 of 3 on average; 2 to 3 served at a time, 2 at the end",
        ),
        ({"serving": {"min": 2, "max": 2, "end": 2}}, "Instances paid for", "3 of 3 on average; 2 to 2 served at a time, 2 at the end"),
        ({"failures": 2, "availability": 0.987}, "Instance failures", "2; availability 98.7 %"),
        ({"failures": 1, "lost": 1}, "Instance failures", "1; availability 100.0 %; 1 request failed with them"),
        ({"failures": 1, "lost": 1200}, "Instance failures", "1; availability 100.0 %; 1,200 requests failed with them"),
        ({"transferred_tokens": 12345}, "Prefill to decode", "12,345 tokens transferred"),
        ({"migration": {"begun": 0, "done": 0}}, "Live migrations", "none"),
        (
            {"migration": {"begun": 3, "done": 3, "moved_tokens": 1500, "pause_s": {"mean": 0.01, "max": 0.02}, "given_up": {}}},
            "Live migrations", "3 done, 1,500 tokens copied; pause 10.0 ms on average, 20.0 ms at most",
        ),
        (
            {"migration": {"begun": 3, "done": 1, "moved_tokens": 5, "pause_s": None, "given_up": {"it ended": 2}}},
            "Live migrations", "1 of 3 done, 5 tokens copied; 2 given up: it ended",
        ),
    ],
)  # fmt: skip
def test_what_happened_in_a_cluster(changes: dict[str, Any], name: str, said: str) -> None:
    assert cluster_facts(a_cluster(**changes)) == [(name, said)]


def instances(n: int, **changes: Any) -> dict[str, Any]:
    own = {
        "name": "i", "role": "decode", "prefills": 1, "requests": 1000, "output_tokens": 5000, "served_s": 4.0,
        "moved_in": 2, "moved_out": 1, **changes,
    }  # fmt: skip
    use = {"policy": "p", "devices": 1, "busy_fraction": 0.5, "kv_used_mean": 0.25, "kv_used_max": 0.75}
    each = [{**own, "name": f"i{k}"} for k in range(n)]
    return {
        "cluster": {"each": each, "migration": {"done": 0}},
        "utilisation": {"instances": [{**use, "kv_used_max": 0.5 + k / 10} for k in range(n)]},
        "window": {"run_s": 8.0},
    }


def test_a_row_for_each_instance_or_for_equal_ones_together() -> None:
    row = ["decode", "1", "1,000", "5,000", "50.0 %", "50.0 %", "25.0 %"]
    assert cluster_rows(instances(2)) == [["i0", *row, "50.0 %"], ["i1", *row, "60.0 %"]]
    assert len(cluster_rows(instances(2), single=2)) == 2
    together = [["2 x p", "decode", "2", "2,000", "10,000", "50.0 %", "50.0 %", "25.0 %", "60.0 %"]]
    assert cluster_rows(instances(2), single=1) == together
    moved = instances(2, role="")
    moved["cluster"]["migration"]["done"] = 1
    assert [line[1:2] + line[-2:] for line in cluster_rows(moved)] == [["–", "2", "1"]] * 2
    assert cluster_rows(moved, single=1)[0][-2:] == ["4", "2"]
    unused = instances(1)
    unused["utilisation"]["instances"][0].update(busy_fraction=None, kv_used_mean=None, kv_used_max=None)
    unused["window"]["run_s"] = 0.0
    assert cluster_rows(unused)[0][-4:] == ["–"] * 4


# ---- traces ----


def notes(provenance: dict[str, Any], *, caching: bool = True, match: str = "block", **workload: Any) -> list[str]:
    kv = {"prefix_caching": caching, "prefix_match": match}
    return workload_notes(provenance, {"cluster": {"instances": [{}, {"kv": kv}]}, "workload": workload})


def test_sentences_on_a_trace() -> None:
    assert notes({"notes": ["two columns are not used", "is this so?"]}) == ["Trace: two columns are not used.", "Trace: is this so?"]
    unknown = "Prefix caching is on, but the trace does not say what its prompts contain: no prompt tokens were found in a cache."
    assert notes({"read_as": {"summary": "s"}}) == [unknown] and notes({"read_as": {"summary": "s"}}, caching=False) == []
    assert notes({"read_as": {"block_tokens": 16}}) == [] and notes({}) == []
    assert "workload.lengths replaces the prompts" in notes({"read_as": {"block_tokens": 16}}, lengths={"prompt": {}})[0]
    assert "prefix_block_tokens is not stated" in notes({}, burstgpt_like={"multi_turn": True})[0]
    assert notes({}, burstgpt_like={"multi_turn": True, "prefix_block_tokens": 16}) == notes({}, burstgpt_like={"multi_turn": False}) == []
    coarse = (
        "Prompts are matched token by token, but the trace tells what they contain in blocks of 16 tokens: matches end with such a block,"
        " or where a prompt ends."
    )
    assert notes({"read_as": {"block_tokens": 16}}, match="token") == [coarse]
    assert notes({"read_as": {"block_tokens": 2}}, match="token") and notes({"read_as": {"block_tokens": 1}}, match="token") == []
    assert notes({}, match="token") == []


# ---- comparisons ----


@pytest.mark.parametrize(
    ("unit", "better", "base", "value", "change", "verdict"),
    [
        ("s", "lower", 200.0, 201.0, "+0.5 %", "worse"), ("s", "lower", 1.0, 1.0049, "+0.5 %", ""),
        ("s", "lower", 1.0, 0.99, "-1.0 %", "better"),
        ("s", "higher", 1.0, 0.99, "-1.0 %", "worse"), ("", "", 1.0, 2.0, "+100.0 %", ""), ("", "higher", 1.0, 9.99, "+899.0 %", "better"),
        ("", "higher", 1.0, 10.0, "x 10", "better"), ("", "higher", 0.0, 3.0, "from 0", "better"), ("", "higher", 0.0, 0.0, "+0.0 %", ""),
        ("", "lower", 0.0, 3.0, "from 0", "worse"), ("%", "higher", 0.5, 0.506, "+0.6 pt", "better"),
        ("%", "higher", 0.5, 0.504, "+0.4 pt", ""),
        ("%", "lower", 0.0, 0.01, "+1.0 pt", "worse"), ("s", "lower", None, 1.0, "", ""), ("s", "lower", 1.0, None, "", ""),
        ("%", "lower", 0.1, 0.09996, "+0.0 pt", ""),
    ],
)  # fmt: skip
def test_a_difference_and_whether_it_is_for_the_better(
    unit: str, better: Any, base: float | None, value: float | None, change: str, verdict: str
) -> None:
    row = _row(Figure(("x",), "X", unit, better), [base, value])
    assert row.changes == ("", change) and row.verdicts == ("", verdict)
