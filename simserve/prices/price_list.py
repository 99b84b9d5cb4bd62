"""A price list: USD an hour of a device, on demand and reserved, with the PUE and grid intensity that energy is counted with."""

from __future__ import annotations

import functools
from datetime import date
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from simserve.errors import ConfigError
from simserve.files import messages
from simserve.files.words import shown
from simserve.files.yaml_values import read_values

BUNDLED = Path(__file__).with_name("prices.yaml")
SCHEMA_VERSION = 1

Tariff = Literal["on-demand", "reserved"]

_MOST_USD = 1e6


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ListedPrice(_Part):
    """USD an hour of one device. Without `reserved`, the list's fraction of `on_demand` is taken for it."""

    on_demand: float = Field(gt=0, le=_MOST_USD)
    reserved: float | None = Field(default=None, gt=0, le=_MOST_USD)
    date: date
    source: str
    assumed: bool = False


class ReservedRule(_Part):
    """What a reserved device-hour costs where no entry says so."""

    fraction_of_on_demand: float = Field(gt=0, le=1)
    assumed: bool = False
    source: str


class Stated(_Part):
    """A number with its source."""

    value: float = Field(ge=0, le=1e5)
    source: str


class PriceDocument(_Part):
    """A price file."""

    schema_version: int
    as_of: date
    currency: Literal["USD"] = "USD"
    reserved: ReservedRule | None = None
    pue: Stated | None = None
    gco2_per_kwh: Stated | None = None
    devices: dict[str, ListedPrice] = Field(default_factory=dict)


class Price(NamedTuple):
    """USD an hour of one device, and where the figure is from. assumed: no dated list is behind it."""

    usd_per_hour: float
    source: str
    assumed: bool


class PriceList(NamedTuple):
    """A price file, read. `path` names it in messages and results."""

    path: Path
    document: PriceDocument

    @property
    def name(self) -> str:
        """As results call it."""
        return "simserve's own" if self.path == BUNDLED else str(self.path)

    def price(self, hardware: str, tariff: Tariff) -> Price | None:
        """The price of a device by the name of its hardware profile; None where the list has none.

        An entry's name is the profile's, or what it begins with (`h200-sxm` of `h200-sxm-141gb-measured`); the longest such entry holds.
        """
        fitting = [name for name in self.document.devices if hardware == name or hardware.startswith(f"{name}-")]
        if not fitting:
            return None
        name = max(fitting, key=len)
        entry = self.document.devices[name]
        source = f"{entry.source}, {entry.date.isoformat()}"
        if tariff == "on-demand":
            return Price(entry.on_demand, source, entry.assumed)
        if entry.reserved is not None:
            return Price(entry.reserved, source, entry.assumed)
        rule = self.document.reserved
        if rule is None:
            return None
        words = f"{100 * rule.fraction_of_on_demand:g} % of on demand ({source})"
        return Price(rule.fraction_of_on_demand * entry.on_demand, words, entry.assumed or rule.assumed)


def read_prices(path: Path = BUNDLED) -> PriceList:
    """The price list in a file. Raises ConfigError with every mistake in it."""
    try:
        modified_ns = path.stat().st_mtime_ns
    except OSError as error:
        raise ConfigError(f"price list '{path}': cannot be read: {error.strerror}") from error
    return _read(path, modified_ns)


@functools.lru_cache(maxsize=8)
def _read(path: Path, modified_ns: int) -> PriceList:
    """A list, read once in a process while its file stays the same."""
    read = read_values(path)
    version = read.data.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ConfigError(f"{path}: schema_version {shown(version)}; this simserve reads price lists of version {SCHEMA_VERSION}")
    document, mistakes = messages.check(PriceDocument, read.data, read)
    messages.fail(str(path), mistakes)
    assert isinstance(document, PriceDocument)
    return PriceList(path, document)
