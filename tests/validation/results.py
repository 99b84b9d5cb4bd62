"""Small results of benchmark clients for the tests: one serving run as each client would write it down."""

from __future__ import annotations

from typing import Any

MODEL = "meta-llama/Llama-3.1-8B-Instruct"


def vllm(**changes: Any) -> dict[str, Any]:
    """`vllm bench serve --save-result`: 60 prompts of 256 and answers of 32 tokens at 4 requests a second."""
    return {
        "date": "20260301-101010",
        "backend": "vllm",
        "model_id": MODEL,
        "num_prompts": 60,
        "request_rate": 4.0,
        "burstiness": 1.0,
        "max_concurrency": None,
        "duration": 16.0,
        "completed": 60,
        "total_input_tokens": 60 * 256,
        "total_output_tokens": 60 * 32,
        "output_throughput": 120.0,
        "mean_ttft_ms": 40.0,
        "median_ttft_ms": 38.0,
        "p99_ttft_ms": 90.0,
        "mean_tpot_ms": 8.0,
        "median_tpot_ms": 8.0,
        "p99_tpot_ms": 9.0,
        **changes,
    }


def sglang(**changes: Any) -> dict[str, Any]:
    """A line of `sglang.bench_serving --output-file`."""
    server = {"model_path": MODEL, "tp_size": 2, "version": "0.5.8"}
    return {**vllm(backend="sglang", dataset_name="random", server_info=server), "burstiness": None, "model_id": None, **changes}


def aiperf(loadgen: dict[str, Any] | None = None, *, phases: Any = None, data: dict[str, Any] | None = None) -> dict[str, Any]:
    """aiperf's `profile_export_aiperf.json` with the options of its command line, or with `phases` of its later configuration."""

    def statistic(unit: str, value: float) -> dict[str, Any]:
        return {"unit": unit, "avg": value, "p50": value, "p90": 1.1 * value, "p99": 1.2 * value}

    config: dict[str, Any] = {"endpoint": {"model_names": [MODEL], "streaming": True}}
    if phases is not None:
        config = {"models": {"items": [{"name": MODEL}]}, "phases": phases}
    else:
        config |= {"loadgen": {"request_count": 60, **(loadgen or {})}, "input": data or {}}
    return {
        "request_count": {"unit": "requests", "avg": 60.0},
        "request_latency": statistic("ms", 300.0),
        "time_to_first_token": statistic("ms", 40.0),
        "inter_token_latency": statistic("ms", 8.0),
        "output_token_throughput": {"unit": "tokens/sec", "avg": 120.0},
        "input_sequence_length": statistic("tokens", 256.0),
        "output_sequence_length": statistic("tokens", 32.0),
        "input_config": config,
    }


def genai_perf(**config: Any) -> dict[str, Any]:
    """genai-perf's `profile_export_genai_perf.json`: options flat or under `perf_analyzer`."""
    return aiperf() | {"input_config": {"model": [MODEL], **config}}


def guidellm(strategy: dict[str, Any], *, old: bool = False, **settings: Any) -> dict[str, Any]:
    """guidellm's JSON report with one benchmark: settings under `config`, or until 0.3 under `args`."""

    def statistic(value: float) -> dict[str, Any]:
        return {"successful": {"mean": value, "count": 60, "percentiles": {"p50": value, "p90": value, "p99": 1.2 * value}}}

    metrics = {
        "time_to_first_token_ms": statistic(40.0),
        "inter_token_latency_ms": statistic(8.0),
        "request_latency": statistic(0.3),
        "prompt_token_count": statistic(256.0),
        "output_token_count": statistic(32.0),
        "output_tokens_per_second": statistic(120.0),
    }
    totals = {"successful": 60, "errored": 0, "incomplete": 0, "total": 60}
    benchmark: dict[str, Any] = {
        "args" if old else "config": {"strategy": strategy, "backend": {"model": MODEL}, **settings},
        "metrics": metrics,
    }
    (benchmark if old else metrics)["request_totals"] = totals
    return {"benchmarks": [benchmark]}


def llmperf(**changes: Any) -> dict[str, Any]:
    """LLMPerf's `*_summary.json`."""
    return {
        "model": MODEL,
        "num_concurrent_requests": 4,
        "mean_input_tokens": 256,
        "results_num_completed_requests": 60,
        "results_ttft_s_mean": 0.04,
        "results_ttft_s_quantiles_p99": 0.09,
        "results_inter_token_latency_s_mean": 0.009,
        "results_end_to_end_latency_s_mean": 0.3,
        "results_number_input_tokens_mean": 256.0,
        "results_number_input_tokens_stddev": 25.6,
        "results_number_output_tokens_mean": 32.0,
        "results_mean_output_throughput_token_per_s": 120.0,
        **changes,
    }


def inference_perf(**load: Any) -> dict[str, Any]:
    """inference-perf's `stage_0_lifecycle_metrics.json`."""
    times = {"mean": 0.04, "median": 0.04, "p90": 0.05, "p99": 0.06}
    latency = {"time_to_first_token": times, "time_per_output_token": {"mean": 0.008}, "request_latency": {"mean": 0.3}}
    return {
        "load_summary": {"count": 60, "requested_rate": 4.0, "achieved_rate": 3.9, **load},
        "successes": {
            "count": 60,
            "latency": latency,
            "throughput": {"output_tokens_per_sec": 120.0},
            "prompt_len": {"mean": 256.0},
            "output_len": {"mean": 32.0},
        },
        "failures": {"count": 0},
    }
