"""What the devices of an experiment cost an hour, and what their energy is counted with: its `prices` section over a price list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from simserve import resources
from simserve.config.hardware_file import hardware_path
from simserve.config.paths import existing
from simserve.config.prices_section import MONEY_KEYS, PricesSection
from simserve.errors import ConfigError, SimserveError, nearest
from simserve.files.words import clipped
from simserve.prices.price_list import BUNDLED, Price, PriceList, read_prices


class Rates(NamedTuple):
    """What is paid for the devices of an experiment.

    usd_per_device_hour  by the name of the hardware profile; None where a device has no price and none was asked for
    """

    usd_per_device_hour: dict[str, Price] | None
    usd_per_kwh: float
    pue: float
    gco2_per_kwh: float | None
    about: dict[str, Any]

    def of(self, hardware: str) -> float | None:
        """USD an hour of one device of a profile."""
        return None if self.usd_per_device_hour is None else self.usd_per_device_hour[hardware].usd_per_hour


def asked(section: PricesSection | None) -> bool:
    """Whether an experiment asks for money: a device without a price is then an error, not an absence."""
    return section is not None and bool(MONEY_KEYS & section.model_fields_set)


def price_file(section: PricesSection | None, base_dir: Path) -> Path:
    """The list that a section names, or simserve's own. Raises ConfigError where there is no such file."""
    if section is None or section.file is None:
        return BUNDLED
    found = existing(section.file, base_dir)
    if found is None:
        raise ConfigError(f"price list '{section.file}': no such file")
    return found


def rates(section: PricesSection | None, hardware: Sequence[str], base_dir: Path, *, required: bool | None = None) -> Rates:
    """The rates of an experiment whose instances stand on these hardware profiles (names or paths).

    required  a device without a price is an error; default: where the section asks for money
    Raises ConfigError naming the devices that have no price, and how to state one.
    """
    known = read_prices(price_file(section, base_dir))
    section = section or PricesSection()
    _refuse_unknown(section, hardware)
    found = {name: _price(section, known, name, base_dir) for name in dict.fromkeys(hardware)}
    missing = sorted(name for name, price in found.items() if price is None)
    if missing and (asked(section) if required is None else required):
        raise ConfigError(_without_price(missing, section, known))
    prices = {name: price for name, price in found.items() if price is not None}
    pue = section.pue if section.pue is not None else known.document.pue.value if known.document.pue else 1.0
    grid = known.document.gco2_per_kwh
    intensity = section.gco2_per_kwh if section.gco2_per_kwh is not None else grid.value if grid else None
    about = {
        "list": known.name,
        "as_of": known.document.as_of.isoformat(),
        "currency": known.document.currency,
        "tariff": section.tariff,
        "devices": {name: price._asdict() for name, price in sorted(prices.items())},
    }
    return Rates(None if missing else prices, section.usd_per_kwh, pue, intensity, about)


def _price(section: PricesSection, known: PriceList, hardware: str, base_dir: Path) -> Price | None:
    """The user's own by the words of the experiment or the profile's name, else the list's."""
    name = profile_name(hardware, base_dir)
    for key in (hardware, name):
        if key in section.usd_per_hour:
            return Price(section.usd_per_hour[key], "stated in the experiment", False)
    return known.price(name, section.tariff)


def _refuse_unknown(section: PricesSection, hardware: Sequence[str]) -> None:
    """Raises ConfigError for a price of a device that there is not: it would be read over."""
    if not section.usd_per_hour:
        return
    known = [*resources.available("hardware_profiles"), *hardware, *(Path(name).stem for name in hardware)]
    for name in section.usd_per_hour:
        if name not in known and not name.endswith((".yaml", ".yml")):
            raise ConfigError(f"prices.usd_per_hour: unknown hardware profile '{clipped(name)}'{nearest(name, sorted(set(known)))}")


def profile_name(hardware: str, base_dir: Path) -> str:
    """The name by which a price is looked up: of a file of the user's, that of the file without its suffix."""
    try:
        return hardware_path(hardware, base_dir).stem
    except SimserveError:
        return Path(hardware).stem  # that it does not exist is said elsewhere


def _without_price(missing: Sequence[str], section: PricesSection, known: PriceList) -> str:
    names = ", ".join(f"'{name}'" for name in missing)
    listed = ", ".join(sorted(known.document.devices)) or "none"
    how = f"state one: prices: {{usd_per_hour: {{{missing[0]}: 2.0}}}}"
    beside = " (it says nothing of reserved devices)" if section.tariff == "reserved" and known.document.reserved is None else ""
    return f"no price of {names} in {known.name} list as of {known.document.as_of.isoformat()}{beside}, which has {listed}; {how}"
