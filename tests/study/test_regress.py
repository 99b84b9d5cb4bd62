"""Regression suites: a worse policy is caught, an equal one is not, and baselines of another set-up are refused."""

from __future__ import annotations

import json
import math
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simserve.cli import main
from simserve.errors import ConfigError
from simserve.files.yaml_text import dump
from simserve.study.predicate import parse_quantity
from simserve.study.regress.check import regress
from simserve.study.regress.suite import Kpi, load_suite
from simserve.study.regress.verdict import judge
from tests.study.conftest import TINY

SCHEDULER = "cluster.instances.0.scheduler"
SARATHI = {"policy": "sarathi", "token_budget": 512, "max_seqs": 64}

pytest_plugins = ["pytester"]


def _suite(folder: Path, scheduler: dict[str, Any] = SARATHI, **changes: Any) -> Path:
    content: dict[str, Any] = {
        "workloads": {"steady": {"experiment": TINY, "set": {"workload.arrivals.rate_per_s": 20.0}}},
        "policies": {"ours": {SCHEDULER: scheduler}},
        "kpis": [{"metric": metric, "tolerance": band} for metric, band in (("ttft.p50", "5%"), ("tpot.p99", "5%"), ("completed", 0))],
        "seeds": 3,
    }
    path = folder / "gate.yaml"
    path.write_text(dump({**content, **changes}))
    return path


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = _suite(tmp_path)
    regress(path, update=True, jobs=1)
    return path


def test_an_equal_policy_passes_and_a_worse_one_does_not(suite: Path) -> None:
    same = regress(suite, jobs=1)
    assert same.ok and same.exit_code == 0 and all(row.change == 0 for row in same.rows)
    _suite(suite.parent, {**SARATHI, "token_budget": 64})
    worse = regress(suite, jobs=1)
    assert worse.exit_code == 1 and {row.kpi.quantity.text for row in worse.failures} >= {"ttft.p50"}
    assert "REGRESSION" in worse.headline and "| steady/ours | ttft.p50 |" in worse.markdown()


def test_exit_codes_and_outputs(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = suite.with_name("summary.md")
    assert main(["regress", str(suite), "--json", "--jobs", "1", "--markdown", str(summary)]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True and "✅" in summary.read_text()
    _suite(suite.parent, {**SARATHI, "max_seqs": 2})
    assert main(["regress", str(suite), "--jobs", "1"]) == 1
    assert "worse    steady/ours ttft.p50" in capsys.readouterr().out
    assert main(["regress", str(suite.with_name("none.yaml"))]) == 2


def test_update_shows_what_changed_and_records_it(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _suite(suite.parent, {**SARATHI, "max_seqs": 2})
    assert main(["regress", str(suite), "--update", "--jobs", "1"]) == 0
    assert "worse    steady/ours ttft.p50" in capsys.readouterr().out
    assert regress(suite, jobs=1).ok


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hardware": "h100-sxm-80gb"}, r"other hardware \(a100-sxm-80gb; now h100-sxm-80gb\)"),
        ({"model": "llama-3.1-8b"}, r"another model \(llama-2-7b; now llama-3.1-8b\)"),
        ({"workload.count": 61}, "another workload"),
        ({"engine": "vllm-v0"}, "another engine"),
    ],
)
def test_baselines_of_another_stack_are_refused(suite: Path, change: dict[str, Any], message: str) -> None:
    entry = {"experiment": TINY, "set": {"workload.arrivals.rate_per_s": 20.0, **change}}
    _suite(suite.parent, workloads={"steady": entry})
    with pytest.raises(ConfigError, match=message):
        regress(suite, jobs=1)


def test_baselines_of_another_version_seed_or_case_are_refused(suite: Path) -> None:
    _suite(suite.parent, seeds=[0, 7])
    with pytest.raises(ConfigError, match="seeds 0, 1, 2, the suite asks for 0, 7"):
        regress(suite, jobs=1)
    _suite(suite.parent, policies={"ours": {}, "new": {}})
    with pytest.raises(ConfigError, match="steady/new: there is no baseline"):
        regress(suite, jobs=1)
    file = suite.with_name("gate.baseline.json")
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "simserve_version": "0.0.9"}))
    with pytest.raises(ConfigError, match=r"recorded with simserve 0\.0\.9"):
        regress(suite, jobs=1)
    file.write_text("{}")
    with pytest.raises(ConfigError, match="not a baseline"):
        regress(suite, jobs=1)
    file.unlink()
    with pytest.raises(ConfigError, match="--update"):
        regress(suite, jobs=1)


