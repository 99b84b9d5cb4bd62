"""What was learned from measured runs, as it ships: `residuals.yaml`, written by `python -m benchmarks.measured_runs report`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from simserve.files.yaml_values import read_values
from simserve.uncertainty.cancelling import Remains
from simserve.uncertainty.kinds import NEXT, TAIL, WHOLE
from simserve.uncertainty.learning import Spread, spread_at

FILE = Path(__file__).parent / "residuals.yaml"

BETWEEN = " / "
"""Between the names of groups that lie in each other."""


class Residuals(NamedTuple):
    """The spread of each group, the largest mean lengths of the measured runs of an engine profile on a device, and what does not cancel
    between two runs, by kind of figure and what they share."""

    spreads: Mapping[tuple[str, ...], Spread]
    lengths: Mapping[tuple[str, str], Mapping[str, float]]
    differences: Mapping[tuple[str, str], Remains] = {}

    def spread(self, path: tuple[str, ...]) -> Spread | None:
        """Of the narrowest known group along the path; see `learning.spread_at`. A tail is no surer than the figures that it is
        the tail of, and as sure where too few models had theirs measured; whole requests of which that is true are as sure as their further
        tokens, which most of their time is made of."""
        found = spread_at(self.spreads, path)
        if not path[0].endswith(TAIL):
            return found or (self.spread((NEXT, *path[1:])) if path[0] == WHOLE else None)
        mean = self.spread((path[0].removesuffix(TAIL), *path[1:]))
        if found is None or mean is None:
            return found or mean
        return found._replace(low=max(found.low, mean.low), high=max(found.high, mean.high))

    def seen(self, engine: str, device: str) -> Mapping[str, float]:
        """The largest mean lengths of measured runs; empty where there are none."""
        return self.lengths.get((engine, device), {})


@lru_cache(maxsize=4)
def load(file: Path = FILE) -> Residuals:
    """What ships; nothing where the file is missing."""
    if not file.is_file():
        return Residuals({}, {})
    found = read_values(file).data
    spreads = {tuple(path.split(BETWEEN)): Spread(*values) for path, values in found["spreads"].items()}
    lengths = {tuple(key.split(BETWEEN)): dict(zip(("prompt", "output"), values, strict=True)) for key, values in found["lengths"].items()}
    differences = {tuple(key.split(BETWEEN)): Remains(*values) for key, values in found.get("differences", {}).items()}
    return Residuals(spreads, lengths, differences)


def document(learned: Residuals, notes: list[str]) -> str:
    """The text of the file; `notes` become comments at its head."""
    spreads, lengths, differences = learned
    lines = [f"# {note}" for note in notes]
    lines.append("spreads:  # kind of figure / dense or experts / label / engine: [ln of what remains below, above, models, rows]")
    lines += [
        f"  {BETWEEN.join(path)}: [{found.low:.4f}, {found.high:.4f}, {found.models}, {found.rows}]"
        for path, found in sorted(spreads.items())
    ]
    lines.append("differences:  # kind of figure / what two runs share: [floor, slope, models, pairs]")
    lines += [f"  {BETWEEN.join(key)}: [{d.floor:.4f}, {d.slope:.4f}, {d.models}, {d.pairs}]" for key, d in sorted(differences.items())]
    lines.append("lengths:  # engine profile / device: [largest mean prompt, largest mean answer] of measured runs, tokens")
    lines += [f"  {BETWEEN.join(key)}: [{found['prompt']:.0f}, {found['output']:.0f}]" for key, found in sorted(lengths.items())]
    return "\n".join(lines) + "\n"
