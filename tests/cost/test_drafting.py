"""What drafting adds to a step, and when speculation pays."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.config.deployment import Deployment
from simserve.config.engine_profile import load_engine
from simserve.contracts import VERIFY, DecodeSteps, Slice, Step
from simserve.cost.draft import Draft
from simserve.cost.drafting import NGRAM_SEARCH_S, DraftedCost
from simserve.cost.host import DRAFT_PASS_S, VERIFICATION_S
from simserve.cost.step import StepCost
from simserve.errors import ModelError
from simserve.hardware import load_profile
from simserve.model import Parallel, load_model
from simserve.model.draft_head import eagle_layer

H100 = load_profile("h100-sxm-80gb")
SMALL = Draft("draft-model", 3, model=load_model("llama-3.2-1b"))
CHAIN, TREE, NGRAM = Draft("eagle3", 3), Draft("eagle3", 5, top_k=3, verify_tokens=6), Draft("ngram", 4)
MTP = Draft("mtp", 1)


def deployed(name: str, draft: Draft | None, parallel: Parallel, engine: str = "vllm-v1") -> Deployment:
    return Deployment(load_model(name), H100, parallel, engine=load_engine(engine), draft=draft, table_tokens=16_384)


@lru_cache(maxsize=16)
def cost(name: str, draft: Draft, parallel: Parallel = Parallel()) -> DraftedCost:
    made = deployed(name, draft, parallel).cost
    assert isinstance(made, DraftedCost)
    return made


CASES = [("llama-3.1-8b", SMALL, Parallel()), ("llama-3.1-8b", CHAIN, Parallel()), ("llama-3.1-8b", TREE, Parallel())]
CASES += [("llama-3.1-8b", NGRAM, Parallel()), ("qwen3-30b-a3b", CHAIN, Parallel(1, 1, 4, 4))]


@settings(max_examples=60, deadline=None)
@given(
    case=st.sampled_from(CASES),
    n=st.integers(1, 120),
    steps=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 5)), min_size=1, max_size=20),
    mean=st.integers(500, 6000),
)
def test_many_steps_are_priced_as_each_by_itself_bit_for_bit(
    case: tuple[str, Draft, Parallel], n: int, steps: list[tuple[int, int]], mean: int
) -> None:
    priced = cost(*case)
    drafted, passes = (np.array(column) for column in zip(*steps, strict=True))
    growth = 3 * np.arange(len(steps))
    many = DecodeSteps(n, drafted, passes, n * (mean + growth), mean + growth)
    assert list(priced.verify_times(many)) == [priced.step_time(many.step(i)) for i in range(len(steps))]


@settings(max_examples=60, deadline=None)
@given(
    case=st.sampled_from(CASES),
    n=st.integers(1, 120),
    drafted=st.integers(0, 400),
    passes=st.integers(0, 5),
    count=st.integers(1, 90),
    contexts=st.tuples(st.integers(1, 6000), st.integers(0, 300)),
    longest=st.tuples(st.integers(1, 9000), st.integers(0, 40)),
    falls=st.booleans(),
)
def test_steps_that_draft_alike_are_priced_as_each_by_itself_bit_for_bit(
    case: tuple[str, Draft, Parallel],
    n: int,
    drafted: int,
    passes: int,
    count: int,
    contexts: tuple[int, int],
    longest: tuple[int, int],
    falls: bool,
) -> None:
    """Few and many of them, on one line segment or across several, whichever of batch, longest and arithmetic is the slowest."""
    priced = cost(*case)
    place = np.arange(count)
    same = np.full(count, drafted), np.full(count, passes)
    many = DecodeSteps(n, *same, n * contexts[0] + contexts[1] * place, longest[0] + longest[1] * (place[::-1] if falls else place))
    assert list(priced.verify_times(many)) == [priced.step_time(many.step(i)) for i in range(count)]


def test_a_step_that_drafts_nothing_is_the_models() -> None:
    drafted = cost("llama-3.1-8b", CHAIN)
    plain = deployed("llama-3.1-8b", None, Parallel()).cost
    step = Step(8, 8000, 1200)
    assert drafted.step_time(step) == plain.step_time(step)
    assert list(drafted.decode_times(step, 60)) == list(plain.decode_times(step, 60))


def test_no_drafted_tokens_at_all_is_the_model_itself() -> None:
    none = deployed("llama-3.1-8b", Draft("eagle3", 0), Parallel())
    assert type(none.cost) is StepCost
    assert none.loaded_draft is None


def test_a_head_costs_its_weights_for_each_pass() -> None:
    """An EAGLE-3 head of Llama-3.1-8B has 0.42 billion parameters: SpecForge's checkpoint has 0.4. A pass reads all of them but the
    embedding, and little else."""
    drafted = cost("llama-3.1-8b", CHAIN)
    loaded = deployed("llama-3.1-8b", CHAIN, Parallel()).loaded_draft
    assert loaded is not None
    assert loaded.weight_bytes / 2 == pytest.approx(0.42e9, rel=0.02)
    passes = [drafted.draft_seconds(Step(1, 1000, 1000, (), 3, count)) for count in (1, 2, 3)]
    reading = loaded.weight_bytes / drafted.target.device.hbm_bytes_per_s
    for one, two in pairwise(passes):
        assert 0.8 * reading < two - one - DRAFT_PASS_S < 2.5 * reading


def test_published_sizes_of_heads() -> None:
    """Checkpoints of 0.8 billion parameters for Llama-4-Scout with its wide layer; 11.5 billion of DeepSeek-V3's MTP module are its own
    (arXiv 2412.19437, section 4.2 and the README of the weights), stored in fp8 but for the projection."""
    scout = load_model("llama-4-scout")
    layer = dataclasses.replace(eagle_layer(scout), num_attention_heads=40, num_kv_heads=8, head_dim=128, intermediate_size=32768)
    wide = deployed("llama-4-scout", Draft("eagle3", 3, model=layer), Parallel(8)).loaded_draft
    assert wide is not None
    whole = dataclasses.replace(wide, parallel=Parallel(1))
    assert whole.head.architecture.parameters() == pytest.approx(0.9e9, rel=0.1)
    deepseek = deployed("deepseek-v3", MTP, Parallel()).loaded_draft
    assert deepseek is not None
    assert deepseek.weight_bytes == pytest.approx(11.5e9, rel=0.05)


def test_branches_widen_the_passes_and_add_kernels() -> None:
    chain, tree = cost("llama-3.1-8b", dataclasses.replace(TREE, top_k=1)), cost("llama-3.1-8b", TREE)
    step = Step(8, 8 * 1000, 1000, (), 40, 5)
    more = tree.step_time(step) - chain.step_time(step)
    kernels = 32 * tree.target.device.launch_s
    assert kernels < more < 20 * kernels


def test_a_prompt_is_drafted_too() -> None:
    """The head's own cache holds every token: it computes the chunk as the model does, a layer against 32, and samples once."""
    drafted = cost("llama-3.1-8b", CHAIN)
    chunk = Step(0, 0, 0, [Slice(4096, 0)])
    share = drafted.draft_seconds(chunk) / drafted.target.step_time(chunk)
    assert 0.02 < share < 0.15
    groups = [Step(0, 0, 0, [Slice(4096, 0, (group, 2))]) for group in (0, 1)]
    assert [drafted.draft_seconds(step) for step in groups] == [0.0, drafted.draft_seconds(chunk)]


