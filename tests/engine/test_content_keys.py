"""Keys of the prefix cache: the adapter, the cache salt and the contents, prompt and output."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from simserve.contracts import ClusterView, Request, Router
from simserve.engine import InstanceSpec, simulate
from simserve.engine.records import RequestColumns
from simserve.engine.spec import ClusterSpec
from simserve.errors import TraceError
from simserve.policies.registry import router_class, scheduler_class
from simserve.workload.requests import Labels, PrefixBlocks, RequestTable, Workload
from simserve.workload.statistics import trace_statistics
from simserve.workload.trace import read_trace, write_trace
from tests.reference.toy_cost import JaggedCost

RUN = 8
"""Tokens of one id, and of a KV block."""


def contents(ids: list[list[int]], outputs: bool) -> PrefixBlocks:
    offsets = np.cumsum([0, *map(len, ids)]).astype(np.int64)
    return PrefixBlocks(offsets, np.array([key for one in ids for key in one], dtype=np.int64), RUN, outputs)


def table(prompts: list[int], outputs: list[int], ids: list[list[int]], *, gap_s: float = 1000.0, told: bool = False, **names: list[str]):
    arrival = gap_s * np.arange(len(prompts))
    columns = {name: Labels.of(texts) for name, texts in names.items()}
    return RequestTable.build(arrival, np.array(prompts), np.array(outputs), prefix=contents(ids, told), **columns)


def serve(t: RequestTable, instances: int = 1, router: Router | None = None, blocks: int = 100, **spec: bool) -> RequestColumns:
    cls = scheduler_class("vllm-v1")
    size = {"kv_blocks": blocks, "block_tokens": RUN, "max_seqs": 8}
    specs = [
        InstanceSpec(f"i{n}", cls(cls.Params(max_seqs=8)), JaggedCost(), prefix_caching=True, **size, **spec) for n in range(instances)
    ]
    return simulate(Workload(t), specs, ClusterSpec(router=router), check=True).requests


def turns(second: int = 96) -> tuple[list[int], list[int], list[list[int]]]:
    """Two turns of a conversation: 40 tokens and an answer of 30; then these 70 and what is new. Runs 0 to 7 lie within the 70."""
    return [40, second], [30, 2], [[*range(8), 100], [*range(8), *range(200, 200 + -(-(second + 2) // RUN) - 8)]]


def test_the_next_turn_finds_what_the_last_one_generated() -> None:
    prompts, outputs, ids = turns()
    # 40 + 30 tokens, the last of which is never computed: 69 tokens fill 8 runs.
    assert serve(table(prompts, outputs, ids, told=True)).cached_tokens.tolist() == [0, 64]
    assert serve(table(prompts, outputs, ids, told=True), caches_outputs=False).cached_tokens.tolist() == [0, 40]


@pytest.mark.parametrize(("output", "found"), [(8, 8), (9, 16), (1, 8)])
def test_the_last_token_generated_is_not_in_the_cache(output: int, found: int) -> None:
    """Of a prompt of 8 tokens and an answer of 8, 15 have been computed; of an answer of 9, 16."""
    assert serve(table([8, 24], [output, 1], [[0, 1, 2], [0, 1, 2]], told=True)).cached_tokens.tolist() == [0, found]


def test_ids_of_prompts_alone_never_speak_of_outputs() -> None:
    """The same ids as ids of prompts: the run that the prompt fills in part is no run of prompt and output."""
    prompts, outputs, ids = turns()
    of_prompts = table(prompts, outputs, [ids[0][:5], ids[1][:12]])
    assert serve(of_prompts).cached_tokens.tolist() == [0, 40]
    assert np.array_equal(serve(of_prompts, caches_outputs=False).finish_s, serve(of_prompts).finish_s)


class Watching(Router):
    """Notes the contents that it may see."""

    reads_contents = True

    def __init__(self, seen: list[list[int]]) -> None:
        self.seen = seen

    def choose(self, request: Request, view: ClusterView) -> int:
        self.seen.append(list(request.prefix_ids))
        return 0

    def __deepcopy__(self, memo: object) -> Watching:
        return Watching([])


def test_policies_see_contents_of_prompts_only() -> None:
    """I8: neither what nor how much a request will generate shows in its ids."""
    prompts, outputs, ids = turns()
    seen: list[list[int]] = []
    serve(table(prompts, outputs, ids, told=True), 2, Watching(seen))
    assert [len(keys) for keys in seen] == [5, 12]
    assert seen[0] == seen[1][:5]


@pytest.mark.parametrize("column", ["salt", "adapter"])
def test_requests_of_different_owners_share_nothing(column: str) -> None:
    same = [[1, 2, 3]] * 5
    r = serve(table([24] * 5, [2] * 5, same, **{column: ["a", "b", "a", "", "b"]}))
    assert r.cached_tokens.tolist() == [0, 0, 16, 0, 16]


def test_salt_and_adapter_are_both_in_the_key() -> None:
    r = serve(table([24] * 5, [2] * 5, [[1, 2, 3]] * 5, salt=["s", "s", "t", "s", "t"], adapter=["a", "b", "a", "a", "a"]))
    assert r.cached_tokens.tolist() == [0, 0, 0, 16, 16]


def test_one_salt_for_all_changes_nothing() -> None:
    prompts, ids = [24, 24, 40], [[1, 2, 3], [1, 2, 3], [1, 2, 9, 9, 9]]
    plain, salted = serve(table(prompts, [2] * 3, ids)), serve(table(prompts, [2] * 3, ids, salt=["s"] * 3))
    assert plain.cached_tokens.tolist() == salted.cached_tokens.tolist() == [0, 16, 16]
    assert np.array_equal(plain.finish_s, salted.finish_s)


def test_affinity_follows_the_key() -> None:
    """The first holds instance 0. The same text under another salt is as foreign there as anything; under the same salt it is at home."""
    affinity = router_class("prefix-affinity")
    work = table([24] * 3, [60] * 3, [[1, 2, 3]] * 3, gap_s=0.5, salt=["s", "t", "s"])
    assert serve(work, 2, affinity(affinity.Params())).instance.tolist() == [0, 1, 0]


def test_what_a_preempted_request_generated_is_read_again() -> None:
    """Two requests of 8 + 24 tokens in 6 blocks of 8: the younger gives way when both need a fourth block. Its own 3 runs are still there,
    as idle contents, as far as their blocks were not taken."""
    ids = [[1, 2, 3, 4], [5, 6, 7, 8]]
    told, silent = (serve(table([8, 8], [24, 24], ids, gap_s=0.0, told=told), blocks=6) for told in (True, False))
    assert told.preemptions.tolist() == silent.preemptions.tolist() == [0, 1]
    assert silent.reread_tokens[1] <= 8 < told.reread_tokens[1]
    assert told.finish_s[1] < silent.finish_s[1]


def test_a_prompt_shorter_than_a_run_finds_again_what_followed_it() -> None:
    told = serve(table([4, 4], [28, 28], [[1, 2, 3, 4], [5, 6, 7, 8]], gap_s=0.0, told=True), blocks=6)
    assert told.preemptions.tolist() == [0, 1]
    assert told.reread_tokens[1] >= 8


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_contents_of_outputs_survive_a_file(tmp_path: Path, ending: str) -> None:
    prompts, outputs, ids = turns()
    again = read_trace(write_trace(table(prompts, outputs, ids, told=True, salt=["s", "s"]), tmp_path / f"t.{ending}"))
    assert again.prefix.outputs and [again.prefix.first(row, 99) for row in range(2)] == ids
    assert serve(again).cached_tokens.tolist() == [0, 64]


def test_a_file_says_either_what_prompts_hold_or_what_all_holds(tmp_path: Path) -> None:
    row = {"prompt_tokens": 8, "output_tokens": 8, "prefix_ids": [1], "content_ids": [1, 2], "prefix_block_tokens": 8}
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(TraceError, match="one of the two"):
        read_trace(path)


def test_ids_beyond_prompt_and_output_are_left_out_and_said(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("prompt_tokens,output_tokens,content_ids,prefix_block_tokens\n8,9,1 2 3 4,8\n8,8,1 2,8\n")
    t = read_trace(path)
    assert [t.prefix.first(row, 99) for row in range(2)] == [[1, 2, 3], [1, 2]]
    assert "1 request had more content ids than blocks" in t.provenance["notes"][0]


def test_a_shortened_prompt_says_nothing_of_what_follows() -> None:
    whole = contents([[1, 2, 3, 4], [1, 2, 3, 4]], True)
    cut = whole.clipped(np.array([12, 20]), np.array([6, 6]), np.array([True, False]))
    assert [cut.first(row, 99) for row in range(2)] == [[1], [1, 2, 3, 4]]
    shorter_output = whole.clipped(np.array([20, 20]), np.array([1, 5]), np.array([False, False]))
    assert [len(shorter_output.first(row, 99)) for row in range(2)] == [3, 4]


def test_the_statistics_of_a_trace_find_what_a_run_finds() -> None:
    prompts, outputs, ids = turns()
    for told, salts in ((True, ["s", "s"]), (True, ["s", "t"]), (False, ["s", "s"])):
        t = table(prompts, outputs, ids if told else [ids[0][:5], ids[1][:12]], told=told, salt=salts)
        ratio = trace_statistics(t)["prefix"]["token_hit_ratio"]
        assert ratio == serve(t).cached_tokens.sum() / sum(prompts)
    for output, found in ((8, 8), (9, 16)):
        t = table([8, 24], [output, 1], [[0, 1, 2], [0, 1, 2]], told=True)
        assert trace_statistics(t)["prefix"]["token_hit_ratio"] == found / 32
