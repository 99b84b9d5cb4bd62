"""vLLM's limits on what waits, which its API server keeps before a request reaches the scheduler: the server's own question, our counts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from simserve.validation.schedules.engines.vllm_configuration import imported
from simserve.validation.schedules.workload import ScheduleWorkload


class ServerLimits:
    """What the server counts: requests that it has taken and not seen end, and prompts of those that it has seen no token of
    (AsyncLLM.check_admission; 0.33.0: v1/engine/async_llm.py:325)."""

    def __init__(self, config: Any, workload: ScheduleWorkload) -> None:
        self._server = imported("vllm.v1.engine.async_llm").AsyncLLM
        self._workload = workload
        self._there: set[int] = set()
        self._unanswered: set[int] = set()
        self._facade = SimpleNamespace(
            scheduler_config=config.scheduler_config,
            admission_stats=None,
            get_num_unfinished_requests=lambda: len(self._there),
            get_num_queued_tokens=self._tokens,
            _record_admission_rejection=lambda _: None,
        )
        refusals = imported("vllm.exceptions")
        self._refusals = (refusals.QueueOverflowError, refusals.MaxQueuedTokensError)

    def take(self, row: int) -> bool:
        """Whether a newcomer is taken; counts it if it is."""
        try:
            self._server.check_admission(self._facade)
        except self._refusals:
            return False
        self._there.add(row)
        self._unanswered.add(row)
        return True

    def answered(self, row: int) -> None:
        """A request's first token was seen."""
        self._unanswered.discard(row)

    def left(self, row: int) -> None:
        """A request has ended."""
        self._there.discard(row)
        self._unanswered.discard(row)

    def _tokens(self) -> int:
        return sum(self._workload.requests[row].prompt_tokens for row in self._unanswered)
