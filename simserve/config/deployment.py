"""One model on one kind of instance: what everything that is known of a deployment before it runs follows from.

An experiment's instances, its probes, a replayed step and a measured run each state a `Deployment` in their own way and ask it the same
questions: seconds of a step, KV capacity, and the instance that the engine runs. Nothing else builds cost models or instances.
"""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from simserve.config.cost_models import CostChoice
from simserve.config.engine_jitter import step_jitter
from simserve.config.engine_profile import EngineProfile, RequestPathSection, host_speed, kernel_backend
from simserve.config.published_costs import Published
from simserve.config.schema import KvSection, NetworkSection
from simserve.config.shared_costs import Same, cost_of
from simserve.contracts import FCFS, CostModel, PolicyParams, QueueOrder, Scheduler, SchedulerParams
from simserve.cost.draft import Draft
from simserve.cost.host import DRAFT_PASS_S, VERIFICATION_S, HostOverheads
from simserve.cost.kv_groups import PoolLayout, WindowedLayers, keeps_windows, kv_groups, pool_layout
from simserve.cost.memory import DraftMemory, FractionOf, KVCapacity, kv_capacity
from simserve.cost.micro_batches import micro_batched
from simserve.cost.options import CostOptions
from simserve.cost.step import StepCost
from simserve.engine import InstanceSpec
from simserve.engine.jitter import StepJitter
from simserve.engine.kv_groups import KvGroups, KvWindow
from simserve.engine.spec import LinkSpec
from simserve.errors import ConfigError, ModelError
from simserve.hardware import HardwareProfile
from simserve.model import ModelArchitecture, Parallel, rank_kv_bytes_per_token

if TYPE_CHECKING:
    from simserve.cost.draft_weights import LoadedDraft

_GIB = 2**30
_ELEMENT_BYTES = 2.0


def host_overheads(engine: EngineProfile) -> HostOverheads:
    """The host's work and the CUDA graphs as an engine profile states them, on the hosts that its seconds stand for."""
    seconds = {"per_draft_pass_s": DRAFT_PASS_S, "per_verification_s": VERIFICATION_S} | engine.host.model_dump(exclude_none=True)
    return HostOverheads(**seconds, cuda_graph_sizes=tuple(engine.cuda_graph_sizes), graphs_hold=engine.cuda_graphs_hold)


