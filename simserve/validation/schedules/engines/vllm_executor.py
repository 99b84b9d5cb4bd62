"""A model executor for vLLM's engine core that computes nothing: a batch takes a stated time, a sequence that is due a token gets one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simserve.validation.schedules.engines.vllm_configuration import imported, layer_specs
from simserve.validation.schedules.workload import ScheduleWorkload

OWN_TOKENS = 1 << 28
"""Ids of answers' tokens begin here: no two are equal, so that no answer is found in the prefix cache but its own."""


class Clock:
    """The time that the engine core lives in."""

    def __init__(self) -> None:
        self.now = 0.0


class _Result:
    """The result of a batch, like a `concurrent.futures.Future`: waiting for it moves the clock."""

    def __init__(self, clock: Clock, end_s: float, output: Any) -> None:
        self._clock, self._end_s, self._output = clock, end_s, output

    def done(self) -> bool:
        """Whether it is there already."""
        return self._end_s <= self._clock.now

    def result(self, timeout: float | None = None) -> Any:
        """Waits for it."""
        self._clock.now = max(self._clock.now, self._end_s)
        return self._output


def executor_class(workload: ScheduleWorkload, clock: Clock, stop_token: int) -> type:
    """An executor for one workload: what `EngineCore` constructs with its configuration."""

    class StatedExecutor(_Executor):
        def __init__(self, vllm_config: Any) -> None:
            super().__init__(vllm_config, workload, clock, stop_token)

    return StatedExecutor


