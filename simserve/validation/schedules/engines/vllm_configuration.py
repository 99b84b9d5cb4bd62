"""A workload's settings in the words of vLLM's own configuration, whichever version is installed."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import logging
import os
import tempfile
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from simserve.validation.schedules.refusals import EngineUnavailable, Unsupported
from simserve.validation.schedules.workload import ScheduleSettings

MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 1 << 17,
    "vocab_size": 1 << 20,
    "rms_norm_eps": 1e-5,
    "torch_dtype": "float16",
}
"""A small model, of which only the configuration exists. Schedules depend on none of it."""

KV_HEADS, HEAD_DIM = 2, 32
"""Of the specs below: they only have to be equal."""

RULES = {
    "reserve_full_prompt": "scheduler_reserve_full_isl",
    "watermark": "watermark",
    "prefill_schedule_interval": "prefill_schedule_interval",
    "adaptive_threshold": "long_prefill_token_threshold_adaptive",
    "max_active_seqs": "max_num_active_seqs",
    "long_prefill_token_threshold": "long_prefill_token_threshold",
    "max_queued": "max_num_queued_reqs",
    "max_queued_tokens": "max_num_queued_tokens",
}
"""Settings that are fields of vLLM's SchedulerConfig where a version has them."""

NOT_VLLM = ("chunked_prefill_size", "max_prefill_tokens", "schedule_conservativeness", "mixed_chunk", "prefill_max_requests")
"""Settings of other engines."""


@functools.lru_cache(maxsize=64)
def installed_version(distribution: str) -> str:
    """Version of an installed distribution. Raises EngineUnavailable where there is none."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        raise EngineUnavailable(f"{distribution} is not installed where this Python runs") from None


@functools.lru_cache(maxsize=64)
def imported(name: str) -> ModuleType:
    """A module of the engine. Raises EngineUnavailable, naming what could not be imported."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_USE_V1", "1")
    os.environ.setdefault("VLLM_PLUGINS", "")  # none: those of platforms look for their device
    _torch_before_vllm()
    try:
        return importlib.import_module(name)
    except Exception as error:  # an engine's modules raise what they like when something is missing
        raise EngineUnavailable(f"{name} cannot be imported: {type(error).__name__}: {error}") from error


@functools.cache
def _torch_before_vllm() -> None:
    """vLLM 0.8 puts a placeholder named triton where torch's compiler looks for the real one, which newer torch does not survive; when it
    has looked before, it knows that there is none."""
    logging.getLogger("torch").setLevel(logging.ERROR)
    try:
        importlib.import_module("torch._inductor.compile_fx")
    except Exception as error:
        raise EngineUnavailable(f"torch cannot be imported: {type(error).__name__}: {error}") from error


@functools.cache
def _as_on_a_gpu() -> None:
    """Where no device is found, the platform is one that supports nothing: it answers as a GPU's does (vllm/platforms/cuda.py)."""
    platform = type(imported("vllm.platforms").current_platform)
    for question in ("support_hybrid_kv_cache", "is_async_output_supported"):
        setattr(platform, question, classmethod(lambda cls, *_: True))


def configuration(settings: ScheduleSettings, installed: str) -> Any:
    """vLLM's VllmConfig. Raises Unsupported for a setting that this version has no rule for."""
    config = imported("vllm.config")
    _as_on_a_gpu()
    fields = {one: getattr(config, one).__dataclass_fields__ for one in ("SchedulerConfig", "CacheConfig")}
    _refuse(settings, installed, fields["SchedulerConfig"])
    scheduler: dict[str, Any] = {
        "max_num_seqs": settings.max_num_seqs,
        "max_num_batched_tokens": settings.max_num_batched_tokens,
        "max_model_len": settings.max_model_len,
        "enable_chunked_prefill": settings.chunked,
        "policy": settings.order,
        "async_scheduling": settings.async_scheduling,
        "is_encoder_decoder": False,
    }
    stated = settings.stated()
    scheduler |= {field: stated[name] for name, field in RULES.items() if name in stated}
    if (
        "async_scheduling" in fields["SchedulerConfig"]
        and settings.async_scheduling
        and "get_scheduler_cls" not in dir(config.SchedulerConfig)
    ):
        # 0.11: the class is chosen where the arguments of the server are read (engine/arg_utils.py)
        scheduler["scheduler_cls"] = "vllm.v1.core.sched.async_scheduler.AsyncScheduler"
    elif "scheduler_cls" in fields["SchedulerConfig"] and fields["SchedulerConfig"]["scheduler_cls"].default is not None:
        scheduler["scheduler_cls"] = "vllm.v1.core.sched.scheduler.Scheduler"
    cache = {
        "block_size": settings.block_tokens,
        "gpu_memory_utilization": 0.9,
        "swap_space": 0,
        "cache_dtype": "auto",
        "num_gpu_blocks_override": settings.kv_blocks + 1,  # with the null block (v1/core/block_pool.py)
        "enable_prefix_caching": settings.prefix_caching,
    }
    given: dict[str, Any] = {
        "model_config": _model(settings.max_model_len),
        "scheduler_config": config.SchedulerConfig(**_there(scheduler, fields["SchedulerConfig"])),
        "cache_config": config.CacheConfig(**_there(cache, fields["CacheConfig"])),
        "device_config": config.DeviceConfig(device="cpu"),
    }
    if settings.pipeline_stages > 1:
        given["parallel_config"] = config.ParallelConfig(pipeline_parallel_size=settings.pipeline_stages, distributed_executor_backend="mp")
    if settings.speculation_tokens:
        given["speculative_config"] = _speculation(settings, given)
    return config.VllmConfig(**given)


