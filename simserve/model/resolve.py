"""Names of models that are not bundled under that name: the same architecture under another one, and the weight format it states.

A name is taken for a bundled model when its identity (family, version, sizes, dates, all words that are not understood) is that of one of
the bundled names or of the Hugging Face ids listed with them. Revisions that share an architecture are therefore listed there, as
facts; nothing is resolved by likeness.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from simserve.errors import ModelError
from simserve.files.words import clipped
from simserve.model.name_words import ModelName, parse
from simserve.model.quantisation import Quantisation
from simserve.model.weight_format import QuantMethod

_REQUANTISERS = frozenset(("nvidia", "redhatai", "neuralmagic", "amd", "unsloth", "nm-testing", "ibm-granite", "friendliai"))
"""Vendors that quantise models of others. Their copies are not stored as the publisher's own copy is (128x128 blocks of Qwen's, say)."""


class Entry(NamedTuple):
    """What is told of a bundled model: its name and ids, the model it is a quantised copy of ('' = none), and the format of its publisher's
    fp8 copies."""

    name: str
    ids: tuple[str, ...]
    copy_of: str
    fp8: QuantMethod


@dataclass(frozen=True, slots=True)
class Resolved:
    """The bundled model that a name stands for. `method` None: its weights as they are bundled; else every linear layer in that format."""

    name: str
    method: QuantMethod | None = None
    group: int = 128


@dataclass(slots=True)
class Names:
    """The bundled models by what their names say."""

    exact: dict[tuple[tuple[str, ...], frozenset[str]], set[str]] = field(default_factory=lambda: defaultdict(set))
    loose: dict[tuple[str, ...], set[str]] = field(default_factory=lambda: defaultdict(set))
    copies: dict[str, list[tuple[Entry, ModelName]]] = field(default_factory=lambda: defaultdict(list))
    entries: dict[str, Entry] = field(default_factory=dict)

    @staticmethod
    def of(entries: Iterable[Entry]) -> Names:
        """The index of these models."""
        names = Names()
        for entry in entries:
            names.entries[entry.name] = entry
            for spelling in (entry.name, *entry.ids):
                told = parse(spelling)
                if told is None or told.stored.refused:
                    raise AssertionError(f"the bundled name {spelling} cannot be read")
                if entry.copy_of:
                    names.copies[entry.copy_of].append((entry, told))
                else:
                    names.exact[told.identity, told.variants].add(entry.name)
                    names.loose[told.identity].add(entry.name)
        return names

    def resolve(self, name: str) -> Resolved | None:
        """The bundled model that `name` stands for; None when there is none.

        Raises ModelError when it may be one of several, or its weights are stored in a way that is not simulated.
        """
        told = parse(name)
        if told is None:
            return None
        found = self.exact.get((told.identity, told.variants)) or self.loose.get(told.identity) or set()
        if not found:
            return None
        if len(found) > 1:
            raise ModelError(f"model '{clipped(name)}' may be any of {', '.join(sorted(found))}, which differ: give one of these names")
        base = next(iter(found))
        if told.stored.refused:
            instead = f"The architecture is bundled as {base}: give that one a `quantisation`"
            raise ModelError(f"model '{clipped(name)}': {told.stored.refused}. {instead}")
        return self._stored(base, told)

    def _stored(self, base: str, told: ModelName) -> Resolved:
        """The bundled copy that is stored as the name says, or the base model in that format."""
        asked = told.stored
        if asked.method is None:
            return Resolved(base)
        fitting = [
            (entry, copy)
            for entry, copy in self.copies.get(base, ())
            if copy.stored[:2] == asked[:2] and base in self.loose.get(copy.identity, ())
        ]
        own = [entry for entry, copy in fitting if copy.vendor and copy.vendor == told.vendor]
        if own or (fitting and told.vendor not in _REQUANTISERS):
            return Resolved((own or [entry for entry, _ in fitting])[0].name)
        if asked.method == "fp8" and not asked.detail and told.vendor not in _REQUANTISERS:
            return Resolved(base, self.entries[base].fp8)
        return Resolved(base, asked.method, asked.group)


_THE_SAME: tuple[frozenset[QuantMethod], ...] = (
    frozenset(("fp8", "fp8_block128")),
    frozenset(("w4a16_mxfp4", "w4a4_mxfp4")),
)
"""Formats that names spell with one word."""


def stored_as(own: Quantisation, method: QuantMethod | None, group: int, sparse: bool) -> Quantisation:
    """The formats of a model whose name states `method`, and whose own checkpoint is stored as `own`.

    A word that says how the own checkpoint is stored anyway (gpt-oss' MXFP4, Kimi-K2.5's INT4) changes nothing. Models with experts in W4A8
    have 4 bits in the routed experts only (vllm-ascend, pull request 2172).
    """
    if method is None or any(method == used or {method, used} in _THE_SAME for used in own.methods if used != "none"):
        return own
    if method == "w4a8_int4" and sparse:
        return Quantisation("w8a8_int8", "w8a8_int8", "w8a8_int8", "w4a8_int4", group)
    return Quantisation.uniform(method, group)
