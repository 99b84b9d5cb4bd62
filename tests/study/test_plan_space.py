"""What a plan section lets choose from: counted without being made, within the budget, refused where it says two things at once."""

from __future__ import annotations

from typing import Any

import pytest

from simserve.errors import ConfigError, SimserveError
from simserve.study.plan.search import find, specify

BASE: dict[str, Any] = {
    "name": "small",
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "workload": {
        "arrivals": {"kind": "poisson", "rate_per_s": 10.0},
        "lengths": {"prompt": {"kind": "fixed", "tokens": 300}, "output": {"kind": "fixed", "tokens": 50}},
        "count": 60,
    },
    "slo": {"ttft_s": 1.0},
}


def names(**section: Any) -> list[str]:
    found = specify({**BASE, "plan": section})
    plans = [family.plan(counts).name for family in found.space.families() for counts in found.space.counts(family)]
    assert len(plans) == found.space.count(), "counted as many as there are"
    return plans


def complaint(**section: Any) -> str:
    with pytest.raises(SimserveError) as caught:
        specify({**BASE, "plan": section})
    return str(caught.value)


def test_all_that_a_budget_allows() -> None:
    assert names(budget={"devices": 4}) == ["tp1", "2 x tp1", "3 x tp1", "4 x tp1", "tp2", "2 x tp2", "tp4"]
    assert names(budget={"devices": 4}, tp=[2], instances=[1, 2, 3]) == ["tp2", "2 x tp2"], "three of them are beyond it"
    assert names(budget={"usd_per_hour": 7.0}, tp=[1]) == ["tp1", "2 x tp1"], "an H100 costs $3.49"


def test_money_buys_more_of_what_is_cheap() -> None:
    found = names(budget={"usd_per_hour": 3.6}, tp=[1], hardware=["h100-sxm-80gb", "a100-sxm-80gb"])
    assert found == ["tp1 h100-sxm-80gb", "tp1 a100-sxm-80gb", "2 x tp1 a100-sxm-80gb"]


def test_pools_of_their_own_and_their_ratios() -> None:
    assert names(budget={"devices": 3}, tp=[1], roles=["disaggregated"]) == [
        "prefill tp1 + decode tp1",
        "prefill tp1 + decode 2 x tp1",
        "prefill 2 x tp1 + decode tp1",
    ]
    of_ratio = names(budget={"devices": 6}, tp=[1], roles=["disaggregated"], ratios=["1:2"])
    assert of_ratio == ["prefill tp1 + decode 2 x tp1", "prefill 2 x tp1 + decode 4 x tp1"]


def test_every_axis_is_crossed_with_every_other() -> None:
    section = {"budget": {"devices": 1}, "quantisation": ["none", "fp8"], "max_num_seqs": [32, 64], "max_num_batched_tokens": [512, 2048]}
    found = names(**section, prefix_caching=[True, False], kv_bits=[16, 8], over={"engine.block_size": [16, 32]})
    assert len(found) == len(set(found)) == 64
    assert "tp1 block_size=16 none kv16 prefix cache budget=512 seqs=32" in found


