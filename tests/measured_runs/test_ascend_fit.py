"""The fit on Ascend's serving runs answers for the simulator as it is."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from benchmarks.ascend import fit
from benchmarks.ascend.rows import _Moved, cases, model_of, outcome, percent
from benchmarks.measured_runs.runs import FOLDERS, SHARED
from tests.validation.builders import case as small_case


def test_responses_of_another_simulator_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    now = fit._digest()
    assert fit._digest() == now
    monkeypatch.setattr(fit, "code_digest", lambda: "another")
    assert fit._digest() != now


def test_a_row_on_a_copy_of_its_profile_has_its_own_requests() -> None:
    case = small_case(gpu="ascend-910b", profile="vllm-ascend")
    assert _Moved.of(case, "/tmp/somewhere.yaml").seed() == case.seed() == _Moved.of(case, "/tmp/elsewhere.yaml").seed()


@pytest.mark.shared
@pytest.mark.skipif(not (SHARED / FOLDERS[0]).is_dir(), reason="needs ../shared/serving_measurements")
def test_errors_that_are_kept_are_those_of_this_simulator() -> None:
    kept = json.loads(fit.LEFT_OUT.read_text(encoding="utf-8"))
    name = Counter((row["dataset"], row["label"], row["model"]) for row in kept["rows"])
    found = {(row["dataset"], row["label"], row["model"]): row["error_percent"] for row in kept["rows"]}
    short = sorted((case for case in cases() if not case.skip), key=lambda case: case.load.requests * case.load.output.mean)
    models: set[str] = set()
    for case in short:
        model = model_of(case)
        key = (case.dataset, case.label, model)
        if model in models or name[key] != 1 or len(models) == 6:
            continue
        models.add(model)
        assert percent(outcome(case, kept["chosen"][model])) == pytest.approx(found[key], abs=0.5), case.label
