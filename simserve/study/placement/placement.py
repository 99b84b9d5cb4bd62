"""Placements: how many prefill and decode instances, each over how many devices (DistServe, arXiv 2401.09670, section 4).

A placement is one unit that is replicated to serve more; twice the instances of a smaller placement is that one replicated, and left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from simserve.config.experiment import Experiment

Affinity = Literal["high", "low"]
Kind = Literal["disaggregated", "mixed"]
KINDS: tuple[Kind, ...] = ("disaggregated", "mixed")


@dataclass(frozen=True, slots=True)
class Pool:
    """`count` equal instances of a role, each tp x pp x dp devices."""

    role: str
    count: int
    tp: int
    pp: int
    dp: int = 1
    ep: int = 1

    @property
    def devices(self) -> int:
        """Devices of all instances."""
        return self.count * self.tp * self.pp * self.dp

    def __str__(self) -> str:
        more = (("pp", self.pp), ("dp", self.dp), ("ep", self.ep))
        parts = [f"tp{self.tp}", *(f"{name}{ranks}" for name, ranks in more if ranks > 1)]
        return f"{f'{self.count} x ' if self.count > 1 else ''}{' '.join(parts)}"


@dataclass(frozen=True, slots=True)
class Placement:
    """One pool of mixed instances, or a prefill and a decode pool."""

    pools: tuple[Pool, ...]

    @property
    def devices(self) -> int:
        """Devices in all."""
        return sum(pool.devices for pool in self.pools)

    @property
    def kind(self) -> Kind:
        """Whether prefill and decode are apart."""
        return "mixed" if len(self.pools) == 1 else "disaggregated"

    def __str__(self) -> str:
        return " + ".join(f"{pool.role} {pool}" for pool in self.pools)

    def groups(self, experiment: Experiment) -> list[dict[str, Any]]:
        """`cluster.instances` of the experiment placed so. Everything else of a pool is as the experiment's group of that role says, or
        its first group where there is none."""
        written = experiment.document.data.get("cluster") or {}
        items: Sequence[Mapping[str, Any]] = written.get("instances") or [{}]
        by_role = {str(item.get("role", "mixed")): item for item in reversed(items)}
        groups = []
        for pool in self.pools:
            pattern = by_role.get(pool.role, items[0])
            apart = {name: ranks for name, ranks in (("dp", pool.dp), ("ep", pool.ep)) if ranks > 1}
            parallel = {**dict(pattern.get("parallel") or {}), "tp": pool.tp, "pp": pool.pp, **apart}
            groups.append({**pattern, "role": pool.role, "count": pool.count, "parallel": parallel})
        return groups
