"""The sections of an experiment file. Field descriptions are the documentation: `docs/experiment-reference.md` is made from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    StrictBool,
    Tag,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from simserve.bounds import (
    LEAST_INTERVAL_S,
    MOST_BLOCKS,
    MOST_BYTES_PER_S,
    MOST_DEVICES,
    MOST_INSTANCES,
    MOST_S,
    MOST_STEP_S,
    MOST_TOKENS,
    STREAM_ABOVE,
)
from simserve.catalogue import TARGETS
from simserve.config.cost_section import CostSection
from simserve.config.later import later
from simserve.config.output_section import MetricsSection, OutputSection
from simserve.config.prices_section import PricesSection
from simserve.config.section import OpenSection, Section
from simserve.cost.options import CostOptions
from simserve.errors import ConfigError
from simserve.model.weight_format import QuantMethod
from simserve.workload.config import WorkloadConfig

if TYPE_CHECKING:
    from simserve.config.claims import ClaimSection, PaperSection
    from simserve.config.failures_section import FailuresSection
    from simserve.config.plan_section import PlanSection
    from simserve.config.probes import ProbeSection
    from simserve.config.provisioning_section import NodePoolSection, StartSection
    from simserve.config.speculation_section import SpeculationSection
else:
    ClaimSection, PaperSection = later("claims", "ClaimSection"), later("claims", "PaperSection")
    FailuresSection = later("failures_section", "FailuresSection")
    PlanSection = later("plan_section", "PlanSection")
    ProbeSection = later("probes", "ProbeSection")
    NodePoolSection, StartSection = (later("provisioning_section", name) for name in ("NodePoolSection", "StartSection"))
    SpeculationSection = later("speculation_section", "SpeculationSection")


def _name_or_mapping(value: Any) -> str:
    return "name" if isinstance(value, str) else "mapping"


class ModelSection(Section):
    """The model to serve."""

    name: str = Field(description="A bundled architecture (`simserve models`), or a path to a Hugging Face config.json.")
    quantisation: QuantMethod | None = Field(
        default=None, description="Weight format of every linear layer. Default: what the model's own config.json says."
    )
    options: CostOptions = Field(
        default_factory=CostOptions, description="What a paper's method changes in the cost of a step and in memory (docs/paper-costs.md)."
    )


class EngineSection(OpenSection):
    """The serving engine to imitate. Further keys are the engine's own flags, such as vLLM's `max_num_seqs` (`simserve engines NAME`)."""

    name: str = Field(description="An engine profile (`simserve engines`), or a path to a profile's YAML file.")


class ParallelSection(Section):
    """How one instance spreads over devices. An instance has tp x pp x dp devices."""

    tp: int = Field(default=1, ge=1, le=MOST_DEVICES, description="Tensor-parallel ranks. Must divide the model's attention heads.")
    pp: int = Field(default=1, ge=1, le=MOST_DEVICES, description="Pipeline-parallel stages. At most the model's layers.")
    dp: int = Field(default=1, ge=1, le=MOST_DEVICES, description="Data-parallel attention ranks.")
    ep: int = Field(default=1, ge=1, le=MOST_DEVICES, description="Expert-parallel ranks (mixture-of-experts models).")


class SchedulerSection(OpenSection):
    """What runs in the next step. Further keys are the policy's own parameters (`simserve policies NAME`)."""

    policy: str | None = Field(default=None, description="A scheduling policy (`simserve policies`). Default: the engine profile's.")


