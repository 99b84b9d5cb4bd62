"""Configurations of recent models from public facts (model cards, papers, configuration classes), with their published sizes."""

from __future__ import annotations

_GEMMA3 = {"model_type": "gemma3_text", "sliding_window": 1024}
_HYBRID = "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-"
_NANO = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"

CONFIGS = {
    "gemma-3-4b": _GEMMA3 | {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34},
    "gemma-3-12b": _GEMMA3
    | {"hidden_size": 3840, "intermediate_size": 15360, "num_hidden_layers": 48, "num_attention_heads": 16, "num_key_value_heads": 8},
    "gemma-2-9b": {"model_type": "gemma2", "hidden_size": 3584, "intermediate_size": 14336, "num_hidden_layers": 42}
    | {"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256, "vocab_size": 256000, "max_position_embeddings": 8192},
    "qwen3.5-27b": {"model_type": "qwen3_5_text", "hidden_size": 5120, "num_hidden_layers": 64, "intermediate_size": 17408}
    | {"num_attention_heads": 24, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 248320, "max_position_embeddings": 262144}
    | {"linear_num_key_heads": 16, "linear_num_value_heads": 48, "linear_key_head_dim": 128, "linear_value_head_dim": 128}
    | {"linear_conv_kernel_dim": 4, "full_attention_interval": 4},
    "olmo-3-7b": {
        "model_type": "olmo3",
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "intermediate_size": 11008,
        "num_attention_heads": 32,
    }
    | {"num_key_value_heads": 32, "vocab_size": 100278, "max_position_embeddings": 65536, "sliding_window": 4096},
    "seed-oss-36b": {"model_type": "seed_oss", "hidden_size": 5120, "num_hidden_layers": 64, "intermediate_size": 27648}
    | {"num_attention_heads": 80, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 155136, "max_position_embeddings": 524288}
    | {"attention_bias": True, "attention_out_bias": False},
    "smollm3-3b": {"model_type": "smollm3", "hidden_size": 2048, "num_hidden_layers": 36, "intermediate_size": 11008}
    | {"num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": 128256, "max_position_embeddings": 65536},
    "glm-4-32b": {"model_type": "glm4", "hidden_size": 6144, "num_hidden_layers": 61, "intermediate_size": 23040, "num_attention_heads": 48}
    | {"num_key_value_heads": 2, "head_dim": 128, "vocab_size": 151552, "max_position_embeddings": 32768},
    "glm-4-9b": {"model_type": "glm4", "hidden_size": 4096, "num_hidden_layers": 40, "intermediate_size": 13696, "num_attention_heads": 32}
    | {"num_key_value_heads": 2, "head_dim": 128, "vocab_size": 151552, "max_position_embeddings": 32768},
    "ernie-4.5-21b": {"model_type": "ernie4_5_moe", "hidden_size": 2560, "num_hidden_layers": 28, "intermediate_size": 12288}
    | {"num_attention_heads": 20, "num_key_value_heads": 4, "vocab_size": 103424, "max_position_embeddings": 131072}
    | {"moe_num_experts": 64, "moe_k": 6, "moe_intermediate_size": 1536, "moe_num_shared_experts": 2, "moe_layer_start_index": 1},
    "ernie-4.5-300b": {"model_type": "ernie4_5_moe", "hidden_size": 8192, "num_hidden_layers": 54, "intermediate_size": 28672}
    | {"num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 103424, "max_position_embeddings": 131072}
    | {"moe_num_experts": 64, "moe_k": 8, "moe_intermediate_size": 3584, "moe_layer_start_index": 3, "tie_word_embeddings": False},
    "hunyuan-a13b": {"model_type": "hunyuan_v1_moe", "hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 3072}
    | {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128167, "max_position_embeddings": 32768}
    | {"num_experts": 64, "moe_topk": [8] * 32, "num_shared_expert": [1] * 32, "moe_intermediate_size": [3072] * 32}
    | {"tie_word_embeddings": True},
    "hunyuan-7b": {"model_type": "hunyuan_v1_dense", "hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336}
    | {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128167, "max_position_embeddings": 32768}
    | {"tie_word_embeddings": True},
    "step3": {
        "model_type": "step3_text",
        "hidden_size": 7168,
        "num_hidden_layers": 61,
        "intermediate_size": 18432,
        "num_attention_heads": 64,
    }
    | {"head_dim": 256, "vocab_size": 128815, "share_q_dim": 2048, "moe_num_experts": 48, "moe_top_k": 3, "moe_intermediate_size": 5120}
    | {"share_expert_dim": 5120, "max_seq_len": 65536, "moe_layers_enum": ",".join(map(str, range(4, 60)))},
    "exaone-4-32b": {"model_type": "exaone4", "hidden_size": 5120, "num_hidden_layers": 64, "intermediate_size": 27392}
    | {"num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 102400, "max_position_embeddings": 131072}
    | {"sliding_window": 4096, "sliding_window_pattern": "LLLG"},
    "granite-4.0-h-small": {"model_type": "granitemoehybrid", "hidden_size": 4096, "num_hidden_layers": 40, "intermediate_size": 768}
    | {"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 100352, "max_position_embeddings": 131072}
    | {"num_local_experts": 72, "num_experts_per_tok": 10, "shared_intermediate_size": 1536, "mamba_n_heads": 128, "mamba_d_state": 128}
    | {"layer_types": ["attention" if i in (5, 15, 25, 35) else "mamba" for i in range(40)]},
    "granite-4.0-h-micro": {"model_type": "granitemoehybrid", "hidden_size": 2048, "num_hidden_layers": 40, "intermediate_size": 8192}
    | {"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 100352, "max_position_embeddings": 131072}
    | {"num_local_experts": 0, "num_experts_per_tok": 0, "shared_intermediate_size": 8192, "mamba_n_heads": 64, "mamba_d_state": 128}
    | {"layer_types": ["attention" if i in (5, 15, 25, 35) else "mamba" for i in range(40)]},
    "nemotron-h-8b": {"model_type": "nemotron_h", "hidden_size": 4096, "num_hidden_layers": 52, "intermediate_size": 21504}
    | {"num_attention_heads": 32, "num_key_value_heads": 8, "attention_head_dim": 128, "vocab_size": 131072}
    | {"max_position_embeddings": 8192, "hybrid_override_pattern": _HYBRID},
    "nemotron-3-nano-30b": {"model_type": "nemotron_h", "hidden_size": 2688, "num_hidden_layers": 52, "intermediate_size": 1856}
    | {"num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128, "vocab_size": 131072, "max_position_embeddings": 262144}
    | {"hybrid_override_pattern": _NANO, "mamba_num_heads": 64, "mamba_head_dim": 64, "n_groups": 8, "ssm_state_size": 128}
    | {"n_routed_experts": 128, "num_experts_per_tok": 6, "moe_intermediate_size": 1856, "moe_shared_expert_intermediate_size": 3712},
    "falcon-h1-34b": {"model_type": "falcon_h1", "hidden_size": 5120, "num_hidden_layers": 72, "intermediate_size": 21504}
    | {"num_attention_heads": 20, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 261120, "max_position_embeddings": 262144}
    | {"mamba_d_ssm": 4096, "mamba_n_heads": 32, "mamba_d_head": 128, "mamba_n_groups": 2, "mamba_d_state": 256, "mamba_rms_norm": False},
    "command-a": {"model_type": "cohere2", "hidden_size": 12288, "num_hidden_layers": 64, "intermediate_size": 36864}
    | {
        "num_attention_heads": 96,
        "num_key_value_heads": 8,
        "vocab_size": 256000,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
    },
    "ling-lite": {"model_type": "bailing_moe", "hidden_size": 2048, "num_hidden_layers": 28, "intermediate_size": 5632}
    | {"num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": 126464, "max_position_embeddings": 16384, "num_experts": 64}
    | {"num_experts_per_tok": 6, "moe_intermediate_size": 1408, "num_shared_experts": 2},
    "olmoe-7b": {"model_type": "olmoe", "hidden_size": 2048, "num_hidden_layers": 16, "intermediate_size": 1024, "num_attention_heads": 16}
    | {"num_key_value_heads": 16, "vocab_size": 50304, "max_position_embeddings": 4096, "num_experts": 64, "num_experts_per_tok": 8},
}

PUBLISHED_BILLIONS = {
    "gemma-3-4b": (3.88, 0.005),  # arXiv 2503.19786 table 1: 675 + 3,209 M, vision left out
    "gemma-3-12b": (11.77, 0.005),  # 1,012 + 10,759 M
    "gemma-2-9b": (9.24, 0.005),  # arXiv 2408.00118 table 2: 917.9 M + 8,324.2 M
    "qwen3.5-27b": (27, 0.01),
    "olmo-3-7b": (7.3, 0.01),  # 7.3 B on the model card
    "seed-oss-36b": (36.15, 0.005),
    "smollm3-3b": (3.08, 0.005),
    "glm-4-32b": (32.57, 0.005),
    "glm-4-9b": (9.4, 0.01),
    "ernie-4.5-21b": (21.8, 0.01),
    "ernie-4.5-300b": (300, 0.01),
    "hunyuan-a13b": (80.4, 0.005),
    "hunyuan-7b": (7.5, 0.01),
    "step3": (316, 0.01),  # arXiv 2507.19427: 316 B without the vision tower
    "exaone-4-32b": (32.0, 0.005),  # model card: 30.95 B without embeddings
    "granite-4.0-h-small": (32.2, 0.01),
    "granite-4.0-h-micro": (3.19, 0.01),
    "nemotron-h-8b": (8.1, 0.005),
    "nemotron-3-nano-30b": (31.6, 0.005),
    "falcon-h1-34b": (33.6, 0.005),
    "command-a": (111, 0.01),
    "ling-lite": (16.8, 0.01),
    "olmoe-7b": (6.92, 0.005),
}

ACTIVE_BILLIONS = {
    "hunyuan-a13b": (12.75, 0.01),
    "granite-4.0-h-small": (8.8, 0.03),  # 9 B
    "nemotron-3-nano-30b": (3.58, 0.02),  # 3.2 B, and 3.6 B with embeddings
    "step3": (38, 0.025),
    "ernie-4.5-300b": (47, 0.02),
}