def layer_specs(settings: ScheduleSettings) -> dict[str, Any]:
    """KV cache specs by layer: one layer a group, full attention or with a window."""
    kinds = imported("vllm.v1.kv_cache_interface")
    torch = imported("torch")
    found = {}
    for layer, window in enumerate(settings.kv_windows or (0,)):
        kind = kinds.SlidingWindowSpec if window else kinds.FullAttentionSpec
        given = {
            "block_size": settings.block_tokens,
            "num_kv_heads": KV_HEADS,
            "head_size": HEAD_DIM,
            "dtype": torch.float16,
            "use_mla": False,
        }
        if window:
            given["sliding_window"] = window
        found[f"layers.{layer}"] = kind(**_there(given, kind.__dataclass_fields__))
    return found


def _refuse(settings: ScheduleSettings, installed: str, fields: Any) -> None:
    stated = settings.stated()
    for name, field in RULES.items():
        if name in stated and field not in fields:
            raise Unsupported(name, f"vLLM {installed} has no '{field}'")
    for name in NOT_VLLM:
        if name in stated:
            raise Unsupported(name, "vLLM has no such setting")
    if settings.order not in ("fcfs", "priority"):
        raise Unsupported("order", f"vLLM has fcfs and priority, not '{settings.order}'")
    if settings.async_scheduling and "async_scheduling" not in fields:
        raise Unsupported("async_scheduling", f"vLLM {installed} has no asynchronous scheduling")
    if not settings.chunked and not _may_take_whole_prompts():
        raise Unsupported("chunked", f"vLLM {installed}'s V1 scheduler always cuts prompts")
    if settings.order == "priority" and not _has_priority():
        raise Unsupported("order", f"vLLM {installed}'s V1 scheduler has no priorities")


def _may_take_whole_prompts() -> bool:
    """Whether the scheduler looks at the setting at all: 0.8 turns it on whatever it is told (0.8.5: engine/arg_utils.py:1569)."""
    return "chunked_prefill" in inspect.getsource(imported("vllm.v1.core.sched.scheduler"))


def _has_priority() -> bool:
    return "priority" in imported("vllm.v1.engine").EngineCoreRequest.__struct_fields__


@functools.lru_cache(maxsize=64)
def _model(max_model_len: int) -> Any:
    model = imported("vllm.config").ModelConfig
    folder = _model_folder()
    given = {
        "model": folder,
        "tokenizer": folder,
        "task": "generate",
        "tokenizer_mode": "auto",
        "trust_remote_code": False,
        "skip_tokenizer_init": True,
        "dtype": "float16",
        "seed": 0,
        "max_model_len": max_model_len,
    }
    # a process of its own, in which torch would not know what `_torch_before_vllm` taught it, looks at the model's class otherwise
    registry: Any = imported("vllm.model_executor.models.registry")
    registry._run_in_subprocess = lambda inspected: inspected()
    parameters = inspect.signature(model).parameters
    if "runner" in parameters:  # from 0.9 on it says what `task` said
        del given["task"]
    return model(**_there(given, parameters))


@functools.cache
def _model_folder() -> str:
    folder = tempfile.mkdtemp(prefix="simserve-model-")
    (Path(folder) / "config.json").write_text(json.dumps(MODEL))
    return folder


def _speculation(settings: ScheduleSettings, given: dict[str, Any]) -> Any:
    if settings.speculation_method != "ngram":
        raise Unsupported("speculation_method", f"only ngram is driven, not '{settings.speculation_method}'")
    made = imported("vllm.config").SpeculativeConfig
    words = {
        "method": "ngram",
        "num_speculative_tokens": settings.speculation_tokens,
        "prompt_lookup_max": 3,
        "prompt_lookup_min": 1,
        "target_model_config": given["model_config"],
        "target_parallel_config": given.get("parallel_config") or imported("vllm.config").ParallelConfig(),
    }
    return made(**words)


def _there(given: dict[str, Any], fields: Any) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name in fields}
