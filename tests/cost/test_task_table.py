"""Attention as tiles dealt to cores: the token table, the dealing, and what a step's slowest core takes."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.contracts import VERIFY, DecodeSteps, Slice, Step
from simserve.cost.cores.deal import slowest_core_s
from simserve.cost.cores.options import TaskTable
from simserve.cost.cores.pipeline import pipeline_stages, score_parts
from simserve.cost.cores.step import TiledStepCost
from simserve.cost.cores.table import DECODING, PREFILL, VERIFYING, tiles, token_table
from simserve.cost.host import HostOverheads
from simserve.cost.options import CostOptions
from simserve.cost.step import StepCost
from simserve.errors import ModelError
from simserve.hardware import load_profile
from simserve.hardware.operators.attention import attended_pairs
from simserve.model import load_model
from simserve.model.parallel import Parallel

ASCEND = load_profile("ascend-910b")
HOST = HostOverheads(per_step_s=1e-3)
REORDERS: tuple[Any, ...] = ("none", "first-free", "snake", "greedy", "ideal")


@functools.cache
def build(reorder: str = "snake", name: str = "qwen2-7b", profile: str = "ascend-910b", **table: Any) -> TiledStepCost:
    options = CostOptions.model_validate({"task_table": {"reorder": reorder, **table}})
    return TiledStepCost(load_model(name), load_profile(profile), HOST, max_context_tokens=16384, options=options)


SNAKE = build()


def attention(cost: TiledStepCost, step: Step) -> float:
    return cost.breakdown(step)["attention"]


FLASH: dict[str, Any] = {
    "head_units": "query-heads",
    "prefill_tile_rows": 64,
    "decode_tile_rows": 64,
    "key_tile_tokens": 128,
    "split_keys": False,
}
"""FlashAttention-2's blocks."""

MIXED = Step.of([900, 1200, 300, 4000, 77], [Slice(1500, 0), Slice(400, 800)])


# ---- the token table ----


def test_rows_of_the_papers_example() -> None:
    """arXiv 2412.18106: prompts in tiles of 128 rows, decodes in 16; 53 drafted tokens are one tile of 64."""
    rows = token_table(Step.of([500, 700], [Slice(300, 100), Slice(53, 900, kind=VERIFY)]), TaskTable())
    assert rows.phase.tolist() == [DECODING, DECODING, PREFILL, VERIFYING]
    assert rows.start.tolist() == [0, 1, 2, 302]
    assert rows.tokens.tolist() == [1, 1, 300, 53]
    assert rows.kv_tokens.tolist() == [500, 700, 400, 953]
    assert rows.tile_rows.tolist() == [16, 16, 128, 64]
    assert np.bincount(tiles(rows, 0).row).tolist() == [1, 1, 3, 1]
    assert tiles(rows, 0).keys.tolist() == [500, 700, 228, 356, 400, 953]
    assert tiles(rows, 0).only.tolist() == [True, True, False, False, False, True]


def test_decoding_sequences_with_drafted_tokens_are_verified() -> None:
    step = Step(3, 3000, 1200, (), drafted_tokens=6)
    rows = token_table(step, TaskTable())
    assert rows.phase.tolist() == [VERIFYING] * 3
    assert rows.tokens.tolist() == [3, 3, 3]
    assert rows.kv_tokens.sum() == 3000
    assert rows.tile_rows.tolist() == [16, 16, 16]


@settings(deadline=None)
@given(new=st.integers(1, 3000), context=st.integers(0, 5000), window=st.sampled_from([0, 1, 100, 4096]))
def test_tiles_of_one_row_attend_each_pair_once(new: int, context: int, window: int) -> None:
    options = TaskTable(prefill_tile_rows=1, decode_tile_rows=1)
    pairs = attended_pairs(*(np.array([float(x)]) for x in (new, context, window)))
    assert tiles(token_table(Step(0, slices=[Slice(new, context)]), options), window).keys.sum() == pairs[0]


