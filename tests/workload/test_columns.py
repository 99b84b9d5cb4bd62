"""One entry declares a column: a made-up one goes from a file through the table, a policy and a run into requests.parquet."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import simserve
from simserve.contracts import ClusterView, Request, Router
from simserve.engine import InstanceSpec, simulate
from simserve.engine.spec import ClusterSpec
from simserve.errors import PolicyError, TraceError
from simserve.policies.registry import scheduler_class
from simserve.report.metrics import measure
from simserve.report.request_file import REQUEST_COLUMNS, request_table
from simserve.workload.columns import COLUMNS, Column
from simserve.workload.requests import ATTRIBUTES, Labels, RequestTable, Workload
from simserve.workload.trace import read_trace, write_trace
from tests.reference.toy_cost import JaggedCost

MADE_UP = (
    Column("urgency_s", "number", "made up", "s", math.nan, 0.0, 100.0),
    Column("team", "name", "made up", absent=""),
    Column("copy_of", "row", "made up", absent=-1, least=-1, visible=False),
)
ROWS = [
    {"arrival_s": 0.0, "prompt_tokens": 10, "output_tokens": 3, "urgency_s": None, "team": "red", "copy_of": None},
    {"arrival_s": 1.0, "prompt_tokens": 20, "output_tokens": 2, "urgency_s": 2.5, "team": None, "copy_of": None},
    {"arrival_s": 2.0, "prompt_tokens": 30, "output_tokens": 1, "urgency_s": 0.0, "team": "blue", "copy_of": 1},
]


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for column in MADE_UP:
        monkeypatch.setitem(COLUMNS, column.name, column)


def file_of(rows: list[dict[str, object]], folder: Path) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Listening(Router):
    """Notes what it sees of each request."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []

    def choose(self, request: Request, view: ClusterView) -> int:
        self.seen.append((request.column("urgency_s"), request.column("team")))
        return 0


def serve(table: RequestTable, router: Router | None = None, check: bool = True):
    cls = scheduler_class("vllm-v1")
    specs = [InstanceSpec(f"i{n}", cls(cls.Params(max_seqs=8)), JaggedCost(), kv_blocks=100, block_tokens=8, max_seqs=8) for n in range(2)]
    return simulate(Workload(table), specs, ClusterSpec(router=router), check=check)


@pytest.mark.usefixtures("made_up")
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "csv.gz"])
def test_a_made_up_column_goes_from_a_file_into_the_results(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"again.{ending}"
    write_trace(read_trace(file_of(ROWS, tmp_path)), path)
    table = read_trace(path)
    assert table.column("copy_of").tolist() == [-1, -1, 1]
    later = table.take(np.array([1, 2]))
    assert later.column("copy_of").tolist() == [-1, 0]
    assert table.take(np.array([0, 2])).column("copy_of").tolist() == [-1, -1]

    router = Listening()
    records = serve(table, router, check=False)
    assert router.seen == [(None, "red"), (2.5, None), (0.0, "blue")]

    written = request_table(measure(records, {}))
    assert written.column_names == [*(column.name for column in REQUEST_COLUMNS), "urgency_s", "team", "copy_of"]
    assert written.column("urgency_s").to_pylist() == [None, 2.5, 0.0]
    assert written.column("team").to_pylist() == ["red", None, "blue"]
    assert written.column("copy_of").to_pylist() == [None, None, 1]
    assert written.schema.field("urgency_s").metadata == {b"unit": b"s", b"meaning": b"made up"}


@pytest.mark.usefixtures("made_up")
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"urgency_s": -1.0}, "line 3: 'urgency_s' is -1.0, must not be negative"),
        ({"urgency_s": 101}, "line 3: 'urgency_s' is 101, more than 100"),
        ({"urgency_s": "soon"}, "line 3: 'urgency_s' is 'soon', not a number"),
        ({"copy_of": 2}, "row 2: copy_of does not point to an earlier row"),
        ({"copy_of": 0.5}, "line 3: 'copy_of' is 0.5, not a whole number"),
        ({"team": [1]}, "line 3: 'team' is a list of 1, not a name"),
    ],
)
def test_values_out_of_a_columns_bounds_are_refused_with_their_row(tmp_path: Path, row: dict[str, object], message: str) -> None:
    with pytest.raises(TraceError, match=message):
        read_trace(file_of([*ROWS[:2], {**ROWS[2], **row}], tmp_path))


@pytest.mark.usefixtures("made_up")
def test_what_policies_may_not_see_they_cannot_ask_for() -> None:
    two = np.array([5, 5])
    table = RequestTable.build(np.zeros(2), two, two, team=Labels.of(["red", "red"]), copy_of=np.array([-1, 0]))

    def ask(name: str) -> Router:
        class Asking(Router):
            def choose(self, request: Request, view: ClusterView) -> int:
                request.column(name)
                return 0

        return Asking()

    later = ("output_tokens", "elapsed_s", "patience_s", "acceptance_rate", "acceptance_length")  # known when it has been served
    of_the_source = ("slo_class", "label_model", "log_type", "attempt_of", "task", "after")
    for hidden in ("copy_of", "arrival_s", *later, *of_the_source):
        with pytest.raises(PolicyError, match=f"requests have no column '{hidden}' that policies may see"):
            serve(table, ask(hidden), check=False)
    with pytest.raises(PolicyError, match="did you mean 'team'"):
        serve(table, ask("taem"), check=False)
    with pytest.raises(PolicyError, match=r"a property of requests: request\.priority"):
        serve(table, ask("priority"), check=False)
    serve(table, ask("adapter"))  # declared, and no row states it


