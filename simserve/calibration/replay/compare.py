"""How far the predicted step times are from the measured ones, by regime."""

from __future__ import annotations

import csv
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from simserve.calibration.measure.environment import DRIFT_WARNING_PERCENT
from simserve.calibration.measure.torch_library import load_optional
from simserve.calibration.replay.execute import Execution, Measured
from simserve.calibration.replay.plan import DECODE, MIXED, PREFILL, ReplayPlan

ALL = "all"


def errors(measured: list[Measured]) -> dict[str, dict[str, Any]]:
    """For each regime that occurs, and for all steps:

    mape_percent   mean |predicted / measured - 1|; p90_percent its 90th percentile
    bias_percent   geometric mean of predicted / measured, less 1: above 0 the simulator is pessimistic
    total_percent  error of the summed time of the steps: what a long run would be off by
    """
    out = {}
    for name in (DECODE, MIXED, PREFILL, ALL):
        chosen = [m for m in measured if name in (ALL, m.step.regime)]
        if not chosen:
            continue
        real, predicted = np.array([m.seconds for m in chosen]), np.array([m.step.predicted_s for m in chosen])
        error = 100.0 * np.abs(predicted / real - 1.0)
        out[name] = {
            "steps": len(chosen),
            "mape_percent": round(float(error.mean()), 2),
            "p90_percent": round(float(np.quantile(error, 0.9)), 2),
            "bias_percent": round(100.0 * float(np.expm1(np.log(np.maximum(predicted, 1e-12) / real).mean())), 2),
            "total_percent": round(100.0 * float(predicted.sum() / real.sum() - 1.0), 2),
            "spread_percent": round(float(np.median([m.spread_percent for m in chosen])), 2),
        }
    return out


def document(plan: ReplayPlan, execution: Execution, environment: dict[str, Any]) -> dict[str, Any]:
    """Everything replay.json holds."""
    scaled = execution.layers < execution.layers_of_model
    notes = [*plan.notes, "host work (scheduling, tokenising, Python of the engine) is in neither side"]
    if scaled:
        notes.append(
            f"{execution.layers} of {execution.layers_of_model} layers were executed and scaled up; embedding and LM head were not scaled"
        )
    if execution.fusion == "torch":
        notes.append("norms, rotary embedding and activation ran unfused: several kernels where an engine has one")
    if execution.clock_drift_percent > DRIFT_WARNING_PERCENT:
        notes.append(
            f"the device's speed moved by {execution.clock_drift_percent:.0f} % meanwhile (heat, power limit, neighbours): run again"
        )
    if "gather" in execution.attention:
        notes.append("the paged cache was gathered before attention, which no engine does: decode attention is too slow here")
    return {
        "schema": "simserve-replay-report/1",
        "model": plan.model,
        "quantisation": plan.quantisation,
        "tp": plan.tp,
        "prediction": plan.basis,
        "device": environment.get("device"),
        "attention": execution.attention,
        "elementwise": execution.fusion,
        "cuda_graphs": execution.graphs,
        "clock_drift_percent": round(execution.clock_drift_percent, 2),
        "layers": execution.layers,
        "layers_of_model": execution.layers_of_model,
        "steps_in_run": plan.steps_in_run,
        "errors": errors(execution.measured),
        "failures": dict(sorted(execution.failures.items())),
        "interrupted": execution.interrupted,
        "notes": notes,
        "environment": environment,
    }


def write_comparison(folder: Path, plan: ReplayPlan, execution: Execution, environment: dict[str, Any]) -> dict[str, Any]:
    """Write replay.json and pairs.parquet (.csv without pyarrow), one row a step; returns the document of replay.json."""
    made = document(plan, execution, environment)
    rows = [_row(m) for m in execution.measured]
    pyarrow = load_optional("pyarrow")
    if pyarrow is not None and rows:
        table = pyarrow.table({name: [row[name] for row in rows] for name in rows[0]})
        importlib.import_module("pyarrow.parquet").write_table(table, folder / "pairs.parquet", compression="zstd")
    elif rows:
        with open(folder / "pairs.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    (folder / "replay.json").write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    return made


def lines(made: dict[str, Any]) -> list[str]:
    """The document as text for a terminal."""
    out = [f"{made['model']} on {made['device']}, attention by {made['attention']}; predicted: {made['prediction']}"]
    out.append(f"{'regime':10}{'steps':>7}{'MAPE':>9}{'p90':>9}{'bias':>9}{'total':>9}")
    for name, e in made["errors"].items():
        figures = "".join(f"{e[key]:>+8.1f}%" if key[0] in "bt" else f"{e[key]:>8.1f}%" for key in _SHOWN)
        out.append(f"{name:10}{e['steps']:>7}{figures}")
    out += [f"{count} steps not executed: {reason}" for reason, count in made["failures"].items()]
    return out + [f"note: {text}" for text in made["notes"]]


_SHOWN = ("mape_percent", "p90_percent", "bias_percent", "total_percent")


def _row(m: Measured) -> dict[str, Any]:
    s = m.step
    return {
        "instance": s.instance,
        "lane": s.lane,
        "step": s.step,
        "regime": s.regime,
        "decode_requests": len(s.contexts),
        "context_tokens": sum(s.contexts),
        "longest_tokens": max(s.contexts, default=0),
        "prefill_requests": len(s.chunks),
        "prefill_tokens": sum(new for new, _ in s.chunks),
        "graph_tokens": s.graph_tokens,
        "exact": s.exact,
        "measured_s": m.seconds,
        "predicted_s": s.predicted_s,
        "simulated_s": s.simulated_s,
        "spread_percent": m.spread_percent,
    }
