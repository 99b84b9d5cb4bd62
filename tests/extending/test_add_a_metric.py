"""A latency of another package (tests/report/test_metric_of_a_package.py follows one everywhere where metrics are)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.extending.package import Package

AFTER = """
from simserve.catalogue import Metric

after_first = Metric(
    "after_first_s", "after_first", "After first", "after the first token", "After the first token", "finish_s - first_token_s",
    target="First token to last, seconds.", formula=lambda records, gaps: records.requests.finish_s - records.requests.first_token_s,
)
"""

POINTS = '[project.entry-points."simserve.metrics"]\nafter-first = "after:after_first"\n'

EXPERIMENT = """\
model: llama-2-7b
hardware: a100-sxm-80gb
workload:
  arrivals: {kind: constant, rate_per_s: 4}
  lengths: {prompt: {kind: fixed, tokens: 100}, output: {kind: uniform, low_tokens: 2, high_tokens: 60}}
  count: 40
slo: {after_first_s: 0.4}
"""


def test_it_is_a_column_and_a_limit(tmp_path: Path) -> None:
    package = Package(tmp_path, "after-first", {"after.py": AFTER}, POINTS)
    summary, requests = package.run(EXPERIMENT)
    assert requests.after_first_s.to_numpy() == pytest.approx((requests.finish_s - requests.first_token_s).to_numpy())
    assert summary["slo"]["all"]["attainment_by_limit"]["after_first_s"] == (requests.after_first_s <= 0.4).mean()
    assert 0 < (requests.after_first_s <= 0.4).mean() < 1
