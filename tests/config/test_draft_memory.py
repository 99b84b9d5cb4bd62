"""A draft's weights and its keys and values take room that the cache would have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simserve.config.deployment import Deployment
from simserve.config.engine_profile import load_engine
from simserve.config.schema import KvSection, NetworkSection
from simserve.cost.draft import Draft
from simserve.errors import ModelError
from simserve.hardware import load_profile
from simserve.model import Parallel, load_model
from simserve.policies import registry

H100 = load_profile("h100-sxm-80gb")
SMALL = Draft("draft-model", 3, model=load_model("llama-3.2-1b"))


def deployed(model: str, draft: Draft | None, parallel: Parallel = Parallel(), engine: str = "vllm-v1") -> Deployment:
    scheduler = registry.scheduler_class("vllm-v1")
    plan = scheduler(scheduler.Params(max_num_batched_tokens=8192, max_seqs=256))
    profile = load_engine(engine)
    return Deployment(load_model(model), H100, parallel, plan, engine=profile, kv=KvSection(memory_utilisation=0.9), draft=draft)


def test_blocks_are_what_is_left_beside_the_draft() -> None:
    """What the cache of both takes: (bytes for the cache alone - weights of the draft) / (bytes of a token in both)."""
    alone, both = (deployed("llama-3.1-8b", draft).capacity() for draft in (None, SMALL))
    draft = SMALL.model
    assert draft is not None
    weights, per_token = draft.weight_bytes(), draft.kv_bytes_per_token()
    assert both.weight_bytes - alone.weight_bytes == pytest.approx(weights, rel=0.001)
    assert both.bytes_per_token - alone.bytes_per_token == per_token
    assert both.blocks == int(
        (alone.usable_bytes - both.weight_bytes - alone.activation_bytes - alone.context_bytes) // (16 * both.bytes_per_token)
    )
    assert both.blocks < alone.blocks


def test_a_head_holds_a_layer_for_every_token() -> None:
    """Llama-3.1-8B keeps 32 layers of a token, its EAGLE-3 head one of the same shape."""
    alone, both = (deployed("llama-3.1-8b", draft).capacity() for draft in (None, Draft("eagle3", 3)))
    assert both.bytes_per_token == alone.bytes_per_token * 33 / 32


def test_ngrams_take_nothing() -> None:
    assert deployed("llama-3.1-8b", Draft("ngram", 4)).kv_blocks == deployed("llama-3.1-8b", None).kv_blocks


def test_beside_windows_the_draft_keeps_every_token() -> None:
    """gpt-oss-20b keeps 12 layers whole and windows of the other 12; the draft's layer joins the whole ones, whose blocks set the size."""
    alone, both = (deployed("gpt-oss-20b", draft) for draft in (None, Draft("eagle3", 3)))
    assert alone.kv_layout is not None
    assert both.kv_layout is not None
    assert both.kv_layout.block_bytes == alone.kv_layout.block_bytes * 13 / 12
    assert both.kv_groups == alone.kv_groups
    assert both.kv_blocks < alone.kv_blocks * 12 / 13


def test_a_draft_that_does_not_fit_says_so() -> None:
    """28 GB of weights leave no room for 62 GiB of a draft on an 80 GB device."""
    large = Draft("draft-model", 2, model=load_model("qwen2.5-32b"))
    with pytest.raises(
        ModelError,
        match=r"'qwen2.5-14b' does not fit.*beside its draft 'qwen2.5-32b' \(61\.\d GiB of weights on a rank\).*a smaller draft may fit",
    ):
        _ = deployed("qwen2.5-14b", large).kv_blocks


def test_copies_carry_the_drafts_cache() -> None:
    network = NetworkSection()
    alone, both = (deployed("llama-3.1-8b", draft) for draft in (None, SMALL))
    assert SMALL.model is not None
    assert both.link(network).kv_bytes_per_token - alone.link(network).kv_bytes_per_token == SMALL.model.kv_bytes_per_token()
    own = both.cost.swap_time(1000) - alone.cost.swap_time(1000)
    assert own > 0
    assert own / (alone.cost.swap_time(1000) - alone.cost.swap_time(0)) == pytest.approx(
        SMALL.model.kv_bytes_per_token() / load_model("llama-3.1-8b").kv_bytes_per_token()
    )


def test_host_memory_holds_fewer_blocks_of_both() -> None:
    kv = KvSection(memory_utilisation=0.9, host_memory_gib=8.0)
    alone, both = (replace(deployed("llama-3.1-8b", draft), kv=kv).host_kv_blocks for draft in (None, Draft("eagle3", 3)))
    assert both == pytest.approx(alone * 32 / 33, abs=1)


def test_latent_caches_of_prediction_layers_are_copies_on_every_rank() -> None:
    """DeepSeek-V3 caches 576 elements of a token in each of 61 layers; its MTP layer is one more."""
    h200 = load_profile("h200-sxm-141gb")
    model = load_model("deepseek-v3")
    both = Deployment(model, h200, Parallel(8), engine=load_engine("sglang"), draft=Draft("mtp", 1))
    assert both.draft_kv_bytes_per_token == model.kv_bytes_per_token() / 61 == 1152
