"""What a wrong word was meant to say: the same thing under another name, a thing of which there are several, or one that is not modelled.

Names of other tools are public (vLLM's, SGLang's and TensorRT-LLM's flags, load generators' options). Spelling is the last resort
(`errors.similar`): a near name that means something else leads astray.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from simserve.errors import did_you_mean, listed, similar

PAGE = "docs/fidelity.md, Mechanisms"

ABSENT: dict[str, tuple[str, ...]] = {
    "LoRA adapters": ("lora", "loras", "qlora", "adapter", "adapters"),
    "Medusa heads, lookahead and suffix decoding": ("medusa", "lookahead", "suffix"),
    "beam search": ("beam", "beams"),
    "parallel sampling": ("best_of", "num_return_sequences", "n_samples"),
    "sampling parameters": ("temperature", "top_p", "top_k", "min_p", "logprobs", "repetition_penalty", "presence_penalty"),
    "guided decoding": ("guided", "grammar", "structured", "outlines", "xgrammar"),
    "a host or disk tier of the KV cache": (
        "offload",
        "offloading",
        "lmcache",
        "mooncake_store",
        "hicache",
        "hierarchical",
        "nixl",
        "kvbm",
    ),
    "images, audio and video": ("image", "images", "multimodal", "mm", "vision", "video", "videos", "audio"),
    "clients that give up or try again": ("timeout", "timeout_s", "timeouts", "retries", "patience", "abandon", "deadline_s"),
    "context parallelism": ("context_parallel", "context_parallel_size", "cp_size", "dcp", "ring_attention", "sequence_parallel"),
}
"""Feature, as the page names it -> words of keys that ask for it. A word with '_' is a whole key; another is a part of one."""

KEYS: dict[str, tuple[str, ...]] = {
    "model": ("model_name", "model_path", "model_id", "hf_model", "checkpoint", "served_model_name"),
    "model.quantisation": ("quantization", "quantisation", "weight_dtype", "weights", "quant"),
    "model.options.kv_bits": ("kv_cache_dtype", "kv_dtype", "kv_bits", "kv_quantization"),
    "hardware": ("gpu", "gpus", "gpu_type", "gpu_name", "device", "devices", "device_type", "accelerator", "accelerators", "sku"),
    "engine": ("backend", "framework", "serving_engine", "inference_engine", "runtime"),
    "engine.name": ("profile",),
    "cluster.instances.0.parallel.tp": ("tp", "tensor_parallel_size", "tensor_parallel", "tp_size", "tensor_model_parallel_size"),
    "cluster.instances.0.parallel.pp": ("pp", "pipeline_parallel_size", "pipeline_parallel", "pp_size"),
    "cluster.instances.0.parallel.dp": ("dp", "data_parallel_size", "data_parallel", "dp_size"),
    "cluster.instances.0.parallel.ep": ("ep", "expert_parallel_size", "expert_parallel", "ep_size"),
    "cluster.instances.0.parallel": ("num_gpus", "n_gpus", "gpus_per_instance", "num_devices", "parallelism"),
    "cluster.instances.0.count": (
        "replicas",
        "num_replicas",
        "n_replicas",
        "num_instances",
        "instances",
        "nodes",
        "workers",
        "num_workers",
    ),
    "cluster.instances": ("instance", "pools", "pool"),
    "cluster.instances.0.scheduler.policy": ("scheduler", "scheduling_policy", "scheduling", "policy"),
    "cluster.instances.0.scheduler.max_seqs": ("max_num_seqs", "max_batch_size", "max_running_requests", "batch_size", "max_batch"),
    "cluster.instances.0.order": ("order", "queue", "queue_policy", "schedule_policy", "priority_policy"),
    "cluster.instances.0.max_model_len": ("max_model_len", "max_seq_len", "context_length", "max_context", "max_sequence_length"),
    "cluster.instances.0.kv.memory_utilisation": (
        *("gpu_memory_utilization", "memory_utilization", "mem_fraction_static", "free_gpu_memory_fraction", "gpu_memory"),
        "kv_cache_free_gpu_mem_fraction",
    ),
    "cluster.instances.0.kv.block_tokens": ("block_size", "page_size", "tokens_per_block", "kv_block_size"),
    "cluster.instances.0.kv.blocks": ("num_gpu_blocks_override", "num_gpu_blocks", "num_blocks", "kv_blocks", "max_total_tokens"),
    "cluster.instances.0.kv.prefix_caching": (
        "enable_prefix_caching",
        "prefix_caching",
        "prefix_cache",
        "radix_cache",
        "enable_block_reuse",
    ),
    "cluster.instances.0.kv.host_memory_gib": ("swap_space", "cpu_swap", "swap_gib", "host_memory"),
    "speculation": ("speculative", "speculative_decoding", "spec_decode", "spec_decoding", "spec", "speculative_config", "speculator"),
    "speculation.method": (
        "speculative_method",
        "speculative_algorithm",
        "speculative_algo",
        "decoding_type",
        "eagle",
        "eagle3",
        "mtp",
        "ngram",
    ),
    "speculation.draft": ("draft_model", "speculative_model", "speculative_draft_model_path", "draft_model_path", "assistant_model"),
    "speculation.tokens": (
        *("num_speculative_tokens", "speculative_num_steps", "max_draft_len", "draft_len", "num_draft_tokens", "draft_tokens", "draft_max"),
        *("speculative_tokens", "num_steps", "spec_len"),
    ),
    "speculation.top_k": ("speculative_eagle_topk", "eagle_topk", "topk", "dynamic_tree_max_topk"),
    "speculation.verify_tokens": ("speculative_num_draft_tokens", "max_total_draft_tokens"),
    "speculation.acceptance": ("acceptance_rate", "accept_rate", "acceptance_rates", "accept_length", "acceptance_length"),
    "speculation.by_batch": (
        *("speculative_disable_by_batch_size", "num_speculative_tokens_per_batch_size", "draft_len_schedule", "disable_by_batch_size"),
    ),
    "cluster.router.policy": ("router", "routing", "routing_policy", "load_balancer", "lb_policy"),
    "cluster.controllers": ("controller", "autoscaler", "autoscaling", "scaling", "rebalancing"),
    "cluster.network.bytes_per_s": ("bandwidth", "network_bandwidth", "link_bandwidth"),
    "cluster.failures": ("failure", "faults", "mtbf"),
    "workload": ("load", "traffic", "requests", "benchmark"),
    "workload.trace.path": ("trace_file", "trace_path", "dataset", "dataset_path", "file", "filename"),
    "workload.trace.rate_scale": ("speedup", "time_scale", "scale", "rate_multiplier"),
    "workload.arrivals.rate_per_s": (
        "rps",
        "qps",
        "request_rate",
        "req_rate",
        "rate",
        "requests_per_s",
        "requests_per_second",
        "arrival_rate",
    ),
    "workload.arrivals.cv": ("burstiness", "cv2", "burst"),
    "workload.arrivals": ("arrival", "arrival_process"),
    "workload.count": ("num_prompts", "num_requests", "n_requests", "num_samples", "total_requests", "max_requests", "prompts"),
    "workload.max_concurrency": ("concurrency_limit", "max_concurrency"),
    "workload.closed_loop.concurrency": ("concurrency", "clients", "num_clients", "users", "num_users"),
    "workload.closed_loop.think_s": ("think_time", "think_time_s"),
    "workload.lengths.prompt": ("input_len", "random_input_len", "prompt_len", "isl", "input_tokens", "prompt_tokens", "input_length"),
    "workload.lengths.output": ("output_len", "random_output_len", "osl", "output_tokens", "output_length", "max_new_tokens"),
    "workload.max_output_tokens": ("max_tokens", "max_completion_tokens"),
    "slo": ("slos", "sla", "targets", "objectives", "goodput"),
    "slo.ttft_s": ("ttft", "ttft_ms", "time_to_first_token"),
    "slo.tpot_s": ("tpot", "tpot_ms", "time_per_output_token"),
    "slo.itl_p99_s": ("itl", "itl_ms", "tbt", "tbt_s", "inter_token_latency"),
    "slo.e2e_s": ("e2e", "e2e_ms", "e2el", "latency", "latency_s", "latency_ms"),
    "prices": ("price", "pricing", "cost_per_token", "cost_usd", "money"),
    "prices.usd_per_hour": ("usd", "dollar", "dollars", "cost_per_hour", "hourly", "price_per_hour", "usd_per_gpu_hour"),
    "prices.gco2_per_kwh": ("carbon", "carbon_intensity", "grid_intensity", "co2", "gco2"),
    "metrics.warmup_s": ("warmup", "warm_up", "warmup_time", "warmup_seconds"),
    "metrics.cooldown_s": ("cooldown", "cool_down"),
    "until_s": ("until", "max_time", "max_time_s", "time_limit", "sim_time", "simulation_time", "end_s", "stop_s"),
    "seed": ("random_seed", "rng_seed"),
    "output": ("outputs", "out", "output_dir"),
    "intervals": ("confidence", "error_bars"),
}
"""Key of an experiment -> what others call it."""

ENGINES: dict[str, str] = {
    "vllm": "vllm-v1",
    "vllmv1": "vllm-v1",
    "trtllm": "tensorrt-llm",
    "tensorrt": "tensorrt-llm",
    "trt": "tensorrt-llm",
    "nim": "tensorrt-llm",
    "ft": "fastertransformer",
    "fastgen": "deepspeed-fastgen",
    "deepspeed": "deepspeed-fastgen",
    "deepspeedmii": "deepspeed-fastgen",
    "mii": "deepspeed-fastgen",
    "sarathi": "sarathi-serve",
    "llamacpp": "llama.cpp",
    "ollama": "llama.cpp",
    "ggml": "llama.cpp",
}
"""Other names of engines, letters and digits only -> the beginning of ours."""

_UNITS = {"ms": "milliseconds", "us": "microseconds", "min": "minutes", "minutes": "minutes", "hours": "hours", "h": "hours"}


def absent(word: str) -> str:
    """The known feature that a word asks for and that is not modelled; '' for other words."""
    key = _snake(word)
    parts = set(key.split("_"))
    for feature, words in ABSENT.items():
        if any(one == key or ("_" not in one and one in parts) for one in words):
            return feature
    return ""


def unknown_key(key: str, allowed: Iterable[str], section: str = "") -> str:
    """The tail of 'unknown key' in `section` (dotted path, '' = top level): a near key of the section, what the word is called elsewhere
    in an experiment, or that it is not modelled; and the keys of the section."""
    names = sorted({str(name) for name in allowed})
    near = similar(key, names)
    exact = near and _singular(near[0]) == _singular(key)
    tail = f" Allowed: {listed(names, key)}" if names else ""
    if exact:
        return f"{did_you_mean(near)}{tail}"
    feature = absent(key)
    if feature:
        return f"; not modelled: {feature} ({PAGE}).{tail}"
    meant = _elsewhere(key, names, section)
    unit = _unit(key, meant or near)
    return f"{did_you_mean(meant or near)[:-1]}{unit}{'?' if meant or near else '.'}{tail}" if meant or near else f".{tail}"


def engine(name: str, names: list[str]) -> str:
    """The tail of 'unknown engine'."""
    plain = re.sub(r"[^a-z0-9]", "", name[:200].lower())
    start = ENGINES.get(plain, "")
    found = [one for one in names if one.startswith(start)] if start else similar(name, names)
    if not found:  # a misspelt engine without its version
        engines = similar(name, sorted({one.split("-")[0] for one in names}))
        found = [one for one in names if engines and one.split("-")[0] == engines[0]]
    return f"{did_you_mean(found[:3])} Allowed: {listed(names, name)}, or a path to a profile of your own (.yaml)"


def hardware(name: str, names: list[str]) -> str:
    """The tail of 'unknown hardware profile'. Only profiles of the same device are a hint: another device is another answer."""
    words = re.split(r"[^a-z0-9]+", re.sub(r"^(nvidia|amd|intel|google|aws|huawei|tesla)[ _-]*", "", name[:200].lower()))
    device = next((word for word in words if any(c.isdigit() for c in word)), "")
    same = [one for one in names if device and device in one.split("-")]
    shared = {one: len(set(words) & set(one.split("-"))) for one in same}
    same = [one for one in same if shared[one] == max(shared.values())]  # an H100 80GB HBM3 is no PCIe card
    number = re.sub(r"[^0-9]", "", device)
    others = [one for one in names if not number or number in re.findall(r"\d+", one)]  # an l4 is no l40s
    near = similar(name, same) or same or similar(name, others)
    own = "or a path to a profile of your own (.yaml; docs/calibration.md)"
    hint = did_you_mean(near[:3]) if near or not device else f"; no profile of {device} is bundled."
    return f"{hint} Allowed: {listed(names, name)}, {own}"


def _elsewhere(key: str, allowed: list[str], section: str) -> list[str]:
    """Where an experiment says what this key means."""
    word = _snake(key)
    here = re.sub(r"\.\d+", ".0", section)
    for target, words in KEYS.items():
        if word in words:
            parent, _, last = target.rpartition(".")
            if parent == here or (last in allowed and parent.rpartition(".")[2] == here.rpartition(".")[2]):
                return [last]
            return [target] if target != here else []
    return []


def _singular(word: str) -> str:
    """policies, Policy, max_seq, max-seqs: the same word but for its spelling."""
    return re.sub(r"(ies|y|s)$", "", re.sub(r"[^a-z0-9]", "", word[:200].lower()))


def _snake(word: str) -> str:
    """numSpeculativeTokens, num-speculative-tokens -> num_speculative_tokens."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", word[:200]).lower()).strip("_")


def _unit(key: str, meant: list[str]) -> str:
    unit = _UNITS.get(key.lower().rpartition("_")[2], "")
    return f", in seconds, not {unit}" if unit and meant and meant[0].endswith("_s") else ""
