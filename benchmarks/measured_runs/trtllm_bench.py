"""What `trtllm-bench throughput` decides where its command leaves it open: sequence slots, tokens of a step, graphs, and the layout.

TensorRT-LLM's page of maximum throughput (docs/source/performance/perf-overview.md of 1.0) states the commands. They give no slots and
no token budget; the tool derives both from the memory (tensorrt_llm/bench/build/tuning.py), and without chunked prompts a step holds the
longest prompt beside all slots (tensorrt_llm/bench/benchmark/utils/general.py). Models with experts run with data-parallel attention.
"""

from __future__ import annotations

import math
from typing import Any

from simserve.model import ModelArchitecture
from simserve.validation import devices

KV_FRACTION = 0.95
"""`--kv_cache_free_gpu_mem_fraction`, which the page gives "in many cases"; the tool's own default is 0.90."""

GRAPH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 384, 512, 1024, 2048, 4096, 8192)
"""`cuda_graph_config.batch_sizes` of the page, with padding; those above the slots are not captured."""

_MOST_SLOTS, _MOST_STEP_TOKENS = 4096, 32_768


def layout(model: ModelArchitecture, devices_used: int) -> dict[str, int]:
    """tp, dp and ep: with experts, `enable_attention_dp` and experts spread over all devices (the page's `$ep_size`, taken to be the
    number of devices); dense models are split."""
    if model.experts is None:
        return {"tp": devices_used}
    return {"tp": 1, "dp": devices_used, "ep": devices_used}


def settings(model: ModelArchitecture, gpu: str, count: int, prompt_tokens: int, output_tokens: int, kv_bytes: float) -> dict[str, Any]:
    """Slots and step tokens, in the words of `Case.settings`: of each attention replica, as the tool counts them for the whole instance.

    kv_bytes  bytes of an element of the KV cache
    """
    memory = count * devices.device_profile(gpu).device.hbm_bytes - model.weight_bytes()
    per_token = 2 * model.attention_layers * max(count, model.num_kv_heads) * model.head_dim * kv_bytes
    fit = KV_FRACTION * memory / (per_token * (prompt_tokens + output_tokens))
    raw = min(fit, _MOST_SLOTS)
    slots = _up(raw, 32, least=64) if raw < 256 else _up(raw, 128) if raw < 1024 else _up(raw, 256)
    wanted = min(raw * (1 + prompt_tokens / output_tokens), _MOST_STEP_TOKENS)
    tokens = _up(wanted, 256, least=2048) if wanted < 4096 else _up(wanted, 512) if wanted < 8192 else _up(wanted, 1024)
    graphs = [size for size in GRAPH_SIZES if size <= slots]
    return {
        "max_seqs": slots,
        "max_num_batched_tokens": max(tokens, prompt_tokens + slots),
        "memory_utilisation": KV_FRACTION,
        "graph_sizes": (*graphs, *(() if slots in graphs else (slots,))),
    }


def _up(value: float, step: int, least: int = 0) -> int:
    return max(least, step * math.ceil(value / step))
