"""How the weights of each part of a model are stored: one format for each part, or one for each matrix of each layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from simserve.errors import ModelError, nearest
from simserve.model.weight_format import PLAIN, QUANT_METHODS, ComputeDtype, QuantMethod, WeightFormat

__all__ = ["QUANT_METHODS", "UNQUANTISED", "ComputeDtype", "LayerFormats", "QuantMethod", "Quantisation", "WeightFormat"]


class LayerFormats(NamedTuple):
    """The format of each matrix of a layer; those it has not are ignored. Latent attention: `q` and `k` are the projections to and
    from the query latent and to the key-value latent, `kv_b` the way back. `gate`, `up`, `down` are the dense MLP's."""

    q: WeightFormat = PLAIN
    k: WeightFormat = PLAIN
    v: WeightFormat = PLAIN
    o: WeightFormat = PLAIN
    kv_b: WeightFormat = PLAIN
    linear_in: WeightFormat = PLAIN
    linear_out: WeightFormat = PLAIN
    gate: WeightFormat = PLAIN
    up: WeightFormat = PLAIN
    down: WeightFormat = PLAIN
    shared_up: WeightFormat = PLAIN
    shared_down: WeightFormat = PLAIN
    experts_up: WeightFormat = PLAIN
    experts_down: WeightFormat = PLAIN


PARTS: dict[str, tuple[str, ...]] = {
    "attention": ("q", "k", "v", "o", "kv_b", "linear_in", "linear_out"),
    "mlp": ("gate", "up", "down"),
    "shared_experts": ("shared_up", "shared_down"),
    "experts": ("experts_up", "experts_down"),
}
"""The matrices of each part."""


@dataclass(frozen=True, slots=True)
class Quantisation:
    """The weight format of each part of the layers. Norms, the router and the embedding stay at the compute type, and the LM head does
    unless `lm_head` says otherwise.

    Checkpoints differ by part: gpt-oss stores only its routed experts in mxfp4, Kimi-K2.5 only its routed experts in int4.
    group_size   weights that share one scale in the 4-bit formats (int4: 2-byte scale; mxfp4 is always 32 with a 1-byte scale).
    formats, layer_formats   where layers differ, or the matrices of a part: the distinct formats of layers, and which of them each layer
                 has. The fields of the parts are then what most of their matrices have.
    """

    attention: QuantMethod = "none"
    mlp: QuantMethod = "none"
    shared_experts: QuantMethod = "none"
    experts: QuantMethod = "none"
    group_size: int = 128
    formats: tuple[LayerFormats, ...] = ()
    layer_formats: tuple[int, ...] = ()
    lm_head: WeightFormat = PLAIN

    @staticmethod
    def uniform(method: str, group_size: int = 128) -> Quantisation:
        """Every linear layer in one format. Raises ModelError for an unknown method."""
        for known in QUANT_METHODS:
            if known == method:
                return Quantisation(known, known, known, known, group_size)
        raise ModelError(f"unknown quantisation '{method}'{nearest(method, QUANT_METHODS)}")

    @staticmethod
    def of_layers(layers: Sequence[LayerFormats], lm_head: WeightFormat = PLAIN) -> Quantisation:
        """The quantisation of a model whose layers are stored so (at least one layer)."""
        first = layers[0]
        alike = {part: {getattr(layer, field) for layer in set(layers) for field in fields} for part, fields in PARTS.items()}
        groups = {f.group_size for found in alike.values() for f in found if f.takes_group_size}
        usual = groups.pop() if len(groups) == 1 else 128
        if all(len(found) == 1 for found in alike.values()):
            plain = Quantisation(first.q.method, first.gate.method, first.shared_up.method, first.experts_up.method, usual, lm_head=lm_head)
            if plain.of_layer(0) == first:
                return plain
        distinct = tuple(dict.fromkeys(layers))
        number = {formats: i for i, formats in enumerate(distinct)}
        attention, mlp, shared, experts = (_commonest(layers, fields) for fields in PARTS.values())
        chosen = tuple(number[formats] for formats in layers)
        return Quantisation(attention, mlp, shared, experts, usual, distinct, chosen, lm_head)

    @property
    def methods(self) -> tuple[QuantMethod, QuantMethod, QuantMethod, QuantMethod]:
        """The methods of attention, MLP, shared and routed experts."""
        return self.attention, self.mlp, self.shared_experts, self.experts

    def of_layer(self, layer: int) -> LayerFormats:
        """The format of each matrix of layer `layer` (0-based)."""
        if self.formats:
            return self.formats[self.layer_formats[layer]]
        return _by_part(self.methods, self.group_size)

    @property
    def name(self) -> str:
        """`none`, the one method used, or `method (parts)` when some parts stay unquantised; `mixed by layer: ...` where layers differ."""
        parts = dict(zip(PARTS, self.methods, strict=True))
        head = "" if self.lm_head == PLAIN else f"; {self.lm_head.method} (lm_head)"
        if self.formats and len({f.method for layer in self.formats for f in layer}) > 1:
            return f"mixed by layer: {', '.join(sorted({f.method for layer in self.formats for f in layer}))}{head}"
        used = sorted(set(parts.values()))
        if len(used) == 1:
            return used[0] + head
        return "; ".join(f"{m} ({', '.join(p for p, v in parts.items() if v == m)})" for m in used if m != "none") + head


UNQUANTISED = Quantisation()


def _commonest(layers: Sequence[LayerFormats], fields: tuple[str, ...]) -> QuantMethod:
    found: Counter[QuantMethod] = Counter(getattr(layer, field).method for layer in layers for field in fields)
    return found.most_common(1)[0][0]


@lru_cache(maxsize=64)
def _by_part(methods: tuple[QuantMethod, ...], group_size: int) -> LayerFormats:
    attention, mlp, shared, experts = (WeightFormat(method, group_size) for method in methods)
    return LayerFormats(*[attention] * 7, *[mlp] * 3, *[shared] * 2, *[experts] * 2)
