"""The accuracy regression gate: a small fixed subset of measured runs may not be predicted worse than it was, by overheads learned
without their model, their device or their engine's version."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from benchmarks.measured_runs import TABLES
from benchmarks.measured_runs.learn import LEFT_OUT, read_left_out
from benchmarks.measured_runs.lessons import PARAMETERS
from benchmarks.measured_runs.runs import FOLDERS, SHARED
from simserve.config.engine_profile import load_engine
from simserve.validation import physical
from simserve.validation.leave_out import left_out
from simserve.validation.machine import overheads_of
from simserve.validation.overhead_values import value
from simserve.validation.readers import read_directory
from simserve.validation.split import GROUPINGS

GATE = yaml.safe_load((Path(__file__).parent / "accuracy_gate.yaml").read_text(encoding="utf-8"))
SLACK_PERCENT = 1.5
"""A median may grow by this much before the gate closes: refitted kernels move it by less."""


@pytest.mark.shared
@pytest.mark.skipif(not (SHARED / FOLDERS[0]).is_dir(), reason="needs ../shared/serving_measurements")
@pytest.mark.parametrize("entry", GATE["subsets"], ids=lambda e: e["name"])
def test_accuracy_on_what_was_left_out_has_not_fallen(entry: dict) -> None:  # type: ignore[type-arg]
    import numpy as np

    cases = [
        c
        for c in read_directory(SHARED / FOLDERS[0], entry["dataset"], readers=TABLES)
        if entry["contains"] in f"{c.profile}/{c.gpu}/{c.model}/{c.label}"
    ]
    cases = [c for c in cases if not c.skip][:: entry.get("every", 1)]
    outcomes = left_out(cases, read_left_out()[entry["without"]], entry["without"], workers=1)
    predicted = [o for o in outcomes if o.predicted]
    assert len(predicted) >= entry["runs"], f"coverage has shrunk: {[o.skip for o in outcomes if o.skip][:3]}"
    for metric, limit in entry["median_percent"].items():
        errors = [abs(o.errors_percent()[metric]) for o in predicted if metric in o.errors_percent()]
        assert float(np.median(errors)) <= limit + SLACK_PERCENT, f"{entry['name']}: {metric} is off by {np.median(errors):.1f} %"


def test_the_gate_judges_by_each_way_of_leaving_out() -> None:
    assert {entry["without"] for entry in GATE["subsets"]} == set(GROUPINGS)


def test_every_learned_overhead_is_one_that_can_be() -> None:
    """Of the bundled profiles, and of what was learned without each group."""
    for profile, names in PARAMETERS.items():
        overheads = overheads_of(load_engine(profile))
        for name in names:
            allowed = physical.RANGES[name]
            assert allowed.least_s <= value(overheads, name) <= allowed.largest_s, f"{profile}: {name}"
    assert LEFT_OUT.is_file()
    for groups in read_left_out().values():
        for profiles in groups.values():
            for values in profiles.values():
                assert all(physical.RANGES[name].least_s <= seconds <= physical.RANGES[name].largest_s for name, seconds in values.items())
