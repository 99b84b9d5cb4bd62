"""The field's words: what must not come back in names, messages, comments and pages, and what to write instead."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.docs.blocks import ROOT

INSTEAD = {
    r"\bdoors?\b": "entry point",
    r"\brooms\b": "packages (room, in the singular, is space)",
    r"way of the data": "data flow",
    r"\bset_life\b|\blives of\b|\.li(fe|ves)\b": "instance states",
    r"homeless": "unassigned",
    r"\bresidents?\b": "running batch",
    r"\b\w*_?seats?\b": "sequence slots (max_num_seqs)",
    r"\bhand-?overs?\b|\bhand_over\b|\bhanded[ _]over\b|\bhands (it |them )?over\b": "KV transfer; between pipeline stages, transfer",
    r"\bhosts? of (a|its|the|their) devices?\b|\bhosts of devices\b": "CPU speed of its server",
    r"\bdear(er|est)\b": "more, most expensive",
    r"\b(waiting|queue) orders?\b|\bordering polic(y|ies)\b": "queue discipline",
    r"(?<!'s )(?<!its )(?<!their )\bshares? of\b|\b(?!test_)\w+_shares?\b": "fraction",
    r"nothing happens any more": "deadlock",
    r"\b\w*_?(somebody|nobody|everybody|anybody|whoever)\b": "say what: a request, an instance, a user, no test ...",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\blets? (it |them )?go of\b|\blet_go\b": "release",
    r"\bthose who\b": "those that, or what they are",
    r"\bstrangers?\b": "what it is: another version, another set-up",
}
"""What must not be written (a pattern) -> what is."""

ALLOWED = {
    r"\bhbm_share\b": "a key of hardware profiles, whose files have a version",
    r"\bcla_share": "a key of configurations of models",
    r"\b(prefill_share|share_hit)\b": "features that fitted kernel models in hardware profiles name",
}

PLACES = ("simserve/", "tests/", "docs/", "benchmarks/", "experiments/", "notebooks/", "README.md", "CONTRIBUTING.md", "mkdocs.yml", ".ci/")
KINDS = (".py", ".md", ".yaml", ".yml", ".ipynb", ".j2", ".toml")
OLD_NAMES = {
    "simserve/renamed.py",  # these hold the old names because they are old
    "tests/config/test_renamed_keys.py",
    "tests/docs/test_words.py",
    "docs/experiment-reference.md",  # made of descriptions that are checked where they are written
}


def stumbles(text: str) -> list[tuple[str, str]]:
    """(what is written, what to write instead) of a text."""
    for allowed in ALLOWED:
        text = re.sub(allowed, "", text)
    return [(match[0], instead) for pattern, instead in INSTEAD.items() for match in re.finditer(pattern, text, re.IGNORECASE)]


def files() -> list[str]:
    run = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode:
        pytest.skip("not a checkout")
    return [name for name in run.stdout.splitlines() if name.startswith(PLACES) and name.endswith(KINDS) and name not in OLD_NAMES]


def test_the_fields_words_are_used_everywhere():
    found = []
    for name in files():
        path = ROOT / name
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines() if path.is_file() else (), 1):
            found += [f"{name}:{number}: '{written}': {instead}" for written, instead in stumbles(line)]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "free_seats",
        "Nobody waits",
        "the hand-over of KV",
        "a share of the time",
        "completed_share",
        "its only door",
        "those who wait",
        "set_life",
    ],
)
def test_the_list_sees_a_word(text):
    assert stumbles(text)


@pytest.mark.parametrize(
    "text",
    ["a rank's share of the heads", "copies share the link", "hbm_share: 0.8", "room for a token", "recommended", "in their own lifetime"],
)
def test_the_list_leaves_plain_english_alone(text):
    assert not stumbles(text)
