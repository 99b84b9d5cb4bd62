"""The errors simserve raises on purpose. Each carries one message for a person; the CLI prints it and exits with its code."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class SimserveError(Exception):
    """Something the user can fix: bad input, an impossible configuration, an output that may not be overwritten.

    The message names the file, the line and the key where there are any, what was found and what is allowed.
    """

    exit_code = 2


class ConfigError(SimserveError):
    """An experiment, profile or override that does not make sense."""


class TraceError(SimserveError):
    """A trace file that cannot be read as the format it claims."""


class ModelError(SimserveError):
    """A model architecture that is unknown, incomplete or does not fit the layout asked for."""


class ProfileError(SimserveError):
    """A hardware profile that is unknown, of another schema version, or lacks something needed."""


class OutputError(SimserveError):
    """An output place that exists, is full or cannot be written."""


class PolicyError(SimserveError):
    """A policy broke a rule of the engine (invariant I10): over budget, over memory, unknown request, no progress; or a
    cost model of a package gave what is no time."""


class InvariantError(SimserveError):
    """`--check` found the run breaking one of the invariants in docs/invariants.md. Always a bug, never bad input."""

    exit_code = 3


MOST_LISTED = 420
"""Characters that the list of allowed names may take in a message."""


def nearest(word: str, allowed: Iterable[str]) -> str:
    """A tail for an error message: the right names that the word may mean, and the list of what is allowed (its beginning, if long)."""
    names = sorted({str(name) for name in allowed})
    if not names:
        return ""
    return f"{did_you_mean(similar(word, names))} Allowed: {listed(names, word)}"


def did_you_mean(names: list[str]) -> str:
    """'; did you mean 'a' or 'b'?', or '.' for none."""
    return f"; did you mean {' or '.join(repr(name) for name in names)}?" if names else "."


def listed(names: list[str], word: str = "") -> str:
    """Names in a row. Of a list that takes more than MOST_LISTED characters the beginning, names that begin like `word` first."""
    if sum(len(name) + 2 for name in names) > MOST_LISTED:
        plain = _plain(word[:200])
        names = sorted(names, key=lambda name: (-_common(_plain(name), plain), name))
    shown: list[str] = []
    length = 0
    for name in names:
        length += len(name) + 2
        if length > MOST_LISTED:
            return f"{', '.join(shown)} and {len(names) - len(shown)} more"
        shown.append(name)
    return ", ".join(shown)


def similar(word: str, names: list[str]) -> list[str]:
    """What a word may have meant, at most three names: the same but for case and punctuation; else names that it abbreviates; else one
    misspelt. A name with another number in it is another thing (b200 is no h200, 9b no 8b)."""
    plain = _plain(word[:200])
    if not plain:
        return []
    same = [name for name in names if _plain(name) == plain]
    if same:
        return same[:3]
    longer = [name for name in names if _plain(name).startswith(plain) and len(plain) > 1]
    if longer and all(name.startswith(min(longer, key=len)) for name in longer):
        return [min(longer, key=len)]
    if 0 < len(longer) <= 3:
        return longer
    around = [name for name in names if plain in _plain(name) and len(plain) > 3]
    if not longer and 0 < len(around) <= 3:
        return around
    alike = [name for name in names if _numbered(name) == _numbered(word)]
    return difflib.get_close_matches(word.lower()[:200], alike, n=1, cutoff=0.6) or longer[:3]


def _numbered(text: str) -> list[list[str]]:
    """The parts of a name that hold a number, the order of their characters left out (bf61 is a misspelt bf16)."""
    return sorted(sorted(part) for part in re.split(r"[^a-z0-9]+", text.lower()[:200]) if any(c.isdigit() for c in part))


def _common(a: str, b: str) -> int:
    """Length of the beginning that two texts share."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
