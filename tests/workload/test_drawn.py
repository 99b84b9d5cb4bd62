"""Requests drawn a piece at a time are those drawn at once, to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simserve.workload.columns import Labels
from simserve.workload.config import WorkloadConfig, build_workload
from simserve.workload.drawn import can_be_drawn, drawn, whole
from simserve.workload.requests import RequestTable

ARRIVALS: dict[str, Any] = {
    "poisson": {"kind": "poisson", "rate_per_s": 3.5},
    "constant": {"kind": "constant", "rate_per_s": 3.0},
    "gamma": {"kind": "gamma", "rate_per_s": 2.0, "cv": 3.0},
    "weibull": {"kind": "weibull", "rate_per_s": 2.0, "shape": 0.5},
    "piecewise": {"kind": "piecewise", "pieces": [{"duration_s": 10, "rate_per_s": 5}, {"duration_s": 20, "rate_per_s": 0}]},
    "diurnal": {"kind": "diurnal", "rate_per_s": 0.01},
}
LENGTHS: dict[str, Any] = {
    "lognormal": {"kind": "lognormal", "median_tokens": 800, "sigma": 0.9, "max_tokens": 3072},
    "normal": {"kind": "normal", "mean_tokens": 500, "sd_tokens": 100},
    "uniform": {"kind": "uniform", "low_tokens": 3, "high_tokens": 1000},
    "zipf": {"kind": "zipf", "exponent": 1.1, "high_tokens": 500},
    "fixed": {"kind": "fixed", "tokens": 7},
}
BESIDE: dict[str, Any] = {
    "slo_classes": [{"name": "chat", "fraction": 0.3, "priority": 2}, {"name": "batch", "fraction": 0.5}],
    "max_output_tokens": 200,
    "patience_s": 30.0,
    "priority": 1,
}
SEED = 11


def config(arrivals: str, prompt: str, output: str, **beside: Any) -> WorkloadConfig:
    lengths = {"prompt": LENGTHS[prompt], "output": LENGTHS[output]}
    return WorkloadConfig.model_validate({"arrivals": ARRIVALS[arrivals], "lengths": lengths, "count": 1001, **beside})


def same(one: RequestTable, other: RequestTable) -> bool:
    columns = [(column.name, values) for column, values in one.stated_columns()]
    assert [name for name, _ in columns] == [column.name for column, _ in other.stated_columns()]
    for name, values in columns:
        found = other.column(name)
        if isinstance(values, Labels):
            assert isinstance(found, Labels) and found.names == values.names
            values, found = values.codes, found.codes
        assert np.array_equal(values, found), name  # type: ignore[arg-type]
    return one.provenance == other.provenance


@pytest.mark.parametrize("rows", [1, 64, 1001, 5000])
@pytest.mark.parametrize(
    ("arrivals", "prompt", "output"), [(a, p, o) for a, p, o in zip(ARRIVALS, [*LENGTHS, "uniform"], ["zipf", *LENGTHS], strict=True)]
)
def test_pieces_are_the_whole(arrivals: str, prompt: str, output: str, rows: int) -> None:
    section = config(arrivals, prompt, output, **BESIDE)
    at_once = build_workload(section, Path(), SEED).requests
    later = drawn(section, SEED)
    assert later.tables is not None and len(later) == 1001 and len(later.requests) == 0
    assert later.requests.slo_class.names == at_once.slo_class.names and later.requests.provenance == at_once.provenance
    tables = [*later.tables(rows)]
    assert max(map(len, tables)) <= rows and sum(map(len, tables)) == 1001
    assert same(at_once, whole(drawn(section, SEED)).requests)
    arrival_s = np.concatenate([table.arrival_s for table in tables])
    tokens = np.concatenate([np.stack([table.prompt_tokens, table.output_tokens, table.priority]) for table in tables], axis=1)
    assert np.array_equal(arrival_s, at_once.arrival_s)
    assert np.array_equal(tokens, np.stack([at_once.prompt_tokens, at_once.output_tokens, at_once.priority]))
    names = [table.slo_class.names[code] for table in tables for code in table.slo_class.codes]
    assert names == [at_once.slo_class.names[code] for code in at_once.slo_class.codes]


def test_each_asking_draws_the_same() -> None:
    later = drawn(config("gamma", "uniform", "normal"), SEED)
    assert later.tables is not None
    one, other = [*later.tables(100)], [*later.tables(100)]
    assert all(same(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    "section",
    [
        {"arrivals": ARRIVALS["poisson"], "lengths": {"prompt": LENGTHS["fixed"], "output": LENGTHS["fixed"]}, "duration_s": 10.0},
        {"closed_loop": {"concurrency": 4}, "lengths": {"prompt": LENGTHS["fixed"], "output": LENGTHS["fixed"]}, "count": 10},
        {"burstgpt_like": {"days": 1}},
        {"trace": {"path": "traces/burstgpt-sample.csv"}},
    ],
)
def test_what_is_read_or_cut_is_not_drawn_later(section: Any) -> None:
    assert not can_be_drawn(WorkloadConfig.model_validate(section))
