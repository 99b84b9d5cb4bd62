"""The latency metrics of each request, as columns: a function for each, called as in the catalogue. Definitions: docs/metrics.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simserve.catalogue import OF_REQUESTS, Metric
from simserve.engine.records import F64, RunRecords, Status
from simserve.errors import ConfigError
from simserve.report.itl import TokenGaps

Mask = NDArray[np.bool_]

Formula = Callable[[RunRecords, TokenGaps], F64]


@dataclass(frozen=True, slots=True)
class RequestMetrics:
    """One entry per request, in the order of the request table; NaN where the quantity is not defined for that request.

    columns  name (as in `catalogue.OF_REQUESTS`, in that order) -> seconds; each is an attribute as well
    """

    columns: Mapping[str, F64]

    def column(self, name: str) -> F64:
        """The column of that name. Raises KeyError."""
        return self.columns[name]

    def __getattr__(self, name: str) -> F64:
        if name.startswith("_") or name == "columns" or name not in self.columns:
            raise AttributeError(f"no metric of requests is called '{name}'")
        return self.columns[name]


def request_metrics(records: RunRecords, gaps: TokenGaps) -> RequestMetrics:
    """Latency columns of all requests. Raises ConfigError where the formula of an installed package fails."""
    return RequestMetrics({metric.name: _column(metric, records, gaps) for metric in OF_REQUESTS})


def _column(metric: Metric, records: RunRecords, gaps: TokenGaps) -> F64:
    if metric.formula is None:
        return FORMULAS[metric.name](records, gaps)
    return _theirs(metric.name, metric.formula, records, gaps)


def ttft_s(records: RunRecords, gaps: TokenGaps) -> F64:
    """From release to first token: as soon as that has appeared, whatever became of the request."""
    return records.requests.first_token_s - records.requests.released_s


def tpot_s(records: RunRecords, gaps: TokenGaps) -> F64:
    """Mean time per output token after the first, of completed requests that have several."""
    r = records.requests
    return _ratio(r.finish_s - r.first_token_s, r.generated_tokens - 1, _completed(records) & (r.generated_tokens > 1))


def e2e_s(records: RunRecords, gaps: TokenGaps) -> F64:
    """From release to last token, of completed requests."""
    return np.where(_completed(records), records.requests.finish_s - records.requests.released_s, math.nan)


def normalized_latency_s_per_token(records: RunRecords, gaps: TokenGaps) -> F64:
    """E2E over output tokens, of completed requests."""
    generated = records.requests.generated_tokens
    return _ratio(e2e_s(records, gaps), generated, _completed(records) & (generated > 0))


def queueing_s(records: RunRecords, gaps: TokenGaps) -> F64:
    """From release to the first step that works on the request: as soon as that has begun."""
    return records.requests.scheduled_s - records.requests.released_s


def itl_max_s(records: RunRecords, gaps: TokenGaps) -> F64:
    """Longest gap between two tokens, of completed requests."""
    return np.where(_completed(records), gaps.longest_s(), math.nan)


FORMULAS: dict[str, Formula] = {
    formula.__name__: formula for formula in (ttft_s, tpot_s, e2e_s, normalized_latency_s_per_token, queueing_s, itl_max_s)
}


def _theirs(name: str, formula: Formula, records: RunRecords, gaps: TokenGaps) -> F64:
    """What a formula of an installed package gives, held to what it must be."""
    try:
        values = np.asarray(formula(records, gaps), dtype=np.float64)
    except Exception as problem:  # a third party's function may fail in any way
        raise ConfigError(f"metric '{name}': its formula failed: {type(problem).__name__}: {problem}") from problem
    if values.shape != (len(records.table),):
        raise ConfigError(f"metric '{name}': its formula gave an array of shape {values.shape} for {len(records.table)} requests")
    if bool((values < 0).any()) or bool(np.isinf(values).any()):
        raise ConfigError(f"metric '{name}': its formula gave values that are negative or infinite; NaN says that a request has none")
    return values


def _completed(records: RunRecords) -> Mask:
    done: Mask = records.requests.status == Status.COMPLETED
    return done


def _ratio(over: F64, under: NDArray[np.int64], where: Mask) -> F64:
    out = np.full(len(over), math.nan)
    np.divide(over, under, out=out, where=where)
    return out
