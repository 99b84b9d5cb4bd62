"""What a sequence holds in memory where layers differ: full attention, attention in a window, recurrent state.

`kv_groups` says what the layers of a model keep, in bytes; `pool_layout` how an engine puts that into one pool of equal blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from simserve.model.architecture import ModelArchitecture
from simserve.model.layout import stage_layers
from simserve.model.parallel import Parallel, check

WindowedLayers = Literal["full", "uniform", "window"]
"""What an engine keeps of a layer that attends in a window.

full     The KV of every token.
uniform  Of the window only in models whose attention layers all have the same window (vLLM's first engine, vllm/core/block_manager.py,
         max_block_sliding_window); of every token in others.
window   Of the window only. Layers are then in groups, each with its own block table (vLLM's hybrid KV cache manager).
"""


class KvGroup(NamedTuple):
    """Layers of one rank that keep the same tokens.

    kind             "draft" are layers of a draft, which keep every token
    bytes_per_token  of all layers of the group together, of each token kept
    state_bytes      of all layers of the group together, of a sequence of any length (recurrent and convolution state)
    """

    kind: Literal["full", "window", "recurrent", "draft"]
    layers: int
    window_tokens: int = 0
    bytes_per_token: float = 0.0
    state_bytes: float = 0.0


class PoolLayout(NamedTuple):
    """How groups share a pool of equal blocks: numbers of blocks, as simserve.engine.kv_groups.KvGroups wants them.

    block_bytes  of a block of the pool, on one rank
    full         blocks for `block_tokens` tokens in the layers that keep every token
    windows      (blocks for `block_tokens` tokens, most such runs of tokens kept while a prompt is computed, while decoding)
    state        blocks for the recurrent state of a sequence
    """

    block_bytes: float
    full: int
    windows: tuple[tuple[int, int, int], ...]
    state: int


def kv_groups(
    model: ModelArchitecture, parallel: Parallel, kv_dtype_bytes: float = 2.0, draft_bytes_per_token: float = 0.0
) -> tuple[KvGroup, ...]:
    """The groups of the fullest rank: of the pipeline stage with most attention layers, then with most recurrent ones. The layers of a
    draft, where a token takes bytes in them, are a group of their own.

    Full attention first, then windows by length, then recurrent state, which tensor parallelism splits by head. Raises ModelError for
    a layout that the model cannot take.
    """
    check(model, parallel)
    stages = [
        ([layer for layer in stage if model.attends(layer)], sum(model.linear_layers[layer] for layer in stage))
        for stage in stage_layers(model, parallel)
    ]
    attending, recurrent = max(stages, key=lambda stage: (len(stage[0]), stage[1]))
    groups = []
    for window in sorted({model.layer_windows[layer] for layer in attending}):
        layers = [layer for layer in attending if model.layer_windows[layer] == window]
        per_token = model.kv_bytes_of_layers(layers, kv_dtype_bytes, parallel.tp)
        groups.append(KvGroup("window" if window else "full", len(layers), window, per_token))
    if recurrent:
        assert model.linear_attention is not None
        groups.append(KvGroup("recurrent", recurrent, state_bytes=recurrent * model.linear_attention.rank(parallel.tp).state_bytes()))
    if draft_bytes_per_token:
        groups.append(KvGroup("draft", 1, bytes_per_token=draft_bytes_per_token))
    return tuple(groups)


def pool_layout(groups: Sequence[KvGroup], windowed_layers: WindowedLayers, block_tokens: int, step_tokens: int) -> PoolLayout | None:
    """How an engine that keeps `windowed_layers` shares a pool among these groups; None where all layers keep every token: one group, one
    block for `block_tokens` tokens in all layers.

    Blocks have the size of the smallest group, and a larger one takes as many as it needs, the last partly unused; where no group is half
    as large again as the smallest, blocks have the size of the largest (vllm/v1/core/kv_cache_utils.py,
    _get_kv_cache_groups_uniform_page_size; where layers cache different numbers of heads, vLLM varies the tokens of a block, and bytes are
    compared here). A window keeps its earlier tokens and those of a step of `step_tokens`, which need not begin with a block:
    ceil((window - 1 + step) / block) + 1 blocks at most (vllm/v1/kv_cache_interface.py, SlidingWindowSpec); vLLM's first engine
    window // block + 2, whatever the step (vllm/core/block_manager.py).

    The recurrent state of a sequence is a number of whole blocks. Engines round otherwise: vLLM makes the blocks of attention as large as
    the state of a layer, SGLang and LightLLM give states a pool of their own.
    """
    keeps = keeps_windows(groups, windowed_layers)
    whole = [group for group in groups if group.kind in ("full", "draft") or (group.kind == "window" and not keeps)]
    windows = [group for group in groups if group.kind == "window" and keeps]
    state_bytes = sum(group.state_bytes for group in groups)
    if not windows and not state_bytes:
        return None
    kept = sum(group.bytes_per_token for group in whole)
    sizes = [size for size in (kept, *(group.bytes_per_token for group in windows)) if size]
    unit = max(sizes) if max(sizes) < 1.5 * min(sizes) else min(sizes)
    block_bytes = unit * block_tokens
    found = []
    for group in windows:
        if windowed_layers == "window":
            prefill, decode = (-(-(group.window_tokens - 1 + step) // block_tokens) + 1 for step in (max(1, step_tokens), 1))
        else:
            prefill = decode = group.window_tokens // block_tokens + 2
        found.append((_blocks(group.bytes_per_token, unit), prefill, decode))
    return PoolLayout(block_bytes, _blocks(kept, unit), tuple(found), _blocks(state_bytes, block_bytes))


def keeps_windows(groups: Sequence[KvGroup], windowed_layers: WindowedLayers) -> bool:
    """Whether an engine keeps no more than their window of the layers that have one."""
    attention = [group.kind for group in groups if group.kind != "recurrent"]
    return windowed_layers == "window" or (windowed_layers == "uniform" and attention == ["window"])


def _blocks(size_bytes: float, unit_bytes: float) -> int:
    """Units that hold so many bytes; a rounding error is no unit."""
    return math.ceil(size_bytes / unit_bytes - 1e-9)
