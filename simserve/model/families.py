"""The Hugging Face `model_type`s that can be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simserve.model import dense_families as dense
from simserve.model import expert_families as experts
from simserve.model.config_file import Config

Reader = Callable[[Config], dict[str, Any]]
"""Returns fields of ModelArchitecture; `layer_windows` and `moe_layers` may be one value for all layers."""

FAMILIES: dict[str, Reader] = {
    "llama": dense.llama,
    "aquila": dense.llama,
    "internlm": dense.llama,
    "internlm2": dense.llama,
    "granite": dense.llama,
    "deci": dense.deci,
    "mistral": dense.mistral,
    "phi3": dense.mistral,
    "mixtral": experts.mixtral,
    "qwen": dense.qwen1,
    "qwen2": dense.qwen2,
    "mimo": dense.qwen2,
    "qwen2_vl_text": dense.qwen2,
    "qwen2_5_vl_text": dense.qwen2,
    "qwen2_moe": experts.qwen2_moe,
    "qwen3": dense.qwen3,
    "qwen3_vl_text": dense.qwen3,
    "qwen3_moe": experts.qwen3_moe,
    "qwen3_vl_moe_text": experts.qwen3_moe,
    "qwen3_next": experts.qwen3_next,
    "qwen3_5_moe_text": experts.qwen3_next,
    "opt": dense.opt,
    "bloom": dense.bloom,
    "falcon": dense.falcon,
    "phi": dense.phi,
    "gptj": dense.gptj,
    "deepseek_v2": experts.deepseek,
    "deepseek_v3": experts.deepseek,
    "deepseek_v32": experts.deepseek,
    "kimi_k2": experts.deepseek,
    "glm_moe_dsa": experts.deepseek,
    "glm4_moe": experts.glm4_moe,
    "gpt_oss": experts.gpt_oss,
    "llama4_text": experts.llama4,
    "minimax_m2": experts.minimax_m2,
}
