"""A row that waits for several others: released when the last has ended, refused where it waits for what cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from simserve.engine import InstanceSpec, simulate
from simserve.engine.spec import ClusterSpec
from simserve.errors import OutputError, TraceError
from simserve.policies.registry import router_class, scheduler_class
from simserve.workload.requests import AlsoAfter, RequestTable, Workload
from simserve.workload.shaping import root_arrival_s
from simserve.workload.trace import read_trace, write_trace
from tests.reference.toy_cost import JaggedCost

Parents = dict[int, list[int]]


def lists(rows: int, parents: Parents) -> AlsoAfter:
    offsets = np.cumsum([0, *(len(parents.get(row, [])) for row in range(rows))]).astype(np.int64)
    return AlsoAfter(offsets, np.array([p for row in range(rows) for p in parents.get(row, [])], dtype=np.int64))


def table(outputs: list[int], after: list[int], parents: Parents, arrival: list[float] | None = None) -> RequestTable:
    n = len(outputs)
    start = np.zeros(n) if arrival is None else np.array(arrival)
    return RequestTable.build(start, np.full(n, 8), np.array(outputs), after=np.array(after), also_after=lists(n, parents))


def serve(t: RequestTable):
    cls = scheduler_class("vllm-v1")
    spec = InstanceSpec("i", cls(cls.Params(max_seqs=8)), JaggedCost(), kv_blocks=100, block_tokens=8, max_seqs=8)
    return simulate(Workload(t), [spec], check=True).requests


@pytest.mark.parametrize("outputs", [[3, 30, 9, 2], [30, 3, 9, 2], [9, 3, 30, 2], [5, 5, 5, 2]])
def test_a_fan_in_is_released_when_the_last_of_its_branches_has_ended(outputs: list[int]) -> None:
    r = serve(table(outputs, [-1, -1, -1, 0], {3: [1, 2]}, [0.0, 0.0, 0.0, 0.75]))
    assert r.released_s[3] == r.finish_s[:3].max() + 0.75


def test_a_program_of_two_fans() -> None:
    """0 starts 1, 2, 3; 4 waits for the three, 5 and 6 for 4, 7 for both and for 0."""
    t = table([4, 2, 20, 9, 3, 8, 1, 2], [-1, 0, 0, 0, 1, 4, 4, 5], {4: [3, 2], 7: [6, 0]})
    r = serve(t)
    for row, parents in ((1, [0]), (3, [0]), (4, [1, 2, 3]), (6, [4]), (7, [5, 6, 0])):
        assert r.released_s[row] == r.finish_s[parents].max()
    assert (r.generated_tokens == t.output_tokens).all()


def test_a_branch_that_failed_at_its_source_has_ended() -> None:
    r = serve(table([0, 9, 2], [-1, -1, 0], {2: [1]}))
    assert r.released_s[2] == r.finish_s[1]


@pytest.mark.parametrize(
    ("after", "parents", "message"),
    [
        ([-1, -1, 0], {2: [2]}, "row 2: also_after holds 2, which is no earlier row"),
        ([-1, 0, 0], {1: [2]}, "row 1: also_after holds 2, which is no earlier row"),
        ([-1, -1, 0], {2: [7]}, "row 2: also_after holds 7, which is no earlier row"),
        ([-1, -1, 0], {2: [-3]}, "row 2: also_after holds -3, which is no earlier row"),
        ([-1, -1, -1], {2: [1]}, "row 2: also_after needs a row in 'after'"),
        ([-1, -1, 0], {2: [1, 1]}, "row 2: waits twice for row 1"),
        ([-1, -1, 0], {2: [0]}, "row 2: waits twice for row 0"),
    ],
)
def test_parents_that_cannot_be_are_refused_with_their_row(after: list[int], parents: Parents, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table([1, 1, 1], after, parents)


def test_lists_for_another_number_of_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="also_after has lists for 2 rows, arrival_s has 1"):
        RequestTable.build(np.zeros(1), np.ones(1), np.ones(1), also_after=lists(2, {}))


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "jsonl.gz"])
def test_parents_survive_a_file(tmp_path: Path, ending: str) -> None:
    t = table([4, 2, 20, 3], [-1, -1, 0, 0], {3: [1, 2]}, [0.0, 1.0, 0.5, 0.0])
    again = read_trace(write_trace(t, tmp_path / f"t.{ending}"))
    assert again.after.tolist() == [-1, -1, 0, 0]
    assert [again.also_after.of(row) for row in range(4)] == [[], [], [], [1, 2]]


def test_a_schema_without_a_place_for_parents_refuses_them(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="wait for another"):
        write_trace(table([1, 1, 1], [-1, -1, 0], {2: [1]}), tmp_path / "t.csv", schema="burstgpt")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"after": 0, "also_after": [2]}, "row 2: also_after holds 2, which is no earlier row"),
        ({"after": 0, "also_after": [5]}, "line 3: 'also_after' holds 5, which is the number of no row"),
        ({"after": 0, "also_after": [-1]}, "line 3: 'also_after' holds -1, which is the number of no row"),
        ({"after": 0, "also_after": ["a"]}, "line 3: 'also_after' holds 'a', which is the number of no row"),
        ({"after": 0, "also_after": 1}, "line 3: 'also_after' is 1, not a list of integers"),
        ({"after": None, "also_after": [1]}, "row 2: also_after needs a row in 'after'"),
    ],
)
def test_a_file_with_parents_that_cannot_be_is_refused_with_the_place(tmp_path: Path, row: dict[str, object], message: str) -> None:
    one = {"arrival_s": 0.0, "prompt_tokens": 5, "output_tokens": 2}
    rows = [{**one, "after": None, "also_after": None}, {**one, "after": None, "also_after": []}, {**one, **row}]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    with pytest.raises(TraceError, match=message):
        read_trace(path)


def test_a_file_of_further_parents_without_first_ones_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens,also_after\n0,5,5,\n0,5,5,0\n")
    with pytest.raises(TraceError, match=r"'also_after' .* needs 'after'"):
        read_trace(path)


def test_taking_rows_keeps_what_is_left_of_their_parents() -> None:
    t = table([1, 1, 1, 1], [-1, -1, -1, 0], {3: [1, 2]})
    without_first = t.take(np.array([1, 2, 3]))
    assert without_first.after.tolist() == [-1, -1, 0] and without_first.also_after.of(2) == [1]
    without_two = t.take(np.array([2, 3]))
    assert without_two.after.tolist() == [-1, 0] and without_two.also_after is None
    alone = t.take(np.array([3]))
    assert alone.after.tolist() == [-1] and alone.also_after is None
    turned = t.take(np.array([2, 1, 0, 3]))
    assert turned.after.tolist() == [-1, -1, -1, 2] and turned.also_after.of(3) == [1, 0]


def test_a_row_stands_behind_the_last_of_its_parents_when_times_are_sorted(tmp_path: Path) -> None:
    """Rows 0 and 1 are out of order; the one that waits for both begins with the later of them."""
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens,after,also_after\n9,1,1,,\n2,2,1,,\n0,3,1,1,0\n5,4,1,,\n")
    t = read_trace(path)
    assert t.prompt_tokens.tolist() == [2, 4, 1, 3]
    assert t.after.tolist() == [-1, -1, -1, 0] and t.also_after.of(3) == [2]
    assert root_arrival_s(t).tolist() == [0.0, 3.0, 7.0, 7.0]


def test_a_row_is_kept_only_with_all_its_parents(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens,after,also_after\n0,1,1,,\n1,2,9,,\n0,3,1,0,1\n0,4,1,2,\n7,5,1,,\n")
    assert read_trace(path, drop_output_tokens=5).prompt_tokens.tolist() == [1, 5]
    assert len(read_trace(path)) == 5


def test_turns_that_depend_leave_a_row_with_several_parents_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens,session,after,also_after\n0,1,1,7,,\n3,2,1,,,\n0.5,3,1,7,1,0\n9,4,1,7,,\n")
    t = read_trace(path, sessions="dependent")
    assert t.after.tolist() == [-1, -1, 1, 2] and t.also_after.of(2) == [0]


def test_rows_that_one_ending_releases_come_in_order_of_rows() -> None:
    t = table([2, 9, 3, 3], [-1, -1, 0, 1], {2: [1]})
    cls = scheduler_class("vllm-v1")
    specs = [InstanceSpec(f"i{n}", cls(cls.Params(max_seqs=8)), JaggedCost(), kv_blocks=100, block_tokens=8, max_seqs=8) for n in range(2)]
    round_robin = router_class("round-robin")
    r = simulate(Workload(t), specs, ClusterSpec(router=round_robin(round_robin.Params())), check=True).requests
    assert r.released_s[2] == r.released_s[3] == r.finish_s[1]
    assert r.instance.tolist() == [0, 1, 0, 1]
