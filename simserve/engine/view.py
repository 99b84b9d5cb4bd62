"""What a policy sees when a lane of an instance is about to start a step."""

from __future__ import annotations

from collections.abc import Callable

from simserve import contracts
from simserve.engine.batch import Batch
from simserve.engine.decode_group import DecodeGroup
from simserve.engine.kv_view import KvView
from simserve.engine.readonly import ReadOnly, write
from simserve.engine.request import LiveRequest
from simserve.engine.waiting import WaitingQueue


class InstanceView(ReadOnly):
    """Read-only state of one lane at the time of planning. To change anything, tell the plan.

    now          simulated seconds
    waiting      requests not admitted, in the order of the queue discipline
    prefilling   admitted requests that have prompt tokens left to compute, oldest admission first
    decoding     the group of requests that have emitted a token and compute one more per step
    verifying    decoding requests outside the group: their last step verified drafted tokens
    ending       requests that have ended, which the engine does not know when it makes this plan: they keep slots and memory in it
    swapped      requests whose KV is on the host
    kv           the instance's KV cache
    max_seqs     most requests that may run (prefilling and decoding) in this lane
    max_model_len     longest sequence the model is served with, in tokens; None = not limited
    max_model_tokens  longest prompt + output that a request may reach here: max_model_len, or less if the KV cache holds less
    new_plan(budget=None)  an empty plan for the coming step. `budget` = most tokens of the step: decodes count one each and always ride,
                 prefill slices must fit in what is left
    """

    __slots__ = (
        "_batch",
        "decoding",
        "ending",
        "kv",
        "max_model_len",
        "max_model_tokens",
        "max_seqs",
        "new_plan",
        "prefilling",
        "swapped",
        "verifying",
        "waiting",
    )

    _batch: Batch
    waiting: WaitingQueue
    prefilling: list[LiveRequest]
    decoding: DecodeGroup
    swapped: list[LiveRequest]
    verifying: list[LiveRequest]
    ending: list[LiveRequest]
    kv: KvView
    max_seqs: int
    max_model_len: int | None
    max_model_tokens: int
    new_plan: Callable[..., contracts.StepPlan]

    def __init__(self, batch: Batch, waiting: WaitingQueue, max_seqs: int, max_model_len: int | None, max_model_tokens: int) -> None:
        write(self, "_batch", batch)
        write(self, "waiting", waiting)
        write(self, "prefilling", batch.prefilling)
        write(self, "decoding", batch.group)
        write(self, "swapped", batch.swapped)
        write(self, "verifying", batch.verifying)
        write(self, "ending", batch.lingering)
        write(self, "kv", KvView(batch.kv))
        write(self, "max_seqs", max_seqs)
        write(self, "max_model_len", max_model_len)
        write(self, "max_model_tokens", max_model_tokens)

    @property
    def now(self) -> float:
        """Seconds of simulated time."""
        return self._batch.now

    @property
    def running(self) -> int:
        """Requests that hold a sequence slot: prefilling, decoding and verifying."""
        return self._batch.running

    @property
    def free_slots(self) -> int:
        """Requests that may still be admitted under max_seqs."""
        free = self.max_seqs - len(self.prefilling) - len(self.decoding.members) - len(self.verifying)
        return free - len(self._batch.lingering) if self._batch.ends_late else free

    @property
    def in_turn(self) -> bool:
        """Whether running requests can be planned one after the other: not where the group speculates, nor with pipeline stages."""
        return self._batch.speculating is None and self._batch.cost.stages == 1

    @property
    def stages(self) -> int:
        """Pipeline stages of the instance; each has a batch in flight."""
        return self._batch.cost.stages

    @property
    def victim(self) -> LiveRequest:
        """The running request that the queue discipline preempts first."""
        return self._batch.victim()
