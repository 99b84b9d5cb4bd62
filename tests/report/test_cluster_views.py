"""What a user of a cluster is shown: each instance with its role and work, who came and went, died and moved."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from trace_format import problems

from simserve import api
from simserve.report.cluster_rows import cluster_facts, cluster_head, cluster_rows
from simserve.report.compare.comparison import compare
from simserve.report.html import run_html
from simserve.report.result import Result
from simserve.report.terminal import summary_table

LENGTHS = {
    "prompt": {"kind": "fixed", "tokens": 300},
    "output": {"kind": "lognormal", "median_tokens": 100, "sigma": 0.8, "max_tokens": 512},
}


def experiment(instances: list[dict[str, Any]], count: int = 300, rate: float = 30, **cluster: Any) -> dict[str, Any]:
    return {
        "name": "cluster",
        "model": "llama-2-7b",
        "hardware": "a100-sxm-80gb",
        "engine": "vllm-v0",
        "cluster": {"instances": instances, **cluster},
        "workload": {"arrivals": {"kind": "poisson", "rate_per_s": rate}, "lengths": LENGTHS, "count": count},
    }


@pytest.fixture(scope="module")
def moving() -> Result:
    """Two instances short of memory, and two more that a controller starts; one dies. Requests move while they decode."""
    return api.run(
        experiment(
            [{"count": 2, "max_count": 4, "boot_s": 1.0, "kv": {"blocks": 500}}],
            router={"policy": "freeness"},
            controllers=[{"policy": "llumnix-migration"}, {"policy": "llumnix-scaling", "interval_s": 2.0}],
            failures={"times": [{"at_s": 3.0, "instance": 1}], "restart_s": 2.0, "rule": "fail"},
        )
    )


@pytest.fixture(scope="module")
def pools() -> Result:
    """Three prefill and nine decode instances."""
    return api.run(experiment([{"role": "prefill", "count": 3}, {"role": "decode", "count": 9}], count=120))


def printed(result: Result, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(summary_table(result))
    return console.export_text()


def test_the_work_of_the_instances_adds_up_to_that_of_the_run(moving: Result) -> None:
    summary = moving.summary_dict()
    each = summary["cluster"]["each"]
    assert sum(one["requests"] for one in each) == summary["requests"]["completed"]
    assert sum(one["served_s"] for one in each) == pytest.approx(summary["cluster"]["served_s"])
    moves = summary["cluster"]["migration"]["done"]
    assert sum(one["moved_in"] for one in each) == sum(one["moved_out"] for one in each) == moves > 0
    died = summary["requests"]["reasons"]["failed"]["its instance died"]
    assert died + summary["requests"]["completed"] == summary["requests"]["total"] and died > 0


def test_how_many_served_at_a_time() -> None:
    """Of two instances one dies at 1 s and serves again at 3 s, in a run of more than 5 s."""
    failures = {"times": [{"at_s": 1.0, "instance": 1}], "restart_s": 2.0}
    summary = api.run(experiment([{"count": 2}], rate=20, failures=failures)).summary_dict()
    assert summary["window"]["run_s"] > 5
    assert summary["cluster"]["serving"] == {"min": 1, "max": 2, "end": 2}
    first, second = (one["served_s"] for one in summary["cluster"]["each"])
    assert first == pytest.approx(summary["window"]["run_s"]) and second == pytest.approx(first - 2.0)


def test_tokens_count_where_they_were_made(pools: Result) -> None:
    """The prefill pool makes each request's first token, the decode pool all others."""
    summary = pools.summary_dict()
    each = summary["cluster"]["each"]
    assert [one["role"] for one in each] == ["prefill"] * 3 + ["decode"] * 9
    assert sum(one["output_tokens"] for one in each[:3]) == sum(one["prefills"] for one in each[:3]) == 120
    assert sum(one["output_tokens"] for one in each) == int(pools.records.requests.generated_tokens.sum())
    assert [one["prefills"] for one in each[3:]] == [0] * 9 and sum(one["requests"] for one in each[3:]) == 120


def test_many_equal_instances_are_one_row_of_the_terminal_and_each_a_row_of_the_report(pools: Result) -> None:
    summary = pools.summary_dict()
    assert [row[0] for row in cluster_rows(summary, 8)] == ["3 x vllm-v0", "9 x vllm-v0"]
    assert len(cluster_rows(summary)) == 12
    page = run_html(summary, [])
    assert "<h2>Cluster</h2>" in page and page.count(">decode</td>") == 9
    assert dict(cluster_facts(summary))["Prefill to decode"].endswith("tokens transferred")


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_table_fits_and_keeps_its_figures_whole(moving: Result, width: int) -> None:
    text = printed(moving, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for row in cluster_rows(moving.summary_dict()):
        assert any(line.split()[0:1] == [row[0]] and row[3] in line.split() for line in text.splitlines()), row
    assert "Instance failures: 1; availability" in " ".join(text.split())
    head = next(line.split() for line in text.splitlines() if line.split()[:1] == ["instance"])
    assert ("served" in head) == (width > 80)


def test_a_single_instance_has_no_cluster_part() -> None:
    result = api.run(experiment([{}], count=20))
    summary = result.summary_dict()
    assert summary["cluster"] is None
    assert cluster_rows(summary) == [] and cluster_facts(summary) == []
    assert "<h2>Cluster</h2>" not in run_html(summary, []) and "Live migrations" not in printed(result, 80)


def test_the_timeline_of_a_migrating_failing_run_opens(moving: Result, tmp_path: Path) -> None:
    moving.write(tmp_path, timeline=True, plots=False, report=False)
    events = json.loads((tmp_path / "timeline.json").read_text())["traceEvents"]
    assert problems(events) == []
    assert {"off", "booting", "up"} <= {event["name"] for event in events if event["ph"] == "X"}
    done = moving.summary_dict()["cluster"]["migration"]["done"]
    assert sum(event["ph"] == "b" and event["name"] == "migration" for event in events) == done


def test_the_head_names_every_column(moving: Result, pools: Result) -> None:
    for summary in (moving.summary_dict(), pools.summary_dict()):
        assert {len(row) for row in cluster_rows(summary)} == {len(cluster_head(summary))}


def test_pools_on_the_same_machines_rest_on_the_same_profile(pools: Result) -> None:
    """Two groups of instances against one are a difference of the cluster, not of what its figures are calibrated with."""
    mixed = api.run(experiment([{"count": 12}], count=120))
    notes = " ".join(compare([pools, mixed]).notes)
    assert "profiles" not in notes
    other = api.run(experiment([{"count": 12, "hardware": "h100-sxm-80gb"}], count=120))
    assert "other profiles or models" in " ".join(compare([pools, other]).notes)
