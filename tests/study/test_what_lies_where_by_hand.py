"""What an output directory is taken for, which variants a claim makes run, which placements a search considers."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from simserve.errors import ConfigError, OutputError
from simserve.study import outputs
from simserve.study.claims import check
from simserve.study.claims.check import check_claims
from simserve.study.folder import opened, unfinished
from simserve.study.outputs import Kind, recognise, summary_of
from simserve.study.placement.search import specify
from simserve.study.probes import Figures, _Asked
from tests.study.conftest import RATE, TINY

# ---- directories ----


def a_file(path: Path, content: str = "{}") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"summary.json": "{}"}, Kind.RUN),
        ({"summary.json": '{"claims": []}'}, Kind.VARIANTS),
        ({"sweep.json": "{}", "sweep.parquet": "", "summary.json": "{}"}, Kind.SWEEP),
        ({"capacity.json": "{}", "summary.json": "{}"}, Kind.CAPACITY),
        ({"placement.json": "{}", "summary.json": "{}"}, Kind.PLACEMENT),
    ],
)
def test_a_directory_is_what_its_files_say(files: dict[str, str], kind: Kind, tmp_path: Path) -> None:
    for name, content in files.items():
        a_file(tmp_path / "out" / name, content)
    assert recognise(tmp_path / "out") == (kind, tmp_path / "out")
    for name in files:
        assert recognise(tmp_path / "out" / name) == (kind, tmp_path / "out"), "a file of it stands for it"


def test_the_table_of_a_sweep_alone_is_one(tmp_path: Path) -> None:
    table = a_file(tmp_path / "out" / "sweep.parquet")
    assert recognise(tmp_path / "out") == (Kind.SWEEP, table) and recognise(table) == (Kind.SWEEP, table)
    other = a_file(tmp_path / "table.parquet")
    assert recognise(other) == (Kind.SWEEP, other)


def refused(path: Path) -> str:
    with pytest.raises(OutputError) as caught:
        recognise(path)
    return str(caught.value).removeprefix(f"{path}: ")


def test_what_is_no_output_says_what_it_is(tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere") == "does not exist"
    assert refused(a_file(tmp_path / "a.txt")).startswith("is a file; a report is made of output directories")
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path / "empty") == (
        "is not the output of a finished run or study (no summary.json, sweep.json, capacity.json, placement.json or plan.json)"
    )
    for half in ("requests.parquet", "experiment.resolved.yaml"):
        assert refused(a_file(tmp_path / half[:3] / half).parent).startswith("is half a run: it was cut short before summary.json")
    with pytest.raises(OutputError, match="is not the summary of anything"):
        summary_of(a_file(tmp_path / "list" / "summary.json", "[]").parent)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("b", "it holds 1: name those you mean (b)"),
        ("fedcba", "it holds 6: name those you mean (a, b, c, d, e, f)"),
        ("gfedcba", "it holds 7: name those you mean (a, b, c, d, e, f ...)"),
    ],
)
def test_results_inside_are_named_up_to_six(names: str, said: str, tmp_path: Path) -> None:
    for name in names:
        a_file(tmp_path / name / "capacity.json")
    (tmp_path / "other").mkdir()
    a_file(tmp_path / "file.json")
    assert refused(tmp_path) == f"is not a result itself; {said}"


def test_an_interrupted_study_says_how_far_it_was(tmp_path: Path) -> None:
    cache = opened(tmp_path / "out", "sweep", "sweep.json", resume=False)
    assert unfinished(tmp_path / "out") == "sweep"
    said = "is a sweep that was interrupted before its result was written: {} kept; finish it with the same command and --resume"
    assert refused(tmp_path / "out") == said.format("0 finished runs are")
    a_file(cache.root / "a" / "b" / "one.json")
    assert refused(tmp_path / "out") == said.format("1 finished run is")
    a_file(cache.root / "a" / "b" / "two.json")
    assert refused(tmp_path / "out") == said.format("2 finished runs are")
    a_file(tmp_path / "out" / "runs" / "study", '{"study": "something else"}')
    assert unfinished(tmp_path / "out") == "" and refused(tmp_path / "out").startswith("is a study that was interrupted")
    for damaged in ("[", "[]", "3"):
        a_file(tmp_path / "out" / "runs" / "study", damaged)
        assert unfinished(tmp_path / "out") == ""
    a_file(tmp_path / "out" / "sweep.json")
    assert unfinished(tmp_path / "out") is None and unfinished(tmp_path) is None


def test_a_studys_directory_is_gone_on_with_thrown_away_or_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    row = a_file(opened(out, "sweep", "sweep.json", resume=False).root / "a" / "b" / "row.json")
    result = a_file(out / "sweep.json")
    with pytest.raises(OutputError, match="holds a sweep already; continue it with --resume"):
        opened(out, "sweep", "sweep.json", resume=False)
    opened(out, "sweep", "sweep.json", resume=True)
    assert row.exists() and result.exists()
    opened(out, "sweep", "sweep.json", resume=False, force=True)
    assert not row.exists() and not result.exists()
    with pytest.raises(OutputError, match="holds an interrupted sweep, something that is not a capacity search"):
        opened(out, "capacity search", "capacity.json", resume=True)
    with pytest.raises(OutputError, match="holds something that is not a sweep"):
        opened(a_file(tmp_path / "mine" / "letter.txt").parent, "sweep", "sweep.json", resume=True)
    with pytest.raises(OutputError, match="is a file; an output directory is needed"):
        opened(a_file(tmp_path / "f"), "sweep", "sweep.json", resume=True)


def test_columns_that_a_sweep_has(tmp_path: Path) -> None:
    import pandas as pd

    path = tmp_path / "table.parquet"
    pd.DataFrame({"point": [0], "seed": [3], "status": ["ok"]}).to_parquet(path)
    with pytest.raises(OutputError, match=r"is not the table of a sweep \(it has no column .*ttft_p99_s\)"):
        outputs.read_sweep(path)
    a_file(tmp_path / "bad.parquet", "no table")
    with pytest.raises(OutputError, match="cannot be read as Parquet"):
        outputs.read_sweep(tmp_path / "bad.parquet")


OF_VERSION_1 = ("paired", "sweep.result", "placement.result", "regress.report", "regress.baseline", "capacity.result")


@pytest.mark.parametrize(("module", "version"), [*((name, 1) for name in OF_VERSION_1), ("claims.record", 2)])
def test_files_of_this_version_are_read(module: str, version: int) -> None:
    """A version that is raised makes the files that people have unreadable."""
    assert version == importlib.import_module(f"simserve.study.{module}").SCHEMA_VERSION


# ---- claims ----

CLAIMS: dict[str, Any] = {
    **TINY,
    "variants": {"a": {}, "b": {"seed": 3}, "c": {"probes": {"p": {"measure": "weight_bytes"}}}},
    "claims": [],
}


@pytest.mark.parametrize(
    ("claims", "run", "asked"),
    [
        ([], ["a", "b"], ["c"]),  # without probes there is nothing but a run
        ([{"figure": "ttft.p50", "of": ["a"], "at_least": 0}], ["a", "b"], ["c"]),
        ([{"figure": "ttft.p50", "of": ["c"], "at_least": 0}], ["a", "b", "c"], ["c"]),
        ([{"figure": "ttft.p50", "of": ["a", "c"], "at_least": 0}], ["a", "b", "c"], ["c"]),
        ([{"figure": "ttft.p50", "of": ["*"], "at_least": 0}], ["a", "b", "c"], ["c"]),
    ],
)
def test_a_variant_with_probes_is_run_where_a_claim_names_another_figure(
    claims: list[dict[str, Any]], run: list[str], asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    was_run, was_asked = [], []

    def evaluated(experiment: Any, names: Any) -> Figures:
        was_asked.append(experiment.name)
        return Figures(experiment.name, {"p": 1.0}, {})

    monkeypatch.setattr(check, "evaluate", evaluated)
    monkeypatch.setattr(check, "value_of", lambda result, quantity: 1.0)
    report = check_claims({**CLAIMS, "claims": claims}, run=lambda experiment: was_run.append(experiment.name) or object())  # type: ignore[arg-type, func-returns-value, return-value]
    assert was_run == [f"tiny.{name}" for name in run] and was_asked == [f"tiny.{name}" for name in asked]
    assert set(report.results) == {"a", "b", "c"} and set(report.probed) == set(run) & set(asked)


def test_a_claim_is_written_with_its_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "value_of", lambda result, quantity: 2.0)
    claims = [{"figure": "ttft.p50", "of": ["a"], "at_least": 1.0, "note": "so they say"}]
    report = check_claims({**TINY, "variants": {"a": {}}, "claims": claims}, run=lambda experiment: object())  # type: ignore[arg-type, return-value]
    (told,) = report.as_dict()["claims"]
    assert (told["low"], told["high"], told["ours"], told["reproduced"], told["note"]) == (1.0, None, 2.0, True, "so they say")
    json.dumps(report.as_dict(), allow_nan=False)


# ---- placements ----


@pytest.mark.parametrize(
    ("most", "names"),
    [
        (None, ["1 + 1", "1 + 2", "2 + 1", "1 + 3", "3 + 1"]),
        (2, ["1 + 1", "1 + 2", "2 + 1"]),
        (1, ["1 + 1"]),
    ],
)
def test_a_search_may_be_bounded_by_instances_of_a_pool(most: int | None, names: list[str]) -> None:
    spec = specify(TINY, 4, when="ttft.p90 <= 1", kinds=("disaggregated",), node_devices=1, most_instances=most)
    found = [p for p in spec.placements if all(pool.tp == pool.pp == 1 for pool in p.pools)]
    assert sorted(" + ".join(str(pool.count) for pool in p.pools) for p in found) == sorted(names)
    assert spec.rate_key == RATE and spec.start_per_device == 4.0 and not spec.whole


def test_the_load_to_begin_with_is_that_of_a_device() -> None:
    two = {**TINY, "cluster": {"instances": [{**TINY["cluster"]["instances"][0], "count": 2, "parallel": {"tp": 2}}]}}
    assert specify(two, 2).start_per_device == 1.0


@pytest.mark.parametrize("tolerance", [0.0, 1.0, -0.1, 2.0])
def test_a_tolerance_is_a_fraction(tolerance: float) -> None:
    with pytest.raises(ConfigError, match="expected a fraction above 0 and below 1"):
        specify(TINY, 2, tolerance=tolerance)


def test_without_an_slo_it_must_be_said_what_holds() -> None:
    with pytest.raises(ConfigError, match="say what must hold"):
        specify({**TINY, "slo": {}}, 2)
    assert specify({**TINY, "slo": {}}, 2, when="ttft.p90 <= 1").predicate.text == "ttft.p90 <= 1"


# ---- probes ----


def test_sequences_of_one_row_fit_beside_a_step() -> None:
    """What a batch holds is asked of an instance whose step samples a single row: logits of more rows are no matter of the cache."""
    told: list[tuple[int, int]] = []

    class Machine:
        slots, step_tokens = 8, 200

        def capacity(self, step_tokens: int, max_seqs: int) -> int:
            told.append((step_tokens, max_seqs))
            return 1000

        def sequences_that_fit(self, capacity: int, tokens: int) -> int:
            return capacity // tokens

    assert _Asked(Machine())._sequences(300, 100) == 10  # type: ignore[arg-type]
    assert told == [(300, 1)]
