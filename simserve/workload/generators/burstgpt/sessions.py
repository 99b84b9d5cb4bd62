"""Multi-turn conversations with growing context, after the facts about BurstGPT_3 (the part of the trace with session ids)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simserve.workload.generators.burstgpt import facts
from simserve.workload.generators.burstgpt.rates import STEP_S, Rates
from simserve.workload.requests import F64, I64

_CONTEXT_TOKENS = np.array([8192, 16384])  # windows of ChatGPT and GPT-4 in 2024; a longer history is cut


class SessionRows(NamedTuple):
    """All turns of the sessions that start on one day. `history` numbers the token streams: equal numbers share their prefix."""

    second: F64
    prompt: I64
    output: I64
    gpt4: I64
    session: I64
    history: I64


def session_rows(rng: np.random.Generator, rates: Rates, day: int, day_start_s: float) -> SessionRows:
    """Sessions start at the conversation rate divided by the mean number of turns, so the rate of requests stays the published one."""
    steps = facts.DAY_S // STEP_S
    count = rng.poisson(rates.conversation_per_step[day * steps : (day + 1) * steps] / facts.TURNS_MEAN)
    n = int(count.sum())
    start = day_start_s + (np.repeat(np.arange(steps), count) + rng.random(n)) * STEP_S
    gpt4 = (rng.random(n) < facts.GPT4_CONVERSATION_FRACTION).astype(np.int64)
    turns = _turns(rng, n)
    window = _CONTEXT_TOKENS[gpt4]

    live = np.arange(n)
    when = start
    prompt = np.interp(rng.random(n), facts.FIRST_INPUT_P, facts.FIRST_INPUT_TOKENS).astype(np.int64)
    history = np.arange(n)
    next_history = n
    out: list[SessionRows] = []
    turn = 1
    while len(live):
        answer = np.interp(rng.random(len(live)), facts.SESSION_OUTPUT_P, facts.SESSION_OUTPUT_TOKENS).astype(np.int64)
        out.append(SessionRows(when, prompt, np.maximum(answer, 1), gpt4[live], live, history))
        stay = turns[live] > turn
        live, when, prompt, answer, history = live[stay], when[stay], prompt[stay], answer[stay], history[stay]
        if not len(live):
            break
        when = when + np.exp(np.interp(rng.random(len(live)), facts.GAP_P, np.log(facts.GAP_S)))
        text = np.interp(rng.random(len(live)), facts.USER_TEXT_P, facts.USER_TEXT_TOKENS).astype(np.int64)
        grown = prompt + answer + text
        broken = (rng.random(len(live)) < facts.HISTORY_BROKEN) | (grown > window[live])
        # A broken history keeps its most recent part, whose first token differs: nothing of the prefix can be reused.
        kept = (rng.random(len(live)) * np.minimum(prompt, window[live] // 2)).astype(np.int64)
        prompt = np.where(broken, kept + text, grown)
        fresh = next_history + np.arange(len(live))
        next_history += len(live)
        history = np.where(broken, fresh, history)
        turn += 1
    return SessionRows(*(np.concatenate([np.asarray(part[i]) for part in out]) for i in range(6)))


def source_elapsed_s(gpt4: I64, output_tokens: I64) -> F64:
    """Seconds the source system took to answer, on average, by model (0 ChatGPT, 1 GPT-4) and output length."""
    elapsed: F64 = facts.ELAPSED_BASE_S[gpt4] + facts.ELAPSED_PER_TOKEN_S[gpt4] * output_tokens
    return elapsed


def _turns(rng: np.random.Generator, n: int) -> I64:
    """Turns per session: the published probabilities of 1..10, then the published tail."""
    u = rng.random(n)
    head = np.cumsum(facts.TURNS_P_1_TO_10)
    p = np.array([point[0] for point in facts.TURNS_TAIL])
    log_turns = np.log(np.array([point[1] for point in facts.TURNS_TAIL]))
    tail = np.rint(np.exp(np.interp(u, p, log_turns)))
    turns: I64 = np.where(u < head[-1], np.searchsorted(head, u, side="right") + 1, tail).astype(np.int64)
    return turns
