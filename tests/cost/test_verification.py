"""Steps that verify drafted tokens: one reading of each cache, the arithmetic of every query, the rest by the number of tokens."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.contracts import VERIFY, DecodeSteps, Slice, Step
from simserve.cost.decode import index_seconds
from simserve.cost.host import HostOverheads
from simserve.cost.kernels import KernelChoice
from simserve.cost.step import StepCost
from simserve.cost.verification import Pace, VerifyAttention, folded, verifies
from simserve.hardware import load_profile
from simserve.model import Parallel, load_model
from simserve.model.operators import MLA, Attention, IndexerScores

GRAPHS = (1, 2, 4, *range(8, 513, 8))
HOST = HostOverheads(per_step_s=1e-3, per_decode_request_s=5e-6, per_prefill_token_s=1e-8, cuda_graph_sizes=GRAPHS)


@lru_cache(maxsize=8)
def cost(name: str, hardware: str = "h100-sxm-80gb", tp: int = 1, pp: int = 1, hold: str = "tokens", context: int = 16_384) -> StepCost:
    host = HostOverheads(1e-3, 5e-6, 1e-8, cuda_graph_sizes=GRAPHS, graphs_hold=hold)  # type: ignore[arg-type]
    return StepCost(load_model(name), load_profile(hardware), host, Parallel(tp=tp, pp=pp), max_context_tokens=context)


def verifying(n: int, width: int, context: int) -> Step:
    return Step(n, n * context, context, (), n * (width - 1))


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["llama-3.1-8b", "gpt-oss-20b"]),
    n=st.integers(1, 200),
    drafted=st.lists(st.integers(0, 600), min_size=1, max_size=30),
    mean=st.integers(1, 6000),
    extra=st.integers(0, 9000),
    growth=st.integers(0, 700),
)
def test_many_steps_are_priced_as_each_by_itself_bit_for_bit(
    name: str, n: int, drafted: list[int], mean: int, extra: int, growth: int
) -> None:
    count = len(drafted)
    more = growth * np.arange(count)
    widths = np.array(drafted)
    steps = DecodeSteps(n, widths, np.zeros(count, dtype=np.int64), n * mean + extra + widths + more, mean + extra + widths + more)
    assert list(cost(name).verify_times(steps)) == [cost(name).step_time(steps.step(i)) for i in range(count)]


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(["llama-3.1-8b", "gpt-oss-20b"]),
    n=st.integers(1, 200),
    drafted=st.integers(0, 3000),
    context=st.tuples(st.integers(1, 3000), st.integers(0, 3000)),
    longest=st.tuples(st.integers(1, 9000), st.integers(0, 3000)),
    within=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5),
)
def test_where_one_line_has_the_steps_each_lies_on_it(
    name: str, n: int, drafted: int, context: tuple[int, int], longest: tuple[int, int], within: list[tuple[float, float]]
) -> None:
    llama = cost(name)
    low, least = n * context[0], longest[0]
    line = llama.verify_line(n, drafted, low, low + context[1], least, least + longest[1])
    if line is not None:
        base, intercept, slope, of_longest = line
        for share, other in ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0), *within):
            tokens, most = low + int(share * context[1]), least + int(other * longest[1])
            on_it = base + (intercept + slope * (most if of_longest else tokens))
            assert on_it == llama.step_time(Step(n, tokens, most, (), drafted))


def test_a_span_of_an_ordinary_batch_is_on_one_line() -> None:
    """Thirty-two requests of 700 to 900 tokens, eight steps of three drafted tokens: the batch's own reading."""
    line = cost("llama-3.1-8b").verify_line(32, 96, 27_000, 27_700, 900, 925)
    assert line is not None
    assert not line[3]
    assert line[2] > 0


