"""What the engine needs to know of an instance."""

from __future__ import annotations

import math
from dataclasses import dataclass

from simserve.contracts import FCFS, VERIFY, Acceptance, Controller, CostModel, LoadSource, QueueOrder, Router, Scheduler, Speculation
from simserve.engine.jitter import StepJitter
from simserve.engine.kv_groups import NO_LIMIT, KvGroups
from simserve.engine.provisioning import NodePoolSpec, Stage
from simserve.errors import ConfigError, nearest

ROLES = ("mixed", "prefill", "decode")
EVICTIONS = ("contents-last", "freed-first", "empty-first", "radix")
PREFIX_MATCHES = ("block", "token")
FAILURE_RULES = ("resume", "retry", "fail")


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """How KV leaves an instance for another one.

    bytes_per_s         one way, shared by the copies in flight
    latency_s           before the first byte
    per_message_s       for every further message of a copy
    message_bytes       bytes of one message; None = a copy is one contiguous message
    kv_bytes_per_token  KV of one token in all layers that keep every token, all ranks together
    layers              of the model
    windows             (tokens, bytes of one token) of layers that keep a window only
    state_bytes         recurrent state of a sequence
    """

    bytes_per_s: float
    latency_s: float
    kv_bytes_per_token: float
    per_message_s: float = 0.0
    message_bytes: float | None = None
    layers: int = 1
    windows: tuple[tuple[int, float], ...] = ()
    state_bytes: float = 0.0

    def beside_bytes(self, tokens: int) -> float:
        """Bytes of the windows and the recurrent state of a sequence of so many tokens."""
        return sum((min(tokens, window) * per_token for window, per_token in self.windows), self.state_bytes)

    def messages(self, size_bytes: float) -> int:
        """Messages that a copy of so many bytes takes."""
        return 1 if self.message_bytes is None else max(1, math.ceil(size_bytes / self.message_bytes))


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """One model replica.

    role              "mixed" serves whole requests; "prefill" serves them up to the first token; "decode" from then on
    link              how KV leaves it for an instance of the same node; needed by a prefill instance and to migrate
    node              number of the node it stands in
    uplink            how KV leaves the node, shared by all instances of the node; None = through `link`
    starts            whether it serves from the beginning; otherwise a controller may start it
    boot_s            from the order to start until it serves: booting, loading weights; with node pools, from when it has its devices
                      and their nodes the image
    stages            what `boot_s` is the sum of, for the scaling log; () = one stage
    pool              number of the node pool that it stands on, where there are any

    scheduler         the policy object (one per instance: policies may keep state)
    cost              seconds of its steps
    kv_blocks         KV blocks of `block_tokens` tokens each, all ranks together holding one copy
    kv_groups         how many of them a sequence takes where layers keep different tokens; None = all layers keep every token
    max_seqs          most requests that run at once (per micro-batch with pipeline parallelism)
    watermark_blocks  free blocks an admission must leave
    watermark_always  it must also where no request runs; False: then it may take them all
    max_model_len     longest prompt + output in tokens; None = as far as the KV cache reaches
    devices           accelerators it occupies
    preemption        "recompute" forgets a victim's KV, "swap" copies it to `host_kv_blocks` blocks of host memory while there is room
    prefix_caching    keep the KV of prompts and reuse it for equal prefixes (needs a workload that tells prompts' contents)
    prefix_match      with `prefix_caching`, "block" reuses whole runs of the contents that the workload tells, "token" matches of any
                      length, the block at their end by a copy (TokenPrefixCache)
    eviction          with `prefix_caching`, which free blocks are taken first: "contents-last" (those without contents, then contents least
                      recently used), "freed-first" (in the order in which they were freed; vLLM V1), "empty-first" (the same, but freed
                      blocks without contents come before the others; vLLM since 0.24), "radix" (leaves of a tree of sequences, least
                      recently used first; SGLang: RadixContents). The second and third go block by block (BlockContents);
                      with windows, or with `prefix_match` "token", they are as the first
    caches_outputs    with `prefix_caching`, keep the KV of generated tokens too, where the workload tells what they are (`content_ids`)
    request_s, request_per_prompt_token_s  time between a request's release and the scheduler's seeing it (HTTP, tokenising), seconds;
                      the devices do not wait for it
    api_servers       processes that do this work, one request after the other; 0 = as many as there are requests, which is a delay
    request_delay_s   time on the way in which none of them works (network, waits between processes)
    request_per_output_token_s  work of these processes for each token sent to a client, seconds
    steps_ahead       steps that are scheduled already, beyond the one in progress, when a request arrives: it is seen after them
                      (asynchronous scheduling; an instance without other work sees it at once; no effect with pipeline stages)
    ends_late         the plan that is made when a request ends does not know of it: the request keeps its sequence slot and its KV
                      blocks in that plan (asynchronous scheduling; as `steps_ahead`)
    order             queue discipline
    loads             what requests may have to wait for between having memory and being admitted
    speculation       how decoding requests speculate, whatever the scheduler; None = they do not
    acceptance        how many drafted tokens the model accepts, for policies that say themselves which requests verify any; None = as
                      `speculation` says, or they may not
    jitter            how its steps vary; None = they take what `cost` says
    """

    name: str
    scheduler: Scheduler
    cost: CostModel
    kv_blocks: int
    block_tokens: int = 16
    max_seqs: int = 128
    watermark_blocks: int = 0
    watermark_always: bool = True
    max_model_len: int | None = None
    devices: int = 1
    preemption: str = "recompute"
    host_kv_blocks: int = 0
    order: QueueOrder = FCFS
    acceptance: Acceptance | None = None
    loads: tuple[LoadSource, ...] = ()
    prefix_caching: bool = False
    prefix_match: str = "block"
    eviction: str = "contents-last"
    caches_outputs: bool = True
    request_s: float = 0.0
    request_per_prompt_token_s: float = 0.0
    api_servers: int = 0
    request_per_output_token_s: float = 0.0
    request_delay_s: float = 0.0
    steps_ahead: int = 0
    ends_late: bool = False
    policy: str = ""
    role: str = "mixed"
    link: LinkSpec | None = None
    node: int = 0
    uplink: LinkSpec | None = None
    starts: bool = True
    boot_s: float = 0.0
    stages: tuple[Stage, ...] = ()
    pool: int = 0
    kv_groups: KvGroups | None = None
    speculation: Speculation | None = None
    jitter: StepJitter | None = None

    def __post_init__(self) -> None:
        for name in ("kv_blocks", "block_tokens", "max_seqs", "devices"):
            if getattr(self, name) < 1:
                raise ConfigError(f"instance '{self.name}': {name} must be at least 1, found {getattr(self, name)}")
        if not 0 <= self.watermark_blocks < self.kv_blocks:
            raise ConfigError(f"instance '{self.name}': watermark_blocks must be in [0, kv_blocks), found {self.watermark_blocks}")
        if self.preemption not in ("recompute", "swap"):
            raise ConfigError(f"instance '{self.name}': preemption must be 'recompute' or 'swap', found '{self.preemption}'")
        if self.prefix_match not in PREFIX_MATCHES:
            wrong = f"unknown prefix_match '{self.prefix_match}'{nearest(self.prefix_match, PREFIX_MATCHES)}"
            raise ConfigError(f"instance '{self.name}': {wrong}")
        if self.eviction not in EVICTIONS:
            wrong = f"unknown eviction '{self.eviction}'{nearest(self.eviction, EVICTIONS)}"
            raise ConfigError(f"instance '{self.name}': {wrong}")
        if self.prefix_caching and self.kv_groups is not None and not self.kv_groups.full:
            raise ConfigError(f"instance '{self.name}': prefix caching needs layers that keep every token, and all layers have a window")
        if self.speculation is not None and VERIFY not in self.cost.slice_kinds:
            name = type(self.cost).__name__
            raise ConfigError(
                f"instance '{self.name}': it speculates, and its cost model '{name}' does not price drafted tokens (slices of kind "
                f"'{VERIFY}')"
            )
        if self.api_servers < 0:
            raise ConfigError(f"instance '{self.name}': api_servers must be at least 0, found {self.api_servers}")
        if self.stages and not math.isclose(self.boot_s, sum(stage.seconds for stage in self.stages), rel_tol=1e-9, abs_tol=1e-9):
            raise ConfigError(f"instance '{self.name}': boot_s must be the sum of its stages, found {self.boot_s}")
        if not self.boot_s >= 0:
            raise ConfigError(f"instance '{self.name}': boot_s must be at least 0, found {self.boot_s}")
        if self.role not in ROLES:
            raise ConfigError(f"instance '{self.name}': unknown role '{self.role}'{nearest(self.role, ROLES)}")
        if self.role == "prefill" and self.link is None:
            raise ConfigError(f"instance '{self.name}': a prefill instance needs a link to hand its requests over")

    @property
    def accepts(self) -> Acceptance | None:
        """How many drafted tokens the model accepts."""
        return self.speculation if self.acceptance is None else self.acceptance

    @property
    def policy_name(self) -> str:
        """The name used in messages and results."""
        return self.policy or type(self.scheduler).__name__

    @property
    def limit_tokens(self) -> int:
        """Longest prompt + output a request may reach: the model's length or what the KV cache above the watermark holds."""
        room = self.kv_blocks - (self.watermark_blocks if self.watermark_always else 0)
        blocks: int | None = room if self.kv_groups is None else self.kv_groups.longest_table(room)
        fits = NO_LIMIT if blocks is None else blocks * self.block_tokens
        return fits if self.max_model_len is None else min(self.max_model_len, fits)


