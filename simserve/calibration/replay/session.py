"""A replay from start to end: the plan, the device, the comparison and its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TextIO

from simserve.calibration.measure.devices import open_device
from simserve.calibration.measure.environment import describe
from simserve.calibration.measure.torch_library import load_optional
from simserve.calibration.replay.compare import write_comparison
from simserve.calibration.replay.execute import execute
from simserve.calibration.replay.plan import ReplayPlan
from simserve.errors import ConfigError, OutputError
from simserve.model.library import load_model

PLAN = "plan.json"


def prepare_folder(out: Path) -> None:
    """Make the output directory. Raises OutputError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise OutputError(f"{out}: cannot be written: {problem.strerror}") from None


def replay(
    plan: ReplayPlan,
    device: str,
    out: Path,
    *,
    layers: int | None = None,
    attention: str | None = None,
    base_dir: Path | None = None,
    stream: TextIO | None = None,
) -> dict[str, Any]:
    """Execute a plan on `device` and write plan.json, pairs.parquet, replay.json and replay.png (where matplotlib is) into `out`.

    Returns the document of replay.json. Raises ConfigError or ModelError, also when not a single step could be executed.
    """
    opened = open_device(device)
    model = load_model(plan.model, base_dir=base_dir, quantisation=plan.quantisation)
    prepare_folder(out)
    plan.write(out / PLAN)
    execution = execute(plan, model, opened, layers=layers, attention=attention, stream=stream)
    if not execution.measured and not execution.interrupted:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in execution.failures.items())
        raise ConfigError(f"not one of the {len(plan.steps)} steps could be executed: {reasons}")
    made = write_comparison(out, plan, execution, describe(opened))
    if execution.measured and load_optional("matplotlib") is not None:
        from simserve.calibration.replay.plots import write_plot

        write_plot(execution.measured, made, out / "replay.png")
    return made
