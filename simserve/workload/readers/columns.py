"""What every reader hands on: the columns of a trace as the file has them, before windows, filters and order of time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from simserve.workload.requests import F64, I64, Labels, PrefixBlocks


@dataclass(frozen=True, slots=True)
class TraceColumns:
    """One row a request, in file order.

    arrival_s   seconds on the trace's own clock (any origin), or None when the format has no arrivals. Where `after[i] >= 0` it is a delay.
    elapsed_s   seconds the source system took to answer, or None.
    The rest as in RequestTable. `notes` goes to the provenance.
    """

    arrival_s: F64 | None
    prompt_tokens: I64
    output_tokens: I64
    elapsed_s: F64 | None = None
    max_output_tokens: I64 | None = None
    priority: I64 | None = None
    slo_class: Labels | None = None
    session: I64 | None = None
    after: I64 | None = None
    label_model: Labels | None = None
    log_type: Labels | None = None
    prefix: PrefixBlocks | None = None
    notes: dict[str, Any] = field(default_factory=dict)
