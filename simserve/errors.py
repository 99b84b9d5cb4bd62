"""The errors simserve raises on purpose. Each carries one message for a person; the CLI prints it and exits with its code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SimserveError(Exception):
    """Something the user can mend: bad input, an impossible configuration, an output that may not be overwritten.

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
    """A policy broke a rule of the engine (invariant I10): over budget, over memory, unknown request, no progress."""


class InvariantError(SimserveError):
    """`--check` found the run breaking one of the invariants in docs/invariants.md. Always a bug, never bad input."""

    exit_code = 3


def nearest(word: str, allowed: Iterable[str]) -> str:
    """A tail for an error message: the nearest right name and the list of what is allowed."""
    names = sorted(allowed)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if not names:
        return ""
    hint = f"; did you mean '{close[0]}'?" if close else "."
    return f"{hint} Allowed: {', '.join(names)}"
