"""docs/invariants.md: what it counts is what the tests have."""

from __future__ import annotations

import re
from collections import Counter

from tests.docs.blocks import ROOT
from tests.engine import bad_policies, test_sabotage

PAGE = (ROOT / "docs" / "invariants.md").read_text(encoding="utf-8")
WORDS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11}


def test_each_rule_was_seen_to_fail_as_often_as_the_page_says() -> None:
    forged = Counter(invariant for invariant, *_ in test_sabotage.FORGED.values())
    sabotaged = Counter(invariant for invariant, *_ in test_sabotage.SABOTAGED.values())
    rows = re.findall(r"^\| (I\d+) \|.*\| (\d+) forged records?(?:, (\d+) sabotaged engines?)?(?:, \d+ more live)? \|$", PAGE, re.M)
    assert {name for name, *_ in rows} == set(forged)
    for name, records, engines in rows:
        assert (forged[name], sabotaged[name]) == (int(records), int(engines or 0)), name


def test_the_bad_policies_are_counted() -> None:
    match = re.search(r"for (\w+) policies that are legal but bad", PAGE)
    assert match is not None and WORDS[match[1]] == len(bad_policies.LEGAL)


def test_the_tests_that_it_names_exist() -> None:
    folder = ROOT / "tests" / "engine"
    source = "\n".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    for name in re.findall(r"`(test_\w+)`", PAGE):
        assert f"def {name}(" in source, name
    for name in re.findall(r"`(\w+\.py)`", PAGE):
        assert (folder / name).is_file() or list((ROOT / "tests").rglob(name)) or list((ROOT / "simserve").rglob(name)), name
    for name in re.findall(r"`invariants\.(i\d\w+|differences)`", PAGE):
        assert f"def {name}(" in (folder / "invariants.py").read_text(encoding="utf-8"), name


def test_there_are_as_many_rules_as_the_readme_says() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    match = re.search(r"\[(\w+) invariants\]\(docs/invariants\.md\)", readme)
    assert match is not None and WORDS[match[1].lower()] == len(re.findall(r"^## I\d+ ", PAGE, re.M))