def test_a_plan_is_the_experiment_with_its_keys_changed() -> None:
    section = {"budget": {"devices": 2}, "tp": [2], "quantisation": ["fp8"], "max_num_seqs": [32], "max_num_batched_tokens": [512]}
    spec = specify({**BASE, "plan": section})
    (family,) = spec.space.families()
    placed = spec.base.load(family.plan((1,)).changes(spec.experiment))
    (group,) = placed.groups
    assert (group.parallel.tp, group.params.max_seqs, group.params.step_tokens(0)) == (2, 32, 512)
    assert placed.spec.model_section.quantisation == "fp8" and family.plan((1,)).name == "tp2", "one value needs no words"


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"budget": {"devices": 0}}, "plan.budget.devices: found 0, expected"),
        ({"budget": {"usd_per_hour": 0.5}}, "no plan within $0.5 an hour: the smallest takes 1 device, from $3.49 an hour"),
        ({"budget": {"devices": 1}, "roles": ["disaggregated"]}, "no plan within 1 device: the smallest takes 2 devices"),
        ({"ratios": ["1:2"]}, "ratios are of disaggregated plans"),
        ({"ratios": ["1:2"], "roles": ["disaggregated"], "instances": [1]}, "ratios and instances both state"),
        ({"autoscalers": [{"policy": "hpa"}], "roles": ["disaggregated"]}, "autoscalers are tried with colocated instances only"),
        ({"ratios": ["1-2"], "roles": ["disaggregated"]}, "such as '2:1'"),
        ({"roles": ["colocated", "colocated"]}, "a value is listed twice"),
        ({"roles": ["mixed"]}, "colocated"),
        ({"tp": [3]}, "no layout of llama-3.1-8b within tp [3]"),
        ({"over": {"workload.count": [1, 2]}}, "workload.count is part of the question"),
        ({"over": {"engine.block_size": []}}, "an empty list of values"),
        ({"hardware": ["h100-sxm-80gb", "h20"]}, "no price of 'h20'"),
        ({"hardware": ["h100-sxm-80bg"]}, "did you mean 'h100-sxm-80gb'"),
        ({"max_seqs": [4]}, "did you mean 'max_num_seqs'"),
        ({"tp": []}, "plan.tp: found an empty list, expected at least 1 element"),
        ({"autoscalers": ["hpa"]}, "found text 'hpa', expected none or a controller such as {policy: hpa"),
        ({"autoscalers": [{"targets": {"waiting": 2}}]}, "the key policy is required and missing. Allowed: forecast, hpa"),
    ],
)
def test_what_makes_no_sense_is_named(section: dict[str, Any], said: str) -> None:
    assert said in complaint(**section)


def test_a_grid_of_ten_million_is_refused_with_its_count_and_what_it_would_take() -> None:
    found = complaint(max_num_seqs=list(range(1, 1001)), max_num_batched_tokens=list(range(1000, 2000)), tp=[1], budget={"devices": 10})
    assert "10,000,000 plans of 1,000,000 makes" in found and "more than plan.limit (20,000)" in found
    assert "alone would take about" in found and ("hours" in found or "minutes" in found)


def test_an_experiment_without_slo_must_say_what_a_plan_has_to_meet() -> None:
    with pytest.raises(ConfigError, match="say what a plan must meet"):
        specify({**BASE, "slo": {}})
    assert specify({**BASE, "slo": {}, "plan": {"when": "ttft.p90 <= 1"}}).predicate.text == "ttft.p90 <= 1"


def test_a_device_without_a_price_is_ranked_by_devices() -> None:
    spec = specify({**BASE, "hardware": "h20"})
    assert any("h20 has no price" in note for note in spec.notes)
    first = next(spec.space.families()).plan((3,))
    assert first.usd_per_hour is None and first.order == 3.0


@pytest.mark.parametrize("budget", [{"devices": 100_000}, {"usd_per_hour": 1e9}])
def test_a_budget_of_a_hundred_thousand_devices_is_counted_at_once(budget: dict[str, Any]) -> None:
    """H100s of $3.49: a thousand million dollars buy more than is simulated. Of pairs of pools there are n (n - 1) / 2."""
    n = 100_000
    assert specify({**BASE, "plan": {"budget": budget, "tp": [1], "limit": 10**7}}).space.count() == n
    assert f"{n * (n - 1) // 2:,} plans" in complaint(budget=budget, tp=[1], roles=["disaggregated"])


def test_an_autoscaler_has_no_plan_of_fewer_instances_than_it_keeps() -> None:
    hpa = {"policy": "hpa", "targets": {"waiting": 2}, "min_instances": 2}
    spec = specify({**BASE, "plan": {"budget": {"devices": 3}, "tp": [1], "autoscalers": [hpa]}})
    (family,) = spec.space.families()
    assert spec.space.counts(family) == [(2,), (3,)]
    spec = specify({**BASE, "plan": {"budget": {"devices": 1}, "autoscalers": [hpa]}})
    with pytest.raises(ConfigError, match="as many instances as `min_instances` says"):
        find(spec)


def test_a_run_that_is_cut_is_said_to_miss_the_slo_for_it() -> None:
    assert any("until_s" in note for note in specify({**BASE, "until_s": 2.0}).notes)
