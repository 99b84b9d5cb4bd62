"""What a sequence holds in memory where layers differ: full attention, attention in a window, recurrent state.

The engine of this simulator has one pool of blocks, in which every attention layer is charged for every token; what engines with a pool
for each group hold is calculated here, and a result says where the two differ (`pool_notes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from simserve.model.architecture import ModelArchitecture
from simserve.model.layout import stage_layers
from simserve.model.parallel import Parallel, check

WindowedLayers = Literal["full", "uniform", "window"]
"""What an engine keeps of a layer that attends in a window.

full     The KV of every token.
uniform  Of the window only in models whose attention layers all have the same window (a block table used round and round: vLLM's first
         engine, vllm/core/block_manager.py); of every token in others.
window   Of the window only. Layers are then in groups, each with its own block table (vLLM's hybrid KV cache manager).
"""


class KvGroup(NamedTuple):
    """Layers of one rank that keep the same tokens.

    bytes_per_token  of all layers of the group together, of each token kept
    state_bytes      of all layers of the group together, of a sequence of any length (recurrent and convolution state)
    """

    kind: Literal["full", "window", "recurrent"]
    layers: int
    window_tokens: int = 0
    bytes_per_token: float = 0.0
    state_bytes: float = 0.0


def kv_groups(model: ModelArchitecture, parallel: Parallel, kv_dtype_bytes: float = 2.0) -> tuple[KvGroup, ...]:
    """The groups of the fullest rank: of the pipeline stage with most attention layers, then with most recurrent ones.

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
    return tuple(groups)


def sequence_bytes(
    groups: Sequence[KvGroup], tokens: int, windowed_layers: WindowedLayers, *, block_tokens: int = 1, step_tokens: int = 1
) -> float:
    """Bytes that a sequence of `tokens` tokens holds on a rank, in blocks of `block_tokens`, while a step computes `step_tokens` of them.

    A layer that keeps its window holds the window's earlier tokens and those of the step, which need not begin with a block: at most
    ceil((window - 1 + step_tokens) / block) + 1 blocks (vllm/v1/kv_cache_interface.py, SlidingWindowSpec).
    """
    total = 0.0
    keeps_window = _keeps_window(groups, windowed_layers)
    all_blocks = -(-tokens // block_tokens)
    for group in groups:
        blocks = all_blocks
        if group.kind == "window" and keeps_window:
            blocks = min(blocks, -(-(group.window_tokens - 1 + step_tokens) // block_tokens) + 1)
        total += blocks * block_tokens * group.bytes_per_token + group.state_bytes
    return total


def sequences_that_fit(
    kv_bytes: float, groups: Sequence[KvGroup], tokens: int, windowed_layers: WindowedLayers, *, block_tokens: int = 1
) -> int:
    """Sequences of `tokens` tokens that decode at once in `kv_bytes` of a rank."""
    return int(kv_bytes // sequence_bytes(groups, tokens, windowed_layers, block_tokens=block_tokens))


def pool_notes(
    model: ModelArchitecture, engine: str, groups: Sequence[KvGroup], windowed_layers: WindowedLayers, seats: int, kv_bytes: float
) -> list[str]:
    """What a reader must know where one pool of equal blocks is not what the engine has; empty where it is."""
    notes = []
    windowed = [group for group in groups if group.kind == "window"]
    if windowed and _keeps_window(groups, windowed_layers):
        layers = sum(group.layers for group in windowed)
        attention = sum(group.layers for group in groups if group.kind != "recurrent")
        tokens = " or ".join(f"{group.window_tokens:,}" for group in windowed)
        longest = model.max_position_embeddings
        factor = sequence_bytes(groups, longest, "full") / sequence_bytes(groups, longest, windowed_layers)
        notes.append(
            f"{layers} of the {attention} attention layers of {model.name} attend in a window of {tokens} tokens. {engine} keeps no more"
            f" of them; here their KV cache is charged in full: a sequence of {longest:,} tokens takes {factor:.1f} times the memory."
        )
    state = sum(group.state_bytes for group in groups)
    if state:
        notes.append(
            f"The recurrent state of {model.name}, {state / 1e6:.0f} MB a sequence on each rank, is not charged: {seats:,} sequences hold"
            f" {seats * state / 2**30:.1f} GiB beside the {kv_bytes / 2**30:.1f} GiB of KV cache."
        )
    return notes


def _keeps_window(groups: Sequence[KvGroup], windowed_layers: WindowedLayers) -> bool:
    attention = [group.kind for group in groups if group.kind != "recurrent"]
    return windowed_layers == "window" or (windowed_layers == "uniform" and attention == ["window"])
