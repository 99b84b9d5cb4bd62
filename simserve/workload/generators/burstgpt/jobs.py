"""API traffic as batch jobs: each hour's requests come from a few clients that send a small set of prompts again and again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simserve.workload.generators.burstgpt import facts
from simserve.workload.generators.burstgpt.lengths import scaled_quantiles
from simserve.workload.requests import F64, I64

_PROMPTS = 20  # a job's set of prompts: 13-25 distinct ones were seen in the densest minute of the trace
_JOBS_PER_LOG_COUNT = 0.6
_JOB_SIZE_LOG_SD = 1.4
_RATE_MEDIAN_PER_S, _RATE_LOG_SD, _RATE_MAX_PER_S = 1.0, 1.0, 18.0
_SAME_OUTPUT = 0.75  # fraction of a job's outputs that are exactly alike [W1]
_OUTPUT_LOG_SD = 0.25


@dataclass(frozen=True, slots=True)
class Jobs:
    """All API jobs of a block of 61 days, one row a job, ordered by hour; and the prompt sets they use.

    start_s, duration_s  seconds from the start of the block.
    requests, campaign   size of the job and the row of the prompt tables it uses.
    run                  how often a prompt is repeated before the next one.
    prompt_tokens, output_tokens   shape (campaigns, 20).
    gpt4                 per campaign.
    """

    hour: I64
    start_s: F64
    duration_s: F64
    requests: I64
    campaign: I64
    run: I64
    prompt_tokens: I64
    output_tokens: F64
    gpt4: I64


def draw_jobs(rng: np.random.Generator, api_per_hour: I64) -> Jobs:
    """Splits each hour's API requests into jobs of heavy-tailed size and gives them times, rates and prompts."""
    active = np.flatnonzero(api_per_hour)
    per_hour = 1 + rng.poisson(_JOBS_PER_LOG_COUNT * np.log(api_per_hour[active]))
    hour = np.repeat(active, per_hour)
    weight = rng.lognormal(0.0, _JOB_SIZE_LOG_SD, len(hour))
    first = np.concatenate([[0], np.cumsum(per_hour)[:-1]])
    cumulative = np.cumsum(weight)
    before = np.concatenate([[0.0], cumulative])[first]
    fraction = (cumulative - np.repeat(before, per_hour)) / np.repeat(np.add.reduceat(weight, first), per_hour)
    # Rounding the cumulative fractions keeps the hour's total exact.
    edge = np.rint(np.clip(fraction, 0.0, 1.0) * api_per_hour[hour]).astype(np.int64)
    requests = np.diff(edge, prepend=0)
    requests[first] = edge[first]
    keep = requests > 0
    hour, requests = hour[keep], requests[keep]

    rate = np.clip(rng.lognormal(np.log(_RATE_MEDIAN_PER_S), _RATE_LOG_SD, len(hour)), 0.02, _RATE_MAX_PER_S)
    duration = np.minimum(requests / rate, facts.HOUR_S - 1.0)
    start = hour * float(facts.HOUR_S) + rng.random(len(hour)) * (facts.HOUR_S - duration)
    campaign, campaigns = _campaigns(rng, hour // 24)
    mass = np.bincount(campaign, weights=requests, minlength=campaigns).astype(np.float64)
    prompt_tokens, output_tokens, gpt4 = _prompt_sets(rng, mass)
    run = rng.choice(np.array([1, 8, 60]), len(hour))
    return Jobs(hour, start, duration, requests, campaign, run, prompt_tokens, output_tokens, gpt4)


def _campaigns(rng: np.random.Generator, day: I64) -> tuple[I64, int]:
    """Jobs of one day share a few prompt sets (a campaign is one day's use of one set)."""
    sets_per_day = 1 + rng.poisson(2.5, facts.DAYS)
    offset = np.concatenate([[0], np.cumsum(sets_per_day)])
    return offset[day] + (rng.random(len(day)) * sets_per_day[day]).astype(np.int64), int(offset[-1])


def _prompt_sets(rng: np.random.Generator, mass: F64) -> tuple[I64, F64, I64]:
    """Token counts of every prompt of every campaign.

    Prompts are ranked by a latent that a campaign's prompts share in part, and take the quantile at their rank weighted by requests:
    a few campaigns hold most of the requests, and only so does the whole keep its published mean for every seed.
    """
    n = len(mass)
    weight = np.repeat(mass / _PROMPTS, _PROMPTS)

    def ranked(latent: F64) -> F64:
        order = np.argsort(latent, kind="stable")
        u = np.empty(len(latent))
        u[order] = (np.cumsum(weight[order]) - weight[order] / 2) / weight.sum()
        return u

    size = rng.standard_normal(n)
    answer = 0.3 * size + np.sqrt(1 - 0.09) * rng.standard_normal(n)
    u_in = ranked((size[:, None] + 0.5 * rng.standard_normal((n, _PROMPTS))).ravel())
    u_out = ranked((answer[:, None] + 0.3 * rng.standard_normal((n, _PROMPTS))).ravel())
    prompt = scaled_quantiles(u_in, facts.API_INPUT_P, facts.API_INPUT_TOKENS, facts.API_INPUT_MEAN)
    output = scaled_quantiles(u_out, facts.API_OUTPUT_P, facts.API_OUTPUT_TOKENS, facts.API_OUTPUT_MEAN)
    order = rng.permutation(n)
    gpt4 = np.zeros(n, dtype=np.int64)
    gpt4[order[np.cumsum(mass[order]) <= facts.GPT4_API_FRACTION * mass.sum()]] = 1
    return np.maximum(np.rint(prompt), 1).astype(np.int64).reshape(n, _PROMPTS), output.reshape(n, _PROMPTS), gpt4


def api_rows(rng: np.random.Generator, jobs: Jobs, day: int) -> tuple[F64, I64, I64, I64]:
    """(seconds from the start of the block, prompt tokens, output tokens, 1 for GPT-4) of the API requests of one day of the block."""
    rows = np.flatnonzero(jobs.hour // 24 == day)
    count = jobs.requests[rows]
    job = np.repeat(rows, count)
    position = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    # A sequential client: its gaps vary, but it never waits long, so requests are spread evenly with jitter of one gap.
    when = jobs.start_s[job] + jobs.duration_s[job] * (position + rng.random(len(job))) / jobs.requests[job]
    campaign = jobs.campaign[job]
    prompt = (position // jobs.run[job]) % _PROMPTS
    centre = jobs.output_tokens[campaign, prompt]
    noise = np.exp(_OUTPUT_LOG_SD * rng.standard_normal(len(job)) - _OUTPUT_LOG_SD**2 / 2)
    output = np.where(rng.random(len(job)) < _SAME_OUTPUT, centre, centre * noise)
    return when, jobs.prompt_tokens[campaign, prompt], np.maximum(np.rint(output), 1).astype(np.int64), jobs.gpt4[campaign]