@settings(deadline=None)
@given(new=st.integers(1, 3000), context=st.integers(0, 5000), rows=st.sampled_from([16, 64, 128, 100]), window=st.sampled_from([0, 500]))
def test_tiles_cover_every_pair(new: int, context: int, rows: int, window: int) -> None:
    table = token_table(Step(0, slices=[Slice(new, context)]), TaskTable(prefill_tile_rows=rows))
    cut = tiles(table, window)
    pairs = attended_pairs(*(np.array([float(x)]) for x in (new, context, window)))
    assert (table.tile_rows[cut.row] * cut.keys).sum() >= pairs[0]
    assert table.tile_rows.max() <= rows


def test_a_tile_reaches_back_to_its_first_tokens_window() -> None:
    rows = token_table(Step(0, slices=[Slice(300, 2000)]), TaskTable())
    assert tiles(rows, 500).keys.tolist() == [500 + 127, 500 + 127, 500 + 43]


def test_loads_are_tile_sizes_times_keys_in_arrival_order() -> None:
    """The paper sorts by tile size x keys: 128 a prompt's, 16 a decode's, whatever heads share them."""
    rows = token_table(Step.of([1000], [Slice(256, 0)]), TaskTable())
    loads = SNAKE._tiles[0]._layers[0][0]._tiles(rows)[1]
    assert loads.tolist() == [16 * 1000] * 4 + [128 * 128] * 4 + [128 * 256] * 4
    flash = build("first-free", "llama-3.1-8b", "rtx-pro-6000", **FLASH)._tiles[0]._layers[0][0]
    loads = flash._tiles(token_table(Step.of([1000], [Slice(128, 0)]), TaskTable.model_validate(FLASH)))[1]
    assert loads.tolist() == [64 * 1000, 64 * 64, 64 * 128] * 32


# ---- dealing ----

LOADS = st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=200).map(np.array)


@settings(deadline=None)
@given(seconds=LOADS, cores=st.integers(1, 40), reorder=st.sampled_from(REORDERS))
def test_no_dealing_beats_equal_shares_or_the_longest_tile(seconds: Any, cores: int, reorder: Any) -> None:
    slowest = slowest_core_s(seconds, cores, reorder)
    assert slowest >= seconds.sum() / cores * (1 - 1e-12)
    assert slowest <= seconds.sum() * (1 + 1e-12)
    if reorder != "ideal":
        assert slowest >= seconds.max()


@settings(deadline=None)
@given(seconds=LOADS, cores=st.integers(1, 40), reorder=st.sampled_from(["first-free", "greedy"]))
def test_list_scheduling_keeps_grahams_bound(seconds: Any, cores: int, reorder: Any) -> None:
    bound = seconds.sum() / cores + (1 - 1 / cores) * seconds.max()
    assert slowest_core_s(seconds, cores, reorder) <= bound * (1 + 1e-12)


