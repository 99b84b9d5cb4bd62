"""Lists with an entry for each layer: which layers have a window, which attend, which have experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simserve.errors import ModelError
from simserve.files.words import shown
from simserve.model.config_file import Config


def for_each_layer(config: Config, key: str, entries: Sequence[Any], layers: int) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """The entries of all layers and what was assumed: a list shorter than the model is a pattern that repeats.

    Raises ModelError for a list that is longer, or empty.
    """
    if len(entries) == layers:
        return tuple(entries), ()
    if not entries or len(entries) > layers:
        raise ModelError(f"{config.where}: {key} has {len(entries)} entries for {layers} layers")
    assumed = f"{key} has {len(entries)} entries for {layers} layers: the pattern was repeated"
    return tuple(entries[i % len(entries)] for i in range(layers)), (assumed,)


def windows(config: Config, layers: int, window: int, full_every: int = 0) -> dict[str, Any]:
    """`layer_windows` from `layer_types`, or with full attention in every `full_every`-th layer (0 = the window on all of them).

    Raises ModelError for a type that is neither sliding nor full attention.
    """
    types = config.items("layer_types")
    known = {"sliding_attention": window, "full_attention": 0, "sliding": window, "full": 0}
    for entry in types:
        if not isinstance(entry, str) or entry not in known:
            raise ModelError(f"{config.where}: layer_types holds {shown(entry)}, known are sliding_attention and full_attention")
    if not window:
        return {"layer_windows": 0}
    if types:
        entries, assumed = for_each_layer(config, "layer_types", types, layers)
        return {"layer_windows": tuple(known[entry] for entry in entries), "assumptions": assumed}
    if not full_every:
        return {"layer_windows": window}
    return {"layer_windows": tuple(0 if (i + 1) % full_every == 0 else window for i in range(layers))}
