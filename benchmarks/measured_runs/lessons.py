"""What is learned for each bundled engine profile: which overheads, from which runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from simserve.validation.case import Case
from simserve.validation.sound import unsound
from simserve.validation.split import is_check, model_group

_STEP = ("per_step_s", "per_decode_request_s")
_SERVER = (*_STEP, "request_s", "request_delay_s", "request_per_prompt_token_s", "request_per_output_token_s", "first_request_s")


class Lesson(NamedTuple):
    """The overheads of one profile. `engine`: profiles of one engine, whose host runs the same program, are pooled."""

    profile: str
    engine: str
    parameters: tuple[str, ...]


LESSONS = (
    # Before V1 the host's code was another program: one process that schedules, prepares, samples and detokenises between two steps.
    Lesson("vllm-2023", "vllm-v0", (*_STEP, "per_prefill_token_s", "kernel_launch_s")),
    Lesson("vllm-v0", "vllm-v0", (*_STEP, "request_s", "request_delay_s", "request_per_prompt_token_s")),
    Lesson("vllm-v0-offline", "vllm-v0", _STEP),
    Lesson("vllm-v1", "vllm", _SERVER),
    Lesson("vllm-v1-async", "vllm", _SERVER),
    Lesson("vllm-0.19", "vllm", _SERVER),
    # Versions that no run is of: like their engine.
    Lesson("vllm-0.24", "vllm", _SERVER),
    Lesson("vllm-0.33", "vllm", _SERVER),
    Lesson("vllm-0.33-async", "vllm", _SERVER),
    Lesson("sglang-0.5.23", "sglang", _SERVER),
    Lesson("sglang-0.5.1", "sglang", _SERVER),
    Lesson("sglang", "sglang", _SERVER),
    # Mixed steps of its PyTorch backend run outside CUDA graphs: the host's time per kernel decides those of short prompts.
    Lesson("tensorrt-llm-1.0", "tensorrt-llm", (*_SERVER, "kernel_launch_s")),
    Lesson("tensorrt-llm", "tensorrt-llm", (*_SERVER, "kernel_launch_s")),
    Lesson("deepspeed-fastgen", "deepspeed", (*_STEP, "per_prefill_token_s")),
    Lesson("llama.cpp", "llama.cpp", ("per_step_s",)),
    Lesson("mindie", "mindie", (*_STEP, "request_s", "request_delay_s")),
)
"""Not here: vllm-ascend and sglang-ascend, whose kernels are efficiencies: what the host adds there is fitted in `benchmarks.ascend`."""

PARAMETERS = {lesson.profile: lesson.parameters for lesson in LESSONS}
ENGINES = {lesson.profile: lesson.engine for lesson in LESSONS}

SERVED = tuple(lesson.profile for lesson in LESSONS if "request_per_output_token_s" in lesson.parameters)
"""Profiles with API servers in front; each starts one, which is every engine's default."""

ROWS_OF_A_GROUP = 4
"""Rows that are learned from of each profile, data set, model and device; they count as one run however many they are."""


def cases_to_learn(cases: Iterable[Case]) -> list[Case]:
    """Rows of the fit part, spread evenly over the loads of each group. Runs that a profile has no other of are not spared: the only run
    of a version teaches it, and the leave-one-out errors show what it would be without."""
    groups: dict[tuple[str, ...], list[Case]] = defaultdict(list)
    teaching = (_teaching(case) for case in cases if case.profile in PARAMETERS and not case.skip and not unsound(case))
    usable = [case for case in teaching if case is not None]
    taught = {case.profile for case in usable if not is_check(case)}
    for case in usable:
        if not is_check(case) or case.profile not in taught:
            groups[case.profile, case.dataset, model_group(case), case.gpu].append(case)
    return [case for _, members in sorted(groups.items()) for case in _spread(members)]


def _teaching(case: Case) -> Case | None:
    """What is learned from of a case, None where nothing is.

    Of the bench pages, whose devices compute prompts at half to two thirds of the rate that they have in all other data sets, whatever the
    engine (docs/serving-validation.md), only the first tokens of bursts of short prompts, which are about how fast requests are taken in:
    host seconds must not make up for slow devices. Nothing of servers with fewer cores than processes: their host is theirs alone.
    """
    if case.settings.get("host_cores"):
        return None
    if case.dataset != "vllm_bench_serve_gpustack_lab":
        return case
    burst = case.load.kind == "burst" and case.load.output.mean <= 8 and case.load.prompt.mean <= 256
    first = {metric: seconds for metric, seconds in case.measured.items() if metric == "ttft_mean"}
    return replace(case, measured=first) if burst and first else None


def _spread(members: Sequence[Case]) -> list[Case]:
    ordered = sorted(members, key=lambda c: (c.load.prompt.mean, c.load.concurrency, c.load.rate_per_s, c.tp, c.label))
    if len(ordered) <= ROWS_OF_A_GROUP:
        return ordered
    step = (len(ordered) - 1) / (ROWS_OF_A_GROUP - 1)
    return [ordered[round(k * step)] for k in range(ROWS_OF_A_GROUP)]


def is_held_out(case: Case) -> bool:
    """Whether the case's run is in the check part: where its profile has other runs, nothing was learned from it."""
    return is_check(case)
