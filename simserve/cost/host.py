"""What the CPU adds to a step: the engine profile's part of a step's cost."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import Literal

from simserve.errors import ConfigError

DRAFT_PASS_S, VERIFICATION_S = 1.75e-4, 7.5e-4
"""Host time of a draft's forward pass, and of a step that drafts, where an engine profile states none: fitted on SGLang's EAGLE-3 runs on
H200 (docs/speculation-accuracy.md), within bounds of 0 to 0.4 ms and 0 to 4 ms. Between passes the host reads the draft's top-k, makes the
inputs of the next and launches a graph; after verification it waits for the accepted tokens, which steps that decode alone need not."""


@dataclass(frozen=True, slots=True)
class HostOverheads:
    """Host seconds of a serving engine, and its CUDA graphs.

    per_step_s             scheduling, input preparation, sampling, output processing of one step that the devices wait for
    per_decode_request_s   for each sequence that decodes in the step
    per_prefill_token_s    for each prompt token in the step
    kernel_launch_s        host time per kernel outside CUDA graphs (None = the device's own figure, 0 = launches are free)
    cuda_graph_sizes       batch sizes captured for decode-only steps, ascending; a batch is padded to the next one. Empty = no graphs.
    graphs_hold            what sizes count where a step verifies drafted tokens: its "tokens" (vLLM: sizes are token counts), or its
                           "requests", each of the same width (SGLang captures batch sizes for its number of draft tokens)
    per_draft_pass_s       for each forward pass of a draft: its inputs, the choice of its tokens (top-k), the launch of its graph
    per_verification_s     for each step that drafts: the mask, the acceptance of drafted tokens and what waits for it, KV rolled back
    per_graph_piece_s      for each piece of a graph that is cut at the attention of every layer (vLLM's PIECEWISE): the host launches the
                           piece and the attention. 0 = a step that decodes only is one graph
    """

    per_step_s: float = 0.0
    per_decode_request_s: float = 0.0
    per_prefill_token_s: float = 0.0
    kernel_launch_s: float | None = None
    cuda_graph_sizes: tuple[int, ...] = ()
    graphs_hold: Literal["tokens", "requests"] = "tokens"
    per_draft_pass_s: float = 0.0
    per_verification_s: float = 0.0
    per_graph_piece_s: float = 0.0

    def __post_init__(self) -> None:
        """Raises ConfigError for negative times or sizes that are not ascending positive numbers."""
        for name in _SECONDS:
            value = getattr(self, name)
            if value is not None and not value >= 0.0:
                raise ConfigError(f"host overheads: {name} is {value}, it must be 0 or more seconds")
        sizes = self.cuda_graph_sizes
        if any(b <= a for a, b in zip((0, *sizes), sizes, strict=False)):
            raise ConfigError(f"host overheads: cuda_graph_sizes must be ascending positive batch sizes, found {list(sizes)}")

    def on(self, speed: float) -> HostOverheads:
        """The same work on a host whose cores are `speed` times as fast."""
        slower = {name: value / speed for name in _SECONDS if (value := getattr(self, name)) is not None}
        return replace(self, **slower)

    def graph_size(self, decode_requests: int) -> int | None:
        """The captured size that a decode-only batch runs at, None when it is larger than every captured one."""
        place = bisect_left(self.cuda_graph_sizes, decode_requests)
        return self.cuda_graph_sizes[place] if place < len(self.cuda_graph_sizes) else None

    def verify_graph_tokens(self, requests: int, tokens: int) -> int | None:
        """Tokens of the captured graph that a decode-only step of `tokens` tokens in all runs at, None when there is none so large."""
        if self.graphs_hold == "tokens":
            return self.graph_size(tokens)
        padded = self.graph_size(requests)
        return None if padded is None else padded * -(-tokens // requests)


_SECONDS = (
    "per_step_s",
    "per_decode_request_s",
    "per_prefill_token_s",
    "kernel_launch_s",
    "per_draft_pass_s",
    "per_verification_s",
    "per_graph_piece_s",
)
