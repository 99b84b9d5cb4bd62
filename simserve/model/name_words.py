"""The parts of a model's name: who published it, family with version and size, variant, weight format.

Every word is one of these. A word that is none of the known variants and formats belongs to the identity, so that an unknown word
(`Coder`, `VL`, `Distill`, a date, a release) makes another model, never the same one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from simserve.model.name_formats import NamedFormat, is_format, read_format

_LONGEST_NAME = 200
"""Hugging Face allows 96 characters for each of the two parts of a name."""

_VARIANTS = frozenset(("instruct", "chat", "it", "base", "pt", "thinking", "reasoning"))
"""What a model was trained to do last. It does not change the shape, unless bundled models say so (Mixtral-8x22B's vocabulary)."""

_SAY_NOTHING = frozenset(("hf", "mtp", "quarot", "quantized", "compressed"))
"""`mtp`: the copy holds its prediction layers too; `quarot`: weights were rotated before they were quantised (arXiv 2404.00456)."""

_SEPARATORS = re.compile(r"[^a-z0-9.]+|(?<!\d)\.|\.(?!\d)")  # a dot is part of a word only between digits: 3.1, but quantized.w4a16
_VERSION_AT_END = re.compile(r"([a-z]+)(\d+(?:\.\d+)*)")
_SIZE = re.compile(r"(?:\d+x|a)?\d+(?:\.\d+)?b\d?")


@dataclass(frozen=True, slots=True)
class ModelName:
    """What a name says.

    vendor    before the slash, in lower case, '' = not stated
    identity  words of family, version, sizes, dates and all that is not understood, in order: `qwen 3 30b a3b 2507`
    variants  Instruct, Chat, Thinking ...
    stored    the weight format
    """

    vendor: str
    identity: tuple[str, ...]
    variants: frozenset[str]
    stored: NamedFormat

    @property
    def sizes(self) -> tuple[str, ...]:
        """The words that say how large the model is: 30b, a3b, 8x7b."""
        return tuple(word for word in self.identity if _SIZE.fullmatch(word))


def without_format(name: str) -> str:
    """The last part of a name without the words of its weight format: `vllm-ascend/Qwen3-8B-W8A8` -> `Qwen3-8B`."""
    kept: list[str] = []
    formats: list[str] = []
    pieces = re.split(r"([^A-Za-z0-9.]+)", name.rpartition("/")[2])
    for separator, piece in zip(["", *pieces[1::2]], pieces[::2], strict=True):
        words = [word for word in _SEPARATORS.split(piece.lower()) if word]
        stored = [word for word in words if is_format(word, formats)]
        formats += stored
        if not words or len(stored) + sum(word in _SAY_NOTHING for word in words) < len(words):
            kept += [separator, piece]
    return "".join(kept).strip("-_ ()")


@lru_cache(maxsize=1024)
def parse(name: str) -> ModelName | None:
    """The parts of a name, `vendor/Model-Name` or `Model-Name`. None for what is no such name: too long, unprintable, a path, no words."""
    vendor, slash, tail = name.lower().rpartition("/")
    if len(name) > _LONGEST_NAME or not name.isprintable() or "/" in vendor or (slash and not vendor.strip(".~")):
        return None
    formats: list[str] = []
    identity: list[str] = []
    variants: set[str] = set()
    words = [word for word in _SEPARATORS.split(tail) if word]
    for place, word in enumerate(words):
        if is_format(word, formats):
            formats.append(word)
        elif word in _VARIANTS:
            variants.add(word)
        elif word == "meta" and words[place + 1 : place + 2] and words[place + 1].startswith("llama"):
            continue  # Meta-Llama-3.1 is Llama-3.1
        elif word not in _SAY_NOTHING:
            version = _VERSION_AT_END.fullmatch(word)
            identity += [version[1], version[2]] if version else [word]
    if not identity:
        return None
    return ModelName(vendor, tuple(identity), frozenset(variants), read_format(formats, vendor))
