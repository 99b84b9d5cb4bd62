"""Which bundled models a name that is unknown may mean: the same family, version and size. Another version or size is another model."""

from __future__ import annotations

import difflib
import re

_SAME_WORD = 0.75
_PART = re.compile(r"\d+x\d+(?:\.\d+)?b|a?\d+(?:\.\d+)?b(?![a-z])|\d+(?:\.\d+)*|[a-z]+")
_SIZE = re.compile(r"(\d+x|a)?\d+(\.\d+)?b")

_SAYS_NOTHING = frozenset(
    ("instruct", "chat", "it", "hf", "base", "meta", "model", "pt", "preview", "quantized", "dynamic", "w")
) | frozenset(("awq", "gptq", "fp", "bf", "nvfp", "mxfp", "int", "bnb"))
"""Parts of a name that leave the architecture what it is; formats of weights among them, which the full list shows."""


def alike(name: str, names: list[str]) -> list[str]:
    """At most three of `names` that have all parts of `name` that matter: words, one of them misspelt if need be, versions and sizes."""
    wanted = _parts(name)
    same = [one for one in names if _plain(one) == _plain(name)]
    if same:
        return same
    exact = [one for one in names if wanted and all(part in _parts(one) for part in wanted)]
    near = exact or [one for one in names if wanted and all(_has(_parts(one), part) for part in wanted)]
    written = _PART.findall(name.lower()[:200])

    def distance(one: str) -> tuple[int, int, float]:
        more = sum(part not in written for part in _PART.findall(one))
        return len(_parts(one)) - len(wanted), more, -difflib.SequenceMatcher(None, name.lower(), one).ratio()

    return sorted(near, key=distance)[:3]


def _parts(name: str) -> list[str]:
    found = _PART.findall(name.lower()[:200])
    kept: list[str] = []
    for before, part in zip(["", *found], found, strict=False):
        number_of_a_format = before in _SAYS_NOTHING and part.isdigit()
        date_of_a_release = part.isdigit() and len(part) >= 4
        release = before == "v" and re.fullmatch(r"0\.\d+", part) is not None
        if part not in _SAYS_NOTHING and not number_of_a_format and not date_of_a_release and not release:
            kept.append(part)
    return [part for part in kept if part != "v"] or kept


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower()[:200])


def _has(parts: list[str], wanted: str) -> bool:
    if wanted in parts:
        return True
    if _SIZE.fullmatch(wanted) or not wanted.isalpha() or len(wanted) < 3:
        return False
    return any(part.isalpha() and difflib.SequenceMatcher(None, wanted, part).ratio() >= _SAME_WORD for part in parts)
