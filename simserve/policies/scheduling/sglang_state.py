"""What SGLang's scheduler remembers from step to step: how much requests are expected to generate, and whether its batch is full."""

from __future__ import annotations

from collections.abc import Sequence

from simserve.contracts import DecodingView, InstanceView, Request

INIT_RATIO = 0.7
MIN_RATIO_FACTOR = 0.14
DECAY_STEPS = 600
RETRACT_DECODE_STEPS = 20
"""sglang/srt/environ.py of 0.5.23, lines 646 to 649: SGLANG_INIT_NEW_TOKEN_RATIO, SGLANG_MIN_NEW_TOKEN_RATIO_FACTOR,
SGLANG_NEW_TOKEN_RATIO_DECAY_STEPS and SGLANG_RETRACT_DECODE_STEPS; the same in 0.5.1 (global_config.py)."""


_AGAIN = 1 << 40
"""Those that are queued again come after all rows."""


class NewTokenRatio:
    """The part of their longest outputs that running requests are expected to generate (scheduler_components/new_token_ratio_tracker.py).

    now           the part, 0 to 1
    counts_one_more  whether one token more is divided by after a retraction (since 0.5.6, to avoid a division by zero)
    """

    def __init__(self, conservativeness: float, counts_one_more: bool = True) -> None:
        self._first = min(INIT_RATIO * conservativeness, 1.0)
        self._least = min(self._first * MIN_RATIO_FACTOR, 1.0)
        self._step = (self._first - self._least) / DECAY_STEPS
        self._more = int(counts_one_more)
        self.now = self._first

    def decay(self, steps: int) -> None:
        """So many decode steps had enough memory: subtracted one by one, as the engine does, so that the last bit is the same."""
        for _ in range(steps):
            if self.now == self._least:
                return
            self.now = max(self.now - self._step, self._least)

    def reset(self) -> None:
        """The server is idle."""
        self.now = self._first

    def estimate(self, generated: Sequence[int], longest: Sequence[int]) -> None:
        """After a retraction: from the tokens that the others have `generated`, and their `longest` outputs."""
        tokens = sum(generated) + RETRACT_DECODE_STEPS * len(generated)
        self.now = min(1.0, tokens / max(1, sum(longest) + self._more))


class BatchState:
    """Of one batch in flight.

    full   no more prompts are looked at until a request has left (ScheduleBatch.batch_is_full)
    ended  requests that have ended and are counted until the next decode step: the tokens that they might still have generated; before
           0.5.23
    """

    def __init__(self) -> None:
        self.full = False
        self.ended: list[int] = []
        self._tick = 0
        self._decays = False
        self._expected = 0
        self._emptied = False
        self._decodes = False
        self._came: dict[int, int] = {}
        self.busy = False

    def came(self, request: Request) -> int:
        """When a request came into the queue, of those that were asked for or requeued: a number that grows."""
        return self._came.get(request.row, request.row)

    def comes(self, request: Request) -> None:
        """A request is queued again: behind all that have come."""
        self._came[request.row] = _AGAIN + len(self._came)

    @property
    def stale(self) -> int:
        """Requests that have ended and are still counted."""
        return len(self.ended)

    def decayed(self, tick: int) -> int:
        """Decode steps since the last plan, if these were such as let the ratio fall."""
        return tick - self._tick if self._decays else 0

    def end(self, request: Request, left: int) -> None:
        """A request has ended that might still have generated `left` tokens; one of a prefill batch is not counted any more."""
        if self._decodes:
            self.ended.append(left)

    def merge(self, running: int) -> None:
        """The last step's requests are in the batch now; it is not full where one has left, nor where the batch was empty before: then the
        prefill batch takes its place (get_next_batch_to_run)."""
        if running + self.stale < self._expected or (self._emptied and running):
            self.full = False

    def filter(self) -> None:
        """Those that have ended are not counted any more."""
        if self.ended:
            self.ended.clear()
            self.full = False

    def prefilled(self, tick: int, running: int, emptied: bool) -> None:
        """A prefill batch is planned: `running` requests will decode when it has ended, if none ends."""
        self._tick, self._expected, self._emptied, self._decays, self.busy = tick, running, emptied, False, True
        self._decodes = False

    def decoding(self, tick: int, running: int, decays: bool) -> None:
        """A decode batch is planned."""
        self._tick, self._expected, self._emptied, self._decays, self.busy = tick, running, False, decays, running > 0
        self._decodes = True


def retraction_order(group: DecodingView) -> list[Request]:
    """Those that decode, so that the last is retracted first: who has generated least, then who has the longest prompt, then who joined
    last (schedule_batch.py line 3542, _get_decode_retraction_order)."""
    return sorted(group, key=lambda request: (group.generated_tokens(request), -request.prompt_tokens), reverse=True)


def longest_output(request: Request, view: InstanceView) -> int:
    """Most tokens the request may generate: what its client stated, at most what fits with its prompt and a page (scheduler.py line 2693,
    init_req_max_new_tokens; tp_worker.py line 421)."""
    page, prompt = view.kv.block_tokens, request.prompt_tokens
    allowed = view.max_model_tokens - 2 - prompt
    if view.kv.blocks(page << 20) == 1 << 20:  # all layers keep every token
        allowed = min(allowed, view.kv.total_blocks * page - -(-prompt // page) * page - page - 1)
    allowed = max(1, allowed)
    return min(request.max_output_tokens, allowed) if request.max_output_tokens > 0 else allowed