@settings(deadline=None)
@given(tiles_=st.integers(1, 300), cores=st.integers(1, 40), reorder=st.sampled_from(REORDERS[:-1]))
def test_equal_tiles_take_whole_rounds(tiles_: int, cores: int, reorder: Any) -> None:
    assert slowest_core_s(np.ones(tiles_), cores, reorder) == pytest.approx(-(-tiles_ // cores))


def test_dealings_by_hand() -> None:
    seconds = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert slowest_core_s(seconds, 2, "none") == 2 + 4 + 6
    assert slowest_core_s(seconds, 2, "snake") == 6 + 3 + 2
    assert slowest_core_s(seconds, 2, "greedy") == 6 + 3 + 2
    assert slowest_core_s(seconds, 2, "first-free") == 2 + 4 + 6
    assert slowest_core_s(seconds, 2, "ideal") == 10.5
    assert slowest_core_s(seconds[::-1].copy(), 2, "first-free") == 6 + 3 + 2
    assert slowest_core_s(np.zeros(0), 2, "snake") == 0.0


def test_the_snake_sorts_by_load_and_not_by_seconds() -> None:
    seconds, load = np.array([1.0, 9.0, 1.0, 9.0]), np.array([4.0, 3.0, 2.0, 1.0])
    assert slowest_core_s(seconds, 2, "snake", load) == 10.0
    assert slowest_core_s(seconds, 2, "none") == 18.0


# ---- pipelines ----


def test_stages_by_cache_size() -> None:
    assert pipeline_stages(True, 16, 1e6, 24, ASCEND.device.l2_bytes) == 2
    fitting = ASCEND.device.l2_bytes / (24 * 128 * 2)
    assert pipeline_stages(False, 128, fitting, 24, ASCEND.device.l2_bytes) == 3
    assert pipeline_stages(False, 128, fitting + 1, 24, ASCEND.device.l2_bytes) == 4
    assert score_parts(np.array([128.0]), np.array([fitting * 2.5]), 24, ASCEND.device.l2_bytes)[0] == 2.0


# ---- a step ----


def test_sorting_helps_and_equal_shares_bound_it() -> None:
    none, snake, greedy, ideal = (attention(build(r), MIXED) for r in ("none", "snake", "greedy", "ideal"))
    assert ideal < greedy <= snake < none


def test_attention_is_a_fixed_part_and_its_slowest_core() -> None:
    """One decode of n tokens on one core: its keys and values at the core's own bandwidth, in each of 28 layers of 4 KV heads."""
    cost = build("none", cores=1)
    times = [attention(cost, Step.of([n])) for n in (1000, 2000)]
    core = ASCEND.device.core
    assert core is not None
    assert times[1] - times[0] == pytest.approx(28 * 4 * 1000 * 2 * 128 * 2 / core.hbm_bytes_per_s)


def test_many_decodes_read_their_cache_at_the_devices_bandwidth() -> None:
    step = Step.of([2000] * 96)
    read = 28 * 96 * 2000 * 4 * 2 * 128 * 2 / (ASCEND.device.hbm_share * ASCEND.device.hbm_bytes_per_s)
    assert read <= attention(SNAKE, step) <= 1.02 * read + 28 * 24e-6


def test_few_tiles_are_split_over_the_cores() -> None:
    """One sequence on four cores reads at what four cores reach, split over all at what the device reaches."""
    short, long = Step.of([4000]), Step.of([8000])
    whole, split = (attention(cost, long) - attention(cost, short) for cost in (build(split_keys=False), build(split_keys=True)))
    core = ASCEND.device.core
    assert core is not None
    device = ASCEND.device.hbm_share * ASCEND.device.hbm_bytes_per_s
    assert whole / split == pytest.approx(device / (4 * core.hbm_bytes_per_s))


@pytest.mark.parametrize("step", [MIXED, Step.of([100, 5000]), Step(0, slices=[Slice(3000, 0)])])
def test_more_cores_never_take_longer_in_equal_shares(step: Step) -> None:
    times = [attention(build("ideal", cores=n, split_keys=False), step) for n in (8, 16, 20, 24)]
    assert times == sorted(times, reverse=True)


def test_everything_but_attention_is_as_without_a_task_table() -> None:
    plain = StepCost(load_model("qwen2-7b"), ASCEND, HOST, max_context_tokens=16384)
    for step in (MIXED, Step.of([30, 40]), Step(0, slices=[Slice(10, 5)])):
        tiled, kernels = SNAKE.breakdown(step), plain.breakdown(step)
        rest = {part: s for part, s in kernels.items() if not part.startswith("attention")}
        assert {part: s for part, s in tiled.items() if part not in ("attention", "launch")} == {
            k: v for k, v in rest.items() if k != "launch"
        }
        assert SNAKE.step_time(step) == pytest.approx(sum(tiled.values()), rel=1e-12)


@settings(max_examples=20, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(20, 3000), st.integers(2, 9)), min_size=1, max_size=20), steps=st.integers(1, 5))
def test_verified_steps_equal_single_steps_bit_for_bit(rows: list[tuple[int, int]], steps: int) -> None:
    """Sequences of known contexts and widths, each step one token further on; as slices of a plan they cost the same."""
    contexts, widths = (np.array(column) for column in zip(*rows, strict=True))
    ahead = np.arange(steps)
    drafted = np.full(steps, int(widths.sum()) - len(rows))
    each = DecodeSteps(
        len(rows),
        drafted,
        np.zeros(steps, dtype=np.int64),
        contexts.sum() + len(rows) * ahead,
        contexts.max() + ahead,
        lambda i: ((contexts + i).tolist(), widths.tolist()),
    )
    times = SNAKE.verify_times(each)
    assert times == [SNAKE.step_time(each.step(i)) for i in range(steps)]
    slices = [Slice(width, context - width, kind=VERIFY) for context, width in rows]
    assert SNAKE.step_time(Step(0, slices=slices)) == times[0]
    assert sum(SNAKE.breakdown(Step(0, slices=slices)).values()) == pytest.approx(times[0], rel=1e-12)