def test_a_prompt_beside_decodes_that_draft_nothing_is_drafted_alone() -> None:
    drafted = cost("llama-3.1-8b", CHAIN)
    chunk = [Slice(4096, 0)]
    alone = drafted.draft_seconds(Step(0, 0, 0, chunk))
    assert drafted.draft_seconds(Step(8, 8000, 1000, chunk)) == alone
    beside = drafted.draft_seconds(Step(8, 8000, 1000, chunk, 24, 3))
    later = drafted.draft_seconds(Step(8, 8000, 1000, (), 24, 3)) - drafted.draft_seconds(Step(8, 8000, 1000, (), 24, 1))
    assert beside > alone + later > alone, "the first pass is over both, two more are over the decodes"
    first_group = [Slice(4096, 0, (0, 2))]
    decodes = drafted.draft_seconds(Step(8, 8000, 1000, (), 24, 3))
    assert drafted.draft_seconds(Step(8, 8000, 1000, first_group, 24, 3)) == pytest.approx(decodes), "the prompt has not come through yet"
    assert drafted.draft_seconds(Step(8, 8000, 1000, first_group)) == 0.0


def test_replicas_draft_for_their_own_sequences() -> None:
    """Four replicas of attention share nothing of the head: the fullest drafts for a quarter of 9 sequences, rounded up, and computes the
    largest chunk of four."""
    drafted = cost("qwen3-30b-a3b", CHAIN, Parallel(1, 1, 4, 4))
    nine, twelve = (Step(n, n * 1000, 1000, (), 3 * n, 3) for n in (9, 12))
    quarter = drafted.draft_seconds(Step(3, 3 * 1000, 1000, (), 9, 3))
    assert drafted.draft_seconds(twelve) >= drafted.draft_seconds(nine) > 0 and quarter < drafted.draft_seconds(twelve)
    chunks = [Slice(tokens, 0) for tokens in (100, 4096, 200, 300)]
    assert drafted.draft_seconds(Step(0, slices=chunks)) == drafted.draft_seconds(Step(0, slices=[Slice(4096, 0)]))
    assert drafted.draft_seconds(Step(0, slices=[*chunks, Slice(50, 0)])) > drafted.draft_seconds(Step(0, slices=chunks))


