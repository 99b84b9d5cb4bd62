"""Runs that the tests of results share."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from synthetic import poisson, serve

from simserve.report import Result

SLO = {"chat": {"ttft_s": 0.05, "itl_p95_s": 0.03}, "batch": {"e2e_s": 1.2, "itl_max_s": 0.1}}


@pytest.fixture(scope="session")
def two_classes():
    """(records, token times): 400 requests of two SLO classes, with stalls, single-token and source-failed requests."""
    arrival, prompt, output = poisson(400, 7, seed=3)
    output[::17] = 1
    output[::41] = 0
    classes = (np.random.default_rng(1).integers(0, 2, 400), ("chat", "batch"))
    return serve(arrival, prompt, output, stall_every=7, classes=classes)


@pytest.fixture(scope="session")
def result(two_classes):
    """The same run as a Result with an SLO and a warm-up cut."""
    return Result(two_classes[0], {"name": "two", "seed": 0, "workload": {"n": 400}}, SLO, warmup_s=10.0, cooldown_s=5.0)
