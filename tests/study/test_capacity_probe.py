"""Claims about capacity, and about the best of several variants."""

from __future__ import annotations

from typing import Any

import pytest

from simserve.config.experiment import load
from simserve.errors import ConfigError
from simserve.study.capacity.search import capacity
from simserve.study.claims.check import check_claims
from simserve.study.probes import evaluate
from tests.study.test_claims import BASE as PAPER

BASE: dict[str, Any] = {
    **PAPER,
    "name": "limits",
    "workload": {**PAPER["workload"], "count": 150},
    "cluster": {"instances": [{"scheduler": {"policy": "sarathi", "token_budget": 512}}]},
    "probes": {"most": {"measure": "capacity", "when": "itl.p99 <= 0.06", "tolerance": 0.1}},
    "variants": {"small": {"cluster.instances.0.scheduler.token_budget": 256}, "large": {}},
    "claims": [{"figure": "probes.most", "of": ["small", "large"], "at_least": 0.0}],
}


def test_it_is_what_the_capacity_command_finds() -> None:
    (outcome,) = check_claims(BASE).outcomes
    for variant, change in BASE["variants"].items():
        experiment = load({**BASE, "variants": {}, "claims": []}, change)
        found = capacity(experiment, "itl.p99 <= 0.06", tolerance=0.1, replicates=1, jobs=1)
        assert outcome.values[variant] == found.rate


def test_another_figure_at_that_load() -> None:
    probes = {"speed": {"measure": "capacity", "when": "itl.p99 <= 0.06", "tolerance": 0.1, "report": "throughput.output_tokens"}}
    rate = evaluate(load(BASE)).values["most"]
    speed = evaluate(load({**BASE, "probes": probes, "claims": []})).values["speed"]
    assert rate is not None and speed is not None
    assert 0.7 * 40 * rate < speed < 1.1 * 40 * rate  # 40 tokens a request; the last ones arrive late in a short run


def test_a_figure_of_no_standard_row_is_named_in_time() -> None:
    probes = {"speed": {"measure": "capacity", "when": "itl.p99 <= 0.06", "report": "ttft.p98"}}
    with pytest.raises(ConfigError, match=r"ttft\.p98"):
        evaluate(load({**BASE, "probes": probes, "claims": []}))


def test_never_is_no_load_at_all_and_always_is_an_error() -> None:
    def asked(when: str) -> Any:
        probes = {"most": {"measure": "capacity", "when": when, "tolerance": 0.2}}
        return evaluate(load({**BASE, "probes": probes, "claims": []}, {"workload.count": 6}))

    assert asked("itl.p99 <= 0.0001").values == {"most": 0.0}
    with pytest.raises(ConfigError, match=r"probes.most: Always holds"):
        asked("ttft.p50 <= 1000")


def test_capacities_are_searched_for_only_where_a_claim_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("simserve.study.probes._capacity", lambda experiment, name, probe: asked.append(experiment.name) or 1.0)
    claims = [{"figure": "probes.most", "of": ["small"], "at_least": 0}, {"figure": "ttft.p50", "of": ["large"], "at_least": 0}]
    report = check_claims({**BASE, "claims": claims})
    assert asked == ["limits.small"]
    assert [outcome.reproduced for outcome in report.outcomes] == [True, True]


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        ({"measure": "decode_s", "when": "itl.p99 <= 1"}, "when is for capacity"),
        ({"measure": "capacity", "tolerance": 2}, "expected a number < 1"),
        ({"measure": "capacity", "part": "gemm"}, "part is for decode_s"),
        ({"measure": "capacity", "when": "itl.p99 <= fast"}, "fast"),
        ({"measure": "capacity"}, "say what must hold"),
    ],
)
def test_mistakes_are_named(probe: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        evaluate(load({**BASE, "probes": {"most": probe}, "claims": []}))


def test_a_star_stands_for_the_best_of_its_variants() -> None:
    variants = {f"rate_{rate}": {"workload.arrivals.rate_per_s": rate, "workload.count": 40} for rate in (1, 2, 3)}
    claims = [
        {"figure": "throughput.requests", "of": ["rate_*"], "at_least": 0},
        {"figure": "throughput.requests", "of": ["rate_*", "rate_3"], "published": 1, "within": 0.001},
    ]
    report = check_claims({**BASE, "probes": {}, "variants": variants, "claims": claims})
    each = [check_claims({**BASE, "probes": {}, "variants": {n: v}, "claims": [{**claims[0], "of": [n]}]}) for n, v in variants.items()]
    assert report.outcomes[0].ours == max(one.outcomes[0].ours or 0 for one in each)
    assert report.outcomes[1].reproduced
    with pytest.raises(ConfigError, match=r"unknown variant 'fast\*'"):
        check_claims({**BASE, "probes": {}, "variants": variants, "claims": [{**claims[0], "of": ["fast*"]}]})
