"""The parts of an installed SGLang that are driven, put together as its scheduler process does, for the versions that are known."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from simserve.validation.schedules.engines.sglang_absent import FALSE, MODEL_NONE, NONE, QUIET
from simserve.validation.schedules.engines.sglang_stubs import Nothing, stub
from simserve.validation.schedules.refusals import EngineUnavailable, Unsupported
from simserve.validation.schedules.workload import ScheduleRequest, ScheduleSettings


@dataclass(frozen=True, slots=True)
class Engine:
    """An importable SGLang."""

    version: str
    modules: SimpleNamespace
    argument_names: frozenset[str]

    def scheduler(self, arguments: dict[str, Any], settings: ScheduleSettings, run: Any) -> Any:
        """A scheduler with these server arguments, in whose place of the world `run` stands."""
        try:
            return _scheduler(self, arguments, settings, run)
        except (AttributeError, TypeError, ImportError, KeyError) as wrong:
            raise EngineUnavailable(
                f"SGLang {self.version}: its scheduler is put together otherwise: {type(wrong).__name__}: {wrong}"
            ) from wrong


@cache
def load() -> Engine:
    """Imports SGLang. Raises EngineUnavailable."""
    try:
        stub()
        sglang = importlib.import_module("sglang")
        names = {
            "scheduler": "sglang.srt.managers.scheduler",
            "batch": "sglang.srt.managers.schedule_batch",
            "policy": "sglang.srt.managers.schedule_policy",
            "arguments": "sglang.srt.server_args",
            "pool": "sglang.srt.mem_cache.memory_pool",
            "sampling": "sglang.srt.sampling.sampling_params",
            "spec": "sglang.srt.speculative.spec_info",
            "io": "sglang.srt.managers.io_struct",
            "disaggregation": "sglang.srt.disaggregation.utils",
        }
        modules = SimpleNamespace(**{name: importlib.import_module(path) for name, path in names.items()})
    except Exception as wrong:  # whatever a package's import may raise: the driver must say so, never pass
        raise EngineUnavailable(f"SGLang's scheduler cannot be imported here: {type(wrong).__name__}: {wrong}") from wrong
    known = frozenset(inspect.signature(modules.arguments.ServerArgs).parameters)
    return Engine(_version(sglang), modules, known)


def _version(sglang: Any) -> str:
    stated = getattr(sglang, "__version__", None)
    return str(stated) if isinstance(stated, str) else importlib.metadata.version("sglang")


def _scheduler(engine: Engine, arguments: dict[str, Any], settings: ScheduleSettings, run: Any) -> Any:
    modules = engine.modules
    stated = modules.arguments.ServerArgs(**arguments)
    _publish(stated)
    driven: Any = type("DrivenScheduler", (_Driven, modules.scheduler.Scheduler), {})
    one = driven.__new__(driven)
    one.run, one.parts = run, modules
    one.req_to_token_pool = modules.pool.ReqToTokenPool(
        size=settings.max_num_seqs, max_context_len=settings.max_model_len + 8, device="cpu", enable_memory_saver=False
    )
    one.token_to_kv_pool_allocator = _allocator(settings.kv_blocks * settings.block_tokens, settings.block_tokens)
    one.tree_cache = _tree(one, settings, stated)
    one.settle(stated, settings)
    return one


def _publish(stated: Any) -> None:
    """Newer versions read the server arguments from where a process publishes them, older ones from the scheduler."""
    try:
        context = importlib.import_module("sglang.srt.runtime_context")
    except ImportError:
        arguments = importlib.import_module("sglang.srt.server_args")
        if hasattr(arguments, "set_global_server_args_for_scheduler"):
            arguments.set_global_server_args_for_scheduler(stated)
        else:  # 0.5.1
            batches: Any = importlib.import_module("sglang.srt.managers.schedule_batch")
            batches.global_server_args_dict |= {name: getattr(stated, name) for name in batches.GLOBAL_SERVER_ARGS_KEYS}
            batches.global_server_args_dict["max_micro_batch_size"] = stated.max_running_requests
        return
    context.publish(stated, role="scheduler")
    context.get_parallel().override_permanently(tp_rank=0, pp_rank=0, attn_tp_rank=0, attn_cp_rank=0)


def _allocator(tokens: int, page: int) -> Any:
    import torch

    allocator = importlib.import_module("sglang.srt.mem_cache.allocator")
    if page > 1 and not hasattr(allocator, "alloc_extend_naive"):
        raise Unsupported("block_tokens", "this version's pages are handed out by a device kernel alone")
    if page == 1:
        return allocator.TokenToKVPoolAllocator(tokens, torch.bfloat16, "cpu", None, False)
    return allocator.PagedTokenToKVPoolAllocator(tokens, page, torch.bfloat16, "cpu", None, False)


def _tree(one: Any, settings: ScheduleSettings, stated: Any) -> Any:
    """The prefix tree that the version's server starts with for a model of full attention."""
    words = {
        "disable": not settings.prefix_caching,
        "req_to_token_pool": one.req_to_token_pool,
        "token_to_kv_pool_allocator": one.token_to_kv_pool_allocator,
        "page_size": settings.block_tokens,
    }
    if importlib.util.find_spec("sglang.srt.mem_cache.registry") is None:  # before 0.5.14 the scheduler chose itself
        chunks = not settings.prefix_caching and settings.chunked
        kind = importlib.import_module("sglang.srt.mem_cache.chunk_cache" if chunks else "sglang.srt.mem_cache.radix_cache")
        cache = kind.ChunkCache if chunks else kind.RadixCache
        if importlib.util.find_spec("sglang.srt.mem_cache.cache_init_params") is None:
            if chunks:
                del words["disable"]
            return cache(**words)
        return cache(importlib.import_module("sglang.srt.mem_cache.cache_init_params").CacheInitParams(**words))
    params = importlib.import_module("sglang.srt.mem_cache.cache_init_params").CacheInitParams(**words)
    registry = importlib.import_module("sglang.srt.mem_cache.registry")
    more = {"effective_chunked_prefill_size": stated.chunked_prefill_size if settings.chunked else None}
    known = inspect.signature(registry.TreeCacheBuildContext).parameters
    context = registry.TreeCacheBuildContext(
        **{name: value for name, value in more.items() if name in known},
        server_args=stated,
        params=params,
        is_hybrid_swa=False,
        is_hybrid_ssm=False,
        enable_hierarchical_cache=False,
        disable_radix_cache=not settings.prefix_caching,
        tp_worker=Nothing(),
        model_config=Nothing(),
        tp_size=1,
        tp_rank=0,
        tp_group=None,
    )
    return registry.create_tree_cache(context)


