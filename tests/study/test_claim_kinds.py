"""What kind of statement each bundled claim is, how its band is bounded, and whether the experiments are what their texts say."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

import pytest

from simserve.config.claims import ChosenNumber, ClaimSection, band
from simserve.config.engine_profile import load_engine
from simserve.config.experiment import Experiment, load
from simserve.errors import ConfigError
from simserve.study.claims import kinds
from simserve.study.claims import record as claims_record
from simserve.study.claims.check import Outcome, judge
from simserve.study.claims.move import Multiplied
from simserve.study.probes import evaluate

NAMES = sorted(claims_record.claimed())


@functools.cache
def experiment(name: str) -> Experiment:
    return load(name)


@functools.cache
def variants(name: str) -> dict[str, dict[str, Any]]:
    return {variant: load(name, change).resolved() for variant, change in experiment(name).spec.variants.items()}


def claim(**changes: Any) -> Outcome:
    section = ClaimSection.model_validate({"figure": "probes.x", "of": ["a"], "at_least": 1, "at_most": 3} | changes)
    return judge(section, {"a": 2.0}, flag=changes.get("note") == "flag")


def test_kinds_are_counted_apart_and_never_added_up() -> None:
    because = {"because": "taken from it"}
    outcomes = [
        claim(published=2),
        claim(published=5, within=0.1, at_least=None, at_most=None),
        claim(published=2, basis="fitted", **because),
        claim(published=2, basis="back-solved", **because),
        claim(),
        claim(published=1, note="flag"),
        claim(published=2, basis="identity", **because),
        claim(basis="identity", **because),
    ]
    assert [outcome.kind for outcome in outcomes] == [
        *("predicted", "predicted", "fitted", "fitted", "unpublished", "fits", "identity", "identity")
    ]
    assert [(count.short, count.inside, count.total) for count in kinds.counts(outcomes)] == [
        ("published", 3, 4),
        ("nothing fitted", 1, 2),
        ("no published value", 1, 1),
        ("flags", 1, 1),
        ("identities", 2, 2),
    ]
    said = kinds.lines(outcomes)
    assert len(said) == 5 and not any("8" in line for line in said)
    assert kinds.heading(outcomes[:2]) == "published 1 of 2"


def test_what_was_taken_from_the_published_figures_is_said() -> None:
    with pytest.raises(ValueError, match="because"):
        claim(published=2, basis="fitted")
    with pytest.raises(ValueError, match="because"):
        claim(published=2, because="the load")


@pytest.mark.parametrize("name", NAMES)
def test_no_band_is_open_above(name: str) -> None:
    """A figure that may be as large as it likes proves little; and a published number is missed on both sides."""
    for section in experiment(name).spec.claims:
        if section.order:
            continue
        low, high = band(section)
        assert high < float("inf"), section
        assert low > float("-inf") or section.published is None, section
        by_hand = section.at_least is not None or section.at_most is not None
        flag = section.figure == "probes.fits"
        symmetric = section.published is not None and section.at_least is not None and section.at_most is not None
        assert section.bounds or not by_hand or flag or (symmetric and low < section.published < high), f"{section}: why this band?"


IDENTITIES = {
    "xquant_map": {"probes.bytes"},
    "million_32k": {"probes.bytes"},
    "pdserve_d2d": {"probes.transfer"},
    "burstgpt_vs_poisson": {"probes.capacity", "arrivals"},
    "xy_padding": {"probes.linear"},
}


def test_identities_are_marked() -> None:
    found: dict[str, set[str]] = {}
    for name in NAMES:
        for section in experiment(name).spec.claims:
            if section.basis == "identity":
                found.setdefault(name, set()).add(section.figure)
    assert found == IDENTITIES


def test_counts_of_bytes_depend_on_no_measurement() -> None:
    """What is called an identity does not move with the device, so nothing that was measured is held against the paper."""
    for name, probe in (("xquant_map", "bytes"), ("million_32k", "bytes")):
        answers = [evaluate(load(name, [f"hardware={device}"]), [probe]).values for device in ("a100-sxm-80gb", "h100-sxm-80gb")]
        assert answers[0] == answers[1]


def test_a_bits_identity_is_the_inverse_of_its_input() -> None:
    for section in experiment("xquant_map").spec.claims:
        if section.basis == "identity" and section.published is not None:
            bits = float(section.of[1].split("_")[1])
            assert section.published == pytest.approx(16 * (2 if section.of[1].startswith("mha") else 1) / bits, rel=0.002)


PUBLISHED_LOADS = {
    "disaggregated": "ours; it is no paper's",
    "distserve_authors_sim": "the rate of the authors' example",
    "distserve_goodput": "searched for",
    "layered_capacity": "searched for",
    "layered_chunk_reload": "one request",
    "layered_latency": "the rate of the authors' table",
    "llumnix_downtime": "one request at a time",
    "sarathi_capacity_mistral": "searched for",
    "sarathi_capacity_yi34b": "searched for",
    "xy_a100": "the rates of Azure's traces",
    "xy_e2e": "the paper's rates",
    "xy_reorder": "the rates of Azure's traces",
    "pastfuture_goodput": "each claim at its own number of clients, 40 to 120",
}


def moved_keys(name: str) -> set[str]:
    paper = experiment(name).spec.paper
    return set() if paper is None else set(paper.sensitivity)


@pytest.mark.parametrize("name", NAMES)
def test_a_load_that_was_chosen_is_moved(name: str) -> None:
    spec = experiment(name).spec
    if spec.workload is None or name in PUBLISHED_LOADS:
        return
    assert moved_keys(name) & {"workload.arrivals.rate_per_s", "workload.closed_loop.concurrency"}


@pytest.mark.parametrize("name", NAMES)
def test_a_host_time_that_was_stated_or_assumed_is_moved(name: str) -> None:
    """Where an experiment states seconds of the host, or runs on a profile in which they are assumed, and its claims are of times."""
    no_time = {"layered_chunk_reload", "pdserve_d2d", "sarathi_tile", "spec_verify", "xy_padding", "llumnix_downtime", "llumnix_autoscale"}
    coefficients = experiment(name).spec.cost is not None  # the engine's overhead is in them
    if name in no_time or coefficients:
        return
    resolved = [variant["engine"] for variant in variants(name).values()]
    stated = any("engine" in key for change in experiment(name).spec.variants.values() for key in change)
    stated = stated or bool(experiment(name).spec.engine_section.model_extra)
    assumed = {"sarathi-serve", "lightllm", "orca", "vllm-ascend", "xy-serve", "vllm-v0"} & {engine["name"] for engine in resolved}
    seconds = any(value for engine in resolved for value in engine["host"].values())
    if seconds and (assumed or (stated and name != "fastgen_splitfuse")):  # vllm-2023 learned its own
        assert "engine.host" in moved_keys(name)


def test_a_number_is_multiplied_in_each_variant_that_has_it() -> None:
    move = Multiplied(("workload.arrivals.rate_per_s", "engine.host"), 2.0)
    base = load("swiftkv_70b", {"workload.arrivals.rate_per_s": 5.5})
    changes = move(base)
    assert "workload.arrivals.rate_per_s=11.0" in changes and "engine.host.per_step_s=0.00304" in changes
    after = load("swiftkv_70b", changes)
    assert after.engine.host.per_step_s == pytest.approx(2 * base.engine.host.per_step_s)
    move.check_used("swiftkv_70b")
    with pytest.raises(ConfigError, match=r"no variant has a number at 'engine.hots'"):
        Multiplied(("engine.hots",), 2.0).check_used("swiftkv_70b")


def test_whole_numbers_stay_whole_and_above_nothing() -> None:
    base = load("fastgen_splitfuse", {"workload.closed_loop.concurrency": 1})
    assert Multiplied(("workload.closed_loop.concurrency",), 0.4)(base) == ["workload.closed_loop.concurrency=1"]


@pytest.mark.parametrize("name", [n for n in NAMES if claims_record.priority(claims_record.claimed()[n]) == "A"])
def test_every_neighbour_of_a_cheap_experiment_is_recorded(name: str) -> None:
    paper = experiment(name).spec.paper
    wanted = []
    for key, chosen in ({} if paper is None else paper.sensitivity).items():
        wanted += [(key, factor) for factor in (chosen.factors if isinstance(chosen, ChosenNumber) else chosen)]
    rows = claims_record.read()[name].sensitivity
    assert [(row.key, row.value if row.factor is None else row.factor) for row in rows] == wanted, f"run: simserve experiments run {name}"
    claims = {outcome.claim for outcome in claims_record.read()[name].outcomes}
    assert all(set(row.ours) == claims for row in rows)


ONE_ENGINE = re.compile(r"one engine profile|[Hh]ost time is left out|[Hh]ost time is stated here")


@pytest.mark.parametrize("name", [n for n in NAMES if (p := load(n).spec.paper) is not None and ONE_ENGINE.search(p.setting)])
def test_variants_that_are_said_to_run_on_one_engine_do(name: str) -> None:
    assert len({json.dumps(variant["engine"], sort_keys=True) for variant in variants(name).values()}) == 1


OWN_ENGINES = {"fastgen_splitfuse", "lserve_ctx", "xy_e2e"}


def test_where_variants_differ_in_their_engine_the_text_says_so() -> None:
    """Wherever it does not, all variants have the host time of one engine: they differ in policy, format or load alone."""
    differing = {name for name in NAMES if len({json.dumps(v["engine"], sort_keys=True) for v in variants(name).values()}) > 1}
    assert differing == OWN_ENGINES
    for name in differing:
        paper = experiment(name).spec.paper
        assert paper is not None and "ost time" in paper.setting


def test_equal_host_times_are_equal_and_those_of_2023_and_of_eager_steps_the_baselines_alone() -> None:
    hosts: dict[str, set[str]] = {"": set(), "_2023": set(), "_eager": set()}
    for variant, resolved in variants("xy_e2e").items():
        own = next(ending for ending in ("_2023", "_eager", "") if variant.endswith(ending))
        assert not own or variant.endswith(f"_vllm{own}")
        hosts[own].add(json.dumps(resolved["engine"], sort_keys=True))
    assert all(len(of_kind) == 1 for of_kind in hosts.values())
    assert load_engine("vllm-ascend-0.9").host.kernel_launch_s == json.loads(hosts["_eager"].pop())["host"]["kernel_launch_s"]
    fitted = {name: v["engine"]["host"] for name, v in variants("lserve_ctx").items()}
    qserve = next(iter(variants("qserve_a100_table").values()))["engine"]["host"]
    assert all(fitted["lserve"][key] == qserve[key] for key in ("per_step_s", "per_decode_request_s"))


def test_no_text_says_that_host_seconds_written_down_are_an_engine_profiles() -> None:
    for name in NAMES:
        text = json.dumps(claims_record.claimed()[name])
        assert "engine profile had" not in text and "today's vLLM" not in text


@pytest.mark.parametrize(
    ("name", "per_step_s", "per_decode_request_s"),
    [("comet_w4a4", 26e-6, 71e-6), ("swiftkv_70b", 1.5e-3, 10e-6)],
)
def test_host_times_stated_in_words_are_those_of_the_run(name: str, per_step_s: float, per_decode_request_s: float) -> None:
    for variant in variants(name).values():
        assert variant["engine"]["host"]["per_step_s"] == pytest.approx(per_step_s, rel=0.02)
        assert variant["engine"]["host"]["per_decode_request_s"] == pytest.approx(per_decode_request_s, rel=0.02)


@pytest.mark.parametrize("name", ["million_32k", "xquant_map"])
def test_where_host_time_is_left_out_a_step_has_none(name: str) -> None:
    asked = load(name, ["probes={host: {measure: decode_s, context_tokens: 2000, part: host}}", "variants={}", "claims=[]"])
    with pytest.raises(ConfigError, match="no part 'host'"):
        evaluate(asked)


@pytest.mark.parametrize("name", ["distserve_authors_sim", "distserve_goodput"])
def test_published_step_times_hold_the_engines_overhead(name: str) -> None:
    """The engine's host seconds change nothing beside them, as the experiments say."""
    from simserve.config.assemble import assemble
    from simserve.contracts import Step

    step = Step.of([500] * 8, [])
    times = [
        assemble(load(name, [f"engine.host={{per_step_s: {s}}}", "variants={}", "claims=[]"])).instances[0].cost.step_time(step)
        for s in (0, 0.05)
    ]
    assert times[0] == times[1]


@pytest.mark.parametrize(
    ("name", "model", "rule", "within"),
    [
        ("layered_capacity", "qwen3-30b-a3b", 0.085, 0.13),
        ("layered_capacity", "gpt-oss-20b", 0.031, 0.1),
        ("sarathi_capacity_mistral", "mistral-7b", 0.15, 0.05),
    ],
)
def test_limits_by_the_rule_of_five_decode_steps_are_near_it(name: str, model: str, rule: float, within: float) -> None:
    asked = load(name, [f"model={model}", "variants={}", "claims=[]"])
    step = evaluate(asked, ["step"]).values["step"]
    assert step is not None and 5 * step == pytest.approx(rule, rel=within)
