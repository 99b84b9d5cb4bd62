"""Does `simserve plan` find what an exhaustive sweep finds, at how many simulated requests? Five sizing questions of at least 60 plans.

    python benchmarks/plan_search.py [--questions chat code ...] [--requests 600] [--replicates 5] [--jobs 2] [--out FOLDER]

For each question every plan is simulated in full on the seeds on which the search verifies its finalists: the cheapest plan that meets the
predicate on their means, with the queue not growing through most of them, is the exhaustive answer. The search agrees when its answer
costs the same, or when a limit lies inside the error of its figure for one of the two, so that they are not told apart. Plans that the
capacity bound calls overloaded count as such even where a short run of them meets the SLO; how many there are is reported. So is how many
meet it that the bound of bursts eliminates: that bound is of these very seeds, so there must be none.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from simserve.study.cache import RunCache
from simserve.study.folder import RUNS
from simserve.study.limits import broken_at_best, limits
from simserve.study.plan.belief import Believed, believed
from simserve.study.plan.bounds import bounds
from simserve.study.plan.runs import Execution, Found, Runs, Wanted
from simserve.study.plan.search import PlanSpec, find, specify
from simserve.study.plan.space import Plan
from simserve.study.plan.verify import verified


def lengths(prompt: int, output: int, sigma: float = 0.8, longest: int = 8192) -> dict[str, Any]:
    """Lognormal prompts and answers with these medians, tokens."""
    return {
        "prompt": {"kind": "lognormal", "median_tokens": prompt, "sigma": sigma, "max_tokens": longest},
        "output": {"kind": "lognormal", "median_tokens": output, "sigma": 0.6, "max_tokens": 1024},
    }


def poisson(rate_per_s: float) -> dict[str, Any]:
    """Arrivals at a constant rate."""
    return {"kind": "poisson", "rate_per_s": rate_per_s}


QUESTIONS: dict[str, dict[str, Any]] = {
    "chat": {
        "model": "llama-3.1-8b",
        "hardware": "h100-sxm-80gb",
        "workload": {"arrivals": poisson(40), "lengths": lengths(400, 200)},
        "slo": {"ttft_s": 1.0, "tpot_s": 0.05},
        "plan": {"budget": {"devices": 8}, "hardware": ["h100-sxm-80gb", "a100-sxm-80gb", "l40s"], "tp": [1, 2], "max_num_seqs": [64, 256]},
    },
    "code": {
        "model": "qwen2.5-32b",
        "hardware": "h100-sxm-80gb",
        "workload": {"arrivals": poisson(12), "lengths": lengths(1500, 60)},
        "slo": {"ttft_s": 1.5, "tpot_s": 0.06},
        "plan": {
            "budget": {"devices": 8}, "hardware": ["h100-sxm-80gb", "a100-sxm-80gb"], "tp": [1, 2, 4],
            "max_num_batched_tokens": [2048, 8192], "quantisation": ["none", "fp8"],
        },
    },
    "burstgpt": {
        "model": "llama-3.1-8b",
        "hardware": "a100-sxm-80gb",
        "workload": {"burstgpt_like": {"days": 0.05, "start_day": 28.46, "rate_scale": 12, "failures": False}},
        "slo": {"ttft_s": 3.0, "tpot_s": 0.08},
        "plan": {
            "when": "attainment >= 0.95", "budget": {"devices": 8}, "hardware": ["a100-sxm-80gb", "l40s", "h100-sxm-80gb"], "tp": [1, 2],
            "max_num_seqs": [64, 256],
        },
    },
    "long-prompts": {
        "model": "qwen3-30b-a3b",
        "hardware": "h100-sxm-80gb",
        "workload": {"arrivals": poisson(6), "lengths": lengths(6000, 150, 0.6, 24000)},
        "slo": {"ttft_s": 4.0, "tpot_s": 0.06},
        "plan": {
            "budget": {"devices": 8}, "hardware": ["h100-sxm-80gb", "h200-sxm-141gb"], "tp": [1, 2, 4],
            "max_num_batched_tokens": [2048, 8192], "roles": ["colocated", "disaggregated"], "ratios": ["1:1", "2:1"],
        },
    },
    "day": {
        "model": "llama-3.1-8b",
        "hardware": "h100-sxm-80gb",
        "workload": {
            "arrivals": {"kind": "diurnal", "rate_per_s": 30, "peak_to_trough": 4, "period_s": 120},
            "lengths": lengths(600, 150),
        },
        "slo": {"ttft_s": 1.0, "tpot_s": 0.05},
        "plan": {
            "when": "attainment >= 0.95", "budget": {"devices": 8}, "hardware": ["h100-sxm-80gb", "a100-sxm-80gb", "l40s"], "tp": [1, 2],
            "max_num_seqs": [64, 256],
        },
    },
}  # fmt: skip
"""Dense and with experts; chat, code, BurstGPT, long prompts; one whose rate follows a (short) day."""


def question(name: str, requests: int, replicates: int) -> PlanSpec:
    """A question, with as many requests."""
    asked = {"name": name, **QUESTIONS[name]}
    asked["plan"] = {**asked["plan"], "replicates": replicates}
    workload = dict(asked["workload"])
    if "burstgpt_like" in workload:
        workload["burstgpt_like"] = {**workload["burstgpt_like"], "limit": requests}
    else:
        workload["count"] = requests
    return specify({**asked, "workload": workload})


def exhaustive(spec: PlanSpec, jobs: int | None, out: Path | None) -> dict[str, Any]:
    """The cheapest plan by simulating all of them, with how often the capacity bound and a short run disagree."""
    cache = None if out is None else RunCache(out / RUNS)
    runs = Runs(spec.base, spec.experiment, spec.load, spec.predicate.quantities, Execution(jobs=jobs), cache)
    seeds = range(spec.experiment.spec.seed + 1, spec.experiment.spec.seed + 1 + spec.section.replicates)
    meets: list[tuple[Plan, list[Found]]] = []
    overloaded = in_bursts = 0
    for family in spec.space.families():
        placed = spec.base.load(family.plan((1,) * len(family.shapes)).changes(spec.experiment))
        known = bounds(placed, spec.load, spec.predicate.quantities, spec.fresh)
        for counts in spec.space.counts(family):
            plan = family.plan(counts)
            wanted = [Wanted(plan, 1.0, seed) for seed in seeds]
            found = runs.of(wanted)
            if any(run.error for run in found):
                continue
            verification, _ = verified(found, list(seeds), spec.predicate, limits(spec.predicate), spec.experiment, Believed())
            if verification.failures:
                continue
            if known.overloaded(counts, tuple(shape.role for shape in family.shapes)):
                overloaded += 1
                continue
            in_bursts += bool(broken_at_best(limits(spec.predicate), known.best_in_bursts(counts, spec.predicate.quantities)))
            meets.append((plan, found))
    best = min(meets, key=lambda pair: pair[0].order, default=None)
    doubtful: tuple[str, ...] = ()
    if best is not None:
        belief = believed(runs.placed(Wanted(best[0], 1.0, seeds[0])))
        doubtful = verified(best[1], list(seeds), spec.predicate, limits(spec.predicate), spec.experiment, belief)[0].doubtful
    return {
        "best": None if best is None else best[0].name,
        "usd_per_hour": None if best is None else best[0].usd_per_hour,
        "doubtful": list(doubtful),
        "meets": len(meets),
        "overloaded_that_meet_it_once": overloaded,
        "eliminated_by_bursts_that_meet_it": in_bursts,
        "requests": runs.requests,
    }


def ask(name: str, requests: int, replicates: int, jobs: int | None, out: Path | None) -> dict[str, Any]:
    """One question: both answers, whether they agree, and what each took."""
    spec = question(name, requests, replicates)
    start_s = time.monotonic()
    result = find(spec, Execution(jobs=jobs))
    search_s, start_s = time.monotonic() - start_s, time.monotonic()
    whole = exhaustive(spec, jobs, None if out is None else out / name)
    best = result.best
    own, theirs = None if best is None else best.usd_per_hour, whole["usd_per_hour"]
    equal = own == theirs or (own is not None and theirs is not None and abs(own - theirs) < 1e-6)
    own_doubt = [] if best is None or best.verification is None else list(best.verification.doubtful)
    return {
        "question": name,
        "plans": spec.space.count(),
        "search": {"best": None if best is None else best.name, "usd_per_hour": own, "doubtful": own_doubt, "requests": result.requests},
        "exhaustive": whole,
        "same_cost": equal,
        "inside_its_interval": bool(whole["doubtful"] or own_doubt),
        "requests_fraction": result.requests / whole["requests"] if whole["requests"] else None,
        "search_s": round(search_s, 1),
        "exhaustive_s": round(time.monotonic() - start_s, 1),
    }


def main() -> None:
    """Prints a line of JSON for each question."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", nargs="+", choices=list(QUESTIONS), default=list(QUESTIONS))
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--replicates", type=int, default=5)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    for name in options.questions:
        found = ask(name, options.requests, options.replicates, options.jobs, options.out)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