class KvSection(Section):
    """The KV cache of one instance. What is left out comes from the engine profile."""

    blocks: int | None = Field(
        default=None, ge=1, le=MOST_BLOCKS, description="KV blocks of the instance. Default: as many as fit, see memory_utilisation."
    )
    memory_utilisation: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Fraction of memory, as the engine counts it (`simserve engines NAME`): of each device's, for weights, activations and"
        " KV cache (vLLM) or for weights and KV cache (SGLang), or of what weights and activations leave, for the KV cache (TensorRT-LLM).",
    )
    block_tokens: int | None = Field(default=None, ge=1, le=MOST_TOKENS, description="Tokens per KV block.")
    watermark: float | None = Field(default=None, ge=0, lt=1, description="Fraction of the blocks that an admission must leave free.")
    watermark_rule: Literal["always", "beside-running"] | None = Field(
        default=None,
        description="When the watermark holds: `always`, or only for a request that is admitted while others run (vLLM since 0.24, which"
        " counts a block without KV in too).",
    )
    preemption: Literal["recompute", "swap"] | None = Field(
        default=None, description="What happens to a preempted request's KV: dropped and computed again, or copied to host memory and back."
    )
    host_memory_gib: float | None = Field(
        default=None, ge=0, le=1e9, description="Host memory for swapped KV, GiB for each device. Used by `preemption: swap`."
    )
    prefix_caching: bool | None = Field(
        default=None,
        description="Keep the KV of prompts and reuse it for equal prefixes. Needs a workload that tells prompts' contents (Mooncake).",
    )
    prefix_match: Literal["block", "token"] | None = Field(
        default=None,
        description="What of an equal prefix is reused: `block` = whole blocks of the contents that the workload tells; `token` = any"
        " length, whole KV blocks shared and the one at the end copied, no finer than the workload tells (XY-Serve).",
    )
    eviction: Literal["contents-last", "freed-first", "empty-first", "radix"] | None = Field(
        default=None,
        description="Which free blocks are taken first, where contents are kept: `contents-last` = those without contents, then the"
        " contents least recently used; `freed-first` = in the order in which they were freed (vLLM V1); `empty-first` = the same, but"
        " blocks freed without contents come before the others (vLLM since 0.24); `radix` = leaves of a tree of sequences (SGLang).",
    )

    @model_validator(mode="after")
    def _one_size(self) -> KvSection:
        if self.blocks is not None and self.memory_utilisation is not None:
            raise ValueError("blocks and memory_utilisation both state the size of the cache; give one of them")
        return self


class InstanceSection(Section):
    """A group of equal instances (model replicas)."""

    count: int = Field(default=1, ge=1, le=MOST_INSTANCES, description="Number of equal instances.")
    max_count: int | None = Field(
        default=None,
        ge=1,
        le=MOST_INSTANCES,
        description="Instances that a controller may have running. Default: `count`, which start at once.",
    )
    boot_s: float = Field(default=30.0, ge=0, le=MOST_S, description="Seconds from the order to start an instance until it serves.")
    start: StartSection | None = Field(default=None, description="The stages of a start, in place of `boot_s`.")
    parallel: ParallelSection = Field(default_factory=lambda: ParallelSection(), description="Devices of one instance.")
    hardware: str | None = Field(default=None, description="Hardware profile of these instances. Default: the experiment's `hardware`.")
    role: Literal["mixed", "prefill", "decode"] = Field(
        default="mixed",
        description="Part of a request that the instance serves: `mixed` = all of it; `prefill` = up to the first token; "
        "`decode` = from then on, after a KV transfer.",
    )
    scheduler: SchedulerSection | None = Field(default=None, description="Scheduling policy. Default: the engine profile's.")
    order: str = Field(default="fcfs", description="Order of the waiting queue. `shortest-job` knows the true output lengths (an oracle).")
    kv: KvSection = Field(default_factory=lambda: KvSection(), description="KV cache.")
    speculation: SpeculationSection | None = Field(
        default=None, description="Speculative decoding. Its keys go over the experiment's `speculation`; `tokens: 0` = none here."
    )
    max_model_len: int | None = Field(
        default=None,
        ge=2,
        le=MOST_TOKENS,
        description="Longest prompt + output in tokens. Longer prompts are rejected, outputs stop there. Default: the model's context.",
    )


class RouterSection(OpenSection):
    """How requests are spread over instances. Further keys are parameters of `policy`."""

    policy: str = Field(default="round-robin", description="A routing policy, for requests that arrive.")
    decode_policy: str = Field(
        default="least-outstanding", description="A routing policy, for requests that a prefill instance has prefilled."
    )
    refresh_s: float = Field(
        default=0.0,
        ge=0,
        le=MOST_S,
        description="Routers see the instances' signals as they were at the last multiple of this. 0 = as they are.",
    )

    @field_validator("refresh_s")
    @classmethod
    def _no_faster_than_the_network(cls, value: float) -> float:
        if 0 < value < LEAST_INTERVAL_S:
            raise ValueError(f"found {value:g}, expected 0 (signals as they are) or a number >= {LEAST_INTERVAL_S:g}")
        return value


