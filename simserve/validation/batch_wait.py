"""TensorRT-LLM's waiting for a fuller prompt batch, around any scheduling policy."""

from __future__ import annotations

from simserve.contracts import InstanceView, Scheduler, StepPlan


class BatchWait(Scheduler):
    """While requests decode, newcomers wait until enough of them are there, or `steps` steps have passed.

    Two of the engine's switches do this (tensorrt_llm/_torch/pyexecutor/py_executor.py): `batch_wait_timeout_iters` with
    `batch_wait_max_tokens_ratio` (`_waiting_requests`: until the step would have so many tokens), and `enable_balance` of
    attention_dp_config with its `timeout_iters` (`_balance_adp_requests`: until every attention replica has a newcomer).

    tokens    enough: prompt tokens waiting, with one for each decoding request (0 = never enough)
    requests  enough: newcomers waiting (0 = never enough)
    """

    def __init__(self, inner: Scheduler, steps: int, tokens: int = 0, requests: int = 0) -> None:
        self._inner = inner
        self._steps = steps
        self._tokens = tokens
        self._requests = requests
        self._waited = 0

    def plan(self, view: InstanceView) -> StepPlan:
        """The inner policy's plan, or a step of decodes only."""
        if view.waiting and len(view.decoding) and self._waited < self._steps and not self._enough(view):
            self._waited += 1
            plan = view.new_plan()
            plan.decode(view.decoding)
            return plan
        self._waited = 0
        return self._inner.plan(view)

    def _enough(self, view: InstanceView) -> bool:
        if self._requests and len(view.waiting) >= self._requests:
            return True
        if not self._tokens:
            return False
        tokens = len(view.decoding)
        for request in view.waiting:
            tokens += request.target_tokens
            if tokens >= self._tokens:
                return True
        return False
