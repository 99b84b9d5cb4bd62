"""Reads steps.parquet and draws the steps to replay: as many of each regime as there are, spread over their sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simserve.calibration.replay.plan import DECODE, MIXED, PREFILL
from simserve.errors import ConfigError

COLUMNS = (
    *("instance", "lane", "step", "start_s", "end_s", "decode_requests", "context_tokens"),
    *("prefill_requests", "prefill_tokens", "prefill_pairs"),
)
_CANDIDATES = 200_000
Steps = dict[str, NDArray[Any]]


def read_steps(path: Path, instance: int) -> Steps:
    """The steps of one instance by column. Raises ConfigError: not a steps file, a column missing, no such instance, not finite times."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    if not path.is_file():
        raise ConfigError(f"{path}: no such file; 'simserve run --steps' writes steps.parquet")
    try:
        table = parquet.read_table(path)
    except (pa.ArrowInvalid, OSError) as problem:
        raise ConfigError(f"{path}: cannot be read as Parquet ({str(problem).splitlines()[0]})") from None
    missing = [c for c in COLUMNS if c not in table.column_names]
    if missing:
        raise ConfigError(f"{path}: column {', '.join(missing)} is missing; found {', '.join(table.column_names)}")
    steps: Steps = {c: table.column(c).to_numpy() for c in COLUMNS}
    known = np.unique(steps["instance"])
    if instance not in known:
        raise ConfigError(f"{path}: no steps of instance {instance}; there are {', '.join(map(str, known.tolist())) or 'none at all'}")
    chosen = steps["instance"] == instance
    steps = {c: values[chosen] for c, values in steps.items()}
    if not np.all(np.isfinite(steps["end_s"]) & np.isfinite(steps["start_s"]) & (steps["end_s"] > steps["start_s"])):
        raise ConfigError(f"{path}: a step has no finite, positive duration")
    if "layer_groups" in table.column_names and table.column("layer_groups").to_numpy()[chosen].max(initial=1) > 1:
        raise ConfigError(f"{path}: prompts of instance {instance} pass through layer groups; replay executes steps of all layers")
    if steps["lane"].max(initial=0) > 0:
        raise ConfigError(f"{path}: instance {instance} is a pipeline of several stages; replay executes instances of one stage (pp 1)")
    return steps


def regimes(steps: Steps) -> NDArray[np.str_]:
    """Regime of each step."""
    decodes, prefills = steps["decode_requests"] > 0, steps["prefill_requests"] > 0
    return np.where(decodes & prefills, MIXED, np.where(decodes, DECODE, PREFILL))


def draw(steps: Steps, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Indices of at most `count` steps: equal parts of the regimes that occur, and inside one evenly over the order of durations,
    so that the shortest and the longest steps are among them."""
    kind = regimes(steps)
    duration = steps["end_s"] - steps["start_s"]
    present = [name for name in (DECODE, MIXED, PREFILL) if (kind == name).any()]
    chosen: list[int] = []
    left = count
    rarest_first = sorted(present, key=lambda n: int((kind == n).sum()))  # what a rare regime leaves goes to the others
    for place, name in enumerate(rarest_first):
        members = np.flatnonzero(kind == name)
        if len(members) > _CANDIDATES:
            members = np.sort(generator.choice(members, _CANDIDATES, replace=False))
        quota = min(len(members), max(1, left // (len(present) - place)))
        left -= quota
        ordered = members[np.argsort(duration[members], kind="stable")]
        chosen += ordered[np.unique(np.linspace(0, len(ordered) - 1, quota).round().astype(int))].tolist()
    return np.array(sorted(chosen[:count] if len(chosen) > count else chosen), dtype=np.int64)