class ControllerSection(OpenSection):
    """Something that acts on the cluster on a timer: migrates requests, starts and stops instances. Further keys are its parameters."""

    policy: str = Field(description="A controller.")


class BetweenNodesSection(Section):
    """The link out of a node, shared by its instances."""

    bytes_per_s: float = Field(ge=1, le=MOST_BYTES_PER_S, description="Bandwidth one way, bytes/s.")
    latency_s: float = Field(default=0.0, ge=0, le=MOST_STEP_S, description="Seconds before the first byte.")
    node_devices: int = Field(default=8, ge=1, le=MOST_DEVICES, description="Devices of a node. Instances fill one node after the other.")


class NetworkSection(Section):
    """The link through which KV leaves an instance. Default: the scale-up link (NVLink or its like) of the instance's devices."""

    bytes_per_s: float | None = Field(
        default=None, ge=1, le=MOST_BYTES_PER_S, description="Bandwidth one way, bytes/s, shared by the copies in flight."
    )
    latency_s: float | None = Field(default=None, ge=0, le=MOST_STEP_S, description="Seconds before the first byte.")
    per_message_s: float = Field(default=0.0, ge=0, le=MOST_STEP_S, description="Seconds for every further message of a copy.")
    message_bytes: float | None = Field(default=None, ge=1, description="Bytes of one message. Default: a copy is one contiguous message.")
    between_nodes: BetweenNodesSection | None = Field(
        default=None, description="Default: all instances reach each other over the link above."
    )
    kv_transfer: Literal["pull", "push", "push-layerwise"] = Field(
        default="pull",
        description="How KV gets from prefill to decode: the decode instance pulls it when it has memory; or its memory is reserved when "
        "the prefill starts and the KV pushed when it ends, or layer by layer while it runs.",
    )


class MigrationSection(Section):
    """How a decoding request moves to another instance while it decodes."""

    last_stage_blocks: int = Field(
        default=16, ge=1, le=MOST_BLOCKS, description="With so many KV blocks or fewer left, it stops and they are copied."
    )
    max_stages: int = Field(
        default=3, ge=1, le=MOST_BLOCKS, description="Copies after which a migration that does not catch up is given up."
    )


class ClusterSection(Section):
    """The instances and how requests reach them."""

    instances: list[InstanceSection] = Field(
        default_factory=lambda: [InstanceSection()], min_length=1, description="Groups of instances. Default: one instance on one device."
    )
    router: RouterSection = Field(default_factory=lambda: RouterSection(), description="Routing policy.")
    network: NetworkSection = Field(
        default_factory=lambda: NetworkSection(), description="How KV moves between instances (prefill to decode, migration)."
    )
    node_pools: list[NodePoolSection] = Field(
        default_factory=list, description="Nodes that instances stand on. Default: devices are there whenever an instance starts."
    )
    controllers: list[ControllerSection] = Field(default_factory=list, description="What acts on the cluster while it runs.")
    migration: MigrationSection = Field(default_factory=lambda: MigrationSection(), description="Live migration of decoding requests.")
    failures: FailuresSection | None = Field(default=None, description="Instances that die. Default: none do.")


if TYPE_CHECKING:

    class Targets(Section):
        """A key for each of `catalogue.TARGETS`, None where nothing is stated."""

else:
    Targets = create_model(
        "Targets",
        __base__=Section,
        __module__=__name__,
        __doc__="Latency targets. A request meets its SLO when it meets every target given.",
        **{
            target.name: (float | None, Field(default=None, gt=0, le=MOST_S, description=target.meaning))  # seconds
            for target in TARGETS
        },
    )


class SloSection(Targets):
    """Service-level objectives, for every request or by SLO class."""

    classes: dict[str, Targets] = Field(
        default_factory=dict, description="Targets of single SLO classes; what a class leaves out comes from the targets above."
    )

    def by_class(self, names: tuple[str, ...]) -> dict[str, dict[str, float]]:
        """Targets of each class in `names`, the general ones filled in; empty when nothing is stated."""
        general = self.model_dump(exclude={"classes"}, exclude_none=True)
        merged = {n: general | (self.classes[n].model_dump(exclude_none=True) if n in self.classes else {}) for n in names}
        return merged if any(merged.values()) else {}


FEWEST_DRAWS = 8
"""Fewer draws say nothing about a 5 % and a 95 % quantile."""


