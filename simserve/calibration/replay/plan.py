"""The plan of a replay: the model, the sampled steps and what was predicted for each. JSON, so that it can travel to the device."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from simserve.calibration.replay.composition import Chunk
from simserve.errors import ConfigError

SCHEMA = "simserve-replay/1"
DECODE, MIXED, PREFILL = "decode", "mixed", "prefill"


@dataclass(frozen=True, slots=True)
class ReplayStep:
    """One step to execute. Times in seconds.

    contexts      tokens each decoding request attends, itself included
    graph_tokens  the batch is padded to this size and runs in a CUDA graph; 0 = kernels launched one by one
    simulated_s   the step's time in the run
    predicted_s   what the kernels were predicted to take: without host work and without communication between devices
    exact         whether the composition is the run's own, not rebuilt from totals
    """

    instance: int
    lane: int
    step: int
    contexts: tuple[int, ...]
    chunks: tuple[Chunk, ...]
    graph_tokens: int
    simulated_s: float
    predicted_s: float
    exact: bool

    @property
    def regime(self) -> str:
        """Decode only, prefill only, or mixed."""
        return MIXED if self.contexts and self.chunks else DECODE if self.contexts else PREFILL


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """`model` is a bundled name or the path of a config.json; `basis`: where `predicted_s` comes from; `steps_in_run` counts the run's."""

    model: str
    quantisation: str | None
    tp: int
    ep: int
    basis: str
    steps_in_run: dict[str, int]
    notes: tuple[str, ...]
    steps: tuple[ReplayStep, ...]

    def write(self, path: Path) -> None:
        """Write the plan as JSON."""
        path.write_text(json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n", encoding="utf-8")


def read_plan(path: Path) -> ReplayPlan:
    """Read a plan. Raises ConfigError for a file that is none, or of another version."""
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if data.pop("schema", None) != SCHEMA:
            raise ConfigError(f"{path}: not a replay plan of this version ({SCHEMA})")
        steps = tuple(
            ReplayStep(**step | {"contexts": tuple(step["contexts"]), "chunks": tuple((int(n), int(c)) for n, c in step["chunks"])})
            for step in data.pop("steps")
        )
        return ReplayPlan(**data | {"notes": tuple(data["notes"])}, steps=steps)
    except OSError as problem:
        raise ConfigError(f"{path}: cannot be read: {problem.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise ConfigError(f"{path}: not a replay plan ({problem})") from None
