"""Experiments that check a paper: variants run, claims are judged by their bands, mistakes are named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from simserve.config.claims import ClaimSection, PaperSection, band
from simserve.errors import ConfigError
from simserve.study.claims import record as claims_record
from simserve.study.claims.check import check_claims
from simserve.study.claims.move import Multiplied

BASE: dict[str, Any] = {
    "name": "paper",
    "model": "llama-2-7b",
    "hardware": "a100-sxm-80gb",
    "workload": {
        "arrivals": {"kind": "poisson", "rate_per_s": 2.0},
        "lengths": {"prompt": {"kind": "fixed", "tokens": 600}, "output": {"kind": "fixed", "tokens": 40}},
        "count": 40,
    },
    "cluster": {"instances": [{}]},
    "variants": {
        "small": {"cluster.instances.0.scheduler": {"policy": "sarathi", "token_budget": 128}},
        "large": {"cluster.instances.0.scheduler": {"policy": "sarathi", "token_budget": 1024}},
    },
    "claims": [
        {"figure": "itl.p99", "of": ["small", "large"], "order": True},
        {"figure": "itl.p99", "of": ["large", "small"], "order": True},
        {"figure": "ttft.p50", "of": ["large"], "published": 1000.0, "within": 0.1},
        {"figure": "ttft.p50", "of": ["small", "large"], "at_least": 1.0},
    ],
}


def test_small_chunks_mean_short_gaps_and_late_first_tokens() -> None:
    report = check_claims(BASE)
    assert [outcome.reproduced for outcome in report.outcomes] == [True, False, False, True]
    ratio = report.outcomes[3]
    assert ratio.ours == pytest.approx(ratio.values["small"] / ratio.values["large"])  # type: ignore[operator]
    assert set(report.results) == {"small", "large"}


@pytest.mark.parametrize(
    ("claim", "low", "high"),
    [
        ({"of": ["a"], "published": 0.68, "within": 0.25}, 0.51, 0.85),
        ({"of": ["a", "b"], "published": 1.9, "within": 0.2, "of_gain": True}, 1.72, 2.08),
        ({"of": ["a", "b"], "at_most": 0.25}, float("-inf"), 0.25),
        ({"of": ["a"], "published": 2.0, "within": 0.5, "at_least": 1.8}, 1.8, 3.0),
    ],
)
def test_bands(claim: dict[str, Any], low: float, high: float) -> None:
    assert band(ClaimSection(figure="ttft.p50", **claim)) == pytest.approx((low, high))


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ({"figure": "itl.p99", "of": ["smal"], "at_most": 1}, "did you mean 'small'"),
        ({"figure": "tfft.p50", "of": ["small"], "at_most": 1}, "tfft"),
        ({"figure": "itl.p99", "of": ["small"]}, "needs a band"),
        ({"figure": "itl.p99", "of": ["small"], "within": 0.1}, "needs the published value"),
        ({"figure": "itl.p99", "of": ["small", "large", "small"], "at_most": 1}, "order: true"),
    ],
)
def test_mistakes_are_named(claim: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_claims({**BASE, "claims": [claim]})


def test_a_variant_with_an_unknown_key_is_an_error() -> None:
    with pytest.raises(ConfigError, match="token_budge"):
        check_claims({**BASE, "variants": {"x": {"cluster.instances.0.scheduler": {"policy": "sarathi", "token_budge": 1}}}, "claims": []})


def test_a_number_is_moved_in_each_variant_as_that_variant_has_it() -> None:
    """Twice the prompt, twice the chunk of each: the figures are those of an experiment written so."""
    moved = check_claims(BASE, moved=Multiplied(("cluster.instances.0.scheduler.token_budget", "workload.lengths.prompt"), 2.0))
    written = check_claims(
        BASE
        | {"workload": BASE["workload"] | {"lengths": BASE["workload"]["lengths"] | {"prompt": {"kind": "fixed", "tokens": 1200}}}}
        | {"variants": {name: {"cluster.instances.0.scheduler": {"policy": "sarathi", "token_budget": budget}}
                        for name, budget in (("small", 256), ("large", 2048))}}
    )  # fmt: skip
    assert [outcome.values for outcome in moved.outcomes] == [outcome.values for outcome in written.outcomes]
    assert moved.outcomes[2].values != check_claims(BASE).outcomes[2].values


def test_a_chosen_number_that_no_variant_has_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    paper = PaperSection.model_validate(
        {"title": "t", "reference": "r", "sensitivity": {"workload.arrivals.rate_per_s": {"factors": [2], "together_with": ["probes.x"]}}}
    )
    monkeypatch.setattr(claims_record, "check_claims", lambda name, **_: check_claims(BASE, **_))
    with pytest.raises(ConfigError, match=r"no variant has a number at 'probes.x'"):
        claims_record.moved_numbers("paper", paper)


def test_run_writes_a_folder_per_variant_and_the_claims(tmp_path: Path) -> None:
    path = tmp_path / "paper.yaml"
    path.write_text(json.dumps(BASE))
    command = [sys.executable, "-m", "simserve", "run", str(path), "--out", str(tmp_path / "out"), "--json", "--no-plots", "--no-report"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    printed = json.loads(done.stdout)
    assert printed == json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [claim["reproduced"] for claim in printed["claims"]] == [True, False, False, True]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"small", "large", "summary.json"}
