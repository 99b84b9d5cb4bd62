"""What the launch scripts behind the fixed-concurrency table decide and its rows leave out: token budgets, graphs, memory, requests.

Both collections come from public scripts; the facts below are read from them, not from the measurements. They are stated for an engine
and a model, as the scripts are, and never for a row.

gap     ai-dynamo/aiconfigurator: `generator/rule_plugin/{trtllm,vllm,sglang}.rule` and `generator/config/backend_config_mapping.yaml`
        (token budgets), `eval/benchmarks/genai_perf_runner.py` (fixed lengths, ten requests a client, every prompt different)
public  SemiAnalysisAI/InferenceX: `benchmarks/single_node/*_{h100,h200}*.sh` (server flags, ten requests a client),
        ishandhanani/srt-slurm: `benchmarks/scripts/sa-bench/bench.sh` (disaggregated runs, five requests a client)
"""

from __future__ import annotations

from typing import Any, NamedTuple

from benchmarks.measured_runs import drafts
from simserve.validation.case import Pool

GAP = "aic gap analysis"
PUBLIC = "public inference benchmark dump"
"""The collection whose client draws lengths uniformly from 80 to 100 percent of the nominal ones."""

_SLACK_TOKENS = 1500
"""aiconfigurator's room for prompts that come out longer than nominal."""

_SGLANG_CHUNK_TOKENS = 8192
"""SGLang's own chunked prefill size on these devices."""


class _Recipe(NamedTuple):
    """Workers of a disaggregated recipe, for runs of this device and these lengths with up to `clients` clients."""

    device: str
    prompt_tokens: int
    output_tokens: int
    attention_dp: bool  # the whole run's experts are spread (the table's ep is above 1) and attention is data-parallel
    clients: int
    prefill: Pool
    decode: Pool


_TP8, _TP16, _DEP8 = Pool(1, 8), Pool(1, 16), Pool(1, 1, 8, 8)

_RECIPES = (
    # InferenceX `.github/configs/nvidia-master.yaml`, dsr1-fp8-h200-dynamo-sglang: the first entry whose concurrencies reach the run's
    _Recipe("h200-sxm-141gb", 1024, 1024, False, 256, _TP8, Pool(9, 8)),
    _Recipe("h200-sxm-141gb", 1024, 1024, False, 2048, _TP8, Pool(6, 8, max_seqs=256)),
    _Recipe("h200-sxm-141gb", 1024, 1024, True, 2048, _DEP8, Pool(6, 1, 8, 8)),
    _Recipe("h200-sxm-141gb", 8192, 1024, False, 8, _TP8, Pool(7, 8)),
    _Recipe("h200-sxm-141gb", 8192, 1024, False, 16, _TP8, Pool(6, 8)),
    _Recipe("h200-sxm-141gb", 8192, 1024, False, 32, _TP8, Pool(3, 8)),
    _Recipe("h200-sxm-141gb", 8192, 1024, False, 128, Pool(2, 8), Pool(3, 8)),
    _Recipe("h200-sxm-141gb", 8192, 1024, False, 512, _TP8, _DEP8),
    # srt-slurm pull request 121: h100-fp8-1p2d-max-tp for 1k/1k, h100-fp8-1p1d-max-tp for 8k/1k
    _Recipe("h100-sxm-80gb", 1024, 1024, False, 128, _TP16, Pool(2, 16)),
    _Recipe("h100-sxm-80gb", 8192, 1024, False, 128, _TP16, _TP16),
)
"""How many workers of each kind served DeepSeek-R1 in the public disaggregated runs, which the table states for three rows only."""


def pools(gpu: str, prompt_tokens: int, output_tokens: int, clients: int, attention_dp: bool) -> tuple[Pool, Pool] | None:
    """The prefill and the decode workers of a public disaggregated run whose row does not count them. None when no recipe is known."""
    told = (gpu, prompt_tokens, output_tokens, attention_dp)
    for recipe in _RECIPES:
        if recipe[:4] == told and clients <= recipe.clients:
            return recipe.prefill, recipe.decode
    return None


def requests_per_client(disaggregated: bool, model: str) -> int:
    """How many requests a run has for each client."""
    return 5 if disaggregated or model.lower().startswith("glm-5") else 10


def distinct_prompts(collection: str, engine_profile: str, prompt_tokens: int) -> int:
    """How many different prompts the client asks, over and over, of an engine that caches them; 0 = all differ, or nothing is cached.

    The gap rows of whole thousands of prompt tokens come from the newer script with aiperf (`backend_templates/benchmark/bench_run.sh.j2`),
    which leaves aiperf's default of 100 distinct prompts. With vLLM's prefix cache (on by default) the rows agree: without it, its
    Llama-3.1-8B rows would compute more prompt tokens per second than the device can. SGLang's rows of the same sweep show no such hits;
    that is inferred from the rows, not stated.
    """
    newer = collection == GAP and prompt_tokens % 1000 == 0
    return 100 if newer and engine_profile.startswith("vllm") else 0


class Run(NamedTuple):
    """What the settings of a run follow from. `model` is the last part of the model's name, lengths are the nominal ones."""

    engine_profile: str
    gpu: str
    model: str
    prompt_tokens: int
    output_tokens: int
    clients: int
    tp: int = 1
    dp: int = 1
    mtp_tokens: int = 0


