"""The command line of measuring, with nothing but the standard library: what runs on a bare GPU machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from simserve.calibration.measure.options import MeasureOptions, numbers, words
from simserve.calibration.measure.points import OPERATORS
from simserve.calibration.measure.session import MeasureResult, measure
from simserve.errors import SimserveError

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; the exit code is 0, 2 for what the user can fix, 130 after Ctrl-C."""
    given = _parser().parse_args(argv)
    try:
        result = measure(
            MeasureOptions(
                device=given.device,
                out=Path(given.out),
                operators=words(given.ops),
                dtypes=words(given.dtype) or None,
                models=words(given.for_model),
                tp=numbers("--tp", given.tp),
                ep=given.ep,
                quick=given.quick,
                time_budget_s=given.time_budget_s,
                graphs=given.graphs,
                attention=words(given.attention) or None,
                max_ranks=given.max_ranks,
                repeats=given.repeats,
                flush_l2=given.flush_l2,
                retry_failed=given.retry_failed,
                seed=given.seed,
            )
        )
    except SimserveError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return problem.exit_code
    except OSError as problem:
        print(f"error: {problem.filename or given.out}: {problem.strerror}; the journal keeps what was measured", file=sys.stderr)
        return 2
    for line in report(result):
        print(line)
    return INTERRUPTED if result.interrupted else 0


def report(result: MeasureResult) -> list[str]:
    """What to tell the user at the end."""
    lines = [f"{name}: {rows:,} rows" for name, rows in result.tables.items()]
    lines += [f"{count:,} points: {reason}" for reason, count in sorted(result.failures.items())]
    if result.left:
        why = "interrupted" if result.interrupted else "not reached"
        lines.append(f"{result.left:,} points {why}: run the same command again to go on")
    return lines or ["nothing was measured"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simserve.calibration.measure", description=__doc__)
    parser.add_argument("--device", required=True, help="cuda, cuda:1, npu or cpu")
    parser.add_argument("--out", required=True, help="directory for tables, journal and environment.json; an earlier run in it is resumed")
    parser.add_argument("--ops", default=",".join(OPERATORS), help="operators, separated by commas (default: all)")
    parser.add_argument("--dtype", default="", help="bf16, fp16, fp32, fp8, w8a8_int8 (default: bf16, or as the model is stored)")
    parser.add_argument("--for-model", default="", help="measure exactly the shapes of these models")
    parser.add_argument("--tp", default="1", help="tensor-parallel ranks of --for-model, one or several")
    parser.add_argument("--ep", type=int, default=1, help="expert-parallel ranks of --for-model")
    parser.add_argument("--quick", action="store_true", help="the coarse grid only")
    parser.add_argument("--time-budget-s", type=float, help="stop after this many seconds; coarse points come first")
    parser.add_argument("--graphs", default="on", help="kernels inside CUDA graphs: on, off or both")
    parser.add_argument("--attention", default="", help="flashinfer, varlen, gather, sdpa (default: the best that is installed)")
    parser.add_argument("--max-ranks", type=int, help="largest group for collectives (default: the devices of the machine)")
    parser.add_argument("--repeats", type=int, default=11, help="rounds whose median is taken")
    parser.add_argument("--flush-l2", action="store_true", help="flush the L2 cache before every call")
    parser.add_argument("--retry-failed", action="store_true", help="measure again what failed in an earlier run")
    parser.add_argument("--seed", type=int, default=0, help="of the random data")
    return parser
