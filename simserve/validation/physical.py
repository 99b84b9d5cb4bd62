"""What an engine's overheads can be: for each the work behind it and the range that this work takes on a server's CPU.

A fit may not leave the range: what it would need beyond is an error of something else (kernels, scheduling, the run's own conditions), and
stays visible as one. `typical_s` is where a parameter stays that no run tells anything of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Range(NamedTuple):
    """The least, the usual and the largest seconds of an overhead, and why."""

    least_s: float
    typical_s: float
    largest_s: float
    reason: str


RANGES: Mapping[str, Range] = {
    "per_step_s": Range(
        5e-5,
        8e-4,
        1e-2,
        "launching one captured graph and reading its tokens back takes some 50 us; Python that schedules, prepares inputs, samples and"
        " sends results takes about a millisecond, several where no step overlaps with the next (vLLM 0.6.0's notes: CPU work took more of"
        " an 8B model's step on H100 than the GPU, 5 to 10 ms)",
    ),
    "per_decode_request_s": Range(
        1e-6,
        1e-5,
        2.5e-4,
        "an entry of each input array and of each output list, about a microsecond each; engines of 2023 sample, build log-probabilities"
        " and turn tokens into text in Python between two steps, 0.1 to 0.2 ms a sequence",
    ),
    "per_prefill_token_s": Range(
        1e-8,
        2e-7,
        2e-6,
        "a token of a prompt is an element of three or four Python lists (ids, positions, slots) that become tensors: 20 to 50 ns for each"
        " operation on an element",
    ),
    "kernel_launch_s": Range(
        2e-6,
        1e-5,
        3e-5,
        "the driver takes 2 to 3 us, PyTorch's dispatcher and the Python of a module 5 to 10 us more; an operator that is counted once may"
        " be two launches",
    ),
    "request_s": Range(
        3e-4,
        3e-3,
        5.5e-3,
        "an HTTP server in Python that parses JSON, checks it and answers takes 0.3 ms; one that also renders a template, tokenises and"
        " passes the request to another process has been measured to take in 184 to 248 requests a second (bursts of 1,000 prompts of 128"
        " tokens, four tokens of answer), 4 to 5.4 ms each with their answers",
    ),
    "request_delay_s": Range(
        1e-4,
        2e-3,
        1e-2,
        "the way through network and kernel, two or three event loops that wait for their turn, the first token's way back: tenths of a"
        " millisecond each, a few milliseconds where a loop is busy",
    ),
    "request_per_prompt_token_s": Range(
        2e-8,
        3e-7,
        1e-6,
        "a Rust tokeniser reads 1 to 5 million tokens a second on one core; ids that are sent to another process are a few bytes each",
    ),
    "request_per_output_token_s": Range(
        2e-6,
        1.5e-5,
        6e-5,
        "incremental detokenisation, a JSON chunk and a write to a socket in Python: 5 to 50 us",
    ),
    "first_request_s": Range(
        1e-3,
        5e-2,
        5.0,
        "kernels compiled for shapes that no warm-up has shown (Triton, DeepGEMM, FlashInfer): tenths of a second each, some of them in a"
        " run; a second connection, a first template: milliseconds",
    ),
}
"""By the names of `Overheads` and its `host`."""


class JitterRange(NamedTuple):
    """The least, the usual and the largest value of a parameter of step jitter, and why."""

    least: float
    typical: float
    largest: float
    reason: str


JITTER: Mapping[str, JitterRange] = {
    "spread": JitterRange(
        0.05,
        0.3,
        0.7,
        "caches and clocks alone vary the same Python code by some 5 %; a core and an interpreter lock that are shared with threads of"
        " input and output, API servers and other engines make single pieces take twice as long now and then",
    ),
    "stall_probability": JitterRange(
        1e-4,
        5e-3,
        5e-2,
        "at 30 to 150 steps a second: from one collection of old objects in minutes to a thread that is taken off its core every few steps",
    ),
    "stall_s": JitterRange(
        5e-4,
        4e-3,
        3e-2,
        "a slice of Linux's scheduler is 0.75 to 4 ms, CPython's interpreter lock changes hands after 5 ms, a collection of all objects of"
        " a serving process takes 10 to 100 ms and its young ones below one",
    ),
}
"""By the names of `engine.jitter.StepJitter`."""


def clipped(name: str, seconds: float) -> float:
    """The value, brought inside its range."""
    allowed = RANGES[name]
    return min(max(seconds, allowed.least_s), allowed.largest_s)


def at_bound(name: str, seconds: float) -> str:
    """'least' or 'largest' where a value is at the end of its range (within 3 %), '' elsewhere."""
    allowed = RANGES[name]
    if seconds <= 1.03 * allowed.least_s:
        return "least"
    return "largest" if seconds >= 0.97 * allowed.largest_s else ""
