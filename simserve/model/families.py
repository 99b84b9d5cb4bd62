"""The Hugging Face `model_type`s that can be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simserve.model import dense_families as dense
from simserve.model import expert_families as experts
from simserve.model import hybrid_families as hybrid
from simserve.model import recent_expert_families as recent_experts
from simserve.model import recent_families as recent
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
    "qwen2_vl": dense.qwen2,
    "qwen2_5_vl": dense.qwen2,
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
    "gemma": recent.gemma,
    "gemma2": recent.gemma2,
    "gemma3_text": recent.gemma3,
    "olmo2": recent.olmo2,
    "olmo3": recent.olmo3,
    "olmoe": recent_experts.olmoe,
    "seed_oss": recent.seed_oss,
    "smollm3": recent.smollm3,
    "glm": recent.glm,
    "glm4": recent.glm4,
    "glm4v_text": recent.glm4,
    "glm4v_moe_text": experts.glm4_moe,
    "glm4_moe_lite": experts.deepseek,
    "dots1": experts.glm4_moe,
    "ernie4_5": recent.ernie4_5,
    "ernie4_5_moe": recent_experts.ernie4_5_moe,
    "hunyuan_v1_dense": recent.hunyuan_dense,
    "hunyuan_v1_moe": recent_experts.hunyuan_moe,
    "step3_text": recent_experts.step3,
    "step3_vl_text": recent_experts.step3,
    "exaone4": recent.exaone4,
    "ministral": recent.ministral3,
    "ministral3": recent.ministral3,
    "mistral3_text": recent.ministral3,
    "cohere": recent.cohere,
    "cohere2": recent.cohere2,
    "arcee": recent.arcee,
    "apertus": recent.apertus,
    "nemotron": recent.nemotron,
    "nemotron-nas": recent.nemotron_nas,
    "internlm3": dense.llama,
    "granitemoe": recent_experts.granite_moe,
    "granitemoeshared": recent_experts.granite_moe,
    "granitemoehybrid": hybrid.granite_hybrid,
    "bailing_moe": recent_experts.bailing_moe,
    "bailing_moe_v2": recent_experts.bailing_moe,
    "qwen3_5_text": hybrid.qwen3_5,
    "qwen2_5_omni_text": dense.qwen2,
    "qwen3_omni_moe_text": experts.qwen3_moe,
    "bamba": hybrid.bamba,
    "falcon_h1": hybrid.falcon_h1,
    "nemotron_h": hybrid.nemotron_h,
}

ARCHITECTURES: dict[str, str] = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "MixtralForCausalLM": "mixtral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "Qwen3MoeForCausalLM": "qwen3_moe",
    "DeepseekV3ForCausalLM": "deepseek_v3",
    "NemotronHForCausalLM": "nemotron_h",
}
"""Classes that checkpoints of other `model_type`s are served by; they compute the same."""
