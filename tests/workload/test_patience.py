"""How long clients wait: a column of the table and of files, or a constant of the experiment; what comes of it in results."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import simserve
from simserve.workload.config import WorkloadConfig, build_workload
from simserve.workload.requests import RequestTable
from simserve.workload.trace import read_trace, write_trace


def requests(**columns: Any) -> RequestTable:
    return RequestTable.build(np.array([0.0, 0.1, 0.2]), np.full(3, 100), np.full(3, 200), **columns)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_patience_and_attempts_survive_files_and_a_choice_of_rows(ending: str, tmp_path: Path) -> None:
    table = requests(patience_s=np.array([math.nan, 2.5, 0.0]), attempt_of=np.array([-1, 0, 0]))
    again = read_trace(write_trace(table, tmp_path / f"t.{ending}"))
    assert np.array_equal(again.column("patience_s"), [math.nan, 2.5, 0.0], equal_nan=True)
    assert again.column("attempt_of").tolist() == [-1, 0, 0]
    assert again.take(np.array([1, 2])).column("attempt_of").tolist() == [-1, -1], "the first attempt is not among them"
    assert again.take(np.array([0, 2])).column("attempt_of").tolist() == [-1, 0]


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({"patience_s": [1.0, -1.0, 0.0]}, "row 1: patience_s is negative"),
        ({"patience_s": [1.0, math.inf, 0.0]}, "row 1: patience_s is not a finite number"),
        ({"attempt_of": [-1, 1, 0]}, "row 1: attempt_of does not point to an earlier row"),
    ],
)
def test_what_cannot_be_is_refused(columns: dict[str, list[float]], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        requests(**{name: np.array(values) for name, values in columns.items()})


def test_the_patience_of_an_experiment_is_that_of_requests_without_one(tmp_path: Path) -> None:
    write_trace(requests(patience_s=np.array([math.nan, 2.5, math.nan])), tmp_path / "t.csv")
    config = WorkloadConfig.model_validate({"trace": {"path": "t.csv"}, "patience_s": 30.0})
    assert build_workload(config, tmp_path, 0).requests.column("patience_s").tolist() == [30.0, 2.5, 30.0]
    assert build_workload(config.model_copy(update={"patience_s": None}), tmp_path, 0).requests.column("patience_s")[1] == 2.5


def test_clients_that_give_up_are_counted_by_name_and_not_as_good(tmp_path: Path) -> None:
    """Two in three leave before their answers are whole."""
    write_trace(requests(patience_s=np.array([0.5, 0.0, math.nan])), tmp_path / "t.csv")
    result = simserve.run(
        {
            "name": "impatient",
            "model": "llama-3.1-8b",
            "hardware": "a100-sxm-80gb",
            "workload": {"trace": {"path": str(tmp_path / "t.csv")}},
            "slo": {"e2e_s": 1000.0},
        }
    )
    summary = result.summary_dict()
    counts = summary["requests"]
    assert (counts["completed"], counts["cancelled"], counts["rejected"], counts["failed"], counts["unfinished"]) == (1, 2, 0, 0, 0)
    assert counts["reasons"]["cancelled"] == {"the client gave up": 2}
    assert summary["slo"]["all"]["attainment"] == pytest.approx(1 / 3)
    assert any("2 of 3 requests were cancelled" in text for text in summary["warnings"])
    rows = result.requests
    assert rows["status"].tolist() == ["cancelled", "cancelled", "completed"]
    assert 0 < rows["generated_tokens"][0] < 200 and rows["generated_tokens"][1] == 0
    assert rows["e2e_s"].notna().tolist() == [False, False, True]
    assert rows["patience_s"].tolist()[:2] == [0.5, 0.0]
