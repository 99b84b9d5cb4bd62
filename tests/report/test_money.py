"""What a run costs: devices from boot to end, electricity, and the whole bill over each count of tokens."""

from __future__ import annotations

from typing import Any

import pytest

import simserve
from simserve.errors import ConfigError

BASE: dict[str, Any] = {
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "workload": {
        "arrivals": {"kind": "poisson", "rate_per_s": 4.0},
        "lengths": {"prompt": {"kind": "fixed", "tokens": 200}, "output": {"kind": "fixed", "tokens": 20}},
        "count": 100,
    },
    "prices": {"usd_per_hour": {"h100-sxm-80gb": 3.6}, "pue": 1.5, "gco2_per_kwh": 400.0},
}


def summary(**changes: Any) -> dict[str, Any]:
    return simserve.run({**BASE, **changes}).summary_dict()


def test_the_bill_is_devices_times_hours_whether_busy_or_idle() -> None:
    found = summary(cluster={"instances": [{"count": 3, "parallel": {"tp": 2}}]})
    money, run_s = found["money"], found["window"]["run_s"]
    assert money["device_hours"] == pytest.approx(6 * run_s / 3600)
    assert money["usd_per_hour"] == pytest.approx(6 * 3.6) and money["usd"] == pytest.approx(6 * 3.6 * run_s / 3600)
    assert money["usd_per_million_output_tokens"] == pytest.approx(1e6 * money["usd"] / 2000)
    assert money["usd_per_million_input_tokens"] == pytest.approx(1e6 * money["usd"] / 20000)
    assert money["usd_per_million_tokens"] == pytest.approx(1e6 * money["usd"] / 22000)
    assert money["electricity_usd"] is None and money["assumed"] == []


def test_energy_at_the_meter_is_that_of_the_devices_times_the_pue() -> None:
    energy = summary()["energy"]
    assert energy["kwh"] == pytest.approx(1.5 * energy["energy_j"] / 3.6e6) and energy["gco2"] == pytest.approx(400 * energy["kwh"])
    assert energy["kwh_per_million_output_tokens"] == pytest.approx(1e6 * energy["kwh"] / 2000)


def test_electricity_comes_on_top_where_it_is_not_in_the_price() -> None:
    found = summary(prices={**BASE["prices"], "usd_per_kwh": 0.2})
    money = found["money"]
    assert money["electricity_usd"] == pytest.approx(0.2 * found["energy"]["kwh"])
    assert money["usd"] == pytest.approx(money["devices_usd"] + money["electricity_usd"])


def test_what_never_starts_costs_nothing_and_draws_no_power() -> None:
    found, alone = summary(cluster={"instances": [{"count": 1, "max_count": 3}]}), summary()
    assert found["money"]["usd"] == pytest.approx(alone["money"]["usd"])
    assert found["energy"]["energy_j"] == pytest.approx(alone["energy"]["energy_j"])


def test_an_instance_is_paid_from_its_boot_on() -> None:
    """A scaler told to start all that it may; each instance is paid while it boots, drains and serves."""
    spare = {"count": 1, "max_count": 4, "boot_s": 2.0, "kv": {"blocks": 400}}
    load = {**BASE["workload"], "arrivals": {"kind": "poisson", "rate_per_s": 40.0}, "count": 800}
    scaler = {"policy": "llumnix-scaling", "interval_s": 1, "scale_up": 1e6, "scale_down": 2e6}
    found = summary(cluster={"instances": [spare], "controllers": [scaler]}, workload=load)
    cluster, run_s = found["cluster"], found["window"]["run_s"]
    assert cluster["instances_mean"] > 1.0, "the scaler starts some"
    assert cluster["served_s"] < cluster["instance_s"] < 4 * run_s
    assert found["money"]["device_hours"] == pytest.approx(cluster["instance_s"] / 3600)


def test_unpriced_devices_leave_money_out_of_the_summary() -> None:
    assert summary(hardware="h20", prices=None)["money"] is None


def test_a_predicate_of_money_needs_prices() -> None:
    with pytest.raises(ConfigError, match="no price of 'h20'"):
        simserve.capacity({**BASE, "hardware": "h20", "prices": None}, "usd.per_hour <= 3")


def test_studies_and_comparisons_know_the_figures() -> None:
    from simserve.report.compare.comparison import compare
    from simserve.study.predicate import parse

    swept = simserve.sweep(BASE, over={"cluster.instances": [[{"count": 1}], [{"count": 2}]]}, jobs=1)
    assert swept.by_point["usd_per_hour"].tolist() == pytest.approx([3.6, 7.2])
    assert "usd_per_million_output_tokens" in swept.shown()
    one, two = simserve.run(BASE), simserve.run({**BASE, "cluster": {"instances": [{"count": 2}]}})
    row = next(row for row in compare([one, two]).rows if row.name == "Price of an hour")
    assert row.cells == ("$3.6", "$7.2") and row.verdicts[1] == "worse"
    assert parse("usd.per_million_output_tokens <= 3 and energy.kwh_per_million_input_tokens < 1").quantities[0].column == (
        "usd_per_million_output_tokens"
    )
