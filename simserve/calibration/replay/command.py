"""The command line that executes a replay plan, with nothing but the standard library: what runs on a bare GPU machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from simserve.calibration.replay.compare import lines
from simserve.calibration.replay.plan import read_plan
from simserve.calibration.replay.session import replay
from simserve.errors import SimserveError

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Execute a plan; the exit code is 0, 2 for what the user can fix, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m simserve.calibration.replay", description=__doc__)
    parser.add_argument("plan", help="plan.json, made by 'simserve calibrate replay steps.parquet --plan-only'")
    parser.add_argument("--device", required=True, help="cuda, cuda:1, npu or cpu")
    parser.add_argument("--out", required=True, help="directory for pairs, replay.json and the plot")
    parser.add_argument("--layers", type=int, help="execute so many layers and scale up (default: as many as fit the memory)")
    parser.add_argument("--attention", help="flashinfer, varlen or gather (default: the best that is installed)")
    given = parser.parse_args(argv)
    try:
        path = Path(given.plan)
        made = replay(read_plan(path), given.device, Path(given.out), layers=given.layers, attention=given.attention, base_dir=path.parent)
    except SimserveError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return problem.exit_code
    except OSError as problem:
        print(f"error: {problem.filename or given.out}: {problem.strerror}", file=sys.stderr)
        return 2
    print("\n".join(lines(made)))
    return INTERRUPTED if made["interrupted"] else 0