def check_draws(draws: int) -> None:
    """Raises ConfigError for a number of draws that gives no interval."""
    if draws < 0 or 0 < draws < FEWEST_DRAWS:
        raise ConfigError(f"intervals: found {draws}, expected 0 (none) or at least {FEWEST_DRAWS} draws")


class ExperimentSpec(Section):
    """An experiment: this traffic, on this model, on this hardware, under these policies."""

    name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]*$",
        max_length=120,
        description="Names the output directory. Default: the file's name.",
    )
    description: str = Field(default="", description="What the experiment shows, for people.")
    model: Annotated[Annotated[str, Tag("name")] | Annotated[ModelSection, Tag("mapping")], Discriminator(_name_or_mapping)] = Field(
        description="The model: a bundled name, a path to a Hugging Face config.json, or a mapping."
    )
    hardware: str = Field(description="A hardware profile (`simserve hardware`), or a path to a profile's YAML file.")
    engine: Annotated[Annotated[str, Tag("name")] | Annotated[EngineSection, Tag("mapping")], Discriminator(_name_or_mapping)] = Field(
        default="vllm-v1", description="The serving engine to imitate: a profile's name, or a mapping with the engine's own flags."
    )
    speculation: SpeculationSection | None = Field(
        default=None, description="Speculative decoding of every instance. Default: none (docs/speculation.md)."
    )
    cost: CostSection | None = Field(default=None, description="Where step times come from. Default: the hardware profile's kernel models.")
    cluster: ClusterSection = Field(default_factory=lambda: ClusterSection(), description="Instances and router.")
    probes: dict[str, ProbeSection] = Field(
        default_factory=dict, description="Numbers asked of the cost model of each variant, by name; no requests are then simulated."
    )
    workload: WorkloadConfig | None = Field(
        default=None, validate_default=True, description="The requests: a trace, or generated. Required unless there are probes."
    )
    slo: SloSection = Field(
        default_factory=lambda: SloSection(), description="Latency targets; goodput and attainment are reported against them."
    )
    prices: PricesSection | None = Field(
        default=None, description="What a device-hour costs. Default: list prices, where the devices have one (docs/planning.md)."
    )
    metrics: MetricsSection = Field(default_factory=lambda: MetricsSection(), description="Warm-up and cool-down.")
    output: OutputSection = Field(default_factory=lambda: OutputSection(), description="Optional output files.")
    fast_forward: StrictBool = Field(
        default=True, description="Advance over runs of equal steps at once. Off: step by step, same records, slower."
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="Seed of everything random.")
    intervals: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="Runs with steps as fast or slow as measured errors allow, for a band on every headline: 8 or more, 0 = none.",
    )
    until_s: float | None = Field(
        default=None, gt=0, le=MOST_S, description="Stop the simulation at this simulated time, seconds. Default: when all requests ended."
    )
    stream_above: int = Field(
        default=STREAM_ABOVE, ge=0, description="With more requests `simserve run` records in pieces (docs/scale.md)."
    )

    plan: PlanSection | None = Field(default=None, description="The deployments that `simserve plan` chooses from.")
    paper: PaperSection | None = Field(default=None, description="The paper whose claims the variants check.")
    variants: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Runs that differ from this experiment: name -> {dotted key: value}. `simserve run` then runs each of them.",
    )
    claims: tuple[ClaimSection, ...] = Field(default=(), description="Published figures to hold the variants against.")

    @field_validator("workload")
    @classmethod
    def _requests_or_probes(cls, value: WorkloadConfig | None, info: ValidationInfo) -> WorkloadConfig | None:
        if value is None and not info.data.get("probes"):
            raise ValueError("this key is required and missing")
        return value

    @field_validator("intervals")
    @classmethod
    def _enough_draws(cls, value: int) -> int:
        if 0 < value < FEWEST_DRAWS:
            raise ValueError(f"expected 0 (none) or at least {FEWEST_DRAWS} draws")
        return value

    @property
    def model_section(self) -> ModelSection:
        """`model` with the short form spelled out."""
        return ModelSection(name=self.model) if isinstance(self.model, str) else self.model

    @property
    def engine_section(self) -> EngineSection:
        """`engine` with the short form spelled out."""
        return EngineSection(name=self.engine) if isinstance(self.engine, str) else self.engine