def test_a_case_that_cannot_run_is_a_failure_not_a_pass(suite: Path) -> None:
    _suite(suite.parent, policies={"ours": {SCHEDULER: SARATHI, "cluster.instances.0.kv": {"blocks": 2}}})
    report = regress(suite, jobs=1)
    assert report.exit_code == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kpis": [{"metric": "tttf.p99"}]}, r"gate.yaml:\d+:\d+: kpis.0.metric: unknown quantity 'tttf.p99'"),
        ({"kpis": [{"metric": "ttft.p99", "tolerance": "five"}]}, "kpis.0.tolerance: found text 'five'"),
        ({"workloads": {}}, "workloads"),
        ({"policy": {}}, "did you mean 'policies'"),
        ({"policies": {"ours": {"cluster.instances.0.scheduler": {"policy": "saratti"}}}}, "did you mean 'sarathi'"),
    ],
)
def test_mistakes_in_a_suite_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        regress(_suite(tmp_path, **changes), update=True, jobs=1)


def _kpi(tolerance: float, worse: str = "higher", relative: bool = True) -> Kpi:
    return Kpi(parse_quantity("ttft.p99"), tolerance, relative, worse)  # type: ignore[arg-type]


def test_the_band_decides() -> None:
    old = [1.0, 1.2, 0.9, 1.1, 1.0]
    assert judge("c", _kpi(0.05), old, [1.02 * v for v in old], False).verdict == "pass"
    assert judge("c", _kpi(0.05), old, [1.08 * v for v in old], False).verdict == "fail"
    assert judge("c", _kpi(0.05), old, [0.5 * v for v in old], False).verdict == "better"
    assert judge("c", _kpi(0.05, "lower"), old, [0.5 * v for v in old], False).verdict == "fail"
    assert judge("c", _kpi(0.05, "any"), old, [0.5 * v for v in old], False).verdict == "fail"
    noisy = [1.6, 0.9, 1.0, 0.8, 1.3]
    assert judge("c", _kpi(0.05), old, noisy, False).verdict == "unclear"
    assert judge("c", _kpi(0.05), old, noisy, True).verdict == "fail"


def test_what_is_not_defined_or_zero_is_not_passed_over() -> None:
    assert judge("c", _kpi(0.05), [1.0, 1.0], [None, 1.0], False).verdict == "fail"
    assert judge("c", _kpi(0.05), [None, None], [None, None], False).verdict == "pass"
    assert judge("c", _kpi(0.05), [0.0, 0.0], [0.0, 0.0], False).verdict == "pass"
    assert judge("c", _kpi(0.05), [0.0, 0.0], [0.0, 0.1], False).verdict == "fail"
    assert judge("c", _kpi(0.2, relative=False), [0.0, 0.0], [0.1, 0.1], False).verdict == "pass"


def test_error_rates_of_the_verdict() -> None:
    """With noise of 20 % a seed, half of it shared by pairing: no worse is rarely called worse, half as slow again nearly always is."""
    rng = np.random.default_rng(0)
    calls = {1.0: 0, 1.05: 0, 1.5: 0}
    for factor in calls:
        for _ in range(400):
            shared = rng.normal(0, 0.14, 5)
            old, new = (np.exp(shared + rng.normal(0, 0.14, 5)) for _ in range(2))
            calls[factor] += judge("c", _kpi(0.05), old.tolist(), (factor * new).tolist(), False).verdict == "fail"
    assert calls[1.0] <= 10 and calls[1.05] <= 20 and calls[1.5] >= 320
    assert not math.isnan(sum(calls.values()))


def test_the_suite_of_our_own_policies_is_complete() -> None:
    from simserve.policies import registry

    loaded = load_suite(Path(__file__).parents[2] / "experiments" / "suites" / "gate.yaml")
    judged = {case.name.split("/")[1] for case in loaded.cases}
    assert judged >= set(registry._BUILT_IN_SCHEDULERS), "a policy without a case in experiments/suites/gate.yaml"


def test_the_pytest_plugin(pytester: pytest.Pytester) -> None:
    _suite(pytester.path)
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.simserve_suite("gate.yaml", jobs=1)
        def test_gate(simserve_suite):
            assert simserve_suite.ok, simserve_suite.text()
        """
    )
    installed = any(point.value == "simserve.study.pytest_plugin" for point in entry_points(group="pytest11"))
    # hypothesis' plugin would import all of itself anew in each of the four sessions inside this one, most of this test's time.
    options = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", *(() if installed else ("-p", "simserve.study.pytest_plugin")))
    missing = pytester.runpytest(*options)
    missing.assert_outcomes(errors=1)
    missing.stdout.fnmatch_lines(["*no baselines yet; record them with --update*"])
    pytester.runpytest(*options, "--simserve-update").assert_outcomes(passed=1)
    pytester.runpytest(*options).assert_outcomes(passed=1)
    _suite(pytester.path, {**SARATHI, "token_budget": 64})
    worse = pytester.runpytest(*options)
    worse.assert_outcomes(failed=1)
    worse.stdout.fnmatch_lines(["*worse*steady/ours ttft.p50*"])