def test_steps_with_drafts_wait_for_launches_only_outside_graphs() -> None:
    host = HostOverheads(kernel_launch_s=1e-3, cuda_graph_sizes=(1, 2, 4, 8, 16))
    cost = SNAKE.with_host(host)
    small, large = Step(2, 200, 100, (), drafted_tokens=2), Step(9, 900, 100, (), drafted_tokens=9)
    for step in (small, large):
        assert cost.step_time(step) == pytest.approx(sum(cost.breakdown(step).values()), rel=1e-12)
    assert "launch" not in cost.breakdown(small)
    assert cost.breakdown(large)["launch"] > 0.1


def test_drafted_tokens_make_attention_wider_only() -> None:
    """Two tokens of 7 heads are one tile that reads the cache once: a decode's time, while arithmetic stays below reading."""
    plain, drafted = Step.of([3000] * 40), Step(40, 40 * 3000, 3000, (), drafted_tokens=40)
    assert attention(SNAKE, drafted) == pytest.approx(attention(SNAKE, plain), rel=0.2)
    wide = Step(40, 40 * 3000, 3000, (), drafted_tokens=40 * 63)
    assert attention(SNAKE, wide) > 1.5 * attention(SNAKE, plain)


@settings(max_examples=30, deadline=None)
@given(
    contexts=st.lists(st.integers(1, 6000), min_size=1, max_size=40), steps=st.integers(1, 20), reorder=st.sampled_from(["none", "greedy"])
)
def test_spans_equal_steps_bit_for_bit(contexts: list[int], steps: int, reorder: str) -> None:
    cost = build(reorder)
    step = Step.of(contexts)
    assert cost.decode_times(step, steps) == [cost.step_time(step.after(i)) for i in range(steps)]


def test_pipeline_stages_add_up_to_the_whole() -> None:
    options = CostOptions.model_validate({"task_table": {"reorder": "snake"}})
    halves = TiledStepCost(load_model("qwen2-7b"), ASCEND, HOST, Parallel(pp=2), max_context_tokens=16384, options=options)
    assert halves.breakdown(MIXED)["attention"] == pytest.approx(attention(SNAKE, MIXED))
    with pytest.raises(ModelError, match="2"):
        halves.step_time(MIXED)
    with pytest.raises(ModelError, match="2"):
        halves.decode_times(Step.of([900, 1200]), 4)


STAGED = [
    pytest.param(Step.of([900, 1200, 300, 4000, 77]), id="decodes"),
    pytest.param(MIXED, id="decodes and chunks"),
    pytest.param(Step.of([], [Slice(1500, 0)]), id="a chunk"),
    pytest.param(Step.of([900, 1200], [Slice(8, 3000, None, VERIFY, 7)]), id="drafted tokens"),
]


