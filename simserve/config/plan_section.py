"""The `plan` section of an experiment: which deployments `simserve plan` chooses from, and what may be spent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from simserve.bounds import MOST_DEVICES, MOST_INSTANCES
from simserve.config.later import later
from simserve.config.section import Section
from simserve.model.weight_format import QuantMethod

if TYPE_CHECKING:
    from simserve.config.speculation_section import SpeculationSection
else:
    SpeculationSection = later("speculation_section", "SpeculationSection")

Ranks = Annotated[int, Field(ge=1, le=MOST_DEVICES)]
Role = Literal["colocated", "disaggregated"]

DEFAULT_DEVICES = 8
"""A node's: the budget where none is stated."""


class BudgetSection(Section):
    """What a plan may take. Default: the devices of one node."""

    devices: int | None = Field(default=None, ge=1, le=MOST_DEVICES, description="Most devices of a plan.")
    usd_per_hour: float | None = Field(default=None, gt=0, le=1e9, description="Most that a plan's devices may cost an hour, USD.")


class PlanSection(Section):
    """The deployments that `simserve plan` chooses from (docs/planning.md). A list is the values to try; what is left out stays as the
    experiment has it."""

    when: str | None = Field(
        default=None, description="What a plan must meet, as in `simserve capacity --when`. Default: attainment >= 0.99 of the SLO."
    )
    budget: BudgetSection = Field(default_factory=BudgetSection, description="What a plan may take.")
    hardware: tuple[str, ...] = Field(default=(), description="Hardware profiles. Default: the experiment's.")
    node_devices: int = Field(default=8, ge=1, le=MOST_DEVICES, description="Devices of a node: tensor parallelism stays inside one.")
    tp: tuple[Ranks, ...] | None = Field(
        default=None, min_length=1, description="Tensor-parallel ranks. Default: powers of 2 that the model can take."
    )
    pp: tuple[Ranks, ...] = Field(default=(1,), min_length=1, description="Pipeline stages.")
    dp: tuple[Ranks, ...] = Field(default=(1,), min_length=1, description="Data-parallel attention ranks of an instance.")
    ep: tuple[Ranks, ...] = Field(default=(1,), min_length=1, description="Expert-parallel ranks.")
    instances: tuple[Annotated[int, Field(ge=1, le=MOST_INSTANCES)], ...] | None = Field(
        default=None,
        min_length=1,
        description="Numbers of instances; of disaggregated plans, of each pool. Default: all that the budget allows.",
    )
    roles: tuple[Role, ...] = Field(
        default=("colocated",),
        min_length=1,
        description="`colocated` = instances serve whole requests; `disaggregated` = prefill and decode instances apart.",
    )
    ratios: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="Prefill to decode instances of disaggregated plans, such as `2:1`. Default: all that the budget allows.",
    )
    quantisation: tuple[QuantMethod, ...] | None = Field(default=None, min_length=1, description="Weight formats (`model.quantisation`).")
    kv_bits: tuple[Annotated[float, Field(gt=0, le=16)], ...] | None = Field(
        default=None, min_length=1, description="Bits of a cached element (`model.options.kv_bits`); 16 = not quantised."
    )
    max_num_seqs: tuple[Annotated[int, Field(ge=1, le=10**6)], ...] | None = Field(
        default=None, min_length=1, description="Sequence slots (`scheduler.max_seqs`)."
    )
    max_num_batched_tokens: tuple[Annotated[int, Field(ge=1, le=10**7)], ...] | None = Field(
        default=None, min_length=1, description="Token budgets of a step, whatever the policy calls its own."
    )
    prefix_caching: tuple[bool, ...] | None = Field(
        default=None, min_length=1, description="With or without a prefix cache (`kv.prefix_caching`)."
    )
    speculation: tuple[Literal["none"] | SpeculationSection, ...] | None = Field(
        default=None, min_length=1, description="Ways of speculative decoding: `none`, or the keys of `speculation`."
    )
    autoscalers: tuple[Literal["none"] | dict[str, Any], ...] | None = Field(
        default=None,
        min_length=1,
        description="Controllers that start and stop colocated instances, up to the plan's number of them: `none`, or an element of"
        " `cluster.controllers`, such as {policy: hpa, targets: {waiting: 2}}. Such a plan costs what its instances cost while they exist.",
    )
    over: dict[str, list[Any]] = Field(default_factory=dict, description="Any other keys of the experiment, by dotted path, with values.")
    replicates: int = Field(default=5, ge=2, le=1000, description="Fresh seeds with which each finalist is verified.")
    finalists: int = Field(default=3, ge=1, le=100, description="Plans that are verified: the cheapest, and the next on the way up.")
    limit: int = Field(default=20_000, ge=1, le=10**7, description="Refuse to start with more plans than this.")

    @field_validator("hardware", "tp", "pp", "dp", "ep", "instances", "roles", "ratios", "max_num_seqs", "max_num_batched_tokens")
    @classmethod
    def _each_once(cls, values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        if values is not None and len(set(values)) < len(values):
            raise ValueError("a value is listed twice")
        return values

    @field_validator("autoscalers", mode="before")
    @classmethod
    def _controllers(cls, values: Any) -> Any:
        for one in values if isinstance(values, list | tuple) else ():
            if isinstance(one, str) and one != "none":
                raise ValueError(f"found text '{one[:60]}', expected none or a controller such as {{policy: hpa, targets: {{waiting: 2}}}}")
        return values

    @field_validator("ratios")
    @classmethod
    def _ratios(cls, values: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for text in values or ():
            ratio_of(text)
        return values

    @model_validator(mode="after")
    def _no_contradiction(self) -> PlanSection:
        if any(one != "none" for one in self.autoscalers or ()) and "disaggregated" in self.roles:
            raise ValueError("autoscalers are tried with colocated instances only: take disaggregated out of roles, or leave them out")
        if self.ratios is not None and "disaggregated" not in self.roles:
            raise ValueError("ratios are of disaggregated plans, and roles has none of these; add disaggregated to it or leave ratios out")
        if self.ratios is not None and self.instances is not None:
            raise ValueError("ratios and instances both state how many instances the pools have; give one of them")
        return self


def ratio_of(text: str) -> tuple[int, int]:
    """'2:1' as numbers. Raises ValueError."""
    parts = text.split(":")
    if len(parts) != 2 or not all(part.isdigit() and 0 < int(part) <= MOST_INSTANCES for part in parts):
        raise ValueError(f"found {text!r}, expected prefill to decode instances such as '2:1'")
    return int(parts[0]), int(parts[1])