def test_a_workload_without_further_columns_costs_its_requests_nothing() -> None:
    seen: list[bool] = []

    class Looking(Router):
        def choose(self, request: Request, view: ClusterView) -> int:
            seen.append(hasattr(request, "stated"))
            assert request.column("adapter") is None
            return 0

    plain = RequestTable.build(np.zeros(1), np.array([5]), np.array([2]))
    serve(plain, Looking())
    serve(RequestTable.build(np.zeros(1), np.array([5]), np.array([2]), adapter=Labels.of(["a"])), _Seen(seen))
    assert seen == [False, False, True, True]  # checked runs run twice


class _Seen(Router):
    def __init__(self, seen: list[bool]) -> None:
        self.seen = seen

    def choose(self, request: Request, view: ClusterView) -> int:
        self.seen.append(hasattr(request, "stated"))
        return 0

    def __deepcopy__(self, memo: object) -> _Seen:
        return self


def test_unknown_columns_and_columns_of_the_other_kind_are_refused() -> None:
    one = np.array([5])
    with pytest.raises(ValueError, match=r"requests have no column 'adaptor'.*did you mean 'adapter'"):
        RequestTable.build(np.zeros(1), one, one, adaptor=Labels.of(["a"]))
    with pytest.raises(ValueError, match="column adapter takes Labels"):
        RequestTable.build(np.zeros(1), one, one, adapter=one)
    with pytest.raises(ValueError, match="column priority takes an array"):
        RequestTable.build(np.zeros(1), one, one, priority=Labels.of(["a"]))
    with pytest.raises(ValueError, match="column adapter has 2 rows, arrival_s has 1"):
        RequestTable.build(np.zeros(1), one, one, adapter=Labels.of(["a", "b"]))
    with pytest.raises(ValueError, match="row 0: adapter is the number of no name"):
        RequestTable.build(np.zeros(1), one, one, adapter=Labels(np.array([3], dtype=np.int16), ("a", "b")))


def test_the_page_on_workloads_lists_the_columns() -> None:
    page = (Path(simserve.__file__).resolve().parents[1] / "docs" / "workloads.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| `") and line.count("|") == 5]
    told = {name.strip("` "): (cells[2].strip(), cells[4].strip()) for cells in rows for name in cells[1].split(",")}
    for column in COLUMNS.values():
        kind, seen = told.pop(column.name)
        assert kind.split(",")[0] == column.kind
        assert kind.endswith(", s") == (column.unit == "s")
        if column.name not in ATTRIBUTES:
            assert (seen == f'`request.column("{column.name}")`') == column.visible
        elif column.name != "arrival_s":
            assert seen == ("yes" if column.visible else "no")


def test_every_attribute_of_a_table_is_declared() -> None:
    lists = {"prefix", "also_after", "others", "provenance"}
    assert ATTRIBUTES - lists <= COLUMNS.keys()
    assert set(COLUMNS) - ATTRIBUTES == {"adapter", "salt", "patience_s", "attempt_of", "task", "acceptance_rate", "acceptance_length"}


def test_adapters_and_salts_are_in_the_result_of_a_run(tmp_path: Path) -> None:
    names = ("arrival_s", "prompt_tokens", "output_tokens")
    rows = [{**{name: row[name] for name in names}, "adapter": adapter} for row, adapter in zip(ROWS, ["a", None, "b"], strict=True)]
    path = file_of(rows, tmp_path)
    experiment = tmp_path / "e.yaml"
    trace = f"{{path: {path}, format: simserve}}"
    experiment.write_text(f"name: e\nmodel: llama-3.1-8b\nhardware: a100-sxm-80gb\nworkload:\n  trace: {trace}\n")
    result = simserve.run(experiment)
    result.write(tmp_path / "out")
    assert any("requests ask for 2 adapters" in line for line in result.summary_dict()["warnings"])
    assert result.requests["adapter"].astype(object).where(result.requests["adapter"].notna(), None).tolist() == ["a", None, "b"]
    assert pq.read_schema(tmp_path / "out" / "requests.parquet").names[-1] == "adapter"


def test_a_salt_may_have_more_different_names_than_an_adapter(tmp_path: Path) -> None:
    n = 40_000
    salts = Labels.of([f"user {i}" for i in range(n)])
    table = RequestTable.build(np.zeros(n), np.ones(n, dtype=np.int64), np.ones(n, dtype=np.int64), salt=salts)
    again = read_trace(write_trace(table, tmp_path / "salts.parquet"))
    assert again.column("salt").names[39_999] == "user 39999"
    with pytest.raises(TraceError, match="column 'adapter' has 40000 different values"):
        read_trace(write_trace(RequestTable.build(np.zeros(n), np.ones(n), np.ones(n), adapter=salts), tmp_path / "adapters.csv"))
