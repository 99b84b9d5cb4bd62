"""Which matrices of which layers a quantised checkpoint stores how: rules by module name, as checkpoints write them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import translate

from simserve.errors import ModelError
from simserve.files.words import clipped
from simserve.model.quantisation import PARTS, LayerFormats, Quantisation
from simserve.model.slow_patterns import is_slow
from simserve.model.weight_format import PLAIN, WeightFormat

_LONGEST_PATTERN = 2000
"""A list entry longer than this is no module name."""

_ATTENTION = ("self_attn.qkv_proj", "attention.wqkv", "self_attention.query_key_value", "attn.c_attn", "self_attn.W_pack")
_DENSE = ("mlp.gate_up_proj",)
_SHARED = (
    "mlp.shared_experts",
    "mlp.shared_expert",
    "feed_forward.shared_expert",
    "mixer.shared_experts",
    "share_expert",
    "mlp.shared_mlp",
)
_ROUTED = ("mlp.experts.0", "feed_forward.experts.0", "mixer.experts.0", "moe.experts.0", "block_sparse_moe.experts.0")

_MODULES: dict[str, tuple[str, ...]] = {
    "q": ("self_attn.q_proj", "self_attn.q_a_proj", "self_attn.q_b_proj", "self_attn.fused_qkv_a_proj", "mixer.q_proj", *_ATTENTION),
    "k": ("self_attn.k_proj", "self_attn.kv_a_proj_with_mqa", "mixer.k_proj", *_ATTENTION),
    "v": ("self_attn.v_proj", "mixer.v_proj", *_ATTENTION),
    "o": ("self_attn.o_proj", "attention.wo", "self_attention.dense", "attn.c_proj", "mixer.o_proj"),
    "kv_b": ("self_attn.kv_b_proj",),
    "linear_in": ("linear_attn.in_proj_qkvz", "linear_attn.in_proj_qkv", "linear_attn.in_proj", "mamba.in_proj", "mixer.in_proj"),
    "linear_out": ("linear_attn.out_proj", "mamba.out_proj", "mixer.out_proj"),
    "gate": ("mlp.gate_proj", "feed_forward.gate_proj", "feed_forward.w1", *_DENSE),
    "up": ("mlp.up_proj", "feed_forward.up_proj", "feed_forward.w3", "mlp.fc1", "mixer.up_proj", *_DENSE),
    "down": ("mlp.down_proj", "feed_forward.down_proj", "feed_forward.w2", "mlp.fc2", "mixer.down_proj"),
    "shared_up": (*(f"{name}.{last}" for name in _SHARED for last in ("gate_proj", "up_proj")), "shared_mlp.input_linear"),
    "shared_down": (*(f"{name}.down_proj" for name in _SHARED), "shared_mlp.output_linear"),
    "experts_up": (
        *(f"{name}.{last}" for name in _ROUTED for last in ("gate_proj", "up_proj", "w1")),
        "mlp.experts.gate_up_proj",
        "feed_forward.experts.gate_up_proj",
        "block_sparse_moe.input_linear",
    ),
    "experts_down": (
        *(f"{name}.{last}" for name in _ROUTED for last in ("down_proj", "w2")),
        "mlp.experts.down_proj",
        "feed_forward.experts.down_proj",
        "block_sparse_moe.output_linear",
    ),
}
"""The names that checkpoints have for each matrix of `LayerFormats`, inside its layer."""

_PREFIXES = ("model.layers.", "model.language_model.layers.", "language_model.model.layers.", "backbone.layers.", "transformer.h.")
"""What stands before a layer's number; list entries without wildcards are brought to the first spelling."""


