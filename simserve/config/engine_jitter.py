"""How the step times of an engine vary: what a profile has learned, and when an experiment's runs have it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Discriminator, Field, StrictBool, Tag

from simserve.bounds import MOST_STEP_S
from simserve.config.section import Section
from simserve.cost.host import HostOverheads

if TYPE_CHECKING:
    from simserve.engine.jitter import StepJitter


class JitterSection(Section):
    """How step times vary: see simserve.engine.jitter. The mean of a step stays."""

    spread: float = Field(
        default=0.0, ge=0, le=2, description="Standard deviation of the logarithm of a factor on the host's seconds in a step (`host`)."
    )
    stall_probability: float = Field(default=0.0, ge=0, le=1, description="Of a step that waits for a stall of the host.")
    stall_s: float = Field(default=0.0, ge=0, le=MOST_STEP_S, description="Mean of such a stall, seconds.")


def _flag_or_mapping(value: Any) -> str:
    return "mapping" if isinstance(value, (Mapping, JitterSection)) else "flag"


JitterChoice = Annotated[Annotated[StrictBool, Tag("flag")] | Annotated[JitterSection, Tag("mapping")], Discriminator(_flag_or_mapping)]
"""What an experiment says: on as learned, off, or other numbers."""


def chosen(stated: bool | JitterSection | None, learned: JitterSection | None, *, of_paper: bool) -> JitterSection | None:
    """The jitter of a run; None = every step takes what the cost model says. Nothing stated: as learned, where it was learned; a paper's
    figures come from means, and runs that are held against them have none.

    Raises ValueError where it is asked for and was not learned.
    """
    if stated is None:
        return None if of_paper else learned
    if isinstance(stated, JitterSection):
        return stated if learned is None else learned.model_copy(update=stated.model_dump(exclude_unset=True))
    if stated and learned is None:
        raise ValueError("found true, but no jitter was learned for this profile; state spread, stall_probability and stall_s")
    return learned if stated else None


def step_jitter(stated: JitterSection | None, host: HostOverheads, seed: int | None) -> StepJitter | None:
    """How the steps of an instance with these overheads vary; None without numbers or a seed. A host that takes no time varies none."""
    if stated is None or seed is None or not host.per_step_s + host.per_decode_request_s:
        return None
    from simserve.engine.jitter import StepJitter  # an experiment is read without the engine

    return StepJitter(host.per_step_s, host.per_decode_request_s, **stated.model_dump(), seed=seed)
