"""A plan search finds what an exhaustive sweep finds, tells why the others lose, and says plainly where nothing meets the SLO."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import simserve
from simserve.cli import main
from simserve.errors import ConfigError, OutputError
from simserve.study.limits import limits
from simserve.study.plan.belief import Believed
from simserve.study.plan.figures import BY_BOUNDS, Ends, Fate, Outcome, PlanFigures, Verification
from simserve.study.plan.file import read_plan
from simserve.study.plan.offered import said
from simserve.study.plan.runs import Execution, Found
from simserve.study.plan.screen import breaks_whole, by_chance
from simserve.study.plan.search import find, plan, specify
from simserve.study.plan.verify import companions, hopeless, verified
from simserve.study.predicate import parse

SMALL: dict[str, Any] = {
    "name": "small",
    "model": "llama-3.1-8b",
    "hardware": "a100-sxm-80gb",
    "workload": {
        "arrivals": {"kind": "poisson", "rate_per_s": 24.0},
        "lengths": {
            "prompt": {"kind": "lognormal", "median_tokens": 300, "sigma": 0.6, "max_tokens": 2048},
            "output": {"kind": "lognormal", "median_tokens": 120, "sigma": 0.5, "max_tokens": 512},
        },
        "count": 150,
    },
    "slo": {"ttft_s": 0.4, "tpot_s": 0.03},
    "plan": {"when": "attainment >= 0.95", "budget": {"devices": 4}, "max_num_seqs": [16, 128], "replicates": 2, "finalists": 2},
}


@pytest.fixture(scope="module")
def small() -> Any:
    return plan(SMALL, jobs=1)


def test_the_answer_is_that_of_an_exhaustive_sweep(small: Any) -> None:
    """Every plan simulated in full on the fresh seeds: the cheapest that meets the predicate costs what the search's answer costs."""
    spec = specify(SMALL)
    meets = []
    for family in spec.space.families():
        for counts in spec.space.counts(family):
            one = family.plan(counts)
            rows = simserve.sweep(spec.base.load(one.changes(spec.experiment)), seeds=[1, 2], jobs=1).frame
            if rows["attainment"].mean() >= 0.95 and not rows["saturated"].all():
                meets.append(one)
    best = small.best
    assert best is not None and meets
    assert best.usd_per_hour == pytest.approx(min(one.usd_per_hour or 0.0 for one in meets))
    exhaustive = spec.space.count() * 2 * 150
    assert small.requests < exhaustive / 2, "and not half of the requests were simulated"


def test_every_plan_has_a_fate_and_those_that_lose_a_reason(small: Any) -> None:
    assert len(small.outcomes) == specify(SMALL).space.count()
    assert [one.order for one in small.outcomes] == sorted(one.order for one in small.outcomes)
    for one in small.outcomes:
        assert one.why or one.fate in (Fate.VERIFIED, Fate.NOT_RUN), one.name
        assert one.fate != Fate.NOT_RUN or one.order >= small.best.order, "what is not run costs as much as the answer at least"
        if one.fate in BY_BOUNDS:
            assert not one.values and one.fraction == 0.0


def test_figures_of_the_answer_are_means_over_fresh_seeds(small: Any) -> None:
    verification = small.best.verification
    assert verification.seeds == (1, 2), "the search itself ran on seed 0"
    spec = specify(SMALL)
    chosen = next(
        family.plan(counts) for family in spec.space.families() for counts in spec.space.counts(family)
        if family.plan(counts).name == small.best.name
    )  # fmt: skip
    rows = simserve.sweep(spec.base.load(chosen.changes(spec.experiment)), seeds=[1, 2], jobs=1).frame
    assert small.best.values["attainment"] == pytest.approx(rows["attainment"].mean())
    assert small.best.values["usd_per_hour"] == pytest.approx(small.best.usd_per_hour)


def test_the_message_says_what_to_deploy_and_why_cheaper_plans_lose(small: Any) -> None:
    text = small.message
    assert text.startswith(f"Deploy {small.best.name}: ") and f"${small.best.usd_per_hour:.2f} an hour" in text
    assert "fresh seeds it meets 'attainment >= 0.95'" in text and "comes nearest" in text
    assert "eliminated by bounds" in small.effort
    assert small.best in small.pareto and list(small.frame["plan"]) == [one.name for one in small.outcomes]


def test_the_answer_says_to_which_load(small: Any, tmp_path: Path) -> None:
    """A trace that is put in another's place inherits what the experiment does to it, so the load that was planned for is said."""
    table = specify(SMALL).load.table
    rate = 149 / (table.arrival_s.max() - table.arrival_s.min()) * 150 / 149
    assert small.load.startswith(f"{rate:.3g} requests/s (150 in all), prompts of {table.prompt_tokens.mean():,.0f} and answers")
    assert small.message.endswith(f" Planned for {small.load}.") and small.as_dict()["load"] == small.load
    small.write(tmp_path)
    assert read_plan(tmp_path).message == small.message
    trace = specify("quickstart", changes={"workload.trace.rate_scale": 4})
    assert said(trace.experiment, trace.load).endswith(" tokens on average, 4 times as fast as in the trace")


