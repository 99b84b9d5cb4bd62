"""The EAGLE-3 runs of SpecForge on H200, and the servers behind them: facts that the rows leave out.

Rows say model, benchmark, batch size, drafted steps, top-k, draft tokens, acceptance length and throughput. The benchmark
(sgl-project/SpecForge, benchmarks/bench_eagle3.py) launches SGLang with CUDA graphs for the batch size, asks that many questions at once
and divides the output tokens by the time of all; the acceptance length is output tokens over verifications.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.model import ModelArchitecture, from_config, load_model
from simserve.model.draft_head import eagle_layer

if TYPE_CHECKING:
    import pandas as pd

BASELINE = "Wihtout EAGLE3"  # as the table spells it

CONTEXT_TOKENS = 700
"""Mean context of a sequence, assumed for all benchmarks: questions of 100 to 900 tokens, answers of 150 to 2,048."""


@dataclass(frozen=True)
class Server:
    """One model's server.

    model    bundled model, or configuration; tp: tensor-parallel devices; tp_source: where that is said, or why it is assumed
    head     (query heads, key/value heads, MLP width) of the published drafts' layer where it is not like the model's
             (SpecForge configs/*.json; of Qwen3-30B the size of the checkpoint)
    """

    model: str | dict[str, Any]
    tp: int
    tp_source: str
    head: tuple[int, int, int] | None = None

    def architecture(self, name: str) -> ModelArchitecture:
        """Of the model."""
        return load_model(self.model) if isinstance(self.model, str) else from_config(self.model, name=name)

    def layer(self, model: ModelArchitecture) -> ModelArchitecture | None:
        """Of the draft, None = like the model's."""
        if self.head is None:
            return None
        heads, kv_heads, width = self.head
        return replace(eagle_layer(model), num_attention_heads=heads, num_kv_heads=kv_heads, head_dim=128, intermediate_size=width)


_LING = {
    "model_type": "bailing_moe_v2",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "intermediate_size": 9216,
    "moe_intermediate_size": 1024,
    "num_experts": 256,
    "num_experts_per_tok": 8,
    "num_shared_experts": 1,
    "first_k_dense_replace": 1,
    "use_qk_norm": True,
    "vocab_size": 157184,
    "max_position_embeddings": 32768,
    "torch_dtype": "bfloat16",
}
_QWEN3_NEXT = {
    "model_type": "qwen3_next",
    "hidden_size": 2048,
    "num_hidden_layers": 48,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "intermediate_size": 5120,
    "full_attention_interval": 4,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
    "num_experts": 512,
    "num_experts_per_tok": 10,
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
    "vocab_size": 151936,
    "max_position_embeddings": 262144,
    "torch_dtype": "bfloat16",
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}
_CARD = "the draft's model card"
_MEMORY = "assumed: the fewest devices whose memory holds the weights"

SERVERS = {
    "Kimi-K2-Instruct": Server("kimi-k2", 8, _CARD, (64, 64, 18432)),
    "Ling-flash-2.0": Server(_LING, 2, _MEMORY, (32, 8, 14336)),
    "Llama-3.1-8B-Instruct": Server("llama-3.1-8b", 1, "SpecForge's benchmark page"),
    "Llama-3.3-70B-Instruct": Server("llama-3.1-70b", 4, _CARD),
    "Llama-4-Scout-17B-16E-Instruct": Server("llama-4-scout", 8, "SGLang's cookbook", (40, 8, 32768)),
    "Qwen3-235B-A22B-Instruct-2507": Server("qwen3-235b-a22b", 8, _CARD, (64, 4, 24576)),
    "Qwen3-30B-A3B-Instruct-2507": Server("qwen3-30b-a3b", 4, "as Qwen3-Coder-30B, the same architecture", (32, 4, 12288)),
    "Qwen3-Coder-30B-A3B-Instruct": Server("qwen3-30b-a3b", 4, _CARD),
    "Qwen3-Coder-480B-A35B-Instruct": Server("qwen3-coder-480b-a35b", 8, _MEMORY),
    "Qwen3-Next-80B-A3B-Instruct-FP8": Server(_QWEN3_NEXT, 1, _MEMORY),
}


def read(folder: Path) -> pd.DataFrame:
    """The drafted rows: model, benchmark, batch_size, steps, topk, num_draft_tokens, draft, accept_length, speedup, and step_s and
    baseline_step_s, the time that a step took if the engine did nothing but decode."""
    import pandas as pd

    table = pd.read_parquet(folder / "eagle3_runs.parquet")
    drafted = table[table["draft"] != BASELINE].reset_index(drop=True)
    drafted["step_s"] = drafted["accept_length"] * drafted["batch_size"] / drafted["output_throughput"]
    drafted["baseline_step_s"] = drafted["batch_size"] / drafted["baseline_throughput"]
    return drafted