@pytest.mark.parametrize("step", STAGED)
@pytest.mark.parametrize("reorder", ["none", "ideal"])
def test_each_stage_waits_for_its_own_tiles(reorder: str, step: Step) -> None:
    """Two stages of 14 layers: each takes half of what dealing all 28 layers' tiles takes, where without tiles it takes half of what the
    kernels over prompts and decodes take."""
    options = CostOptions.model_validate({"task_table": {"reorder": reorder}})
    two = Parallel(pp=2)
    tiled = TiledStepCost(load_model("qwen2-7b"), ASCEND, HOST, two, max_context_tokens=16384, options=options)
    plain = StepCost(load_model("qwen2-7b"), ASCEND, HOST, two, max_context_tokens=16384)
    kernels = sum(seconds for part, seconds in plain.breakdown(step).items() if part.startswith("attention_"))
    more = attention(build(reorder), step) - kernels
    assert abs(more) > 1e-5
    for with_tiles, without in zip(tiled.stage_times(step), plain.stage_times(step), strict=True):
        assert with_tiles - without == pytest.approx(more / 2, rel=1e-9)
    assert sum(tiled.stage_times(step)) == pytest.approx(sum(tiled.breakdown(step).values()), rel=1e-12)


@settings(max_examples=15, deadline=None)
@given(contexts=st.lists(st.integers(1, 6000), min_size=1, max_size=40), steps=st.integers(1, 12))
def test_spans_on_stages_equal_steps_bit_for_bit(contexts: list[int], steps: int) -> None:
    cost = _on_two_stages()
    step = Step.of(contexts)
    assert list(cost.stage_decode_times(step, steps)) == [cost.stage_times(step.after(i)) for i in range(steps)]


@functools.cache
def _on_two_stages() -> TiledStepCost:
    options = CostOptions.model_validate({"task_table": {"reorder": "greedy"}})
    return TiledStepCost(load_model("qwen2-7b"), ASCEND, HOST, Parallel(pp=2), max_context_tokens=16384, options=options)


def test_steps_that_only_decode_take_the_measured_kernels_time() -> None:
    tiled = build("first-free", "llama-3.1-8b", "a100-sxm-80gb")
    plain = StepCost(load_model("llama-3.1-8b"), load_profile("a100-sxm-80gb"), HOST, max_context_tokens=16384)
    step = Step.of([500, 900, 4000])
    assert attention(tiled, step) == plain.breakdown(step)["attention_decode"]


def test_keys_come_in_whole_blocks() -> None:
    """FlashAttention-2 multiplies 64 queries of a head with 128 keys at a time: within a block nothing changes."""
    cost = build("first-free", "llama-3.1-8b", "rtx-pro-6000", **FLASH)
    times = [attention(cost, Step.of([keys] * 300, [Slice(16, 0)])) for keys in (1, 128, 129, 256)]
    assert times[0] == times[1] < times[2] == times[3]


def test_query_heads_that_read_at_different_times_read_again() -> None:
    """128 decodes of 16,000 tokens: 129 blocks a head on 188 SMs, so 1.46 of the 4 heads of a group read the same keys together."""
    cost = build("first-free", "llama-3.1-8b", "rtx-pro-6000", **FLASH)
    device = load_profile("rtx-pro-6000").device
    once = 32 * 8 * (128 * 16000 + 16) * 2 * 128 * 2 / (device.hbm_share * device.hbm_bytes_per_s)
    floor = 32 * 8e-6
    assert attention(cost, Step.of([16000] * 128, [Slice(16, 0)])) == pytest.approx(once * 4 / (188 / 129) + floor, rel=0.01)
    packed = build("first-free", "llama-3.1-8b", "rtx-pro-6000", key_tile_tokens=128, split_keys=False)
    assert attention(packed, Step.of([16000] * 128, [Slice(16, 0)])) == pytest.approx(once + floor, rel=0.01)


