"""Public data sets of measured serving runs: a reader for each schema, the launch recipes behind them, and what is learned from them.

simserve validate serving ../shared/serving_measurements --readers benchmarks.measured_runs
python -m benchmarks.measured_runs fit       learn the bundled engine profiles' overheads, and again without each model, device, version
python -m benchmarks.measured_runs report    judge, and write the tables of README, docs/ and simserve/validation/accuracy.yaml
"""

from benchmarks.measured_runs import (
    ascend_nightly,
    ascend_thresholds,
    batch_phases,
    bench_pages,
    fixed_concurrency,
    load_stages,
    offline_throughput,
    per_request,
    prompt_sweeps,
    published_points,
    static_batches,
    trace_means,
)
from simserve.validation.readers import TableReader

TABLES = (
    TableReader("per_request", frozenset({"queued_s", "first_token_s", "last_token_s", "request_id"}), per_request.read),
    TableReader("load_stages", frozenset({"stage_index", "itl_mean_ms", "question_tokens"}), load_stages.read),
    TableReader("fixed_concurrency", frozenset({"backend", "system", "ttft_ms", "tpot_ms", "concurrency"}), fixed_concurrency.read),
    TableReader("bench_pages", frozenset({"serve_command", "mean_tpot_ms", "successful_requests"}), bench_pages.read),
    TableReader("batch_phases", frozenset({"prompt_phase_ms", "decode_step_ms"}), batch_phases.read),
    TableReader("trace_means", frozenset({"trace", "rate_tag", "sum_request_latency_s"}), trace_means.read),
    TableReader("static_batches", frozenset({"num_gpus", "batch", "latency_s"}), static_batches.read),
    TableReader("static_batches", frozenset({"num_gpus", "batch", "ttft_s"}), static_batches.read),
    TableReader(
        "offline_throughput", frozenset({"arrival", "output_tokens_per_s", "num_requests", "tensor_parallel"}), offline_throughput.read
    ),
    TableReader("ascend_nightly", frozenset({"baseline_output_tokens_per_s", "serve_options"}), ascend_nightly.read),
    TableReader("ascend_thresholds", frozenset({"tpot_ms_threshold", "output_tok_s_threshold", "serve_args"}), ascend_thresholds.read),
    TableReader("prompt_sweeps", frozenset({"isl", "osl", "conc", "median_tpot", "layout"}), prompt_sweeps.read),
    TableReader("published_points", frozenset({"workload", "tpot_ms", "output_tokens_per_s", "engine"}), published_points.read),
    TableReader("published_points", frozenset({"tokens_per_s_per_gpu", "phase"}), published_points.read),
)
"""By the columns of their tables; the first that fits reads."""
