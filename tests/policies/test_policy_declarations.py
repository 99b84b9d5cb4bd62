"""What each built-in policy declares: who knows output lengths, who sends across roles, who must look while no request is there."""

from __future__ import annotations

from typing import Any

import pytest

from simserve.contracts import capable
from simserve.policies import registry

NEEDED: dict[str, dict[str, Any]] = {"hpa": {"targets": {"waiting": 5}}, "forecast": {"requests_per_s": 1.0}}
"""Parameters without a default."""


def made(kind: str, name: str, **params: Any) -> Any:
    found = {"scheduler": registry.scheduler_class, "router": registry.router_class, "controller": registry.controller_class}[kind](name)
    return found(found.Params(**NEEDED.get(name, {}) | params))


def declaring(kind: str, names: list[str], capability: str) -> set[str]:
    return {name for name in names if capable(made(kind, name), capability)}


def test_no_scheduler_knows_output_lengths_unless_asked_to() -> None:
    """A real scheduler cannot know them (I8). Orca's and static batching's bound, and Past-Future's, are asked for by a parameter."""
    assert declaring("scheduler", registry.scheduler_names(), "oracle") == set()
    assert capable(made("scheduler", "orca", reserve="oracle"), "oracle")
    assert capable(made("scheduler", "static", reserve="oracle"), "oracle")
    assert capable(made("scheduler", "past-future", predict="oracle"), "oracle")
    assert not capable(made("scheduler", "orca", reserve="max"), "oracle") and not capable(
        made("scheduler", "static", reserve="max"), "oracle"
    )


def test_only_shortest_job_first_sorts_by_what_nobody_knows() -> None:
    orders = {name: registry.order(name) for name in registry.order_names()}
    assert {name for name, order in orders.items() if order.oracle} == {"shortest-job"}
    assert {name for name, order in orders.items() if order.dynamic} == {"longest-prefix"}, "its key changes with what the cache holds"


@pytest.mark.parametrize(
    ("capability", "names"), [("crosses_roles", {"splitwise", "splitwise-decode"}), ("reads_contents", {"prefix-affinity"})]
)
def test_routers(capability: str, names: set[str]) -> None:
    """Splitwise's pools lend each other instances; one router alone looks into prompts."""
    assert declaring("router", registry.router_names(), capability) == names


def test_controllers() -> None:
    """Scaling down happens when no request is there; Llumnix's knows one pool; migrating needs requests."""
    scales = {"llumnix-scaling", "hpa", "keda", "saturation", "forecast"}
    assert declaring("controller", registry.controller_names(), "idle") == scales
    assert declaring("controller", registry.controller_names(), "hears_ends") == scales - {"llumnix-scaling"}
    assert declaring("controller", registry.controller_names(), "one_pool") == {"llumnix-scaling"}


def test_layers_in_flight_leave_no_room_for_pipeline_stages() -> None:
    assert declaring("scheduler", registry.scheduler_names(), "single_stage") == {"layered"}