def test_scores_beyond_the_cache_cost_an_update() -> None:
    """A chunk of 128 tokens after 60,000: four tiles of 896 rows, each split over 6 cores, and 12 updates of 128 elements in 4 bytes."""
    step = Step(0, slices=[Slice(128, 60000)])
    device, (layer, _) = ASCEND.device, SNAKE._tiles[0]._layers[0]
    computing = 4 * 128 * 896 * 60128 / layer.rates.flops
    updates = -(-24 * 896 * 60128 * 2 // device.l2_bytes) - 1
    assert device.core is not None and updates == 12
    update = updates * 896 * 8 * 128 / device.core.l2_bytes_per_s
    assert attention(SNAKE, step) == pytest.approx(28 * (layer.rates.floor_s + (computing + update) / 6))


def test_a_core_multiplies_as_fast_as_the_measured_kernel() -> None:
    """A prompt of the length at which the rate is read off comes back as the kernel's time."""
    cost = build("ideal", "llama-3.1-8b", "a100-sxm-80gb")
    plain = StepCost(load_model("llama-3.1-8b"), load_profile("a100-sxm-80gb"), HOST, max_context_tokens=16384)
    step = Step(0, slices=[Slice(8192, 0)])
    assert attention(cost, step) == pytest.approx(plain.breakdown(step)["attention_prefill"], rel=0.02)


# ---- batch by batch ----


def test_separate_kernels_move_their_tensors() -> None:
    """Split: queries, keys and values of the new tokens; rearrange: the pages of the prompt with a context; merge: the outputs. Each is
    read and written once at the bandwidth that kernels reach, and launched."""
    device = ASCEND.device
    apart, together = build("none", launches="separate"), build("none")
    prompts, decodes = Step(0, slices=MIXED.slices), Step.of(MIXED.contexts())
    tokens, elements = 1500 + 400 + 5, 2 * 128 * 2
    moved = tokens * (28 + 8) * elements + tokens * 28 * elements + 2 * (400 + 800) * 4 * elements
    moving = 28 * (moved / (device.hbm_share * device.hbm_bytes_per_s) + 3 * device.launch_s)
    kernels = attention(together, prompts) + attention(together, decodes)
    assert attention(apart, MIXED) == pytest.approx(kernels + moving)
    assert attention(apart, decodes) == attention(together, decodes)


def test_separate_prompts_reach_the_stated_fractions_of_peak() -> None:
    stated = {"plain_mfu": 0.53, "prefix_mfu": 0.47, "chunked_mfu": 0.30}
    cost = build("none", launches="separate", **stated)
    long = 8192
    for context, mfu in ((0, 0.53), (4096, 0.47), (8192, 0.30)):
        pairs = long * context + long * (long + 1) / 2
        flops = 4.0 * 28 * 28 * 128 * pairs
        gathering = attention(cost, Step(0, slices=[Slice(1, context)])) if context else 0.0
        measured = attention(cost, Step(0, slices=[Slice(long, context)])) - gathering
        assert flops / measured / ASCEND.device.peak("bf16") == pytest.approx(mfu, rel=0.08)


# ---- what it does not go with ----


def test_latent_attention_is_refused() -> None:
    with pytest.raises(ModelError, match="latent attention"):
        build(name="deepseek-v3")


def test_attention_replicas_are_refused() -> None:
    options = CostOptions.model_validate({"task_table": {}})
    with pytest.raises(ModelError, match="found dp 2"):
        TiledStepCost(load_model("qwen3-30b-a3b"), ASCEND, HOST, Parallel(tp=1, dp=2, ep=2), max_context_tokens=4096, options=options)


def test_layer_groups_are_refused() -> None:
    with pytest.raises(ModelError, match="groups of layers"):
        SNAKE.step_time(Step(1, 100, 100, [Slice(100, 0, (0, 2))]))


def test_windows_are_attended_only_as_far_as_they_reach() -> None:
    windowed, far = build(name="gpt-oss-20b"), 12000
    growth = attention(windowed, Step.of([far] * 24)) - attention(windowed, Step.of([far // 2] * 24))
    every = 24 * (far // 2) * 8 * 2 * 64 * 2 / (ASCEND.device.hbm_share * ASCEND.device.hbm_bytes_per_s)
    assert growth == pytest.approx(12 * every, rel=0.1)
