"""What stands for an installed vLLM where there is none: an engine core with the names that the driver asks for, which serves one request
at a time, a token a step."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any


@dataclass
class SchedulerConfig:
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    enable_chunked_prefill: bool
    policy: str
    long_prefill_token_threshold: int = 0


@dataclass
class CacheConfig:
    num_gpu_blocks_override: int
    enable_prefix_caching: bool


@dataclass
class ModelRunnerOutput:
    req_ids: list[str]
    sampled_token_ids: list[list[int]]


class EngineCoreRequest(SimpleNamespace):
    __struct_fields__ = ("request_id", "prompt_token_ids", "mm_inputs", "sampling_params", "arrival_time")
    __struct_defaults__ = ()


class Scheduler:
    """One at a time, first come first served."""

    def __init__(self) -> None:
        self.requests: dict[str, Any] = {}
        self.running: list[Any] = []
        self.kv_cache_manager = SimpleNamespace(block_pool=SimpleNamespace(get_num_free_blocks=lambda: 5))

    def has_requests(self) -> bool:
        return bool(self.requests)

    def schedule(self) -> Any:
        new = []
        if not self.running:
            request = next(iter(self.requests.values()))
            self.running = [request]
            new = [SimpleNamespace(req_id=request.request_id, num_computed_tokens=0)]
        request = self.running[0]
        known = SimpleNamespace(req_ids=[], resumed_req_ids=set(), num_computed_tokens=[], num_output_tokens=[])
        if not new:
            known.req_ids, known.num_computed_tokens, known.num_output_tokens = [request.request_id], [request.computed], [request.outputs]
        count = len(request.prompt_token_ids) + request.outputs - request.computed
        request.computed += count
        about = {"scheduled_new_reqs": new, "scheduled_cached_reqs": known, "scheduled_spec_decode_tokens": {}}
        return SimpleNamespace(num_scheduled_tokens={request.request_id: count}, total_num_scheduled_tokens=count, **about)

    def remove(self, name: str) -> None:
        del self.requests[name]
        self.running = [one for one in self.running if one.request_id != name]


class EngineCore:
    def __init__(self, config: Any, executor: Any, log_stats: bool) -> None:
        self.model_executor, self.scheduler, self.batch_queue = executor(config), Scheduler(), None
        self.specs = self.model_executor.get_kv_cache_specs()

    def add_request(self, request: Any) -> None:
        request.computed = request.outputs = 0
        self.scheduler.requests[request.request_id] = request

    def abort_requests(self, names: list[str]) -> None:
        for name in names:
            self.scheduler.remove(name)

    def step(self) -> Any:
        plan = self.scheduler.schedule()
        output = self.model_executor.execute_model(plan)
        found = []
        for name, tokens in zip(output.req_ids, output.sampled_token_ids, strict=True):
            request = self.scheduler.requests[name]
            request.outputs += len(tokens)
            ended = request.outputs == request.sampling_params.max_tokens or tokens[-1] in request.sampling_params.stop_token_ids
            if ended:
                self.scheduler.remove(name)
            found.append(SimpleNamespace(request_id=name, new_token_ids=tokens, finish_reason="stop" if ended else None))
        return SimpleNamespace(outputs=found)


def _spec(**fields: Any) -> type:
    return type("Spec", (SimpleNamespace,), {"__dataclass_fields__": fields})


def modules() -> dict[str, Any]:
    """By name, as far as the driver asks."""
    parallel = type("ParallelConfig", (SimpleNamespace,), {})
    config = SimpleNamespace(
        SchedulerConfig=SchedulerConfig,
        CacheConfig=CacheConfig,
        ModelConfig=lambda **given: SimpleNamespace(**given),
        DeviceConfig=parallel,
        ParallelConfig=parallel,
        VllmConfig=parallel,
    )
    spec = _spec(block_size=1, dtype=1, sliding_window=1)
    return {
        "torch": SimpleNamespace(float16="float16"),
        "vllm.config": config,
        "vllm.platforms": SimpleNamespace(current_platform=parallel()),
        "vllm.model_executor.models.registry": SimpleNamespace(),
        "vllm.v1.core.sched.scheduler": Scheduler,
        "vllm.v1.engine": SimpleNamespace(EngineCoreRequest=EngineCoreRequest),
        "vllm.v1.engine.core": SimpleNamespace(EngineCore=EngineCore),
        "vllm.v1.kv_cache_interface": SimpleNamespace(FullAttentionSpec=spec, SlidingWindowSpec=spec),
        "vllm.v1.outputs": SimpleNamespace(ModelRunnerOutput=ModelRunnerOutput),
        "vllm.sampling_params": SimpleNamespace(SamplingParams=type("SamplingParams", (SimpleNamespace,), {})),
    }