def test_without_drafted_tokens_it_is_a_decode_step() -> None:
    llama = cost("llama-3.1-8b")
    none = np.zeros(3, dtype=np.int64)
    contexts = np.array([800, 808, 816])
    times = llama.verify_times(DecodeSteps(8, none, none, contexts, contexts // 8))
    assert list(times) == list(llama.decode_times(Step(8, 800, 100), 3))


@pytest.mark.parametrize("name", ["llama-3.1-8b", "gpt-oss-20b"])
def test_more_drafted_tokens_never_take_less_time(name: str) -> None:
    for n in (1, 16, 100):
        times = [cost(name).step_time(Step(n, 1000 * n, 1000, (), drafted)) for drafted in range(0, 900, 7)]
        assert all(a <= b for a, b in pairwise(times))


@settings(max_examples=40, deadline=None)
@given(
    plain=st.lists(st.integers(1, 3000), max_size=6),
    verified=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3000)), min_size=1, max_size=6),
    chunks=st.lists(st.tuples(st.integers(1, 700), st.integers(0, 2000)), max_size=2),
)
def test_verify_slices_cost_what_the_same_decodes_do(
    plain: list[int], verified: list[tuple[int, int]], chunks: list[tuple[int, int]]
) -> None:
    llama = cost("llama-3.1-8b")
    prompts = [Slice(new, context) for new, context in chunks]
    as_slices = Step.of(plain, [*prompts, *(Slice(new, context, None, VERIFY) for new, context in verified)])
    contexts = [*plain, *(new + context for new, context in verified)]
    as_decodes = Step(len(contexts), sum(contexts), max(contexts), prompts, sum(new - 1 for new, _ in verified))
    assert llama.step_time(as_slices) == llama.step_time(as_decodes)
    assert llama.breakdown(as_slices) == llama.breakdown(as_decodes)
    assert sum(llama.breakdown(as_decodes).values()) == pytest.approx(llama.step_time(as_decodes), rel=1e-9)


def test_the_cache_is_read_once_whatever_the_width() -> None:
    llama = cost("llama-3.1-8b")
    assert llama.breakdown(verifying(8, 4, 8000))["attention_decode"] == llama.breakdown(verifying(8, 1, 8000))["attention_decode"]


def test_wide_enough_it_is_bound_by_arithmetic() -> None:
    """All pairs at the device's peak take at least so long; 128 queries of 8 sequences over 8,000 tokens are beyond reading."""
    model, peak = load_model("llama-3.1-8b"), load_profile("h100-sxm-80gb").device.peak("bf16")
    for width in (128, 256):
        step = verifying(8, width, 8000)
        pairs = 8 * (width * 8000 - width * (width - 1) / 2)
        bound = pairs * model.attention_flops_per_pair() / peak
        assert bound < cost("llama-3.1-8b").breakdown(step)["attention_decode"] < 3 * bound


def test_queries_of_latent_attention_are_rows_like_heads() -> None:
    """With all 128 heads on a device the kernel is busy already: twice the queries take twice the time. A rank's 16 heads leave room."""
    whole, split = cost("deepseek-v3", "h200-sxm-141gb"), cost("deepseek-v3", "h200-sxm-141gb", 8)
    one, two = (whole.breakdown(verifying(64, width, 4000))["attention_decode"] for width in (1, 2))
    assert 1.6 < two / one < 2.2
    one, two = (split.breakdown(verifying(64, width, 4000))["attention_decode"] for width in (1, 2))
    assert two / one < 1.3


def test_a_window_bounds_the_pairs_too() -> None:
    """Layers with a window of 128 meet no more of a long context; 12 of gpt-oss-20b's 24 layers have none."""
    gpt = cost("gpt-oss-20b")
    short, long = (gpt.breakdown(verifying(64, 16, context))["attention_decode"] for context in (4000, 8000))
    assert 1.7 < long / short < 2.0


def test_everything_but_attention_sees_tokens() -> None:
    mixtral = cost("qwen3-30b-a3b")
    verified, decoded = (mixtral.breakdown(step) for step in (verifying(8, 4, 1000), verifying(32, 1, 1000)))
    for part in ("gemm", "moe", "elementwise", "lm_head", "sampler"):
        assert verified[part] == decoded[part]
    one = mixtral.breakdown(verifying(8, 1, 1000))
    assert 1.4 < verified["moe"] / one["moe"] < 4.0  # 32 tokens choose more of the 128 experts than 8


