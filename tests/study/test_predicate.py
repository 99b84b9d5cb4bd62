"""Predicates: what may be written, what it means, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import simserve
from simserve.errors import ConfigError
from simserve.study.predicate import parse, parse_quantity
from simserve.study.quantities import value_of

VALUES = {"ttft_p99_s": 1.5, "tpot_p99_s": 0.08, "attainment": 0.97, "chat.ttft_p90_s": 0.3, "itl_p99_s": None}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("ttft.p99 <= 2.0 and tpot.p99 <= 0.1", True),
        ("ttft.p99 <= 1.0 or attainment >= 0.95", True),
        ("not ttft.p99 <= 2.0", False),
        ("ttft.p99 < 20 * tpot.p99", True),
        ("0.9 <= attainment <= 0.95", False),
        ("classes.chat.ttft.p90 <= 0.3", True),
        ('classes["chat"].ttft.p90 < 0.3', False),
        ("ttft.p99 - 1 <= 0.5", True),
        ("itl.p99 <= 100", False),  # not defined: satisfies nothing
        ("itl.p99 > 0", False),
    ],
)
def test_meaning(text: str, holds: bool) -> None:
    assert parse(text).holds(VALUES) is holds


def test_failures_name_the_comparison_and_what_was_found() -> None:
    assert parse("ttft.p99 <= 1.0 and tpot.p99 <= 0.1").failures(VALUES) == ["ttft.p99 <= 1.0 (found 1.5)"]
    assert parse("itl.p99 <= 1.0").failures(VALUES) == ["itl.p99 <= 1.0 (found not defined)"]


@pytest.mark.parametrize(
    ("text", "failures"),
    [
        ("not ttft.p99 > 1.0", ["not ttft.p99 > 1.0 (found 1.5)"]),  # the comparison is true, and that is what is wrong
        ("not (ttft.p99 > 1.0 or itl.p99 > 3)", ["not ttft.p99 > 1.0 (found 1.5)", "not itl.p99 > 3 (found not defined)"]),
        ("ttft.p99 <= 1.0 and (tpot.p99 > 1 or ttft.p99 > 0)", ["ttft.p99 <= 1.0 (found 1.5)"]),  # the or holds: its parts are not to blame
        ("not itl.p99 > 100", ["not itl.p99 > 100 (found not defined)"]),  # what is not defined is not a success
        ("ttft.p99 <= 1.0 and ttft.p99 <= 1.0", ["ttft.p99 <= 1.0 (found 1.5)"]),
        ("not not ttft.p99 <= 2", []),
        ("itl.p99 < 1 or ttft.p99 <= 2", []),
        ("ttft.p99 / 0 < 1", ["ttft.p99 / 0 < 1 (found 1.5)"]),
    ],
)
def test_a_predicate_fails_exactly_when_something_is_to_blame(text: str, failures: list[str]) -> None:
    assert parse(text).failures(VALUES) == failures
    assert parse(text).holds(VALUES) is not bool(failures)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ttft.p99 < 1" + "0" * 400, "not a number"),
        ("ttft.p99 < 1e999", "not a number"),
        ("ttft.p99 < " + "-" * 300 + "1", "nested more than"),
        ("not " * 200 + "ttft.p99 < 1", "nested more than"),
        ("ttft.p99 < " + "+".join(["1"] * 300), "nested more than"),
        ("ttft.p99 < " + "1 " * 100_000, "characters are more than"),
    ],
)
def test_texts_without_measure_are_refused_in_a_few_words(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse(text)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tttf.p99 < 1", "did you mean 'ttft.p99'"),
        ("ttft < 1", "percentile"),
        ("ttft.p999 < 1", "ttft.p99_9 is 99.9"),
        ("ttft.p99", "not a condition"),
        ("1 < 2", "tests no figure"),
        ("ttft.p99 == 1", "compare with"),
        ("ttft.p99 <", "cannot be read"),
        ("", "cannot be read"),
        ("__import__('os').system('true') < 1", "not allowed"),
        ("ttft.p99 < (lambda: 1)()", "not allowed"),
        ("ttft.p99 < 'a'", "not allowed"),
        ("classes.chat < 1", "classes.NAME"),
        ("classes.chat.rejected < 1", "for all requests together"),
        ("a.b.c.d < 1", "too many parts"),
        ("(" * 500 + "ttft.p99" + ")" * 500 + " < 1", "cannot be read"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(text)


def test_any_percentile_agrees_with_numpy(tiny: dict[str, Any]) -> None:
    result = simserve.run(tiny)
    ttft = result.requests["ttft_s"].to_numpy()
    for text, fraction in (("ttft.p37", 0.37), ("ttft.p99_5", 0.995), ("ttft.p90", 0.9)):
        expected = np.quantile(ttft, fraction, method="inverted_cdf")
        assert value_of(result, parse_quantity(text)) == pytest.approx(expected, rel=1e-12)
    gaps = result.summary_dict()["latency"]["all"]["itl_s"]
    assert value_of(result, parse_quantity("itl.p99_0")) == gaps["p99"]  # the long way and the summary's way are one definition


def test_classes(tiny: dict[str, Any]) -> None:
    tiny["workload"]["slo_classes"] = [{"name": "chat", "fraction": 0.5}]
    tiny["slo"]["classes"] = {"chat": {"ttft_s": 1e-6}}
    result = simserve.run(tiny)
    assert value_of(result, parse_quantity("classes.chat.attainment")) == 0.0
    assert value_of(result, parse_quantity("classes.default.attainment")) == 1.0
    with pytest.raises(ConfigError, match="did you mean 'chat'"):
        value_of(result, parse_quantity("classes.chatt.attainment"))
