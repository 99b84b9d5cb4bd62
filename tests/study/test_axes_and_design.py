"""Which points a sweep visits, counted before they are made."""

from __future__ import annotations

import numpy as np
import pytest

from simserve.errors import ConfigError
from simserve.study.sweep.axes import Range, Values, axis, option
from simserve.study.sweep.design import design, refuse_too_many


def test_a_grid_is_every_combination_once() -> None:
    plan = design([axis("a", [1, 2, 3]), axis("b", ["x", "y"])])
    points = [(point["a"], point["b"]) for point in plan]
    assert plan.count() == 6
    assert points == [(a, b) for a in (1, 2, 3) for b in ("x", "y")]


def test_a_range_includes_both_ends_with_equal_steps_or_ratios() -> None:
    assert [axis("r", {"low": 1, "high": 3, "steps": 5}).at(i) for i in range(5)] == [1.0, 1.5, 2.0, 2.5, 3.0]
    logs = axis("r", {"low": 1, "high": 100, "steps": 3, "scale": "log"})
    assert [logs.at(i) for i in range(3)] == [1.0, 10.0, 100.0]
    whole = axis("r", {"low": 1, "high": 4, "whole": True, "steps": 4})
    assert [whole.at(i) for i in range(4)] == [1, 2, 3, 4] and isinstance(whole.at(1), int)


def test_a_latin_hypercube_puts_one_point_in_each_slice_of_each_key() -> None:
    plan = design([axis("x", {"low": 0.0, "high": 1.0}), axis("y", {"low": 0.0, "high": 1.0})], method="latin-hypercube", sample=50)
    points = np.array([[p["x"], p["y"]] for p in plan])
    for column in points.T:
        assert sorted((column * 50).astype(int)) == list(range(50))


@pytest.mark.parametrize("method", ["random", "latin-hypercube"])
def test_samples_repeat_with_their_seed_and_differ_with_another(method: str) -> None:
    axes = [axis("x", {"low": 1.0, "high": 9.0, "scale": "log"}), axis("y", ["a", "b", "c"])]

    def points(seed: int) -> list[dict[str, object]]:
        return list(design(axes, method=method, sample=30, sample_seed=seed))

    assert points(3) == points(3) != points(4)
    assert {p["y"] for p in points(3)} == {"a", "b", "c"}
    assert all(1.0 <= float(str(p["x"])) <= 9.0 for p in points(3))


def test_sampled_whole_numbers_reach_both_ends_equally_often() -> None:
    fractions = (np.arange(4000) + 0.5) / 4000
    drawn = [Range("n", 1, 4, whole=True).draw(float(fraction)) for fraction in fractions]
    assert np.bincount(drawn).tolist() == [0, 1000, 1000, 1000, 1000]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("k=1,2,4", (1, 2, 4)),
        ("k=[1, 2]", (1, 2)),
        ("k=a", ("a",)),
        ("k={policy: orca},{policy: static, batch_size: 4}", ({"policy": "orca"}, {"policy": "static", "batch_size": 4})),
        ("k={policy: orca}", ({"policy": "orca"},)),
        ("k=[1],[2, 3]", ([1], [2, 3])),
    ],
)
def test_option_values_are_yaml(text: str, values: tuple[object, ...]) -> None:
    found = option(text)
    assert isinstance(found, Values) and found.values == values and found.key == "k"


def test_an_option_may_be_a_range() -> None:
    assert option("k={low: 1, high: 8, steps: 4}") == Range("k", 1.0, 8.0, 4)


@pytest.mark.parametrize(
    "text", ["k", "k=", "=1", "k=[]", "k=1,,2", "k={low: 1, high: 2, step: 3}", "k={low: 3, high: 2, steps: 2}", "k=[1"]
)
def test_unreadable_options_are_named(text: str) -> None:
    with pytest.raises(ConfigError, match="over"):
        option(text)


def test_nothing_to_visit_is_an_error() -> None:
    with pytest.raises(ConfigError, match="empty list"):
        axis("k", [])
    with pytest.raises(ConfigError, match="empty list"):
        design(points=[])
    with pytest.raises(ConfigError, match="steps"):
        design([axis("k", {"low": 1, "high": 2})])
    with pytest.raises(ConfigError, match="needs 'sample'"):
        design([axis("k", {"low": 1, "high": 2})], method="random")
    with pytest.raises(ConfigError, match="did you mean 'latin-hypercube'"):
        design([axis("k", [1])], method="latin", sample=3)
    with pytest.raises(ConfigError, match="given twice"):
        design([axis("k", [1]), axis("k", [2])])


def test_a_huge_grid_is_refused_with_its_count_without_being_made() -> None:
    plan = design([axis(f"k{i}", {"low": 0, "high": 1, "steps": 1000}) for i in range(3)])
    with pytest.raises(ConfigError, match=r"1,000,000,000 points \(1,000 x 1,000 x 1,000\)"):
        refuse_too_many(plan, seeds=1, limit=100_000)
    with pytest.raises(ConfigError, match=r"3,000,000,000 runs"):
        refuse_too_many(plan, seeds=3, limit=100_000)
