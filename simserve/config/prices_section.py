"""The `prices` section of an experiment: what a device-hour costs, and what its energy is counted with."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from simserve.config.section import Section
from simserve.prices.price_list import Tariff

Usd = Annotated[float, Field(gt=0, le=1e6)]

MONEY_KEYS = frozenset(("file", "tariff", "usd_per_hour"))
"""Keys by which a price is asked for: a device without one is then an error."""


class PricesSection(Section):
    """What a device-hour costs. Default: list prices that ship with simserve, of the devices that are in the list (docs/planning.md)."""

    file: str | None = Field(default=None, description="A price list in place of simserve's own: a path to a YAML file.")
    tariff: Tariff = Field(
        default="on-demand", description="Which of the list's prices: `on-demand`, or `reserved` (a commitment of a year)."
    )
    usd_per_hour: dict[str, Usd] = Field(
        default_factory=dict, description="Your own prices, USD an hour of one device, by hardware profile. They go over the list's."
    )
    usd_per_kwh: float = Field(
        default=0.0, ge=0, le=1e3, description="Electricity on top, USD/kWh at the meter. 0 = it is in the price, as with rented devices."
    )
    pue: float | None = Field(
        default=None,
        ge=1,
        le=10,
        description="Power usage effectiveness: energy at the meter over that of the devices. Default: of the list.",
    )
    gco2_per_kwh: float | None = Field(
        default=None, ge=0, le=1e5, description="Grid intensity, grams of CO2 for each kWh. Default: the list's."
    )