def stated_or(stated: Any, name: str, otherwise: Any = None) -> Any:
    """A server argument that older versions do not have."""
    return getattr(stated, name, otherwise)


class _Driven:
    """What a driven scheduler does in place of the engine's; all else is the engine's."""

    run: Any
    parts: SimpleNamespace
    forward_ct: int

    if TYPE_CHECKING:  # the rest of it is SGLang's Scheduler

        def __getattr__(self, name: str) -> Any: ...

    def settle(self, stated: Any, settings: ScheduleSettings) -> None:
        """The attributes that the scheduler's constructor would set."""
        modules = self.parts
        null = modules.disaggregation.DisaggregationMode.NULL
        values = {
            "server_args": stated,
            "model_config": SimpleNamespace(
                vocab_size=1 << 62,
                is_encoder_decoder=False,
                is_multimodal=False,
                num_key_value_heads=2,
                hf_eos_token_id={2},
                **dict.fromkeys(MODEL_NONE),
            ),
            "page_size": settings.block_tokens,
            "device": "cpu",
            "max_running_requests": settings.max_num_seqs,
            "max_total_num_tokens": settings.kv_blocks * settings.block_tokens,
            "max_prefill_tokens": stated.max_prefill_tokens,
            "max_queued_requests": stated_or(stated, "max_queued_requests"),
            "max_req_len": min(settings.max_model_len, settings.kv_blocks * settings.block_tokens) - 1,
            "schedule_policy": stated.schedule_policy,
            "enable_priority_scheduling": stated_or(stated, "enable_priority_scheduling", False),
            "schedule_low_priority_values_first": False,
            "abort_on_priority_when_disabled": False,
            "priority_scheduling_preemption_threshold": stated_or(stated, "priority_scheduling_preemption_threshold", 0),
            "enable_overlap": settings.async_scheduling,
            "enable_overlap_mlx": False,
            "spec_algorithm": modules.spec.SpeculativeAlgorithm.from_string(None),
            "disaggregation_mode": null,
            "is_generation": True,
            "waiting_queue": [],
            "running_batch": modules.batch.ScheduleBatch(reqs=[], batch_is_full=False),
            "last_batch": None,
            "cur_batch": None,
            "chunked_req": None,
            "processed_tokens_counter": 0,
            "kv_shard_widening": 1,
            "max_new_tokens_limit": None,
            "sliding_window_size": None,
            "truncation_align_size": None,
            "forward_ct": 0,
            "grammar_queue": [],
            "decode_mem_cache_buf_multiplier": 1,
            "num_generated_tokens": 0,
            "forward_ct_decode": 0,
            "total_retracted_reqs": 0,
            "attn_tp_rank": 0,
            "pp_size": 1,
            "enable_metrics": False,
            "current_scheduler_metrics_enabled": lambda: False,
            "tp_worker": SimpleNamespace(model_runner=SimpleNamespace(attn_backend=None, prefill_aware_swa=False, mambaish_config=None)),
        }
        values |= dict.fromkeys(FALSE, False) | dict.fromkeys(NONE, None)
        values |= {name: Nothing() for name in QUIET}
        for name, value in values.items():
            setattr(self, name, value)
        self.request_receiver = SimpleNamespace(recv_requests=self.recv_requests)
        self.dp_attn_adapter = SimpleNamespace(
            maybe_prepare_mlp_sync_batch=lambda batch, need_sync=None: batch, maybe_convert_decode_to_extend=lambda batch: batch
        )
        self.ngram_embedding_manager = SimpleNamespace(prepare_for_forward=lambda batch, chunked_req=None: batch)
        if hasattr(self, "init_chunked_prefill"):
            self.init_chunked_prefill()
        else:
            self.chunked_prefill_size = stated.chunked_prefill_size if settings.chunked else None
            self.is_mixed_chunk = settings.chunked and settings.mixed_chunk
        if hasattr(self, "init_schedule_policy"):
            self.init_schedule_policy()
        else:
            self._policy(stated)
        if hasattr(modules.scheduler, "SchedulerBatchResultProcessor"):
            self._results(null)

    def _policy(self, stated: Any) -> None:
        """The queue's order and the first ratio, as constructors of older versions set them."""
        policy = self.parts.policy.SchedulePolicy
        words = {
            "enable_priority_scheduling": stated_or(stated, "enable_priority_scheduling", False),
            "schedule_low_priority_values_first": False,
        }
        known = inspect.signature(policy).parameters
        self.policy = policy(
            stated.schedule_policy, self.tree_cache, False, **{name: value for name, value in words.items() if name in known}
        )
        self.try_preemption = words["enable_priority_scheduling"]
        try:
            envs = importlib.import_module("sglang.srt.environ").envs
            first, factor = envs.SGLANG_INIT_NEW_TOKEN_RATIO.get(), envs.SGLANG_MIN_NEW_TOKEN_RATIO_FACTOR.get()
            steps = envs.SGLANG_NEW_TOKEN_RATIO_DECAY_STEPS.get()
        except (ImportError, AttributeError):
            config = importlib.import_module("sglang.global_config").global_config
            first, factor = config.default_init_new_token_ratio, config.default_min_new_token_ratio_factor
            steps = config.default_new_token_ratio_decay_steps
        self.init_new_token_ratio = min(first * stated.schedule_conservativeness, 1.0)
        self.min_new_token_ratio = min(self.init_new_token_ratio * factor, 1.0)
        self.new_token_ratio_decay = (self.init_new_token_ratio - self.min_new_token_ratio) / steps
        self.new_token_ratio = self.init_new_token_ratio

    def _results(self, null: Any) -> None:
        """What handles the results of a batch."""
        coordinator = SimpleNamespace(pending_member_rows=lambda batch: 0, commit_decode=lambda batch: set(), retire_group=lambda req: None)
        self.beam_coordinator = coordinator
        self.batch_result_processor = self.parts.scheduler.SchedulerBatchResultProcessor(
            is_generation=True,
            disaggregation_mode=null,
            enable_overlap=self.enable_overlap,
            enable_overlap_mlx=False,
            model_config=self.model_config,
            token_to_kv_pool_allocator=self.token_to_kv_pool_allocator,
            tree_cache=self.tree_cache,
            hisparse_coordinator=None,
            req_to_token_pool=self.req_to_token_pool,
            decode_offload_manager=None,
            metrics_collector=Nothing(),
            metrics_reporter=Nothing(),
            draft_worker=None,
            model_worker=None,
            logprob_result_processor=Nothing(),
            output_streamer=Nothing(),
            beam_coordinator=coordinator,
            abort_request=self.abort_request,
        )

    # -- in place of the world ---------------------------------------------------------------------------------------------------------

    def ingest_requests(self, *arguments: Any, **keywords: Any) -> list[Any]:
        self.run.receive(self)
        return []

    def new_request(self, row: int, request: ScheduleRequest, tokens: Any) -> Any:
        sampling = self.parts.sampling.SamplingParams(max_new_tokens=request.most_output_tokens, temperature=0.0)
        sampling.normalize(None)
        words = {"eos_token_ids": {2}, "vocab_size": 1 << 62, "priority": -request.priority}
        known = inspect.signature(self.parts.batch.Req).parameters
        if not isinstance(tokens, list) and "max_new_tokens" not in known and not hasattr(self.parts.batch, "array"):
            tokens = list(tokens)  # before 0.5.15
        req = self.parts.batch.Req(str(row), "", tokens, sampling, **{name: value for name, value in words.items() if name in known})
        req.tokenizer = None
        if hasattr(self, "init_req_max_new_tokens"):
            self.init_req_max_new_tokens(req)
        else:  # 0.5.1: where a request is taken in
            sampling.max_new_tokens = min(sampling.max_new_tokens, self.max_req_len - request.prompt_tokens - 1)
        return req

    def enqueue(self, req: Any) -> None:
        self._add_request_to_queue(req)

    def _add_request_to_queue(self, req: Any, *arguments: Any, **keywords: Any) -> None:
        self.run.preempted(req)  # where it has run
        super()._add_request_to_queue(req, *arguments, **keywords)  # type: ignore[misc]

    def _extend_requests_to_queue(self, reqs: list[Any], *arguments: Any, **keywords: Any) -> None:
        for req in reqs:
            self.run.preempted(req)
        super()._extend_requests_to_queue(reqs, *arguments, **keywords)  # type: ignore[misc]

    def abort(self, rid: str) -> None:
        self.abort_request(self.parts.io.AbortReq(rid=rid))

    def collect_inflight_reqs(self) -> set[Any]:
        return set(self.running_batch.reqs) | set(self.last_batch.reqs if self.last_batch is not None else [])

    def run_batch(self, batch: Any, *arguments: Any, **keywords: Any) -> Any:
        """The forward pass: a token for every request."""
        import torch

        self.forward_ct += 1
        lengths = list(batch.extend_lens) if batch.forward_mode.is_extend() else [1] * len(batch.reqs)
        free = self.token_to_kv_pool_allocator.available_size() + self.tree_cache.evictable_size()
        produced, flight = self.run.start(batch, lengths, free)
        batch.output_ids = torch.tensor(produced, dtype=torch.int64)
        kind = self.parts.scheduler.GenerationBatchResult
        needed = [name for name, one in inspect.signature(kind).parameters.items() if one.default is one.empty]
        result = kind(**dict.fromkeys(needed) | {"next_token_ids": batch.output_ids})
        result.flight = flight
        return result

    def process_batch_result(self, batch: Any, result: Any, *arguments: Any, **keywords: Any) -> None:
        handler = getattr(self, "batch_result_processor", self)
        process = handler.process_batch_result_decode if batch.forward_mode.is_decode() else handler.process_batch_result_prefill
        self.run.done(batch, result.flight, lambda: process(batch, result))

    def on_idle(self, *arguments: Any, **keywords: Any) -> None:
        """As the engine's, less its reports: since 0.5.14 only a server without any request begins with the first ratio again."""
        if not hasattr(self, "new_token_ratio_tracker"):
            self.new_token_ratio = self.init_new_token_ratio
        elif not self.waiting_queue and self.running_batch.is_empty() and self.chunked_req is None:
            self.new_token_ratio_tracker.reset()
        self.run.idle(bool(self.waiting_queue))

    self_check_during_idle = on_idle

    def recv_requests(self, *arguments: Any, **keywords: Any) -> list[Any]:
        return self.ingest_requests()

    def process_input_requests(self, *arguments: Any, **keywords: Any) -> None: ...

    def stream_output(self, *arguments: Any, **keywords: Any) -> None: ...

    def publish_load_snapshot(self, *arguments: Any, **keywords: Any) -> None: ...

    def launch_batch_sample_if_needed(self, *arguments: Any, **keywords: Any) -> None: ...

    def _apply_war_barrier(self) -> None: ...

    def _prefetch_kvcache(self, req: Any) -> None: ...

    def send_abort_output(self, *arguments: Any, **keywords: Any) -> None: ...
