"""Sections whose modules load with their first value are as if they stood in the schema: mistakes, values, description."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from simserve.config.experiment import load
from simserve.config.later import later
from simserve.config.plan_section import PlanSection
from simserve.config.schema import ExperimentSpec
from simserve.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]

BASE: dict[str, Any] = {
    "model": "llama-2-7b",
    "hardware": "a100-sxm-80gb",
    "workload": {
        "arrivals": {"kind": "poisson", "rate_per_s": 1},
        "lengths": {"prompt": {"kind": "fixed", "tokens": 9}, "output": {"kind": "fixed", "tokens": 9}},
        "count": 3,
    },
}

LATER = {
    "simserve.config.claims": ("claims", [{"figure": "ttft.p50", "of": ["a"], "at_most": 1.0}]),
    "simserve.config.failures_section": ("cluster", {"failures": {"mtbf_s": 100.0}}),
    "simserve.config.plan_section": ("plan", {"tp": [1, 2]}),
    "simserve.config.probes": ("probes", {"one": {"measure": "decode_s"}}),
    "simserve.config.provisioning_section": ("cluster", {"node_pools": [{"max_nodes": 2, "provision_s": 60.0}]}),
    "simserve.config.speculation_section": ("speculation", {"method": "mtp", "tokens": 0}),
}


def loaded(data: Any) -> set[str]:
    """Modules of sections that a process has loaded after it has validated this."""
    code = f"import sys, json\nfrom simserve.config.schema import ExperimentSpec as E\nE.model_validate(json.loads({json.dumps(data)!r}))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(*sys.modules)"], capture_output=True, text=True, check=True, timeout=60, env=environment
    )
    return set(done.stdout.split()) & set(LATER)


def test_a_section_loads_when_it_is_stated_and_not_before() -> None:
    assert loaded(BASE) == set()
    assert loaded(BASE | {"plan": {"tp": [1]}}) == {"simserve.config.plan_section"}
    assert loaded(BASE | dict(LATER.values())) == set(LATER) - {"simserve.config.failures_section"}  # of two values of `cluster` the last


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"plan": {"bogus": 1}}, r":\d+:\d+: plan.bogus: unknown key. Allowed: .*budget"),
        ({"plan": {"tp": [0]}}, r":\d+:\d+: plan.tp.0: found 0, expected a number >= 1"),
        ({"plan": {"speculation": [{"tokens": -1}]}}, r":\d+:\d+: plan.speculation.0.tokens: found -1"),
        ({"plan": {"speculation": ["none", {"tokens": -1}]}}, r"^\S+: plan.speculation.1.tokens: found -1, expected a number >= 0$"),
        (
            {"workload": {**BASE["workload"], "max_output_tokens": {"a": 1}}},
            r": workload.max_output_tokens: found a mapping, expected a whole",
        ),
        ({"plan": 3}, r":\d+:\d+: plan: found 3, expected a mapping"),
        ({"speculation": {"acceptance": {"rate": 2}}}, r":\d+:\d+: speculation.acceptance.rate: found 2, expected a number <= 1"),
        ({"cluster": {"node_pools": [{"max_nodes": 0, "provision_s": 1}]}}, r"cluster.node_pools.0.max_nodes: found 0, expected 1 or more"),
        ({"cluster": {"instances": [{"start": {}}]}}, r"cluster.instances.0.start: states not how long the weights load"),
        ({"claims": [{"figure": "ttft.p50"}]}, r"claims.0.of: this key is required and missing"),
        ({"probes": {"one": {"measure": "speed"}}}, r"probes.one.measure: found text 'speed'.*decode_s"),
    ],
)
def test_mistakes_in_them_have_their_key_and_their_place(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(BASE | changes)


def test_values_are_sections_and_are_written_as_such() -> None:
    spec = ExperimentSpec.model_validate(BASE | {"plan": {"tp": [1, 2], "speculation": ["none"]}, "speculation": {"tokens": 2}})
    assert isinstance(spec.plan, PlanSection) and spec.plan.tp == (1, 2)
    stated = spec.model_dump(exclude_unset=True)
    assert stated["plan"] == {"tp": (1, 2), "speculation": ("none",)} and stated["speculation"] == {"tokens": 2}
    assert spec.model_dump(mode="json", exclude_none=True)["plan"]["tp"] == [1, 2]
    with pytest.raises(ValueError, match="frozen"):
        spec.plan.tp = None  # type: ignore[misc]


def test_the_schema_describes_each_once_by_its_name() -> None:
    schema = ExperimentSpec.model_json_schema()
    names = {"ClaimSection", "PaperSection", "FailuresSection", "PlanSection", "ProbeSection", "NodePoolSection", "StartSection"}
    assert names | {"SpeculationSection", "AcceptanceSection", "BudgetSection"} <= set(schema["$defs"])
    assert not [name for name in schema["$defs"] if "__" in name], "two things of one name"
    assert schema["properties"]["claims"]["items"] == {"$ref": "#/$defs/ClaimSection"}
    own = {key: value for key, value in PlanSection.model_json_schema().items() if key != "$defs"}
    assert schema["$defs"]["PlanSection"] == own
    assert later("claims", "ClaimSection") is later("claims", "ClaimSection")
