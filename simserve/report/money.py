"""Money and energy at the meter: what the devices of a run cost while they existed, and what that is for a million tokens.

An instance is paid for from when it boots until it ends, idle or not; with node pools a node is, from its order to its removal
(`scaling.paid`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from simserve.engine.records import RunRecords
from simserve.report.scaling.paid import HOUR_S, paid_device_s

JOULES_PER_KWH = 3.6e6


class Tokens(NamedTuple):
    """Of a run: prompt tokens of the requests that got any output, and output tokens."""

    input: int
    output: int

    @staticmethod
    def of(records: RunRecords) -> Tokens:
        """Of a run that was recorded whole, or of a piece."""
        generated = records.requests.generated_tokens
        return Tokens(int(records.table.prompt_tokens[generated > 0].sum()), int(generated.sum()))


def at_the_meter(energy: Mapping[str, Any], tokens: Tokens, pue: float, gco2_per_kwh: float | None) -> dict[str, Any]:
    """The energy of a run (`report.energy.run_energy`) with what stands at the meter: kWh = PUE x joules of the devices / 3.6e6."""
    kwh = pue * float(energy["energy_j"]) / JOULES_PER_KWH
    gco2 = None if gco2_per_kwh is None else kwh * gco2_per_kwh
    return {
        **energy,
        "kwh": kwh,
        **_per_million("kwh", kwh, tokens),
        "gco2": gco2,
        **_per_million("gco2", gco2, tokens),
        "pue": pue,
        "gco2_per_kwh": gco2_per_kwh,
    }


def run_money(
    records: RunRecords,
    tokens: Tokens,
    usd_per_device_hour: Sequence[float],
    kwh: float | None,
    usd_per_kwh: float,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """What summary.json holds under `money`, over the whole run.

    usd_per_device_hour  of each instance's devices, in the records' order
    kwh, usd_per_kwh     electricity that is paid on top; where it is and its energy is not known, nothing is said of it
    about                where the prices are from
    """
    paid = [(usd_per_device_hour[number], seconds / HOUR_S) for number, seconds in paid_device_s(records)]
    devices_usd = float(sum(price * hours for price, hours in paid))
    electricity_usd = kwh * usd_per_kwh if kwh is not None and usd_per_kwh else None
    usd = devices_usd + (electricity_usd or 0.0)
    return {
        "usd": usd,
        "usd_per_hour": usd / records.end_s * HOUR_S if records.end_s else None,
        **_per_million("usd", usd, tokens),
        "device_hours": float(sum(hours for _, hours in paid)),
        "devices_usd": devices_usd,
        "electricity_usd": electricity_usd,
        "prices": dict(about),
        "assumed": sorted(name for name, price in about.get("devices", {}).items() if price["assumed"]),
    }


def _per_million(name: str, amount: float | None, tokens: Tokens) -> dict[str, float | None]:
    """The whole amount over the run's output tokens, over its input tokens, and over both."""
    counts = {"input_tokens": tokens.input, "output_tokens": tokens.output, "tokens": sum(tokens)}
    return {f"{name}_per_million_{kind}": 1e6 * amount / count if amount is not None and count else None for kind, count in counts.items()}
