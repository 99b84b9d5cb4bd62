"""What the first requests of a measured run wait for and later ones do not: kernels compiled for the first shapes, graphs, connections.

A run of n requests with c clients has c first requests, so its mean TTFT holds c / n of that wait, which is why short runs look slow:
with ten requests a client, two seconds of compilation are 0.2 s in the mean. It belongs to runs that were measured without a warm-up of
their own, not to an engine that has been serving for a while: experiments do not have it.

The seconds stand in `warm_up.yaml`, learned with the overheads (docs/serving-validation.md).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

FILE = Path(__file__).parent / "warm_up.yaml"


def first_request_s(profile: str) -> float:
    """Seconds that the first request of each client waited in measured runs of an engine profile; 0 where none is known."""
    return _table().get(profile, 0.0)


@lru_cache(maxsize=1)
def _table() -> dict[str, float]:
    import yaml

    return dict(yaml.safe_load(FILE.read_text(encoding="utf-8")) or {}) if FILE.is_file() else {}