def test_nothing_meets_an_slo_that_no_load_allows() -> None:
    found = plan({**SMALL, "slo": {"ttft_s": 0.001}}, jobs=1)
    assert found.best is None and found.runs == 0
    assert "it cannot hold at any load" in found.message and "on an empty instance" in found.message


def test_nothing_meets_a_load_beyond_the_budget() -> None:
    load = {**SMALL["workload"], "arrivals": {"kind": "poisson", "rate_per_s": 900.0}}
    found = plan({**SMALL, "workload": load}, jobs=1)
    assert found.best is None and {one.fate for one in found.outcomes} == {Fate.OVERLOADED} and found.runs == 0
    assert "No plan within the budget meets" in found.message and "instances busy at best" in found.message


def test_a_search_goes_on_where_it_was_left(tmp_path: Path, small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = find(specify(SMALL), Execution(jobs=1, out=tmp_path / "a"))
    (tmp_path / "a" / "plan.json").unlink()
    monkeypatch.setattr("simserve.study.plan.runs.execute", None)  # no run is asked for again
    again = find(specify(SMALL), Execution(jobs=1, out=tmp_path / "a", resume=True))
    assert again.as_dict() == first.as_dict() == small.as_dict(), "and the same from run to run"
    assert read_plan(tmp_path / "a").as_dict() == first.as_dict()
    chosen = simserve.load(tmp_path / "a" / "best.yaml")
    assert chosen.groups[0].count == first.best.pools[0]["count"]  # type: ignore[union-attr]
    with pytest.raises(OutputError, match="holds a plan search already"):
        find(specify(SMALL), Execution(jobs=1, out=tmp_path / "a"))


def test_the_command_prints_the_answer_and_ends_with_1_where_there_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from simserve.files import yaml_text

    path = tmp_path / "small.yaml"
    path.write_text(yaml_text.dump(SMALL))
    assert main(["plan", str(path), "--jobs", "1", "--set", "plan.max_num_seqs=[128]", "--json", "-q"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["best"] and printed["prices"]["devices"]["a100-sxm-80gb"]["usd_per_hour"] == 1.79
    assert main(["plan", str(path), "--jobs", "1", "--when", "ttft.p50 <= 0.001"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("No plan within the budget meets") and "plans of" in err
    for command in (["plan", str(path)], ["place", str(path), "--devices", "2"], ["capacity", str(path)]):
        assert main([*command, "--resume"]) == 2
        assert "--resume: say where the search was written to (--out)" in capsys.readouterr().err
    assert main(["plan", str(path), "--usd-per-hour", "0.1"]) == 2
    assert "no plan within" in capsys.readouterr().err


def test_an_autoscaler_costs_what_its_instances_cost_while_they_exist() -> None:
    """A burst, then a trickle: two instances throughout cost more than two for the burst."""
    pieces = [{"duration_s": 5, "rate_per_s": 24}, {"duration_s": 60, "rate_per_s": 1}]
    load = {**SMALL["workload"], "arrivals": {"kind": "piecewise", "pieces": pieces}, "count": 170}
    scaler = {"policy": "hpa", "targets": {"running": 4}, "interval_s": 1, "metric_lag_s": 0, "scale_down_stabilisation_s": 3}
    section = {"when": "attainment >= 0.1", "tp": [1], "instances": [2], "autoscalers": ["none", scaler], "replicates": 2, "finalists": 2}
    found = plan({**SMALL, "workload": load, "plan": section}, jobs=1)
    best = found.best
    assert best is not None and "hpa" in best.name and best.usd_per_hour == pytest.approx(best.values["usd_per_hour"])
    assert 1.79 <= best.usd_per_hour < 2 * 1.79, "between one instance and two"
    static = next(one for one in found.outcomes if "hpa" not in one.name)
    assert static.usd_per_hour == pytest.approx(2 * 1.79) and found.outcomes[0] is best


def test_a_value_with_which_nothing_can_be_stated_is_an_error() -> None:
    section = {**SMALL["plan"], "speculation": ["none", {"method": "ngram", "tokens": 2}]}
    with pytest.raises(ConfigError, match=r"no plan with 'ngram-2' can be stated: .*acceptance"):
        plan({**SMALL, "plan": section}, jobs=1)
    with pytest.raises(ConfigError, match=r"plan.autoscalers: unknown controller 'hpaa'; did you mean 'hpa'"):
        plan({**SMALL, "plan": {**SMALL["plan"], "autoscalers": [{"policy": "hpaa"}]}}, jobs=1)


# ---- by hand ----


def test_a_short_run_eliminates_only_what_it_decides_for_the_whole() -> None:
    p99, attained = limits(parse("ttft.p99 <= 1")), limits(parse("attainment >= 0.9"))
    row = {"ttft_p90_s": 2.0, "ttft_p95_s": 3.0, "ttft_p99_s": 4.0, "ttft_p50_s": 0.5}
    assert "ttft.p90" in breaks_whole(p99, row, 1 / 9), "a tenth of a ninth is more than a hundredth"
    assert breaks_whole(p99, row | {"ttft_p90_s": 0.9}, 1 / 9) == "", "a twentieth of a ninth is not"
    assert breaks_whole(p99, row | {"ttft_p90_s": 0.9}, 1 / 3) != ""
    assert breaks_whole(attained, {"attainment": 0.5}, 1 / 9) == "" and breaks_whole(attained, {"attainment": 0.5}, 1 / 3) != ""
    assert breaks_whole(limits(parse("ttft.mean <= 1")), {"ttft_mean_s": 9.0}, 1 / 3) == "", "the mean of the rest may make up for it"


def test_a_plan_that_misses_by_chance_gets_another_try() -> None:
    (limit,) = limits(parse("attainment >= 0.99"))
    assert by_chance(limit, {"attainment": 0.981, "measured_requests": 400.0}), "two standard deviations are 0.00995"
    assert not by_chance(limit, {"attainment": 0.97, "measured_requests": 400.0}) and not by_chance(limit, {"attainment": 0.985})
    (tail,) = limits(parse("ttft.p99 <= 1"))
    assert not by_chance(tail, {"ttft_p99_s": 1.01, "measured_requests": 400.0})


def test_a_margin_inside_its_error_is_doubtful() -> None:
    test = parse("ttft.p99 <= 1")
    rows = [Found({"ttft_p99_s": value}, None) for value in (0.88, 0.9, 0.92)]
    spec = simserve.load(SMALL)
    found, values = verified(rows, [1, 2, 3], test, limits(test), spec, Believed())
    assert values["ttft_p99_s"] == pytest.approx(0.9) and not found.failures and not found.doubtful
    wide = Believed("estimate", "estimate, of nothing", {"ttft.p99": (0.7, 1.4)})
    found, _ = verified(rows, [1, 2, 3], test, limits(test), spec, wide)
    assert not found.failures and found.doubtful == ("ttft.p99 <= 1 (found 0.9, 0.6291 to 1.261)",) and found.label == "estimate"
    found, _ = verified([Found({"ttft_p99_s": 1.2}, None)] * 3, [1, 2, 3], test, limits(test), spec, wide)
    assert found.failures == ("ttft.p99 <= 1 (found 1.2)",) and not found.doubtful


def test_a_plan_that_is_refuted_already_is_not_run_again() -> None:
    attained, p99 = limits(parse("attainment >= 0.9")), limits(parse("ttft.p99 <= 1"))
    assert hopeless([Found({"attainment": 0.4}, None)], attained, 5), "four times 1 and 0.4 are 0.88"
    assert not hopeless([Found({"attainment": 0.6}, None)], attained, 5)
    assert hopeless([Found({"ttft_p99_s": 5.1}, None)], p99, 5) and not hopeless([Found({"ttft_p99_s": 4.9}, None)], p99, 5)
    assert not hopeless([Found({"ttft_p99_s": None}, None)], p99, 5)


def test_attainment_is_judged_by_the_latencies_behind_it() -> None:
    found = companions(limits(parse("attainment >= 0.95")), simserve.load(SMALL))
    assert [limit.text for limit in found] == ["ttft.p95 <= 0.4", "tpot.p95 <= 0.03"]
    rows = [Found({"attainment": 0.97, "ttft_p95_s": 0.39, "tpot_p95_s": 0.01}, None)] * 2
    test = parse("attainment >= 0.95")
    verification, _ = verified(rows, [1, 2], test, limits(test), simserve.load(SMALL), Believed("fitted", "", {"ttft.p95": (0.9, 1.1)}))
    assert not verification.failures and verification.doubtful[0].startswith("ttft.p95 <= 0.4")


def outcome(name: str, usd: float, fate: Fate = Fate.VERIFIED, doubtful: tuple[str, ...] = (), **values: float) -> Outcome:
    verification = Verification((1, 2), {}, (), doubtful) if fate == Fate.VERIFIED else None
    return Outcome(name, "h", ({"role": "mixed", "count": 1, "tp": 1},), 1, usd, fate, "why", 0.5, dict(values), 1.0, verification)


def test_the_pareto_front_and_what_is_clear_of_its_error() -> None:
    found = (
        outcome("cheap", 1.0, doubtful=("ttft.p99 <= 2",), ttft_p99_s=1.9, kwh_per_million_output_tokens=0.2),
        outcome("worse", 2.0, ttft_p99_s=1.95, tpot_p99_s=0.02, kwh_per_million_output_tokens=0.3),
        outcome("fast", 3.0, ttft_p99_s=0.5, kwh_per_million_output_tokens=0.4),
        outcome("lost", 0.5, Fate.FAILED, ttft_p99_s=2.5),
    )
    figures = PlanFigures("x", parse("ttft.p99 <= 2"), found, 4, 400, 100)
    assert figures.best is found[0] and figures.clear is found[1]
    assert [one.name for one in figures.pareto] == ["cheap", "fast"]
    assert found[0].head_room == 1.0 and Ends(1.0, 0.9, 1.1, (0.5, 1.5)).widest == (0.5, 1.5)