class _Executor:
    """What `vllm.v1.executor.abstract.Executor` is to the engine core, in one process without a device."""

    supports_pp = True
    uses_ray = False
    supported_tasks = ("generate",)

    def __init__(self, vllm_config: Any, workload: ScheduleWorkload, clock: Clock, stop_token: int) -> None:
        self._config, self._workload, self._clock, self._stop = vllm_config, workload, clock, stop_token
        stages = workload.settings.pipeline_stages
        self._stages, self._stage_free_s = stages, 0.0
        self._emitted = [0] * len(workload.requests)
        self._last: _Result | None = None
        self._drafted: list[str] = []
        self._next_token = OWN_TOKENS
        self.known_tokens: Callable[[str], int] = lambda _: 0
        """Output tokens that the scheduler knows of a request: set when there is one."""

    # What the engine core asks when it starts.

    def get_kv_cache_specs(self) -> list[Any]:
        """Specs of the layers, of one worker: all that the scheduler looks at are the first worker's."""
        return [layer_specs(self._workload.settings)]

    def determine_available_memory(self) -> list[int]:
        """More than enough: the number of blocks is stated (num_gpu_blocks_override)."""
        return [1 << 46]

    def initialize_from_config(self, kv_cache_configs: Any) -> None:
        """There are no workers."""

    def compile_or_warm_up_model(self) -> None:
        """There is no model."""

    def get_supported_kv_cache_layouts(self) -> list[list[str]]:
        """FlashAttention's: layer, block, token, head, in 0.33's letters. Where bytes lie decides nothing."""
        return [["LBNHC"]]

    def set_kv_cache_layout(self, *_: Any) -> None:
        """There are no workers."""

    def register_failure_callback(self, _: Any) -> None:
        """Nothing fails."""

    def collective_rpc(self, method: str, *_: Any, **__: Any) -> list[Any]:
        """There are no workers."""
        return []

    @property
    def max_concurrent_batches(self) -> int:
        """As MultiprocExecutor has it (0.11.0: v1/executor/multiproc_executor.py:330; 0.19.1: 469)."""
        settings = self._workload.settings
        return 2 if settings.async_scheduling and settings.pipeline_stages <= 1 else settings.pipeline_stages

    # What it asks for each batch.

    def execute_model(self, scheduler_output: Any, non_block: bool = False) -> Any:
        """The tokens of a batch: at once where nothing is computed, else when its last stage has ended."""
        if not scheduler_output.total_num_scheduled_tokens:
            self._drafted = []
            last = 0.0 if self._last is None else self._last._end_s  # results come in order
            return self._answer(_Result(self._clock, min(last, self._clock.now), self._output({})), non_block)
        start = max(self._clock.now, self._stage_free_s)
        if self._stages > 1:
            self._stage_free_s = start + self._workload.step_s / self._stages
        else:
            self._stage_free_s = start + self._workload.step_s
        self._last = _Result(self._clock, start + self._workload.step_s, self._output(self._sampled(scheduler_output)))
        return self._answer(self._last, non_block)

    def sample_tokens(self, grammar_output: Any, non_block: bool = False) -> Any:
        """Of the batch executed last."""
        assert self._last is not None
        return self._last if non_block else self._last.result()

    def take_draft_token_ids(self) -> Any:
        """Drafts of the requests that the last batch gave a token."""
        k = self._workload.settings.speculation_tokens
        names, self._drafted = self._drafted, []
        return imported("vllm.v1.outputs").DraftTokenIds(names, [self._drafts(name, k) for name in names])

    def _answer(self, result: _Result, non_block: bool) -> Any:
        """A future where there are several batches in flight or the engine asks for one."""
        return result if non_block or self.max_concurrent_batches > 1 else result.result()

    def _drafts(self, name: str, k: int) -> list[int]:
        return [1] * k if self._workload.requests[int(name)].accepted is not None else []

    def _sampled(self, plan: Any) -> dict[str, list[int]]:
        """Tokens by request: one for each whose prompt and answer are computed up to the last token with this batch, and as many more as
        the workload says are accepted of those drafted."""
        before = {one.req_id: one.num_computed_tokens for one in plan.scheduled_new_reqs}
        cached = plan.scheduled_cached_reqs
        if isinstance(
            cached, list
        ):  # 0.8: what a preempted request had in flight is dropped (scheduler.py:643), so the scheduler's count holds
            before |= {one.req_id: one.num_computed_tokens for one in cached}
            for one in cached:
                self._emitted[int(one.req_id)] = self.known_tokens(one.req_id)
        else:
            before |= dict(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
            known = getattr(cached, "num_output_tokens", None)
            if known is not None:  # those that the scheduler expects; fewer where it has dropped some with a preemption
                for name, count in zip(cached.req_ids, known, strict=True):
                    self._emitted[int(name)] = count
        found: dict[str, list[int]] = {}
        for name, count in plan.num_scheduled_tokens.items():
            row = int(name)
            request = self._workload.requests[row]
            # 0.11 leaves a victim of its priority order among what it schedules when its own turn had come before (scheduler.py:280): the
            # runner, which is told nothing of it, computes it at its old place and throws the token away (gpu_model_runner.py:1076)
            if name not in before or before[name] + count < request.prompt_tokens + self._emitted[row]:
                found[name] = []
                continue
            drafted = len(plan.scheduled_spec_decode_tokens.get(name, ()))
            accepted = 0
            if drafted and request.accepted is not None:
                done = self._emitted[row]
                accepted = min(request.accepted[done], drafted) if done < len(request.accepted) else 0
            found[name] = [self._token(row) for _ in range(1 + accepted)]
        return found

    def _token(self, row: int) -> int:
        self._emitted[row] += 1
        self._next_token += 1
        request = self._workload.requests[row]
        ends = self._emitted[row] == request.output_tokens < request.most_output_tokens
        return self._stop if ends else self._next_token

    def _output(self, sampled: dict[str, list[int]]) -> Any:
        names = list(sampled)
        made = imported("vllm.v1.outputs").ModelRunnerOutput
        given: dict[str, Any] = {
            "req_ids": names,
            "req_id_to_index": {name: k for k, name in enumerate(names)},
            "sampled_token_ids": [sampled[name] for name in names],
            "logprobs": None,
            "prompt_logprobs_dict": {},
            "pooler_output": [],
        }
        drafted = [name for name in names if sampled[name]]
        self._drafted = drafted
        fields = made.__dataclass_fields__
        if "spec_token_ids" in fields:  # 0.8: drafts come with the tokens
            k = self._workload.settings.speculation_tokens
            given["spec_token_ids"] = [self._drafts(name, k) if sampled[name] else [] for name in names] if k else None
        return made(**{name: value for name, value in given.items() if name in fields})