@dataclass(frozen=True)
class Deployment:
    """A model replica: what it is made of. What follows from that is computed when first asked for, and kept.

    scheduler    what plans its steps; each instance gets a copy as it stands. None: only the cost of steps is asked for
    policy       the scheduler's name in results; its class's where empty
    engine       the serving engine imitated. None: hosts that cost nothing but their launches, no engine's kernels preferred
    kv           the KV cache; what is left out is 16-token blocks in 0.9 of the memory, without watermark
    options      a paper's changes to formats, layers and attention
    published    step times from published coefficients instead of kernel models
    cost_model   a package's cost model around these
    draft        what drafts the tokens that its decodes verify; None = nothing does
    max_model_len      longest sequence, tokens; None = the model's own limit

    What a run may state apart from all that:

    host               replaces the engine profile's host work and CUDA graphs, on the hosts that the profile's seconds stand for
    max_seqs           sequence slots; None = the scheduler's
    table_tokens       longest context that the cost tables cover, tokens; None = the longest sequence
    activation_tokens  tokens of the step that activations are charged for; None = the scheduler's largest
    activation_seqs    sampled rows of that step; None = the sequence slots
    kv_replicas        attention replicas whose KV caches count as one
    jitter_seed        of the draws by which steps vary, where the engine profile says how; None = they do not
    """

    model: ModelArchitecture
    hardware: HardwareProfile
    parallel: Parallel
    scheduler: Scheduler | None = None
    policy: str = ""
    order: QueueOrder = FCFS
    engine: EngineProfile | None = None
    kv: KvSection = field(default_factory=KvSection)
    options: CostOptions = field(default_factory=CostOptions)
    published: Published | None = None
    cost_model: CostChoice | None = None
    draft: Draft | None = None
    max_model_len: int | None = None
    host: HostOverheads | None = None
    max_seqs: int | None = None
    table_tokens: int | None = None
    activation_tokens: int | None = None
    activation_seqs: int | None = None
    kv_replicas: int = 1
    jitter_seed: int | None = None

    # ---- what it comes to ----

    @property
    def params(self) -> SchedulerParams:
        """The scheduler's parameters. Raises ConfigError where no scheduler is stated."""
        params: SchedulerParams = self._scheduler.params
        return params

    @property
    def slots(self) -> int:
        """Most requests that run at once."""
        return self.params.max_seqs if self.max_seqs is None else self.max_seqs

    @property
    def longest_tokens(self) -> int:
        """Longest sequence, tokens."""
        return self.max_model_len or self.model.max_position_embeddings

    @property
    def step_tokens(self) -> int | None:
        """The scheduler's token budget: its largest step, if that does not depend on the prompts; None = prompts run whole."""
        tokens = self.params.step_tokens(0)
        return tokens if tokens == self.params.step_tokens(10**9) else None

    @property
    def kv_element_bytes(self) -> float:
        """Bytes of a cached element, what the options leave out or share counted in."""
        return _ELEMENT_BYTES * self.options.cached_fraction(self.model)

    @property
    def block_tokens(self) -> int:
        """Tokens of a KV block."""
        return self.kv.block_tokens or 16

    @functools.cached_property
    def host_overheads(self) -> HostOverheads:
        """The host's work in a step, on the hosts that these devices come with."""
        if self.engine is None:
            return self.host or HostOverheads()
        return (self.host or host_overheads(self.engine)).on(host_speed(self.engine, self.hardware.name))

    @functools.cached_property
    def cost(self) -> CostModel:
        """Seconds of a step. It does not change while running, so instances share it.

        Raises ModelError for a layout that the model cannot take or operators without a kernel model.
        """
        return self._own_cost if self.cost_model is None else self.cost_model.around(self._own_cost)

    @functools.cached_property
    def _own_cost(self) -> CostModel:
        if self.published is not None:
            if self._drafts:
                raise ModelError(f"published step times ({self.published.name}) do not say what drafting and verification take")
            from simserve.cost.polynomial import PolynomialCost

            known, element = self.published, self.kv_element_bytes
            return PolynomialCost(self.model, self.hardware, self.parallel, known.coefficients, name=known.name, kv_dtype_bytes=element)
        backend = None if self.engine is None else kernel_backend(self.engine, self.hardware.name)
        # No kernel of latent attention in the profiles reads a quantised cache: there it only saves memory.
        read = self.options.model_copy(update={"kv_bits": None}) if self.model.mla else self.options
        length = self.table_tokens or self.longest_tokens
        shape = (self.model, Same(self.hardware), self.parallel, backend, length, self.kv_element_bytes, read, ())
        target = cost_of(shape, self.host_overheads)
        cost = target if self.draft is None or not self._drafts else self._drafting(target, self.draft, backend, length)
        return micro_batched(cost, self.options)

    def _drafting(self, target: StepCost, draft: Draft, backend: str | None, length: int) -> CostModel:
        from simserve.cost.drafting import DraftedCost, pass_host

        loaded = self.loaded_draft
        if loaded is None:
            return DraftedCost(target, draft, self.host_overheads)
        head = loaded.head
        element, options = self.kv_element_bytes, CostOptions()
        shape = (head.architecture, Same(self.hardware), loaded.parallel, backend, length, element, options, head.every_pass)
        return DraftedCost(target, draft, self.host_overheads, loaded, cost_of(shape, pass_host(self.host_overheads)))

    @property
    def _drafts(self) -> bool:
        return self.draft is not None and self.draft.steps > 0

    @functools.cached_property
    def loaded_draft(self) -> LoadedDraft | None:
        """The draft's layers in their layout; None where nothing drafts, or n-grams do. Raises ModelError like `load`."""
        if self.draft is None or not self._drafts:
            return None
        from simserve.cost.draft_weights import load

        return load(self.draft, self.model, self.parallel)

    @property
    def draft_kv_bytes_per_token(self) -> float:
        """Bytes that a cached token takes in the draft's layers, on one rank."""
        return 0.0 if self.loaded_draft is None else self.loaded_draft.kv_bytes_per_token(self.kv_element_bytes)

    def capacity(self, step_tokens: int | None = None, max_seqs: int | None = None) -> KVCapacity:
        """The KV cache that fits beside the weights and a step of so many tokens that samples so many rows (default: what activations are
        charged for), of one attention replica. Raises ModelError when not even a block does."""
        if step_tokens is None:
            step_tokens = self.params.step_tokens(self.longest_tokens) if self.activation_tokens is None else self.activation_tokens
        return kv_capacity(
            self.model,
            self.hardware,
            self.parallel,
            memory_utilisation=0.9 if self.kv.memory_utilisation is None else self.kv.memory_utilisation,
            fraction_of=self._fraction_of,
            block_tokens=self.block_tokens,
            max_batched_tokens=step_tokens,
            max_seqs=max_seqs or self.activation_seqs or self.slots,
            kv_dtype_bytes=self.kv_element_bytes,
            draft=self._draft_memory,
        )

    @property
    def _draft_memory(self) -> DraftMemory | None:
        loaded = self.loaded_draft
        if loaded is None:
            return None
        return DraftMemory(loaded.weight_bytes, self.draft_kv_bytes_per_token, loaded.head.architecture.name)

    @functools.cached_property
    def kv_layout(self) -> PoolLayout | None:
        """How the layers share the KV cache; None where all of them keep every token."""
        groups = kv_groups(self.model, self.parallel, self.kv_element_bytes, self.draft_kv_bytes_per_token)
        return pool_layout(groups, self._windowed_layers, self.block_tokens, self.params.step_tokens(self.longest_tokens))

    @functools.cached_property
    def kv_groups(self) -> KvGroups | None:
        """How many blocks a sequence holds; None where all layers keep every token."""
        layout = self.kv_layout
        return layout and KvGroups(layout.full, tuple(KvWindow(*window) for window in layout.windows), layout.state)

    def pool_blocks(self, capacity: KVCapacity) -> int:
        """KV blocks of an attention replica with such a capacity."""
        return capacity.blocks if self.kv_layout is None else capacity.blocks_of(self.kv_layout.block_bytes)

    def sequences_that_fit(self, capacity: KVCapacity, tokens: int) -> int:
        """Sequences that decode at once when each has so many tokens; where all layers keep every token, without rounding to blocks."""
        if self.kv_groups is None:
            return capacity.tokens // tokens
        return self.pool_blocks(capacity) // self.kv_groups.pool_blocks(-(-tokens // self.block_tokens), True)

    @functools.cached_property
    def kv_blocks(self) -> int:
        """KV blocks of an instance: as stated, else those that fit. Raises ModelError like `capacity`, and when no sequence fits."""
        if self.kv.blocks:
            return self.kv.blocks
        capacity = self.capacity()
        blocks, groups = self.pool_blocks(capacity), self.kv_groups
        if groups is not None and groups.longest_table(blocks) == 0:
            raise ModelError(
                f"model '{self.model.name}' on {self.hardware.name} with tp {self.parallel.tp}, pp {self.parallel.pp}: the"
                f" {capacity.kv_bytes / _GIB:.1f} GiB that are left for the KV cache do not hold the recurrent state and the first tokens"
                " of one sequence; more devices or a larger part of their memory would do"
            )
        return self.kv_replicas * blocks

    @property
    def host_kv_blocks(self) -> int:
        """Blocks of host memory for swapped KV."""
        memory_bytes = (self.kv.host_memory_gib or 0.0) * _GIB
        if self.kv_layout is not None:
            return int(memory_bytes // self.kv_layout.block_bytes)
        per_token = rank_kv_bytes_per_token(self.model, self.parallel, self.kv_element_bytes) + self.draft_kv_bytes_per_token
        return int(memory_bytes / per_token // self.block_tokens)

    def link(self, network: NetworkSection) -> LinkSpec:
        """How KV leaves an instance: as the experiment says, else through the devices' scale-up link, else through the host."""
        default = self.hardware.device.scale_up or self.hardware.device.host
        every_token: float = self.model.kv_bytes_per_token(self.kv_element_bytes)
        windows: tuple[tuple[int, float], ...] = ()
        groups = kv_groups(self.model, Parallel(), self.kv_element_bytes)
        if keeps_windows(groups, self._windowed_layers):
            windows = tuple((group.window_tokens, group.bytes_per_token) for group in groups if group.kind == "window")
            every_token -= sum(per_token for _, per_token in windows)
        if self.loaded_draft is not None:
            every_token += self.loaded_draft.head.architecture.kv_bytes_per_token(self.kv_element_bytes)
        return LinkSpec(
            bytes_per_s=network.bytes_per_s if network.bytes_per_s is not None else default.bytes_per_s,
            latency_s=network.latency_s if network.latency_s is not None else default.latency_s,
            kv_bytes_per_token=float(every_token),
            per_message_s=network.per_message_s,
            message_bytes=network.message_bytes,
            layers=self.model.num_layers,
            windows=windows,
            state_bytes=float(self.model.recurrent_state_bytes()),
        )

    def instance_spec(self, name: str, cost: CostModel | None = None, **place: Any) -> InstanceSpec:
        """One instance, with a scheduler of its own: policies keep state.

        cost   seconds of its steps, where they are not those of this deployment
        place  where it stands in a cluster: `role`, `link`, `node`, `uplink`, `starts`, `boot_s` of InstanceSpec
        Raises ModelError like `cost` and `capacity`.
        """
        scheduler = self._scheduler
        watermark_always = self.kv.watermark_rule != "beside-running"
        path = RequestPathSection() if self.engine is None else self.engine.request_path
        return InstanceSpec(
            name=name,
            scheduler=own(scheduler),
            cost=self.cost if cost is None else cost,
            kv_blocks=self.kv_blocks,
            block_tokens=self.block_tokens,
            max_seqs=self.slots,
            # As vLLM rounds it: a fraction of a block is nothing. Since 0.24 the null block counts (v1/core/kv_cache_manager.py line 163).
            watermark_blocks=int((self.kv.watermark or 0.0) * (self.kv_blocks + (not watermark_always))),
            watermark_always=watermark_always,
            max_model_len=self.longest_tokens,
            devices=self.parallel.devices,
            preemption=self.kv.preemption or "recompute",
            host_kv_blocks=self.host_kv_blocks,
            order=self.order,
            prefix_caching=bool(self.kv.prefix_caching) and (self.kv_groups is None or self.kv_groups.full > 0),
            prefix_match=self.kv.prefix_match or "block",
            eviction=self.kv.eviction or "contents-last",
            request_s=path.per_request_s,
            request_per_prompt_token_s=path.per_prompt_token_s,
            api_servers=path.api_servers,
            request_per_output_token_s=path.per_output_token_s,
            request_delay_s=path.delay_s,
            steps_ahead=path.steps_ahead,
            ends_late=self.engine is not None and self.engine.ends_late and path.steps_ahead > 0,
            policy=self.policy or type(scheduler).__name__,
            kv_groups=self.kv_groups,
            jitter=self._jitter,
            **place,
        )

    @property
    def _jitter(self) -> StepJitter | None:
        if self.published or self.engine is None:
            return None
        return step_jitter(self.engine.jitter, self.host_overheads, self.jitter_seed)

    def notes(self) -> tuple[str, ...]:
        """Where it is not what the engine would have: devices that the engine does not run on, memory."""
        if self.engine is None:
            return ()
        notes, groups = self.engine.foreign_to(self.hardware.name, self.hardware.device.vendor), self.kv_groups
        if groups is not None and not groups.full and self.kv.prefix_caching:
            notes.append(f"All attention layers of {self.model.name} have a window: its prefix cache is not simulated.")
        bits = self.options.kv_bits
        if self.model.mla and bits:
            stored = f"The cache of {self.model.name} is stored in {bits:g} bits an element"
            notes.append(f"{stored}; its latent attention is timed as reading 16.")
        return tuple(notes)

    @property
    def _scheduler(self) -> Scheduler:
        if self.scheduler is None:
            raise ConfigError(f"{self.model.name}: a deployment without a scheduler has step times, but no capacity and no instances")
        return self.scheduler

    @property
    def _windowed_layers(self) -> WindowedLayers:
        return "full" if self.engine is None else self.engine.memory.windowed_layers

    @property
    def _fraction_of(self) -> FractionOf:
        return "device" if self.engine is None else self.engine.memory.fraction_of


def own(scheduler: Scheduler) -> Scheduler:
    """A scheduler of an instance's own: policies keep state. Parameters, which cannot be changed, are shared. Raises ConfigError for one
    that cannot be copied."""
    params = getattr(scheduler, "params", None)
    known = {id(params): params} if isinstance(params, PolicyParams) else {}
    try:
        return copy.deepcopy(scheduler, known)
    except Exception as problem:  # a policy may hold anything
        name, what = type(scheduler).__name__, f"{type(problem).__name__}: {problem}"
        raise ConfigError(f"scheduler {name}: each instance needs its own, and this one cannot be copied: {what}") from problem