def mtp_tokens(collection: str, engine_profile: str, model: str, gpu: str, measured_on: str, attention_dp: bool) -> int:
    """Tokens that a public run drafts with the model's own prediction layers; its row does not say.

    InferenceX serves DeepSeek-R1 in fp8 on H200 with TensorRT-LLM by two scripts, `dsr1_fp8_h200_trt.sh` and `dsr1_fp8_h200_trt_mtp.sh`
    (three tokens, one with data-parallel attention). Rows of the same layout, lengths and image were measured in December 2025 and, at half
    to two thirds of the time per token, in January 2026: the latter are taken to be those of the second script.
    """
    deepseek = collection == PUBLIC and engine_profile.startswith("tensorrt-llm") and "deepseek" in model.lower()
    if not deepseek or not gpu.startswith("h200") or not measured_on.startswith("2026"):
        return 0
    return 1 if attention_dp else 3


def engine_profile(collection: str, told: str) -> str:
    """The engine profile of a run whose version alone says `told`: InferenceX's scripts for vLLM switch asynchronous scheduling on before
    it became the default with 0.14 (`async-scheduling: true` in `gptoss_fp4_h100.sh`, `gptoss_fp4_h200.sh`, `70b_fp8_h200_slurm.sh`)."""
    return "vllm-v1-async" if collection == PUBLIC and told == "vllm-v1" else told


def settings(collection: str, run: Run) -> dict[str, Any]:
    """Scheduler and cache settings of a run, in the words of `Case.settings`."""
    if collection == GAP:
        return _gap(run)
    return _public(run) if collection == PUBLIC else {}


def _gap(run: Run) -> dict[str, Any]:
    budget = run.clients + run.prompt_tokens + _SLACK_TOKENS
    if run.engine_profile.startswith("tensorrt-llm"):
        return {"max_num_batched_tokens": -(-budget // 32) * 32}
    if run.engine_profile.startswith("vllm"):
        return {"max_num_batched_tokens": budget, "prefix_caching": True}
    if run.engine_profile == "sglang":  # enable_mixed_chunk came with its 0.5.6: prompt chunks ride with the decodes
        return {"max_num_batched_tokens": min(_SGLANG_CHUNK_TOKENS, run.prompt_tokens + _SLACK_TOKENS), "policy": "vllm-v1"}
    if run.engine_profile.startswith("sglang"):  # the mapping: chunked-prefill-size is max_num_tokens, which no rule sets, or -1
        return {"chunked_prefill_size": -1}
    return {}


_FORGETS = {"prefix_caching": False}
"""InferenceX's scripts: `no-enable-prefix-caching: true`, `--disable-radix-cache`, `enable_block_reuse: false`."""


def _public(run: Run) -> dict[str, Any]:
    model = run.model.lower()
    if run.engine_profile.startswith("vllm"):
        return {"max_seqs": run.clients, "max_num_batched_tokens": 8192} | _FORGETS | _public_vllm(run, model)
    if run.engine_profile.startswith("tensorrt-llm"):
        return _FORGETS | _public_tensorrt_llm(run, model)
    if run.engine_profile.startswith("sglang"):
        return _FORGETS | _public_sglang(run, model)
    return {}


def _public_vllm(run: Run, model: str) -> dict[str, Any]:
    if "gpt-oss" in model:
        return {"largest_graph": 2048, "expert_kernel": "marlin"}  # VLLM_MXFP4_USE_MARLIN=1
    if "kimi" in model:
        return {"memory_utilisation": 0.95}
    # Llama-3.3-70B: an fp8 cache. A script for H100 says so too, but its rows wait for memory as a 16-bit cache makes them wait.
    return {"kv_bits": 8.0} if "llama" in model and run.gpu.startswith("h200") else {}


def _public_sglang(run: Run, model: str) -> dict[str, Any]:
    if "deepseek" in model:
        slots = 512 if (run.prompt_tokens, run.output_tokens) == (1024, 1024) else 256
        return {"max_num_batched_tokens": 32_768, "max_seqs": slots, "largest_graph": slots, "memory_utilisation": 0.82}
    if "qwen3.5" in model:
        return {"max_num_batched_tokens": 16_384, "max_seqs": 128, "largest_graph": run.clients, "memory_utilisation": 0.8}
    return {"memory_utilisation": 0.85} if "glm-5" in model else {}


def _public_tensorrt_llm(run: Run, model: str) -> dict[str, Any]:
    if "gpt-oss" in model:
        return {"max_seqs": run.clients, "max_num_batched_tokens": 20_000, "largest_graph": run.clients}
    if "deepseek" in model:
        if run.mtp_tokens:
            return _mtp(run)
        rounded = -(-(run.clients + run.prompt_tokens + 64) // 64) * 64
        own = {"largest_graph": 128, "kv_bits": 8.0, "balance_wait_steps": 60}
        return {"max_num_batched_tokens": max(8192, rounded)} | own
    if "llama" in model:
        longest = run.prompt_tokens + run.output_tokens + 200  # the sweep's max_model_len, which is also its max_num_tokens
        wait = {"batch_wait_steps": 20, "batch_wait_fraction": 0.9} if run.prompt_tokens == run.output_tokens and run.tp < 8 else {}
        return {"max_num_batched_tokens": longest, "largest_graph": 1024} | wait
    return {}


def _mtp(run: Run) -> dict[str, Any]:
    """`dsr1_fp8_h200_trt_mtp.sh`: slots for the clients (of a replica), a budget for one prompt and all their drafts."""
    slots = max(1, run.clients // run.dp)
    budget = -(-((run.mtp_tokens + 1) * slots + run.prompt_tokens + 64) // 64) * 64
    memory = {"memory_utilisation": 0.75, "kv_bits": 8.0, "largest_graph": 128, "balance_wait_steps": 60}
    return {"max_seqs": slots, "max_num_batched_tokens": budget} | memory | drafts.mtp(run.mtp_tokens)