class Patterns:
    """Module names as a list of a checkpoint has them: regular expressions after `re:`, globs with `*`, else whole dotted parts of a
    name. Regular expressions match from the beginning (compressed-tensors, GPTQModel); `anywhere`: anywhere in the name (AutoRound)."""

    def __init__(self, entries: Iterable[object], *, expressions: bool = False, anywhere: bool = False) -> None:
        self._plain: set[str] = set()
        self._expressions: list[re.Pattern[str]] = []
        self._look = re.Pattern.search if anywhere else re.Pattern.match
        self.by_layer = False
        """Whether an entry may tell layers apart."""
        for entry in entries:
            text = str(entry)[:_LONGEST_PATTERN]
            self.by_layer = self.by_layer or any(c.isdigit() for c in text) or "\\d" in text
            if text.startswith("re:") or expressions:
                if is_slow(text.removeprefix("re:")):
                    raise ModelError(f"the expression '{clipped(text)}' of a quantisation's list of modules repeats a repetition")
                self._compile(text.removeprefix("re:"))
            elif "*" in text:
                self._compile(f"{translate(text)}|{translate(f'{text}.*')}")
            else:
                self._plain.add(_first_spelling(text))

    def _compile(self, expression: str) -> None:
        try:
            self._expressions.append(re.compile(expression))
        except (re.error, RecursionError, OverflowError) as problem:
            why = clipped(str(problem))
            raise ModelError(f"'{clipped(expression)}' of a quantisation's list of modules is no regular expression: {why}") from None

    def __bool__(self) -> bool:
        return bool(self._plain or self._expressions)

    def matches(self, names: Iterable[str]) -> bool:
        """Whether an entry covers one of these spellings of a module's name; the first one is compared with plain entries."""
        spellings = list(names)
        if self._plain and any(part in self._plain for part in _dotted_parts(spellings[0])):
            return True
        return any(self._look(expression, name) for expression in self._expressions for name in spellings)


@dataclass(slots=True)
class Rules:
    """How a checkpoint is stored.

    usual      format of the matrices no rule names
    kept       modules that stay unquantised
    named      modules with a format of their own; the first that covers a module counts, and comes before `kept` when `named_first`
    only       fields of `LayerFormats` that are quantised at all, None = all
    lm_head    format of the LM head
    """

    usual: WeightFormat
    kept: Patterns = field(default_factory=lambda: Patterns(()))
    named: list[tuple[Patterns, WeightFormat]] = field(default_factory=list)
    only: tuple[str, ...] | None = None
    lm_head: WeightFormat = PLAIN
    named_first: bool = False

    def applied(self, num_layers: int, present: Iterable[str] = ()) -> Quantisation:
        """The formats of a model of so many layers that has the matrices `present` (fields of `LayerFormats`; empty = all)."""
        by_layer = self.kept.by_layer or any(patterns.by_layer for patterns, _ in self.named)
        layers = [self._layer(layer, frozenset(present)) for layer in range(num_layers if by_layer else 1)]
        return Quantisation.of_layers(layers if by_layer else layers * num_layers, self.lm_head)

    def _layer(self, layer: int, present: frozenset[str]) -> LayerFormats:
        found = {name: self._format(layer, modules) for name, modules in _MODULES.items() if self.only is None or name in self.only}
        # What the model has not is said to be stored as the rest of its part.
        for fields in PARTS.values():
            leader = next((name for name in fields if name in present), fields[0])
            for name in fields:
                if present and name not in present and leader in found:
                    found[name] = found[leader]
        return LayerFormats(**found)

    def _format(self, layer: int, modules: tuple[str, ...]) -> WeightFormat:
        if not self.named and not self.kept:
            return self.usual
        spelled = [[f"{prefix}{layer}.{module}" for prefix in _PREFIXES] for module in modules]
        kept = any(self.kept.matches(names) for names in spelled) if self.kept else False
        if kept and not self.named_first:
            return PLAIN
        for patterns, stored in self.named:
            if any(patterns.matches(names) for names in spelled):
                return stored
        return PLAIN if kept else self.usual


def _dotted_parts(name: str) -> Iterator[str]:
    words = name.split(".")
    for first in range(len(words)):
        for last in range(first + 1, len(words) + 1):
            yield ".".join(words[first:last])


def _first_spelling(text: str) -> str:
    for prefix in _PREFIXES[1:]:
        if text.startswith(prefix):
            return _PREFIXES[0] + text.removeprefix(prefix)
    return text
