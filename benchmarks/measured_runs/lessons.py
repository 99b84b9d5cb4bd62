"""Which measured runs each bundled engine profile learns its overheads from, and which overheads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from simserve.validation.case import Case
from simserve.validation.split import is_check

_STEP = ("per_step_s", "per_decode_request_s", "request_s")
_PATH = (*_STEP, "request_per_prompt_token_s")


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one profile learns from.

    datasets    measurement files; empty = all
    leave_out   models (parts of their names) whose kernels are known to be off, so that host overheads are not bent to cover for them
    check_too   the only run there is: it is used although the split keeps it for judging, and the report says so
    """

    profile: str
    parameters: tuple[str, ...] = _STEP
    datasets: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    check_too: bool = False
    most_cases: int = 16


# Not here: vllm-v0 (least squares found nothing better than what was assumed) and vllm-ascend (what one page teaches makes the held-out
# models worse).
LESSONS = (
    Lesson("vllm-0.19", ("per_step_s", "per_decode_request_s"), ("per_request_vllm_rtx",), check_too=True),
    # Bench pages: all requests at once, time is all queueing.
    Lesson("vllm-v1-async", _PATH, ("vllm_h100_a100_stage_latency", "engine_ttft_tpot_h100_h200"), most_cases=32),
    # Llama-3.1-8B-FP8: more tokens per second than the device can compute, so prompts came from a cache that the table does not mention.
    # Qwen3-235B: steps that do not grow with the batch, as without CUDA graphs. gpt-oss: runs of 512 clients, sequence slots not stated.
    Lesson("vllm-v1", datasets=("engine_ttft_tpot_h100_h200",), leave_out=("gpt-oss", "Qwen3-235B", "Llama-3.1-8B-Instruct-FP8")),
    Lesson("vllm-v0-offline", ("per_step_s", "per_decode_request_s"), most_cases=40),
    Lesson(
        "vllm-2023",
        ("per_step_s", "per_decode_request_s", "per_prefill_token_s", "kernel_launch_s"),
        ("batch_phase_latency_a100_h100",),
        most_cases=40,
    ),
    Lesson("sglang-0.5.1", datasets=("engine_ttft_tpot_h100_h200",)),
    Lesson("sglang", datasets=("engine_ttft_tpot_h100_h200",), most_cases=40),
    # Mixed steps of its PyTorch backend run outside CUDA graphs: the host's time per kernel decides those of short prompts.
    Lesson("tensorrt-llm-1.0", (*_STEP, "kernel_launch_s"), datasets=("engine_ttft_tpot_h100_h200",), most_cases=40),
    # DeepSeek: its rows differ by a third at one layout, which speculation would explain and the table does not say.
    Lesson("tensorrt-llm", (*_PATH, "kernel_launch_s"), ("engine_ttft_tpot_h100_h200",), leave_out=("DeepSeek",), most_cases=32),
    Lesson("deepspeed-fastgen", ("per_step_s", "per_decode_request_s", "per_prefill_token_s")),
    Lesson("llama.cpp", ("per_step_s",)),
    Lesson("mindie", check_too=True),
)


def cases_for(lesson: Lesson, cases: Iterable[Case]) -> list[Case]:
    """The cases a profile may learn from."""
    return [
        case
        for case in cases
        if case.profile == lesson.profile
        and (lesson.check_too or not is_check(case))
        and (not lesson.datasets or case.dataset in lesson.datasets)
        and not any(part in case.model for part in lesson.leave_out)
    ]


def is_held_out(case: Case) -> bool:
    """Whether nothing was learned from the case's run: the split keeps it for judging, and its profile respects that."""
    return is_check(case) and not any(lesson.check_too and lesson.profile == case.profile for lesson in LESSONS)
