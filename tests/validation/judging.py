"""What becomes of a measurement file, sound or damaged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from simserve.errors import ConfigError
from simserve.validation.evaluate import predict_one
from simserve.validation.readers import TableReader, read_file
from simserve.validation.readers.client_results import completed_by

TOLD = completed_by(hardware="h100-sxm-80gb", engine="vllm-v1", model="llama-3.1-8b")

RATE = "about_rate"
"""Per cent of tokens a second for a per cent of step time: 0 where the load is given, -1 where devices decide."""


def judge(path: Path, said: str, readers: Sequence[TableReader] = ()) -> str:
    """Reads and predicts a file; what came of it: 'predicted', 'skipped' or 'refused'. Fails on anything else."""
    try:
        cases = TOLD(read_file(path, readers))
    except ConfigError as problem:
        assert len(str(problem)) < 1000, f"{said}: a message of {len(str(problem))} characters"
        return "refused"
    outcomes = [predict_one(case) for case in cases]
    for outcome in outcomes:
        assert outcome.skip or outcome.predicted, said
        assert len(outcome.skip) < 400, said
        assert all(math.isfinite(v) for v in outcome.predicted.values()), said
        assert all(-1 <= v <= 0 if name == RATE else v >= 0 for name, v in outcome.predicted.items()), said
    return "skipped" if any(o.skip for o in outcomes) else "predicted"
