"""`burstgpt_like`: the synthetic BurstGPT, put together day by day."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simserve.errors import ConfigError
from simserve.workload.generators.burstgpt import facts
from simserve.workload.generators.burstgpt.jobs import Jobs, api_rows, draw_jobs
from simserve.workload.generators.burstgpt.lengths import MODELS, conversation_tokens, draw_failures
from simserve.workload.generators.burstgpt.rates import STEP_S, Rates, draw_rates
from simserve.workload.generators.burstgpt.sessions import session_rows
from simserve.workload.requests import F64, I64, Labels, PrefixBlocks, RequestTable

LOG_TYPES = ("Conversation log", "API log")
_PLAN, _CONVERSATION, _API, _SESSION, _CONVERSATION_FAILURE, _API_FAILURE = range(6)  # spawn keys of the random streams


class _Rows(NamedTuple):
    """Rows of one day and kind; `second` counts from the start of day 0, `session` and `history` are -1 where there is none."""

    second: F64
    prompt: I64
    output: I64
    gpt4: I64
    api: NDArray[np.bool_]
    session: I64
    history: I64


def burstgpt_like(
    days: float = facts.DAYS,
    seed: int = 0,
    start_day: float = 0,
    *,
    conversations: bool = True,
    api: bool = True,
    failures: bool = True,
    sessions: bool = False,
    prefix_block_tokens: int | None = None,
    integer_times: bool = True,
) -> RequestTable:
    """A synthetic trace with the published statistics of BurstGPT_1: 61 days, about 1.43 million requests.

    days, start_day   the stretch of the 61 days (fractions allowed; day 0 is a Wednesday, local midnight). Any stretch of the same seed
                      shows the same rows as the whole. Beyond day 61 a new 61 days follow. Times are re-based to the stretch.
    conversations, api   leave out one of the two kinds of traffic. API traffic begins on day 9, as in the original.
    failures          keep the failed requests (0 tokens, 1.78 % of rows), or leave every request successful.
    sessions          conversation rows in multi-turn sessions with growing context, as in BurstGPT_3 (not comparable with BurstGPT_1's
                      single rows: lengths follow the sessions' facts, API rows are as before).
    prefix_block_tokens   with sessions: give each prompt block identities, so that a turn reuses the history it resends.
    integer_times     whole seconds, as published (ties are common), or the exact times.

    Facts and sources: simserve.workload.generators.burstgpt.facts. Raises ConfigError for an impossible stretch.
    """
    if not (days > 0 and start_day >= 0 and np.isfinite(days) and np.isfinite(start_day)):
        raise ConfigError(f"burstgpt_like: days must be > 0 and start_day >= 0, found days={days}, start_day={start_day}")
    if not (conversations or api):
        raise ConfigError("burstgpt_like: conversations and api are both false, which leaves no requests")
    if prefix_block_tokens is not None and not sessions:
        raise ConfigError("burstgpt_like: prefix_block_tokens needs sessions: true (single requests share no history)")
    # Whole seconds: a start like 28.4583333 days means 11:00:00, and re-based times stay whole.
    begin_s, end_s = float(round(start_day * facts.DAY_S)), float(round((start_day + days) * facts.DAY_S))
    parts: list[_Rows] = []
    environments: dict[int, tuple[Rates, Jobs]] = {}
    # A session may have started days before the stretch: its later turns belong to the stretch.
    lead_days = int(np.ceil(facts.GAP_MAX_S / facts.DAY_S)) if sessions else 0
    next_session = next_history = 0
    for day in range(max(0, int(start_day) - lead_days), int(np.ceil(start_day + days))):
        block, inner = divmod(day, facts.DAYS)
        if block not in environments:
            plan = _stream(seed, _PLAN, block)
            rates = draw_rates(plan, block * facts.DAYS)
            environments[block] = (rates, draw_jobs(plan, rates.api_per_hour))
        rates, jobs = environments[block]
        base_s = float(block * facts.DAYS * facts.DAY_S)
        if conversations and sessions:
            turns = session_rows(_stream(seed, _SESSION, day), rates, inner, day * float(facts.DAY_S))
            never = np.zeros(len(turns.second), dtype=bool)
            parts.append(_Rows(*turns[:4], never, turns.session + next_session, turns.history + next_history))
            next_session += int(turns.session.max(initial=-1)) + 1
            next_history += int(turns.history.max(initial=-1)) + 1
        if day < int(start_day):
            continue
        if conversations and not sessions:
            rows = _conversation_rows(_stream(seed, _CONVERSATION, day), rates, inner)
            parts.append(_fail(rows, rates, _stream(seed, _CONVERSATION_FAILURE, day), base_s, failures))
        if api:
            rows = _api_rows(_stream(seed, _API, day), jobs, inner)
            parts.append(_fail(rows, rates, _stream(seed, _API_FAILURE, day), base_s, failures))
    second, prompt, output, gpt4, is_api, session, history = (np.concatenate(column) for column in zip(*parts, strict=True))
    if integer_times:
        second = np.floor(second)
    inside = np.flatnonzero((second >= begin_s) & (second < end_s))
    rows_kept = inside[np.argsort(second[inside], kind="stable")]
    prefix = None
    if prefix_block_tokens is not None:
        prefix = _prefix(history[rows_kept], prompt[rows_kept], prefix_block_tokens)
    return RequestTable.build(
        second[rows_kept] - begin_s,
        prompt[rows_kept],
        output[rows_kept],
        session=_renumber(session[rows_kept]),
        label_model=Labels(gpt4[rows_kept].astype(np.int16), MODELS),
        log_type=Labels(is_api[rows_kept].astype(np.int16), LOG_TYPES),
        prefix=prefix,
        provenance={
            "source": "burstgpt-like (synthetic)",
            "seed": seed,
            "days": days,
            "start_day": start_day,
            "conversations": conversations,
            "api": api,
            "sessions": sessions,
            "rows": len(rows_kept),
            "failures": int(np.count_nonzero(output[rows_kept] == 0)),
        },
    )


def _stream(seed: int, kind: int, day: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(kind, day)))


def _fail(rows: _Rows, rates: Rates, rng: np.random.Generator, base_s: float, failures: bool) -> _Rows:
    """The rows with failed requests at 0 tokens, their times moved from the start of the block to the start of day 0."""
    if failures:
        failed = draw_failures(rng, rates, rows.second, rows.api)
        rows = rows._replace(prompt=np.where(failed, 0, rows.prompt), output=np.where(failed, 0, rows.output))
    return rows._replace(second=rows.second + base_s)


def _conversation_rows(rng: np.random.Generator, rates: Rates, day: int) -> _Rows:
    """A day's single conversation requests: Poisson inside each 300 s step."""
    steps = facts.DAY_S // STEP_S
    count = rng.poisson(rates.conversation_per_step[day * steps : (day + 1) * steps])
    n = int(count.sum())
    second = day * float(facts.DAY_S) + (np.repeat(np.arange(steps), count) + rng.random(n)) * STEP_S
    gpt4 = rng.random(n) < facts.GPT4_CONVERSATION_FRACTION
    prompt, output = conversation_tokens(rng, gpt4)
    none = np.full(n, -1, dtype=np.int64)
    return _Rows(second, prompt, output, gpt4.astype(np.int64), np.zeros(n, dtype=bool), none, none)


def _api_rows(rng: np.random.Generator, jobs: Jobs, day: int) -> _Rows:
    when, prompt, output, gpt4 = api_rows(rng, jobs, day)
    none = np.full(len(when), -1, dtype=np.int64)
    return _Rows(when, prompt, output, gpt4, np.ones(len(when), dtype=bool), none, none)


def _renumber(session: I64) -> I64:
    """Session numbers 0, 1, 2... in the order of their first row; -1 stays."""
    number, first, inverse = np.unique(session, return_index=True, return_inverse=True)
    order = np.argsort(np.where(number < 0, -1, first), kind="stable")
    rank = np.empty(len(number), dtype=np.int64)
    rank[order] = np.arange(len(number)) - int(bool(len(number)) and number[0] < 0)
    return rank[inverse]


def _prefix(history: I64, prompt: I64, block_tokens: int) -> PrefixBlocks:
    """Full blocks of each prompt. Rows of one history share ids as far as both reach; a row without history (-1) owns its blocks alone."""
    blocks = np.where(history >= 0, prompt // block_tokens, 0)
    offsets = np.concatenate([[0], np.cumsum(blocks)]).astype(np.int64)
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], blocks)
    return PrefixBlocks(offsets, np.repeat(history, blocks) * (1 << 20) + within, block_tokens)