def test_a_few_tokens_more_are_nearly_free_for_one_sequence_and_dear_for_a_full_device() -> None:
    llama = cost("llama-3.1-8b")
    one, many = (llama.step_time(verifying(n, 4, 1000)) / llama.step_time(verifying(n, 1, 1000)) for n in (1, 512))
    assert one < 1.1
    assert many > 1.8


def test_graphs_are_captured_for_tokens_or_for_requests() -> None:
    """Nine requests of four tokens: the next size of 36 tokens is 40; the next of 9 requests is 16, of four tokens each."""
    by_tokens, by_requests = HostOverheads(cuda_graph_sizes=GRAPHS), HostOverheads(cuda_graph_sizes=GRAPHS, graphs_hold="requests")
    assert by_tokens.verify_graph_tokens(9, 36) == 40
    assert by_requests.verify_graph_tokens(9, 36) == 64
    assert by_tokens.verify_graph_tokens(200, 800) is None
    assert by_requests.verify_graph_tokens(200, 800) == 800
    tokens, requests = (cost("qwen3-30b-a3b", hold=hold).breakdown(verifying(9, 4, 1000))["gemm"] for hold in ("tokens", "requests"))
    assert tokens == cost("qwen3-30b-a3b").breakdown(verifying(40, 1, 1000))["gemm"]
    assert requests == cost("qwen3-30b-a3b").breakdown(verifying(64, 1, 1000))["gemm"]


def test_stages_share_a_verification() -> None:
    """Each of two stages runs its half of the layers over all tokens; together with the transfer they make the breakdown."""
    whole, halves = cost("llama-3.1-8b"), cost("llama-3.1-8b", pp=2)
    step = verifying(16, 4, 2000)
    times, parts = halves.stage_times(step), halves.breakdown(step)
    assert sum(times) == pytest.approx(sum(parts.values()), rel=1e-9)
    assert parts["attention_decode"] == pytest.approx(whole.breakdown(step)["attention_decode"], rel=1e-6)
    assert parts["gemm"] == pytest.approx(whole.breakdown(step)["gemm"], rel=1e-6)
    sliced = Step(0, 0, 0, [Slice(4, 1996, None, VERIFY)] * 16)
    assert halves.stage_times(sliced) == times


def test_chunks_of_a_group_of_layers_run_beside_verification() -> None:
    llama = cost("llama-3.1-8b")
    chunk = Slice(256, 0, (1, 4))
    step = Step(16, 16_000, 1000, [chunk], 48)
    parts = llama.breakdown(step)
    alone = llama.breakdown(Step(16, 16_000, 1000, (), 48))
    assert llama.step_time(step) == sum(parts.values())
    assert parts["attention_decode"] == alone["attention_decode"]
    assert parts["lm_head"] == alone["lm_head"]  # not the last group: no prompt is sampled
    assert alone["gemm"] < parts["gemm"] < 2 * alone["gemm"] + parts["attention_prefill"] + 0.01


def test_verify_slices_join_the_decodes_and_chunks_stay() -> None:
    """Two decodes that draft 3 tokens, and slices of 2 and 4 tokens after 100 and 7: four sequences, 3 + 1 + 3 drafted tokens."""
    chunk = Slice(50, 0)
    joined = folded(Step(2, 60, 40, [Slice(2, 100, kind=VERIFY), chunk, Slice(4, 7, kind=VERIFY)], 3, 5))
    assert (joined.decodes, joined.context_tokens, joined.longest_tokens) == (4, 60 + 102 + 11, 102)
    assert (list(joined.slices), joined.drafted_tokens, joined.draft_passes) == ([chunk], 3 + 1 + 3, 5)
    assert folded(Step(2, 60, 400, [Slice(2, 100, kind=VERIFY)])).longest_tokens == 400
    plain = Step(2, 60, 40, [chunk])
    assert folded(plain) is plain and verifies([chunk, Slice(2, 3, kind=VERIFY)]) and not verifies([chunk]) and not verifies([])


