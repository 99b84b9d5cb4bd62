"""What devices cost: the list that ships, lists and prices of the user's, and what is said where there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import simserve
from simserve import resources
from simserve.errors import ConfigError
from simserve.prices.price_list import read_prices

Write = Callable[..., Path]

MINE = """\
schema_version: 1
as_of: 2026-01-01
devices:
  a100: {on_demand: 3.0, reserved: 2.0, date: 2026-01-01, source: a contract}
"""


def complaint(path: Path, **changes: object) -> str:
    with pytest.raises(ConfigError) as caught:
        simserve.load(path, **changes)
    return str(caught.value)


def test_the_list_that_ships_is_dated_and_sourced() -> None:
    document = read_prices().document
    assert document.as_of.year >= 2026 and len(document.devices) >= 12
    for name, entry in document.devices.items():
        assert entry.date <= document.as_of and len(entry.source) > 5, name
        assert entry.assumed or entry.date.year >= 2026, f"{name}: a price that is not dated is assumed"


def test_most_bundled_devices_have_a_price_and_faster_ones_cost_more() -> None:
    found = read_prices()
    usd = {name: price.usd_per_hour for name in resources.available("hardware_profiles") if (price := found.price(name, "on-demand"))}
    assert len(usd) >= 8
    assert usd["a10"] < usd["a100-sxm-80gb"] < usd["h100-sxm-80gb"] < usd["h200-sxm-141gb"]


def test_profiles_of_a_device_have_its_price_and_other_devices_have_not() -> None:
    found = read_prices()
    assert found.price("h200-sxm-141gb-measured", "on-demand") == found.price("h200-sxm", "on-demand")
    assert found.price("a100-sxm-40gb", "on-demand") != found.price("a100-sxm-80gb", "on-demand")
    assert found.price("h20", "on-demand") is None and found.price("l40", "on-demand") is None and found.price("h800", "on-demand") is None


def test_reserved_devices_cost_less_and_that_is_assumed() -> None:
    found = read_prices()
    on_demand, reserved = found.price("h100-sxm-80gb", "on-demand"), found.price("h100-sxm-80gb", "reserved")
    assert on_demand is not None and reserved is not None
    assert reserved.usd_per_hour == pytest.approx(0.65 * on_demand.usd_per_hour) and reserved.assumed and not on_demand.assumed


def test_a_price_of_the_user_s_own_goes_over_the_list(write: Write, tmp_path: Path) -> None:
    path = write()
    assert simserve.load(path).rates().of("a100-sxm-80gb") == pytest.approx(1.79)
    assert simserve.load(path, **{"prices.usd_per_hour.a100-sxm-80gb": 0.5}).rates().of("a100-sxm-80gb") == 0.5
    (tmp_path / "mine.yaml").write_text(MINE)
    mine = simserve.load(path, **{"prices.file": "mine.yaml", "prices.tariff": "reserved"})
    assert mine.rates().of("a100-sxm-80gb") == 2.0 and mine.rates().pue == 1.0 and mine.rates().gco2_per_kwh is None


def test_a_stated_section_survives_being_written_down(write: Write, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(MINE)
    stated = simserve.load(write(), **{"prices.file": "mine.yaml", "prices.pue": 1.1})
    again = simserve.load(stated.resolved())
    assert again.rates() == stated.rates() and again.fingerprint() == stated.fingerprint()
    assert "prices" not in simserve.load(write()).resolved(), "what is not stated follows the list"


def test_another_price_is_another_run_and_so_is_another_list(write: Write, tmp_path: Path) -> None:
    path = write()
    (tmp_path / "mine.yaml").write_text(MINE)
    first = simserve.load(path, **{"prices.file": "mine.yaml"}).fingerprint()
    (tmp_path / "mine.yaml").write_text(MINE.replace("3.0", "3.5"))
    assert simserve.load(path, **{"prices.file": "mine.yaml"}).fingerprint() != first != simserve.load(path).fingerprint()


def test_a_device_without_a_price_is_an_error_only_where_money_is_asked_for(write: Write) -> None:
    path = write(("hardware: a100-sxm-80gb", "hardware: h20"))
    assert simserve.load(path).rates().of("h20") is None
    assert simserve.load(path, **{"prices.pue": 1.2}).rates().pue == 1.2, "energy needs no price"
    found = complaint(path, **{"prices.tariff": "on-demand"})
    assert "no price of 'h20'" in found and "prices: {usd_per_hour: {h20: 2.0}}" in found and "h100-sxm" in found


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("prices.usd_per_hour", {"a100-sxm-80bg": 1.0}, "did you mean 'a100-sxm-80gb'"),
        ("prices.usd_per_hour", {"a100-sxm-80gb": 0}, "expected a number > 0"),
        ("prices.file", "nowhere.yaml", "price list 'nowhere.yaml': no such file"),
        ("prices.tariff", "spot", "on-demand, reserved"),
        ("prices.pue", 0.8, "expected a number >= 1"),
    ],
)
def test_mistakes_are_named(write: Write, key: str, value: object, said: str) -> None:
    assert said in complaint(write(), **{key: value})


def test_a_list_with_mistakes_names_them(write: Write, tmp_path: Path) -> None:
    for text, said in (
        (MINE.replace("schema_version: 1", "schema_version: 7"), "schema_version 7"),
        (MINE.replace("3.0", "-1"), "on_demand"),
        (MINE.replace("2026-01-01", "lately"), "found text 'lately', expected a date such as 2026-01-31"),
        (MINE.split("devices")[0] + "devices: {}\n", "which has none; state one"),
    ):
        (tmp_path / "mine.yaml").write_text(text)
        assert said in complaint(write(), **{"prices.file": "mine.yaml"})
