"""The `cluster.failures` section: instances that die."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simserve.bounds import MOST_S
from simserve.config.section import Section


class FailureSection(Section):
    """One instance dies."""

    at_s: float = Field(ge=0, le=MOST_S, description="Simulated seconds.")
    instance: int = Field(ge=0, description="Number of the instance, counted through all groups from 0.")


class FailuresSection(Section):
    """Instances that die while they run, with the KV they hold."""

    times: list[FailureSection] = Field(default_factory=list, description="Stated failures.")
    mtbf_s: float | None = Field(
        default=None,
        ge=1,
        le=1e12,
        description="Mean seconds between the failures of one instance, at random times (of the experiment's seed).",
    )
    restart_s: float = Field(default=60.0, ge=0, le=MOST_S, description="Seconds from a failure until the instance serves again.")
    rule: Literal["resume", "retry", "fail"] = Field(
        default="resume",
        description="What becomes of its requests: `resume` goes on elsewhere with the tokens sent, computing their KV again; `retry` "
        "starts from the beginning; `fail` ends them.",
    )
