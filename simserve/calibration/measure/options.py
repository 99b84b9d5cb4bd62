"""What to measure, as the command line says it. Checked here, so that both command lines answer alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from simserve.calibration.measure.points import GEMM_DTYPES, MODES, OPERATORS
from simserve.errors import ConfigError, nearest

GRAPHS = {"on": ("graph",), "off": ("eager",), "both": ("graph", "eager")}


@dataclass(frozen=True, slots=True)
class MeasureOptions:
    """One measurement.

    device         `cuda`, `cuda:1`, `npu`, `cpu`
    operators      of points.OPERATORS
    dtypes         None = bf16, or with models the types they are stored in
    models, tp, ep  measure exactly the shapes of these models on each number of tensor-parallel (and expert-parallel) ranks
    quick          the coarse grid only
    time_budget_s  stop in time; the most valuable points come first
    graphs         inside CUDA graphs (`on`), launched one by one (`off`), or `both`; devices without graphs ignore it
    attention      implementations; None = the best one that is installed
    max_ranks      largest group for collectives; None = the devices of this machine (2 processes on the CPU)
    flush_l2       also flush the cache before every call
    retry_failed   measure again what failed in an earlier run into the same directory
    """

    device: str
    out: Path
    operators: tuple[str, ...] = OPERATORS
    dtypes: tuple[str, ...] | None = None
    models: tuple[str, ...] = ()
    tp: tuple[int, ...] = (1,)
    ep: int = 1
    quick: bool = False
    time_budget_s: float | None = None
    graphs: str = "on"
    attention: tuple[str, ...] | None = None
    max_ranks: int | None = None
    repeats: int = 11
    flush_l2: bool = False
    retry_failed: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises ConfigError naming the option, what was found and what is allowed."""
        from simserve.calibration.measure.attention_kernels import PLANS

        kernels, dtypes = self.attention or (), self.dtypes or ()
        for option, given, names in (
            ("--ops", self.operators, OPERATORS),
            ("--dtype", dtypes, GEMM_DTYPES),
            ("--attention", kernels, tuple(PLANS)),
        ):
            for word in given:
                if word not in names:
                    raise ConfigError(f"{option} {word}: unknown{nearest(word, names)}")
        if not self.operators:
            raise ConfigError(f"--ops: nothing to measure. Allowed: {', '.join(OPERATORS)}")
        if self.graphs not in GRAPHS:
            raise ConfigError(f"--graphs {self.graphs}: unknown{nearest(self.graphs, GRAPHS)}")
        if self.time_budget_s is not None and not self.time_budget_s > 0:
            raise ConfigError(f"--time-budget-s is {self.time_budget_s}, it must be more than 0 seconds")
        if self.repeats < 3:
            raise ConfigError(f"--repeats is {self.repeats}, a median needs at least 3")
        if any(ranks < 1 for ranks in (*self.tp, self.ep)):
            raise ConfigError("--tp and --ep must be at least 1")
        if (self.tp != (1,) or self.ep != 1) and not self.models:
            raise ConfigError("--tp and --ep say how --for-model is laid out; give a model with --for-model")
        if self.out.exists() and not self.out.is_dir():
            raise ConfigError(f"--out {self.out}: is a file; a directory is needed")

    def modes(self, has_graphs: bool) -> tuple[str, ...]:
        """`graph`, `eager` or both, on a device with or without graphs."""
        return GRAPHS[self.graphs] if has_graphs else MODES[1:]


def words(text: str) -> tuple[str, ...]:
    """`a,b, c` -> (a, b, c), repeats dropped."""
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def numbers(option: str, text: str) -> tuple[int, ...]:
    """`1,2,4` -> (1, 2, 4). Raises ConfigError."""
    try:
        return tuple(int(word) for word in words(text))
    except ValueError:
        raise ConfigError(f"{option} {text}: a number or several, separated by commas") from None
