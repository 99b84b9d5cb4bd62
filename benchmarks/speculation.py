"""Speed-ups of speculative decoding, predicted from measured acceptance lengths and held against measured ones.

    python -m benchmarks.speculation report [--measurements ../shared/speculation_measurements] [--json FILE]
    python -m benchmarks.speculation batch      speed-up by batch size, where speculation stops paying, a published series

speed-up = acceptance length x seconds of a decode step / (seconds of drafting + of verification), all three from the cost model. Two
host times are fitted, for each model on the rows of all other models.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.speculation_batch import by_batch, published_series
from benchmarks.speculation_runs import CONTEXT_TOKENS, SERVERS, read
from simserve.config.deployment import Deployment, host_overheads
from simserve.config.engine_profile import load_engine
from simserve.contracts import Step
from simserve.cost.draft import Draft
from simserve.hardware import load_profile
from simserve.model import Parallel

if TYPE_CHECKING:
    import pandas as pd

ENGINE, HARDWARE = "sglang-0.5.1", "h200-sxm-141gb"
DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "speculation_measurements"

PASSES_S = np.arange(0.0, 0.41e-3, 0.025e-3)
VERIFICATIONS_S = np.arange(0.0, 4.1e-3, 0.125e-3)
"""Values tried for the host's time of a pass, and of a step: from nothing to what eager launches of a pass, and a scheduler that no step
hides, could take at most."""


class Host(NamedTuple):
    """Host seconds: of a draft's forward pass, of a step that drafts."""

    pass_s: float = 0.0
    step_s: float = 0.0


def priced(rows: pd.DataFrame, context_tokens: int = CONTEXT_TOKENS, tp: dict[str, int] | None = None) -> pd.DataFrame:
    """The rows with decode_s, verify_s and draft_s: seconds of a plain step, of verification and of drafting without the host's part."""
    hardware, engine = load_profile(HARDWARE), load_engine(ENGINE)
    bare = replace(host_overheads(engine), per_draft_pass_s=0.0, per_verification_s=0.0)
    out = rows.copy()
    for (name, batch, steps, topk, width), group in rows.groupby(["model", "batch_size", "steps", "topk", "num_draft_tokens"]):
        server = SERVERS[name]
        model = server.architecture(name)
        draft = Draft("eagle3", steps, topk, width, server.layer(model))
        parallel = Parallel((tp or {}).get(name, server.tp))
        cost = Deployment(model, hardware, parallel, engine=engine, host=bare, draft=draft, table_tokens=8192).cost
        context = batch * context_tokens
        parts = cost.breakdown(Step(batch, context, context_tokens, (), batch * (width - 1), steps))
        out.loc[group.index, "decode_s"] = cost.step_time(Step(batch, context, context_tokens))
        out.loc[group.index, "draft_s"] = parts["draft"]
        out.loc[group.index, "verify_s"] = sum(parts.values()) - parts["draft"]
    return out


def predicted(rows: pd.DataFrame, host: Host) -> np.ndarray:
    """Speed-ups of priced rows."""
    step = rows["verify_s"] + rows["draft_s"] + host.step_s + rows["steps"] * host.pass_s
    return (rows["accept_length"] * rows["decode_s"] / step).to_numpy()


def fitted(rows: pd.DataFrame) -> Host:
    """The host times for which the median |ln(predicted / measured)| of a model is smallest, on average over the models."""
    return min(itertools.starmap(Host, itertools.product(PASSES_S.tolist(), VERIFICATIONS_S.tolist())), key=lambda host: _miss(rows, host))


def left_out(rows: pd.DataFrame) -> tuple[np.ndarray, dict[str, Host]]:
    """Each row's speed-up with the host times fitted without any row of its model, and those times."""
    out, hosts = np.zeros(len(rows)), {}
    for name in rows["model"].unique():
        own = (rows["model"] == name).to_numpy()
        hosts[name] = fitted(rows[~own])
        out[own] = predicted(rows[own], hosts[name])
    return out, hosts


def constant(rows: pd.DataFrame) -> np.ndarray:
    """What to beat: a constant times the acceptance length, fitted in the same way."""
    ratio, out = rows["speedup"] / rows["accept_length"], np.zeros(len(rows))
    for name in rows["model"].unique():
        own = (rows["model"] == name).to_numpy()
        out[own] = rows["accept_length"][own] * ratio[~own].median()
    return out


def errors(rows: pd.DataFrame, speedups: np.ndarray) -> np.ndarray:
    """|predicted / measured - 1|."""
    return np.abs(speedups / rows["speedup"].to_numpy() - 1.0)


def ordered_right(rows: pd.DataFrame, speedups: np.ndarray, clear: float = 0.0) -> tuple[int, int]:
    """Of the pairs of (steps, top-k) of one model, draft and benchmark whose measured speed-ups differ by more than `clear`: how many
    the prediction orders as measured, and how many there are. Kendall's tau is 2 right / pairs - 1."""
    right = pairs = 0
    for _, group in rows.assign(guess=speedups).groupby(["model", "draft", "benchmark"]):
        both = list(zip(group["speedup"], group["guess"], strict=True))
        for (a, guess_a), (b, guess_b) in itertools.combinations(both, 2):
            if abs(a / b - 1.0) > clear:
                pairs += 1
                right += (a > b) == (guess_a > guess_b)
    return right, pairs