def test_verify_slices_are_drafted_for_like_decodes() -> None:
    drafted = cost("llama-3.1-8b", CHAIN)
    slices = Step(0, 0, 0, [Slice(4, 996, None, VERIFY)] * 8, draft_passes=3)
    assert drafted.step_time(slices) == drafted.step_time(Step(8, 8000, 1000, (), 24, 3))


def test_looking_up_ngrams_is_host_time_alone() -> None:
    drafted = cost("llama-3.1-8b", NGRAM)
    step = Step(8, 8000, 1000, (), 32)
    assert drafted.step_time(step) == drafted.target.step_time(step) + (VERIFICATION_S + 8 * NGRAM_SEARCH_S)


def test_the_last_stage_drafts() -> None:
    drafted = cost("llama-3.1-8b", CHAIN, Parallel(pp=2))
    step = Step(8, 8000, 1000, (), 24, 3)
    first, last = drafted.stage_times(step)
    plain = drafted.target.stage_times(step)
    assert first == plain[0]
    assert last == plain[1] + drafted.draft_seconds(step) > plain[1]


def test_the_result_says_what_drafts() -> None:
    described = cost("llama-3.1-8b", CHAIN).describe()
    assert described["model"] == "llama-3.1-8b"
    assert described["draft"]["method"] == "eagle3"
    assert described["draft"]["model"] == "llama-3.1-8b head"
    parts = cost("llama-3.1-8b", CHAIN).breakdown(Step(8, 8000, 1000, (), 24, 3))
    assert parts["draft"] > 0
    assert sum(parts.values()) == pytest.approx(cost("llama-3.1-8b", CHAIN).step_time(Step(8, 8000, 1000, (), 24, 3)), rel=1e-9)


# ---- when it pays ----


def speedup(priced: DraftedCost, batch: int, context: int, length: float) -> float:
    """Acceptance length x decode step / (draft + verification)."""
    k = priced.draft.steps
    step = priced.step_time(Step(batch, batch * context, context, (), batch * k, k))
    return length * priced.step_time(Step(batch, batch * context, context)) / step


def test_the_speed_up_falls_as_the_batch_grows_compute_bound_until_it_does_not_pay() -> None:
    """Llama-3.1-8B on an H100, an EAGLE-3 head with three tokens of which a step keeps 2.2, contexts of 200 tokens. While weights are what
    a step waits for, verification is nearly free; from 32 sequences on it computes, and beyond about 340 speculation loses."""
    priced = cost("llama-3.1-8b", CHAIN)
    bound_by_reading = [speedup(priced, batch, 200, 2.2) for batch in (1, 2, 4, 8, 16)]
    assert max(bound_by_reading) < 1.05 * min(bound_by_reading)
    assert min(bound_by_reading) > 1.5
    computing = [speedup(priced, batch, 200, 2.2) for batch in (32, 64, 128, 192, 256, 384, 512, 1024)]
    assert all(one > two for one, two in pairwise([*bound_by_reading[-1:], *computing]))
    crossing = next(batch for batch in range(8, 1024, 8) if speedup(priced, batch, 200, 2.2) < 1.0)
    assert 256 < crossing < 430


def test_longer_contexts_move_the_crossing_out() -> None:
    """Reading caches is shared by the queries of a sequence, and is most of a step of long contexts."""
    priced = cost("llama-3.1-8b", CHAIN)
    assert speedup(priced, 256, 2000, 2.2) > 1.1 * speedup(priced, 256, 200, 2.2)


# ---- what cannot be ----


def test_a_model_without_prediction_layers_cannot_draft_for_itself() -> None:
    with pytest.raises(ModelError, match=r"'llama-3.1-8b' has no multi-token-prediction layers"):
        _ = deployed("llama-3.1-8b", MTP, Parallel()).cost


def test_a_head_of_another_width_is_refused() -> None:
    with pytest.raises(ModelError, match=r"hidden_size 2048.*has 4096"):
        _ = deployed("llama-3.1-8b", Draft("eagle", 2, model=load_model("llama-3.2-1b")), Parallel()).cost


def test_a_small_model_must_be_named_and_divisible() -> None:
    with pytest.raises(ModelError, match="needs the model that drafts"):
        _ = deployed("llama-3.1-8b", Draft("draft-model", 2), Parallel()).cost
    with pytest.raises(ModelError, match=r"llama-3.2-1b.*tp 5"):
        _ = deployed("llama-3.1-8b", dataclasses.replace(SMALL, tp=5), Parallel()).cost
