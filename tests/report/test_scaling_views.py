"""Scaling as people see it: what is paid for by hand, the log as a table and a file, words, page, comparison, sweep, plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import simserve
from simserve.engine.provisioning import NodePoolSpec
from simserve.engine.records import RunRecords
from simserve.errors import OutputError
from simserve.report.compare.comparison import compare
from simserve.report.result import Result
from simserve.report.scaling.log import SCALING_COLUMNS
from simserve.report.scaling.paid import paid_summary, spare_device_s
from simserve.report.scaling.starts import cold_waits_s, scaling_summary
from simserve.report.scaling.words import clock, facts
from tests.engine.cluster_world import Orders, Says, serve, spec, work

POOL = NodePoolSpec("gpus", node_devices=4, min_nodes=0, max_nodes=4, provision_s=30.0, image_pull_s=10.0, unneeded_s=40.0, after_add_s=0.0)
BASE: dict[str, Any] = {
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "cluster": {
        "node_pools": [{"node_devices": 2, "max_nodes": 3, "provision_s": 20}],
        "instances": [{"count": 1, "max_count": 4, "start": {"engine_s": 5, "load_s": 10, "capture_s": 5}}],
        "controllers": [{"policy": "hpa", "targets": {"running": 8}, "metric_lag_s": 0}],
    },
    "workload": {
        "arrivals": {"kind": "poisson", "rate_per_s": 12.0},
        "lengths": {"prompt": {"kind": "fixed", "tokens": 400}, "output": {"kind": "fixed", "tokens": 150}},
        "count": 1200,
    },
    "slo": {"ttft_s": 0.2, "tpot_s": 0.011},
    "prices": {"usd_per_hour": {"h100-sxm-80gb": 3.6}},
}


def by_hand() -> RunRecords:
    """Instance 0 (2 devices) stands on node 0 from the beginning; instance 1 (4 devices) is ordered at 10.25 s, and drained at 80.25."""
    specs = [spec("a", devices=2), spec("b", devices=4, starts=False, boot_s=5.0)]
    orders = Orders((10.25, lambda c: c.start(1)), (80.25, lambda c: c.drain(1)))
    return serve(work([0.0, 200.0], [8, 8], [4, 4]), *specs, router=Says(0), controllers=(orders,), node_pools=(POOL,))


@pytest.fixture(scope="module")
def run() -> Result:
    return simserve.run(BASE)


def test_what_is_paid_for_by_hand() -> None:
    """Node 1: ordered at the scan at 20, there at 50, image at 60, serves at 65, empty from 80.25, seen at 90, removed at 130."""
    records = by_hand()
    end_s, paid = records.end_s, paid_summary(records)
    assert records.scaling is not None and records.scaling.nodes[1] == (0, 20.0, 50.0, 130.0)
    assert paid["device_hours"] * 3600 == pytest.approx(4 * end_s + 4 * 110)
    assert paid["booting_device_hours"] * 3600 == pytest.approx(4 * 30 + 4 * 15), "the node on order, then the start on its devices"
    busy = paid["busy_device_hours"] * 3600
    assert 0 < busy < 2 * end_s
    assert paid["idle_device_hours"] * 3600 == pytest.approx(4 * end_s + 440 - 180 - busy)
    assert spare_device_s(records) == [pytest.approx(2 * end_s + 4 * (130 - 50) - 4 * (80.25 - 50))]
    scaling = scaling_summary(records, {})
    assert scaling is not None
    assert scaling["stages_s"] == {"node": pytest.approx(39.75), "image": 10.0, "boot": 5.0}
    assert scaling["start_s"] == {"mean": pytest.approx(54.75), "max": pytest.approx(54.75)}
    assert scaling["nodes"]["mean"] == pytest.approx((end_s + 110) / end_s)
    assert (scaling["nodes"]["max"], scaling["nodes"]["ordered"], scaling["nodes"]["removed"]) == (2, 1, 1)


def test_without_pools_instances_are_paid_for() -> None:
    specs = [spec("a", devices=2), spec("b", devices=4, starts=False, boot_s=5.0)]
    orders = Orders((10.25, lambda c: c.start(1)), (80.25, lambda c: c.drain(1)))
    records = serve(work([0.0, 200.0], [8, 8], [4, 4]), *specs, router=Says(0), controllers=(orders,))
    paid = paid_summary(records)
    assert paid["device_hours"] * 3600 == pytest.approx(2 * records.end_s + 4 * 70)
    assert paid["booting_device_hours"] * 3600 == pytest.approx(4 * 5)


def test_requests_that_come_while_none_serves_wait_for_a_cold_start() -> None:
    """Two come in the pause, at 20 and 24 s; the instance ordered at 30.25 serves at 35.25."""
    orders = Orders((10.25, lambda c: c.drain(0)), (30.25, lambda c: c.start(0)))
    records = serve(work([0.0, 20.0, 24.0, 60.0], [8] * 4, [4] * 4), spec("a", boot_s=5.0), controllers=(orders,))
    assert cold_waits_s(records, {}).tolist() == [15.25, 11.25]
    scaling = scaling_summary(records, {})
    assert scaling is not None and scaling["cold_requests"] == 2
    assert scaling["cold_wait_s"] == {"mean": 13.25, "max": 15.25}
    assert scaling["waited_while_starting_s"] == pytest.approx(2 * 5.0)


def test_energy_counts_devices_of_nodes_that_nothing_stands_on(run: Result) -> None:
    """One instance of one device on a node of two against one of a single device: the idle power of the other half."""
    load = {**BASE["workload"], "count": 60}
    one = {**BASE, "workload": load, "cluster": {"instances": [{}]}}
    node = {**one, "cluster": {"instances": [{}], "node_pools": [{"node_devices": 2, "max_nodes": 1, "provision_s": 1}]}}
    alone, half = (simserve.run(each).summary_dict() for each in (one, node))
    idle_w = 2 * 0.5 * (half["energy"]["energy_j"] - alone["energy"]["energy_j"]) / alone["window"]["run_s"]
    assert 40 < idle_w < 150, "of one H100"
    assert half["money"]["usd"] == pytest.approx(2 * alone["money"]["usd"])
    assert half["paid"]["device_hours"] == pytest.approx(2 * alone["paid"]["device_hours"])


def test_the_money_is_that_of_the_nodes(run: Result) -> None:
    summary = run.summary_dict()
    paid = summary["paid"]
    assert summary["money"]["device_hours"] == pytest.approx(paid["device_hours"])
    assert summary["money"]["usd"] == pytest.approx(3.6 * paid["device_hours"])
    parts = [paid[f"{part}_device_hours"] for part in ("busy", "idle", "booting")]
    assert sum(parts) == pytest.approx(paid["device_hours"]) and min(parts) > 0


def test_the_log_is_a_table_in_order_of_time_that_adds_up(run: Result) -> None:
    log = run.scaling
    assert list(log.columns) == [name for name, _, _ in SCALING_COLUMNS]
    assert log["time_s"].is_monotonic_increasing and log["event"][0] == "begin"
    decisions = log[log["event"] == "decision"]
    assert set(decisions["controller"]) == {"hpa"} and set(decisions["metric"]) == {"running"} and set(decisions["target"]) == {8.0}
    assert len(decisions) == run.summary_dict()["scaling"]["decisions"]
    starts = log[log["event"] == "engine"]
    assert len(starts) == (log["event"] == "serves").sum() == run.summary_dict()["scaling"]["starts"]
    counted = log[["waiting", "starting", "ready", "draining"]].sum(axis=1).to_numpy()
    assert counted[0] == 1 and int(counted.max()) == int(decisions["desired"].max())
    assert (np.diff(counted[log["event"] != "waits for a node"]) >= 0).all(), "nothing drains in this run"
    assert (log["nodes"] * 2 >= log["starting"] + log["ready"]).all()


def test_the_files_page_and_terminal(run: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from simserve.report.terminal import summary_table

    out = run.write(tmp_path / "out")
    stored = Result.read(out)
    assert stored.scaling.astype(object).where(stored.scaling.notna(), None).to_dict() == run.scaling.astype(object).where(
        run.scaling.notna(), None
    ).to_dict()  # fmt: skip
    assert (out / "plots" / "scaling.png").is_file()
    page = (out / "report.html").read_text()
    assert "Scaling log" in page and "node 1 ordered" in page and "Device-hours" in page
    again, note = stored.report()
    assert "Scaling log" in again and not note
    Console(width=80).print(summary_table(run))
    shown = capsys.readouterr().out
    assert "node 1 ordered" in shown and "Missed the SLO" in shown and "booting" in shown
    plain = simserve.run({**BASE, "cluster": {}, "workload": {**BASE["workload"], "count": 5}})
    bare = plain.write(tmp_path / "bare")
    assert not (bare / "scaling.parquet").exists() and not (bare / "plots" / "scaling.png").exists()
    assert "Scaling log" not in (bare / "report.html").read_text() and facts(plain.summary_dict()) == []
    with pytest.raises(OutputError, match=r"scaling\.parquet"):
        _ = Result.read(bare).scaling


def test_two_controllers_side_by_side(run: Result) -> None:
    other = simserve.run(BASE, **{"cluster.controllers": [{"policy": "forecast", "requests_per_s": 6, "horizon_s": 60}]})
    rows = {row.name: row.values for row in compare([run, other], ["hpa", "forecast"]).rows}
    for name in ("Price of the run", "Device-hours paid", "Device-hours idle", "Device-hours booting", "Missed the SLO"):
        assert None not in rows[name]
    fixed = [simserve.run({**BASE, "cluster": {"instances": [{"count": count}]}}) for count in (1, 2)]
    assert not any(row.name.startswith("Device-hours") for row in compare(fixed).rows)
    assert any(row.name == "Device-hours paid" for row in compare([fixed[0], run]).rows), "beside one that scales"


def test_sweeps_show_them_where_instances_start() -> None:
    result = simserve.sweep(BASE, over={"cluster.node_pools.0.provision_s": [0, 60]}, jobs=1)
    assert {"usd", "device_hours", "idle_device_hours", "booting_device_hours", "slo_missed", "slo_missed_fraction"} <= set(result.shown())
    booting = result.by_point["booting_device_hours"].tolist()
    assert booting[0] < booting[1]
    plain = simserve.sweep({**BASE, "cluster": {}}, over={"workload.count": [50, 60]}, jobs=1)
    assert "device_hours" not in plain.shown() and "starts" not in plain.frame


def test_decisions_of_several_controllers_keep_their_names() -> None:
    """The names are those of the experiment."""
    result = simserve.run(BASE, **{"cluster.controllers": [{"policy": "llumnix-migration"}, BASE["cluster"]["controllers"][0]]})
    assert set(result.scaling["controller"].dropna()) == {"hpa"}
    assert json.loads(json.dumps(result.summary_dict()["scaling"]["log"]))["head"][0] == "time"


def test_times_of_a_log() -> None:
    assert [clock(seconds) for seconds in (0, 59.5, 60, 3599.6, 3600, 90000, 200000)] == [
        *("0 s", "59.5 s", "1:00", "1:00:00", "1:00:00", "25:00:00", "2 d 7:33:20")
    ]