def report(folder: Path) -> dict[str, Any]:
    """Everything that the page states."""
    rows = priced(read(folder))
    speedups, hosts = left_out(rows)
    missed, plain = errors(rows, speedups), errors(rows, constant(rows))
    models = []
    for name, group in rows.groupby("model"):
        own = (rows["model"] == name).to_numpy()
        right, pairs = ordered_right(group, speedups[own])
        chain = group[(group["steps"] == 3) & (group["topk"] == 1)]
        models.append(
            {
                "model": name,
                "rows": len(group),
                "batch": int(group["batch_size"].iloc[0]),
                "tp": SERVERS[name].tp,
                "tp_source": SERVERS[name].tp_source,
                "decode_ms": 1e3 * group["decode_s"].iloc[0],
                "baseline_ms": 1e3 * group["baseline_step_s"].median(),
                "draft_ms": 1e3 * chain["draft_s"].iloc[0],
                "verify_ms": 1e3 * chain["verify_s"].iloc[0],
                "measured_ms": 1e3 * chain["step_s"].median(),
                "error": float(np.median(missed[own])),
                "bias": float(np.median(speedups[own] / group["speedup"] - 1.0)),
                "constant": float(np.median(plain[own])),
                "right": right,
                "pairs": pairs,
                "host": hosts[name]._asdict(),
            }
        )
    without = predicted(rows, Host())
    return {
        "rows": len(rows),
        "median": float(np.median(missed)),
        "mean": float(np.mean(missed)),
        "constant": float(np.median(plain)),
        "without_host": float(np.median(errors(rows, without))),
        "host": fitted(rows)._asdict(),
        "ordered": ordered_right(rows, speedups),
        "ordered_clear": ordered_right(rows, speedups, clear=0.03),
        "ordered_by_acceptance": ordered_right(rows, rows["accept_length"].to_numpy()),
        "models": models,
        "sensitivity": dict(_sensitivity(rows)),
    }


def _sensitivity(rows: pd.DataFrame) -> Iterable[tuple[str, float]]:
    for tokens in (300, 1500):
        again = priced(rows, tokens)
        yield f"contexts of {tokens:,} tokens", float(np.median(errors(again, left_out(again)[0])))
    for name, tp in (("Ling-flash-2.0", 4), ("Qwen3-Next-80B-A3B-Instruct-FP8", 4), ("Llama-4-Scout-17B-16E-Instruct", 4)):
        again = priced(rows, tp={name: tp})
        yield f"{name} on {tp} devices", float(np.median(errors(again, left_out(again)[0])))
    kept = rows[rows["model"] != "Llama-4-Scout-17B-16E-Instruct"].reset_index(drop=True)
    yield "without Llama-4-Scout", float(np.median(errors(kept, left_out(kept)[0])))


def _miss(rows: pd.DataFrame, host: Host) -> float:
    off = np.abs(np.log(predicted(rows, host) / rows["speedup"].to_numpy()))
    names = rows["model"].to_numpy()
    return float(np.mean([np.median(off[names == name]) for name in np.unique(names)]))


def text(found: dict[str, Any]) -> str:
    """The report as Markdown."""
    host = found["host"]
    lines = [
        f"{found['rows']} rows: median error {found['median']:.1%} leaving whole models out (mean {found['mean']:.1%}); a constant times"
        f" the acceptance length: {found['constant']:.1%}; without host times: {found['without_host']:.1%}. Fitted on all models: a pass"
        f" {1e3 * host['pass_s']:.3f} ms, a step {1e3 * host['step_s']:.2f} ms.",
        "",
        "| model | batch | tp | from | decode step, ours / baseline, ms | draft + verify (3 steps, chain), ours / run, ms | error | bias"
        " | constant | pairs in order |",
        "|---|---:|---:|---|---|---|---:|---:|---:|---|",
    ]
    for m in found["models"]:
        lines.append(
            f"| {m['model']} | {m['batch']} | {m['tp']} | {m['tp_source']} | {m['decode_ms']:.1f} / {m['baseline_ms']:.1f} |"
            f" {m['draft_ms']:.2f} + {m['verify_ms']:.1f} / {m['measured_ms']:.1f} | {m['error']:.1%} | {m['bias']:+.1%} |"
            f" {m['constant']:.1%} | {m['right']} of {m['pairs']} |"
        )
    (right, pairs), (clear, all_clear), (by_length, _) = found["ordered"], found["ordered_clear"], found["ordered_by_acceptance"]
    lines += [
        "",
        f"Pairs of (steps, top-k) ordered as measured: {right} of {pairs} ({right / pairs:.0%}, tau {2 * right / pairs - 1:.2f}); of those"
        f" that differ by more than 3 %: {clear} of {all_clear} ({clear / all_clear:.0%}); by acceptance length alone {by_length}"
        f" ({by_length / pairs:.0%}).",
        "",
        "| with | median error |",
        "|---|---:|",
        *(f"| {what} | {value:.1%} |" for what, value in found["sensitivity"].items()),
    ]
    return "\n".join(lines)


def main() -> None:
    """Prints a report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speculation", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["report", "batch"])
    parser.add_argument("--measurements", type=Path, default=DEFAULT)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "batch":
        print(by_batch(), published_series(arguments.measurements), sep="\n\n")
        return
    found = report(arguments.measurements)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))
    print(text(found))


if __name__ == "__main__":
    main()
