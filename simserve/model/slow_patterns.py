"""Regular expressions that a match may try in exponentially many ways: no list of module names needs one."""

from __future__ import annotations

import re

_MOST_REPEATS = 8
"""Parts without a bound in one expression; lists of checkpoints have up to four."""

_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?[a-zA-Z-]*[:=!>]|\(\?<[=!]|\(\?P?<\w+>|.", re.DOTALL)


def is_slow(expression: str) -> bool:
    """Whether a group that holds a repetition or alternatives is itself repeated, or there are too many repetitions in a row."""
    repeats, open_groups, closed_varies = 0, [False], None
    for token in _TOKEN.findall(expression):
        if token in ("*", "+", "{"):
            repeats += token != "{"
            if closed_varies:
                return True
            open_groups[-1] = True
        elif token in ("|", "?"):
            open_groups[-1] = open_groups[-1] or token == "|" or closed_varies is None
        elif token.startswith("("):
            open_groups.append(False)
        closed_varies = None
        if token == ")" and len(open_groups) > 1:
            closed_varies = open_groups.pop()
            open_groups[-1] = open_groups[-1] or closed_varies
    return repeats > _MOST_REPEATS
