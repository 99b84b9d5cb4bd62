"""LLMPerf's summary files: flat documents, times in seconds, one closed loop of `num_concurrent_requests` clients.

Its inter-token latency is the mean over all tokens of a request, the first included (llmperf/ray_clients: the time to the first token is
the first of the times that are averaged), so it is no TPOT and is not compared; the latency of the whole request is.
"""

from __future__ import annotations

from simserve.validation.case import Lengths
from simserve.validation.readers.clients.fields import Fields
from simserve.validation.readers.clients.run import ClientRun, LoadError, closed


def is_one(document: Fields) -> bool:
    """Whether a document has the keys of this client."""
    return "num_concurrent_requests" in document and "results_ttft_s_mean" in document


def read(document: Fields) -> ClientRun:
    """The run of one summary. Raises LoadError."""
    clients = document.count("num_concurrent_requests")
    if clients is None:
        raise LoadError("the result lacks its number of clients")
    measured: dict[str, float | None] = {}
    for key, name in (("ttft_s", "ttft"), ("end_to_end_latency_s", "e2e")):
        for theirs, ours in (("mean", "mean"), ("quantiles_p50", "median"), ("quantiles_p90", "p90"), ("quantiles_p99", "p99")):
            if f"results_{key}_{theirs}" in document:
                measured[f"{name}_{ours}"] = document.seconds(f"results_{key}_{theirs}")
    measured["output_tokens_per_s"] = document.number("results_mean_output_throughput_token_per_s")
    return ClientRun(
        requests=document.count("results_num_completed_requests", least=0) or 0,
        failed=document.count("results_number_errors", least=0) or 0,
        prompt=_lengths(document, "results_number_input_tokens"),
        output=_lengths(document, "results_number_output_tokens"),
        load=closed(clients),
        measured=measured,
        model=document.text("model"),
    )


def _lengths(document: Fields, key: str) -> Lengths:
    mean, deviation = document.number(f"{key}_mean") or 0.0, document.number(f"{key}_stddev") or 0.0
    return Lengths(mean, "varied", spread=deviation / mean) if mean > 0 and deviation > 0.02 * mean else Lengths(mean)
