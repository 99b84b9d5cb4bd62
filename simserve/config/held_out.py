"""When an engine profile's overheads count as validated: a rule over runs that they were not learned from, never a flag.

The facts are recorded by the commands that compare (`python -m benchmarks.measured_runs report` for the bundled profiles, `simserve
fit-engine` in the profile it writes), sealed with the overheads they are of. Whatever changes either, a hand or a `--set`, ends it.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from simserve.config.section import Section
from simserve.files.yaml_values import read_values

RECORD = Path(__file__).parent / "engine_accuracy.yaml"

LEAST_RUNS = 5
"""Held-out runs that are needed. The true median lies between the smallest and the largest error of five runs with 94 % (1 - 2 / 2^5),
whatever the distribution; of four with 88 %."""

MOST_ERROR_PERCENT = 25.0
"""Largest median error of any metric: the band in which a published figure counts as reproduced here (docs/serving-accuracy.md)."""


_RATES = frozenset({"output_tokens_per_s"})
"""Metrics that are shown and do not count: a run whose load is given has that rate whatever the overheads are."""


class MetricError(Section):
    """A metric's error on held-out runs."""

    runs: int = Field(ge=1, description="Runs in which it was measured and predicted.")
    median_percent: float = Field(ge=0, description="Median over the runs of each run's median absolute error, percent.")


class HeldOut(Section):
    """How an engine profile's overheads did on runs that they were not learned from."""

    runs: int = Field(ge=0)
    rows: int = Field(ge=0)
    models: int = Field(ge=0, description="Different models among the runs.")
    metrics: dict[str, MetricError] = Field(default_factory=dict)
    how: str = Field(default="", description="How the runs were kept out.")
    seal: str = Field(default="", description="Digest of the above and of the overheads that were compared.")

    def sealed(self, overheads: Mapping[str, Any]) -> HeldOut:
        """The same with the seal of these overheads."""
        return self.model_copy(update={"seal": self._digest(overheads)})

    def is_of(self, overheads: Mapping[str, Any]) -> bool:
        """Whether these facts were recorded, as they are, for these overheads."""
        return self.seal == self._digest(overheads)

    def _digest(self, overheads: Mapping[str, Any]) -> str:
        text = json.dumps({"facts": self.model_dump(exclude={"seal"}), "overheads": overheads}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Verdict(NamedTuple):
    """Whether overheads are validated, and the runs and the error that say so."""

    validated: bool
    words: str


def verdict_on(found: HeldOut | None, overheads: Mapping[str, Any]) -> Verdict:
    """The rule: some time was held out in `LEAST_RUNS` runs, and none that was is off by more than `MOST_ERROR_PERCENT` at the median."""
    if found is None:
        return Verdict(False, "never compared with runs that were kept from it")
    if not found.is_of(overheads):
        return Verdict(False, "its overheads are not those that were compared")
    runs = f"{found.runs} held-out {'run' if found.runs == 1 else 'runs'}"
    times = {name: metric for name, metric in found.metrics.items() if name not in _RATES}
    judged = {name: metric for name, metric in times.items() if metric.runs >= LEAST_RUNS}
    shown = judged or times or found.metrics
    if not shown:
        return Verdict(False, runs)
    worst = max(shown, key=lambda name: shown[name].median_percent)
    words = f"{runs}, {shown[worst].median_percent:.0f} % median error ({worst})"
    return Verdict(bool(judged) and shown[worst].median_percent <= MOST_ERROR_PERCENT, words)


def recorded(name: str) -> HeldOut | None:
    """The record of a bundled engine profile, None when it was never compared."""
    return _records().get(name)


@functools.lru_cache(maxsize=1)
def _records() -> dict[str, HeldOut]:
    if not RECORD.is_file():
        return {}
    return {name: HeldOut.model_validate(entry) for name, entry in read_values(RECORD).data.get("engines", {}).items()}