@dataclass(frozen=True, slots=True)
class Failures:
    """Instances that die while they run, with all the KV they hold.

    times      (seconds, instance number) of each stated failure
    mtbf_s     mean time between the failures of one instance, exponentially distributed, counted while it serves; None = only `times`
    restart_s  from a failure until the instance serves again
    rule       what becomes of its requests: "resume" goes on elsewhere, keeping the tokens sent and computing their KV again; "retry"
               starts from the beginning; "fail" ends them
    seed       of the random times
    """

    times: tuple[tuple[float, int], ...] = ()
    mtbf_s: float | None = None
    restart_s: float = 60.0
    rule: str = "resume"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rule not in FAILURE_RULES:
            raise ConfigError(f"failures: unknown rule '{self.rule}'{nearest(self.rule, FAILURE_RULES)}")
        if (self.mtbf_s is not None and not self.mtbf_s > 0) or not self.restart_s >= 0 or any(not at_s >= 0 for at_s, _ in self.times):
            raise ConfigError("failures: times and restart_s must be at least 0, mtbf_s above 0")


@dataclass(frozen=True, slots=True)
class MigrationSpec:
    """How a decoding request moves to another instance (Llumnix, arXiv 2406.03243; defaults of its public code).

    last_stage_blocks  with this many blocks or fewer left to copy, the request stops and the rest is copied
    max_stages         stages after which a copy that does not catch up is given up
    """

    last_stage_blocks: int = 16
    max_stages: int = 3


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """What the instances are run with together.

    router, decode_router  for arrivals, and for requests that have been prefilled; None where there is only one to choose
    refresh_s    how old the signals that routers see may get; 0 = always of the moment
    push         KV transfer: memory at the decode instance is reserved when the prefill starts, so that the copy need not wait for it.
                 False: the decode instance pulls when it has memory
    layerwise    with `push`: the KV of each layer leaves as soon as it is computed
    controllers  act on the cluster on their timers
    node_pools   the nodes that instances stand on; () = devices are there when an instance wants them
    """

    router: Router | None = None
    decode_router: Router | None = None
    refresh_s: float = 0.0
    push: bool = False
    layerwise: bool = False
    controllers: tuple[Controller, ...] = ()
    failures: Failures | None = None
    migration: MigrationSpec = MigrationSpec()
    node_pools: tuple[NodePoolSpec, ...] = ()

    def __post_init__(self) -> None:
        if not self.refresh_s >= 0:
            raise ConfigError(f"the router's refresh_s must be at least 0, found {self.refresh_s}")
        if self.layerwise and not self.push:
            raise ConfigError("a layer-wise KV transfer needs push: the decode instance's memory must be there before the prefill ends")
