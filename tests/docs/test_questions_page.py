"""docs/questions.md: every command of the page runs on the page's own files, and says what the page says of it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simserve.cli import main
from tests.docs.blocks import ROOT, blocks

PAGE = ROOT / "docs" / "questions.md"
COMMANDS = {
    heading: shlex.split(block.text)[1:]
    for block in blocks(PAGE)
    if block.language == "bash"
    for heading in [next(line[3:] for line in reversed(PAGE.read_text().splitlines()[: block.line - 1]) if line.startswith("## "))]
}


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], Any]:
    """Runs the command of a question, in a folder with the page's files, and gives what it prints as JSON."""
    for block in blocks(PAGE):
        if block.title:
            (tmp_path / block.title).write_text(block.text)
    monkeypatch.chdir(tmp_path)

    def answer(question: str) -> Any:
        (command,) = [command for heading, command in COMMANDS.items() if heading.startswith(question)]
        own = {"run": ["--no-plots", "--no-report"], "validate": ["--no-cache"], "sweep": ["--jobs", "1"], "plan": ["--jobs", "1"]}.get(
            command[0], []
        )
        quiet = [] if command[0] == "validate" else ["--quiet"]
        capsys.readouterr()
        assert main([*command, "--json", *quiet, *own]) == 0
        return json.loads(capsys.readouterr().out)

    return answer


def test_there_is_a_command_for_every_question() -> None:
    headings = [line[3:] for line in PAGE.read_text().splitlines() if line.startswith("## ")]
    assert len(headings) == 14 and list(COMMANDS) == headings


@pytest.mark.parametrize("question", ["How many GPUs", "Tensor parallelism or replicas", "Prefill and decode apart"])
def test_the_cheapest_plan_holds_and_cheaper_ones_say_what_breaks_them(ask: Callable[[str], Any], question: str) -> None:
    found = ask(question)
    plans = {plan["plan"]: plan for plan in found["plans"]}
    best = plans[found["best"]]
    assert best["fate"] == "meets the SLO"
    cheaper = [plan for plan in found["plans"] if plan["usd_per_hour"] < best["usd_per_hour"]]
    assert cheaper and all(plan["why"] and plan["fate"] != "meets the SLO" for plan in cheaper)


def test_what_to_type_is_the_engines_line_and_objects_of_kubernetes(ask: Callable[[str], Any]) -> None:
    found = ask("What do I type")
    (command,) = found["commands"]
    assert found["version"] == "0.11.0" and command["text"].startswith("vllm serve meta-llama/Llama-3.1-8B-Instruct")
    assert "vllm:num_requests_running" in Path("out/deploy/kubernetes.yaml").read_text()


def test_half_the_bytes_of_a_token_hold_more_of_them(ask: Callable[[str], Any]) -> None:
    rows = {
        (row["model.options.kv_bits"], row["engine.gpu_memory_utilization"]): row for row in ask("How many concurrent requests")["rows"]
    }
    assert rows[8, 0.3]["attainment"] > rows[16, 0.3]["attainment"] < rows[16, 0.9]["attainment"]


def test_few_slots_wait_and_small_budgets_smooth_the_gaps(ask: Callable[[str], Any]) -> None:
    rows = {(row["engine.max_num_seqs"], row["engine.max_num_batched_tokens"]): row for row in ask("Which max_num_seqs")["rows"]}
    assert rows[16, 2048]["ttft_p99_s"] > rows[64, 2048]["ttft_p99_s"] > rows[256, 2048]["ttft_p99_s"]
    assert rows[256, 512]["tpot_p99_s"] < rows[256, 8192]["tpot_p99_s"] and rows[256, 512]["ttft_p99_s"] > rows[256, 8192]["ttft_p99_s"]


def test_a_queue_is_seen_too_late(ask: Callable[[str], Any]) -> None:
    rows = ask("Which metric")["rows"]
    held = {row["cluster.controllers"]: row["attainment"] for row in rows}
    (queue,) = [held[key] for key in held if '"waiting"' in key]
    assert all(held[key] > queue for key in held if '"running"' in key or '"kv_usage"' in key)


def test_scaling_to_nothing_waits_for_nodes_and_saves_less_the_longer_they_take(ask: Callable[[str], Any]) -> None:
    rows = {
        (row["cluster.node_pools.0.provision_s"], json.loads(row["cluster.controllers"])[0]["policy"]): row
        for row in ask("What does cold start cost")["rows"]
    }
    keda, forecast = ([rows[seconds, policy] for seconds in (0, 60, 240)] for policy in ("keda", "forecast"))
    waits = [row["cold_wait_max_s"] for row in keda]
    assert waits[0] >= 60 and waits[1] == pytest.approx(waits[0] + 60) and waits[2] == pytest.approx(waits[0] + 240)
    assert all(row["cold_wait_max_s"] is None and row["slo_missed"] < one["slo_missed"] for row, one in zip(forecast, keda, strict=True))
    saved = [one["usd"] - row["usd"] for row, one in zip(keda, forecast, strict=True)]
    assert saved[0] > saved[1] > saved[2]
    assert all(row["device_hours"] > row["idle_device_hours"] + row["booting_device_hours"] for row in rows.values())


def test_slow_links_are_heard_in_the_longest_gap(ask: Callable[[str], Any]) -> None:
    rows = {row["cluster.network.bytes_per_s"]: row for row in ask("What does KV transfer add")["rows"]}
    assert rows[1e9]["itl_longest_p50_s"] > rows[12.5e9]["itl_longest_p50_s"] > rows[50e9]["itl_longest_p50_s"]


def test_routing_by_prefix_finds_more_than_caching_alone(ask: Callable[[str], Any]) -> None:
    rows = {(row["engine.enable_prefix_caching"], row["cluster.router.policy"]): row for row in ask("What do prefix caching")["rows"]}
    ttft = {key: row["ttft_mean_s"] for key, row in rows.items()}
    assert ttft[True, "prefix-affinity"] < ttft[True, "round-robin"] < ttft[False, "round-robin"]


def test_drafting_gains_less_the_larger_the_batch(ask: Callable[[str], Any]) -> None:
    tpot = {
        (row["speculation.tokens"], row["workload.closed_loop.concurrency"]): row["tpot_mean_s"]
        for row in ask("Does speculation pay")["rows"]
    }
    assert tpot[0, 1] / tpot[3, 1] > tpot[0, 128] / tpot[3, 128]


def test_a_run_says_what_it_costs(ask: Callable[[str], Any]) -> None:
    found = ask("What do a million tokens cost")
    assert found["money"]["usd_per_million_output_tokens"] > 0 and found["energy"]["joules_per_output_token"] > 0


def test_a_measurement_lies_in_the_interval_or_not(ask: Callable[[str], Any]) -> None:
    rows = ask("Is my measurement normal")["intervals"]["rows"]
    assert len(rows) == 7 and all(row["low"] < row["predicted"] < row["high"] for row in rows)
    assert all(row["inside"] == (row["low"] <= row["measured"] <= row["high"]) for row in rows)


def test_those_that_are_served_beside_a_bounded_queue_wait_less(ask: Callable[[str], Any]) -> None:
    free, bounded = ask("What happens at overload")["rows"]
    assert free["completed_fraction"] == 1.0 > bounded["completed_fraction"]
    assert bounded["ttft_p99_s"] < free["ttft_p99_s"]
