"""The accuracy regression gate: a fixed small subset of measured runs may not be predicted worse than it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from benchmarks.measured_runs import TABLES
from simserve.validation.evaluate import predict_one
from simserve.validation.readers import read_directory

MEASUREMENTS = Path(__file__).parents[2] / ".." / "shared" / "serving_measurements"
GATE = yaml.safe_load((Path(__file__).parent / "accuracy_gate.yaml").read_text(encoding="utf-8"))
SLACK_PERCENT = 1.5
"""A median may grow by this much before the gate closes: refitted kernels move it by less."""


@pytest.mark.shared
@pytest.mark.skipif(not MEASUREMENTS.is_dir(), reason="needs ../shared/serving_measurements")
@pytest.mark.parametrize("entry", GATE["subsets"], ids=lambda e: e["name"])
def test_accuracy_has_not_fallen(entry: dict) -> None:  # type: ignore[type-arg]
    import numpy as np

    cases = [
        c
        for c in read_directory(MEASUREMENTS, entry["dataset"], readers=TABLES)
        if entry["contains"] in f"{c.profile}/{c.gpu}/{c.model}/{c.label}"
    ]
    cases = [c for c in cases if not c.skip][:: entry.get("every", 1)]
    outcomes = [predict_one(case) for case in cases]
    predicted = [o for o in outcomes if o.predicted]
    assert len(predicted) >= entry["runs"], f"coverage has shrunk: {[o.skip for o in outcomes if o.skip][:3]}"
    for metric, limit in entry["median_percent"].items():
        errors = [abs(o.errors_percent()[metric]) for o in predicted if metric in o.errors_percent()]
        assert float(np.median(errors)) <= limit + SLACK_PERCENT, f"{entry['name']}: {metric} is off by {np.median(errors):.1f} %"