def test_arithmetic_of_wide_queries_by_hand() -> None:
    """10 sequences of 5 tokens each, contexts of 1,000 in all: 5 x (1,000 - 20) pairs of layers that attend everything, and 50 rows that
    attend 64 tokens each at most, in layers with a window."""
    pace = Pace(10, 5 * 2e-9, 20.0, ((64, 50 * 1e-9),))
    assert pace.seconds(1000) == pytest.approx(5 * 2e-9 * 980 + 50 * 1e-9 * 64)
    assert pace.seconds(600) == pytest.approx(5 * 2e-9 * 580 + 50 * 1e-9 * 60)
    assert pace.seconds_of(np.array([1000, 600])).tolist() == [pace.seconds(1000), pace.seconds(600)]


def test_the_pace_of_pairs_is_that_of_long_prompts_or_of_a_batch_that_fills_the_device() -> None:
    """A window of 512 in prompts of 4,096: 512 x 513 / 2 pairs, and 512 for each further token. An indexer scores every pair. Latent
    attention multiplies the rows of 128 heads, 64 sequences of up to 8,192 tokens at a time."""
    kernels = KernelChoice(load_profile("h200-sxm-141gb"))
    heads = {"num_q_heads": 32.0, "num_kv_heads": 8.0, "head_dim": 128.0}
    for window, pairs in ((0, 4096 * 4097 / 2), (512, 512 * 513 / 2 + (4096 - 512) * 512)):
        prompts = kernels.operator("attention_prefill", "bf16", kv_dtype="bf16")
        whole = float(prompts.seconds(new_tokens=4096.0, batch=32.0, **heads, window_tokens=float(window))[0])
        layer = Attention("attention", 32, 8, 128, window, "sliding", "bf16")
        (rate,) = VerifyAttention(kernels, [(layer, 1)], 4096).rates
        assert rate == (window, pytest.approx(whole / 32 / pairs))
        twice = VerifyAttention(kernels, [(layer, 6)], 4096, 3).rates[0]
        assert twice.seconds == pytest.approx(2 * rate.seconds), "six layers, a third of the sequences each"
    indexer = IndexerScores("indexer", 64, 128, 2048)
    scored = float(index_seconds(kernels, indexer, batch=32.0, new_tokens=4096.0, kv_tokens=4096.0)[0])
    assert VerifyAttention(kernels, [(indexer, 1)], 4096).rates == ((0, pytest.approx(scored / 32 / (4096 * 4097 / 2))),)
    latent = MLA("attention", 16, 512, 128, 64, 128, 2048, "bf16", "bf16", 0)
    decode = kernels.operator("mla", "bf16", kv_dtype="bf16", starting="decode kernel")
    for longest, tokens in ((4096, 4096.0), (100_000, 8192.0)):
        busy = float(decode.seconds(batch=64.0, kv_tokens=tokens, num_heads=128.0, decode=1.0)[0])
        found = VerifyAttention(kernels, [(latent, 1)], longest).rates
        assert found == ((2048, pytest.approx(busy / (64 * tokens * 128) * 16)),)


def test_layers_that_attend_alike_have_one_pace() -> None:
    kernels = KernelChoice(load_profile("h200-sxm-141gb"))
    full, window = (Attention("attention", 32, 8, 128, tokens, "sliding", "bf16") for tokens in (0, 512))
    both = VerifyAttention(kernels, [(window, 2), (full, 3), (IndexerScores("indexer", 64, 128, 2048), 1)], 4096)
    assert [rate.most_tokens for rate in both.rates] == [0, 512]
    one, other = VerifyAttention(kernels, [(full, 3)], 4096).rates[0], VerifyAttention(kernels, [(window, 2)], 4096).rates[0]
    assert both.rates[0].seconds > one.seconds and both.rates[1].seconds == pytest.approx(other.seconds)
    pace = VerifyAttention(kernels, [(window, 2), (full, 3)], 4096).pace(10, 40)
    assert (pace.sequences, pace.ahead) == (10, 20.0) and pace.per_token == pytest.approx(5 * one.seconds)
    assert pace.bounded == ((512, pytest.approx(50 * other.seconds)),)
