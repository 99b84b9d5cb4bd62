"""Where a run goes beyond what was measured of its kernels: larger batches, longer contexts, longer prompts, more tokens in a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from simserve.contracts.wrapping import innermost
from simserve.engine.records import LaneLog


@dataclass(frozen=True, slots=True)
class Sizes:
    """The largest of a run: sequences that decode in a step, tokens of a context (mean of a batch), prompt tokens of one request in a
    step, tokens in a step."""

    batch: float = 0.0
    context: float = 0.0
    chunk: float = 0.0
    tokens: float = 0.0

    @staticmethod
    def of(lane: LaneLog) -> Sizes:
        """Of a lane with steps."""
        batch, steps = lane.span_decode_requests.astype(float), lane.span_steps.astype(float)
        last = lane.span_context_tokens + batch * (steps - 1.0)
        chunks, tokens, _ = lane.sliced()
        return Sizes(
            float(batch.max()),
            float((last / batch.clip(1.0)).max()),
            float((tokens / chunks.clip(1)).max()),
            float((batch + tokens).max()),
        )


_ASKED = {
    "attention_decode": (("log_batch", "batch"), ("log_context", "context")),
    "attention_prefill": (("log_new", "chunk"),),
    "mla decode": (("log_batch", "batch"), ("log_prefix", "context")),
    "mla prefill": (("log_new", "chunk"),),
    "gemm": (("log_m", "tokens"),),
    "moe": (("log_tokens", "tokens"),),
}
"""Of each kernel, the features that a run's sizes are held against."""

_WORDS = {
    "batch": "{:,.0f} sequences decode at once",
    "context": "contexts of {:,.0f} tokens",
    "chunk": "{:,.0f} prompt tokens of a request in a step",
    "tokens": "steps of {:,.0f} tokens",
}


class Beyond(NamedTuple):
    """A size beyond the measured ones: by what factor, and in words."""

    factor: float
    words: str


def beyond_kernels(cost: Any, sizes: Sizes) -> list[Beyond]:
    """Where the run of a cost model goes beyond what its kernels were measured with, the furthest first; one entry for each size."""
    knowing = innermost(cost, "reach")
    if not hasattr(knowing, "reach"):
        return []
    replicas = max(int((knowing.describe().get("parallel") or {}).get("dp", 1)), 1)
    found: dict[str, Beyond] = {}
    for label, reach in knowing.reach().items():
        for feature, size in _asked(label):
            value = getattr(sizes, size) / (replicas if size in ("batch", "tokens") and not label.startswith("moe") else 1)
            largest = reach.get(feature)
            if largest and value > largest and value / largest > found.get(size, Beyond(1.0, "")).factor:
                name = label.split(",")[0]
                found[size] = Beyond(value / largest, f"{_WORDS[size].format(value)}, {name} was measured up to {largest:,.0f}")
    return sorted(found.values(), reverse=True)


def _asked(label: str) -> tuple[tuple[str, str], ...]:
    name = label.split(" ", 1)[0]
    if name == "mla":
        name = "mla decode" if "decode" in label else "mla prefill"
    return _ASKED.get(name, ())


def beyond_runs(sizes: Mapping[str, float], seen: Mapping[str, float]) -> list[Beyond]:
    """Where a run's lengths go beyond those of the measured runs of its engine and device; both by the names of `LENGTHS`."""
    found = []
    for name, words in LENGTHS.items():
        largest = seen.get(name, 0.0)
        if largest and sizes.get(name, 0.0) > largest:
            found.append(Beyond(sizes[name] / largest, f"{words.format(sizes[name])}, measured runs have up to {largest:,.0f}"))
    return sorted(found, reverse=True)


LENGTHS = {"prompt": "prompts of {:,.0f} tokens on average", "output": "answers of {:,.0f} tokens on average"}
"""Mean lengths of a run that are held against those of measured runs."""
