"""Past-Future: admission by the predicted peak of the running batch's memory (LightLLM, arXiv 2507.10150, sections 3 and 4).

The past: output lengths of the last requests that ended. The future: with a length drawn for each running request from that past, the
memory the batch will need at most until the last of them ends. A request is admitted while that peak fits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from simserve.bounds import MOST_REQUESTS, MOST_SEED, MOST_TOKENS
from simserve.contracts import DecodingView, InstanceView, OracleRequest, Request, Scheduler, SchedulerParams, StepPlan

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

MOST_DRAWS = 5
DRAWN_LENGTHS = 200
"""A prediction draws the batch's lengths several times, about this many in all but at most MOST_DRAWS times, and takes the highest peak."""


def draws_for(running: int) -> int:
    """How often the lengths of so many running requests are drawn for one look at the queue."""
    return min(MOST_DRAWS, DRAWN_LENGTHS // running + 1) if running else MOST_DRAWS


def peak_tokens(held: F64, left: F64) -> float:
    """Most tokens in memory until all requests have ended, when request i holds `held[i]` and every step adds one token to each.

    held  tokens, shape (requests,); left  tokens still to generate, shape (draws, requests). With the requests in falling order of
    `left`, the k-th to last to end sees k requests grow by its own `left`: the peak is the largest of left_k k + sum of held up to k
    (section 4, equation of the future memory). The highest over the draws is returned.
    """
    order = np.argsort(-left, axis=1, kind="stable")
    rank = np.arange(1, left.shape[1] + 1)
    need = np.take_along_axis(left, order, axis=1) * rank + np.cumsum(held[order], axis=1)
    return float(need.max(initial=0.0))


class OutputHistory:
    """Output lengths of the last `window` requests that ended. Until there are any, half of it stands for "as long as may be"."""

    def __init__(self, window: int) -> None:
        self._lengths: deque[float] = deque([float("inf")] * (window // 2), maxlen=window)
        self._sorted = np.array(self._lengths)

    def add(self, tokens: int) -> None:
        """A request ended after `tokens` output tokens; the oldest length is forgotten when the window is full."""
        self._lengths.append(float(tokens))
        self._sorted = np.sort(np.array(self._lengths))

    def quantile(self, fraction: F64, generated: I64, limit: I64) -> F64:
        """Final output lengths at these fractions (0 to 1) of what is longer than the `generated` tokens, interpolated; at most `limit`.

        Shapes broadcast. The limit of each request stands behind the longest length seen, so there is always something longer.
        """
        lengths = np.append(self._sorted, np.inf)
        longer = np.searchsorted(self._sorted, generated, side="right")
        place = longer + fraction * (len(lengths) - 1 - longer)
        below = place.astype(np.int64)
        low = np.minimum(lengths[below], limit)
        high = np.minimum(lengths[np.minimum(below + 1, len(lengths) - 1)], limit)
        found: F64 = low + (place - below) * (high - low)
        return found


class PastFuture(Scheduler):
    """Prompts are admitted while the batch's foreseen peak of memory fits: whole, in steps of their own, every few decode steps."""

    hears_ends = True

    class Params(SchedulerParams):
        max_num_batched_tokens: int = Field(
            16384,
            gt=0,
            le=MOST_TOKENS,
            description="Most prompt tokens of a prefill step (LightLLM's batch_max_tokens); a longer prompt runs alone.",
        )
        max_seqs: int = Field(1000, gt=0, le=MOST_REQUESTS, description="Most requests that run at once (LightLLM's running_max_req_size).")
        wait_steps: int = Field(
            6, gt=0, le=MOST_REQUESTS, description="Decode steps between two looks at the queue (router_max_wait_tokens)."
        )
        window: int = Field(
            200, gt=0, le=MOST_REQUESTS, description="Output lengths remembered (200 in the public code; about 1000 in the paper)."
        )
        reserve: float = Field(0.05, ge=0, lt=1, description="Fraction of the KV cache that predictions leave free.")
        predict: Literal["history", "limit", "oracle"] = Field(
            "history",
            description="Output length foreseen: drawn from the past (the paper), the longest allowed (a conservative scheduler), or the"
            " true one (an oracle).",
        )
        seed: int = Field(0, ge=0, le=MOST_SEED, description="Seed of the draws.")

        def step_tokens(self, longest_tokens: int) -> int:
            """The budget."""
            return self.max_num_batched_tokens

    def __init__(self, params: Params) -> None:
        self.params = params
        self.oracle = params.predict == "oracle"
        self._past = OutputHistory(params.window)
        self._dice = np.random.Generator(np.random.PCG64(params.seed))
        self._looked: dict[DecodingView, int] = {}  # tick of each lane's last prefill step

    def plan(self, view: InstanceView) -> StepPlan:
        plan = view.new_plan()
        group = view.decoding
        since = group.tick - self._looked.setdefault(group, group.tick)
        due = not view.running or (since > 0 and since % self.params.wait_steps == 0)
        if view.waiting and not view.swapped and due:
            self._admit(plan, view)
        if plan.slices:
            self._looked[group] = group.tick
        else:
            plan.decode(group)
            # With requests waiting nothing changes before the next look, whatever arrives.
            plan.hold(steps=self.params.wait_steps - since % self.params.wait_steps if view.waiting else None)
        return plan

    def ended(self, requests: Sequence[Request], now: float) -> None:
        """Their lengths are known now."""
        for request in sorted(requests, key=lambda request: request.row):
            if request.generated_tokens:  # the others were refused
                self._past.add(request.generated_tokens)

    def _admit(self, plan: StepPlan, view: InstanceView) -> None:
        """Whole prompts in order of the queue, until the first whose admission could one day need more memory than there is."""
        running = sorted(view.decoding, key=lambda request: request.admission)
        generated = [view.decoding.generated_tokens(request) for request in running]
        held = [request.prompt_tokens + tokens for request, tokens in zip(running, generated, strict=True)]
        draws = draws_for(len(running))
        left = self._left(view, running, generated, draws)
        kv = view.kv
        others = max(0, kv.used_blocks - sum(kv.blocks(tokens) for tokens in held)) * kv.block_tokens  # of other micro-batches
        room = kv.total_blocks * kv.block_tokens * (1 - self.params.reserve) - others
        tokens = 0
        for request in view.waiting:
            tokens += request.target_tokens
            if plan.slices and tokens > self.params.max_num_batched_tokens:
                return
            held.append(request.target_tokens)
            left = np.hstack([left, self._left(view, [request], [request.generated_tokens], draws)])
            fits = peak_tokens(np.array(held, dtype=np.float64), left) < room
            if not (fits or not view.running) or not plan.admit(request):  # alone, a request has all there is
                return
            plan.prefill(request, request.prefill_left)

    def _left(self, view: InstanceView, requests: list[Request], generated: list[int], draws: int) -> F64:
        """Tokens foreseen for these requests beyond the `generated` ones, shape (draws, requests)."""
        done = np.array(generated, dtype=np.int64)
        if self.oracle:
            total = np.array([cast("OracleRequest", request).output_tokens for request in requests], dtype=np.float64)
            return np.tile(total - done, (draws, 1))
        limit = np.array([longest_output(request, view) for request in requests], dtype=np.int64)
        if self.params.predict == "limit":
            return np.tile((limit - done).astype(np.float64), (draws, 1))
        return self._past.quantile(self._dice.random((draws, len(requests))), done, limit) - done


def longest_output(request: Request, view: InstanceView) -> int:
    """Most tokens the request may generate: what its client stated, else what the instance allows."""
    allowed = view.max_model_tokens - request.prompt_tokens
    return min(request.max_output_tokens, allowed) if request.max_output_tokens > 0 else allowed
