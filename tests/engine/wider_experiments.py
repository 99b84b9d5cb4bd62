"""What `random_experiments` cannot draw, put on top of its experiments: caps on open arrivals, windows of traces, resampled and dependent
sessions, clients that give up, every engine profile, models with windows and experts over several ranks, instances of different hardware,
SGLang's and long prompts' parameters, contexts shorter than the requests, targets by class with warm-ups, several controllers.

`wider(seed)` is a function of the seed alone. Not all of it is valid: what does not fit together is to be refused plainly.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

from tests.engine.random_experiments import KINDS_OF_LAYERS, Mapping, RandomExperiment, experiment, with_kinds_of_layers

ENGINES = (
    *("deepspeed-fastgen", "fastertransformer", "lightllm", "llama.cpp", "mindie", "orca", "sarathi-serve", "sglang", "sglang-0.5.1"),
    *("tensorrt-llm", "tensorrt-llm-1.0", "vllm-0.19", "vllm-2023", "vllm-ascend", "vllm-v0", "vllm-v0-offline", "vllm-v1-async"),
)
MODELS = ("gpt-oss-20b", "llama-3.2-1b", "mistral-7b", "llama-3.1-8b-fp8", "deepseek-v2-lite", "qwen3.5-35b-a3b")
HARDWARE = ("a100-sxm-80gb", "ascend-910b", "h200-sxm-141gb", "h100-sxm-80gb")
PROMPTS = (
    {"kind": "lognormal", "median_tokens": 20, "sigma": 1.0, "max_tokens": 60},
    {"kind": "zipf", "exponent": 1.0, "high_tokens": 60},
    {"kind": "normal", "mean_tokens": 20, "sd_tokens": 30, "max_tokens": 60},
)
OUTPUTS = (
    {"kind": "lognormal", "median_tokens": 8, "sigma": 1.5, "max_tokens": 20},
    {"kind": "normal", "mean_tokens": 8, "sd_tokens": 9, "max_tokens": 20},
)
SLO = {
    "ttft_s_per_prompt_token": 1e-3,
    "queueing_s": 0.5,
    "itl_p95_s": 0.02,
    "itl_ema16_s": 0.05,
    "normalized_latency_s_per_token": 0.1,
    "classes": {"fast": {"itl_max_s": 0.1}, "slow": {"itl_p90_s": 0.05}},
}


def wider(seed: int) -> RandomExperiment:
    """The experiment of this seed."""
    drawn = experiment(seed)
    mapping = json.loads(json.dumps(drawn.mapping)) | {"name": f"wider-{seed}"}
    _Widening(seed).widen(mapping)
    return RandomExperiment(seed, mapping, _impatient(Random(f"patience {seed}"), mapping, drawn.trace))


def _impatient(random: Random, mapping: Mapping, trace: tuple[Mapping, ...]) -> tuple[Mapping, ...]:
    """Clients that give up after some of the time that answers take: all alike, or each as its row says. Returns the rows."""
    if random.random() < 0.4:
        mapping["workload"]["patience_s"] = random.choice((0.0, 0.003, 0.02, 0.1, 1.0, 20.0))
    if random.random() < 0.6:
        return trace
    return tuple({**line, "patience_s": random.choice((None, 0.0, 0.01, 0.05, 0.3))} for line in trace)


class _Widening:
    def __init__(self, seed: int) -> None:
        self.random = Random(f"wider {seed}")

    def chance(self, fraction: float) -> bool:
        return self.random.random() < fraction

    def one_of(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def widen(self, mapping: Mapping) -> None:
        if self.chance(0.5):
            mapping["engine"] = self.one_of(*ENGINES)
        if self.chance(0.4):
            model = self.one_of(*MODELS)
            if model in KINDS_OF_LAYERS:
                with_kinds_of_layers(mapping, model)
            mapping["model"] = model
        self.requests(mapping["workload"])
        if self.chance(0.2):
            mapping["slo"] = SLO
        if self.chance(0.4):
            mapping["metrics"] = {"warmup_s": self.one_of(0, 0.05, 1, 5), "cooldown_s": self.one_of(0, 0.05, 1, 5)}
        if self.chance(0.3):
            mapping["until_s"] = round(10 ** self.random.uniform(-3, 1.5), 4)
        experts = mapping["model"].startswith(("deepseek", "gpt-oss"))
        for group in mapping["cluster"]["instances"]:
            self.group(group, experts)
        self.cluster(mapping["cluster"])

    # -- requests ------------------------------------------------------------------------------------------------------------------

    def requests(self, load: Mapping) -> None:
        if "closed_loop" not in load and self.chance(0.4):
            load["max_concurrency"] = self.one_of(1, 3, 8, 20, 40)
        if "trace" in load:
            self.trace(load)
        else:
            if self.chance(0.3):
                load["lengths"] = {"prompt": self.one_of(*PROMPTS), "output": self.one_of(*OUTPUTS)}
            if self.chance(0.2):
                rate = self.one_of(1.0, 50.0)
                load["arrivals"] = {"kind": "diurnal", "rate_per_s": rate, "period_s": self.one_of(1e-3, 1.0, 100.0), "peak_to_trough": 100}
            if self.chance(0.15) and load["arrivals"].get("rate_per_s", 1000.0) <= 50:
                del load["count"]
                load["duration_s"] = self.one_of(0.5, 2.0)
        if self.chance(0.3):
            load["priority"] = self.one_of(-5, 0, 7, 10**6)
        if self.chance(0.3):
            load["slo_classes"] = [{"name": "fast", "fraction": 0.3, "priority": self.one_of(-3, 5)}, {"name": "slow", "fraction": 0.5}]

    def trace(self, load: Mapping) -> None:
        """A window of the trace, or other lengths and times than its own."""
        window: Mapping = {
            "rate_scale": self.one_of(0.01, 0.5, 3.0, 1000.0),
            "resample": self.one_of(1, 10, 60),
            "limit": self.one_of(1, 7),
            "duration_s": self.one_of(0.1, 2.0, 50.0),
            "clip": self.one_of({"prompt_tokens": 5}, {"output_tokens": 3}, {"total_tokens": 12}),
            "drop": self.one_of({"prompt_tokens": 40}, {"output_tokens": 8}, {"total_tokens": 30}),
            "sessions": "dependent",
        }
        load["trace"] |= {key: value for key, value in window.items() if self.chance(0.2)}
        if self.chance(0.2):
            load["arrivals"] = {"kind": "poisson", "rate_per_s": self.one_of(1.0, 100.0)}
        if self.chance(0.1):
            load["lengths"] = {"prompt": self.one_of(*PROMPTS), "output": self.one_of(*OUTPUTS)}

    # -- instances -----------------------------------------------------------------------------------------------------------------

    def group(self, group: Mapping, experts: bool) -> None:
        if self.chance(0.35):
            group["scheduler"] = self.scheduler()
            if group["scheduler"]["policy"] == "layered":
                group["parallel"].pop("pp", None)
        if self.chance(0.3):
            group["hardware"] = self.one_of(*HARDWARE)
        if self.chance(0.25):
            group["parallel"]["tp"] = self.one_of(1, 2, 4)
        if experts and self.chance(0.3):
            group["parallel"] |= {"dp": self.one_of(1, 2), "ep": self.one_of(1, 2)}
        if self.chance(0.15):
            group["max_model_len"] = self.one_of(10, 30, 64)
        if self.chance(0.1):
            group["order"] = self.one_of("priority", "shortest-job", "longest-prefix")
        for key, fraction in (("blocks", 0.1), ("block_tokens", 0.2), ("prefix_caching", 0.2)):
            if self.chance(fraction):
                group["kv"].pop(key, None)

    def scheduler(self) -> Mapping:
        budget, slots = self.one_of(8, 32, 100), self.one_of(1, 4, 64)
        chunk, batch = self.one_of(-1, 8, 30, 100), self.one_of(8, 50, 400)
        long_ones = {"chunked": self.chance(0.5), "longer_prompts": self.one_of("run", "refuse"), "hybrid": self.chance(0.5)}
        found: Mapping = self.one_of(
            {"policy": "sglang", "chunked_prefill_size": chunk, "max_prefill_tokens": batch, "max_seqs": slots},
            {"policy": "sglang", "chunked_prefill_size": chunk, "max_prefill_tokens": batch, "max_seqs": slots},
            {"policy": "sarathi", "token_budget": budget, "max_seqs": slots, **long_ones},
            {"policy": "vllm-v0", "max_num_batched_tokens": budget, "padded": self.chance(0.5), "chunked": self.chance(0.5)},
            {"policy": "vllm-v1", "max_num_batched_tokens": budget, "chunked": self.chance(0.5), "max_seqs": slots},
            {"policy": "layered", "group_rule": "table", "max_groups": self.one_of(1, 3, 16), "max_num_batched_tokens": budget},
            {"policy": "distserve", "max_batch_prompts": self.one_of(1, 3), "max_num_batched_tokens": budget},
            {"policy": "past-future", "wait_steps": self.one_of(1, 50), "window": 3, "reserve": self.one_of(0.0, 0.5, 0.9)},
        )
        return found

    def autoscaler(self) -> Mapping:
        """By name; their times are those of minutes, the runs take seconds."""
        fast = {"interval_s": self.one_of(0.05, 1.0), "metric_lag_s": self.one_of(0.0, 0.5)}
        kube = {**fast, "scale_down_stabilisation_s": self.one_of(0.0, 2.0), "period_s": self.one_of(0.1, 5.0), "window_s": 2.0}
        targets = self.one_of({"waiting": 1}, {"running": 3}, {"kv_usage": 0.3, "ttft_s": 0.2}, {"tokens_per_s": 50, "requests_per_s": 1})
        found: Mapping = self.one_of(
            {"policy": "hpa", "targets": targets, **kube},
            {"policy": "keda", "targets": targets, **kube, "polling_s": 0.2, "cooldown_s": self.one_of(0.0, 3.0)},
            {"policy": "saturation", **fast, "decide_s": self.one_of(0.1, 2.0)},
            {"policy": "forecast", "interval_s": self.one_of(0.1, 1.0), "requests_per_s": self.one_of(0.5, 5.0), "horizon_s": 2.0},
        )
        return found

    def cluster(self, cluster: Mapping) -> None:
        controllers = cluster.setdefault("controllers", [])
        if self.chance(0.2):
            low = self.one_of(5.0, 20.0)
            scaling = {"interval_s": self.one_of(0.05, 1.0), "scale_up": 5.0, "scale_down": low, "min_instances": self.one_of(0, 1, 50)}
            controllers.append({"policy": "llumnix-scaling", **scaling, "most": self.one_of(1.0, 100.0)})
        if self.chance(0.15):
            moving = {"interval_s": self.one_of(0.01, 3.0), "threshold": 50.0, "concurrent": 9, "headroom_blocks": self.one_of(0, 50)}
            controllers.append({"policy": "llumnix-migration", **moving})
        if self.chance(0.2) and all(group.get("role", "mixed") == "mixed" for group in cluster["instances"]):
            controllers.append(self.autoscaler())
        if not controllers:
            del cluster["controllers"]
        if self.chance(0.1):
            cluster.pop("router", None)
        elif self.chance(0.3):
            drawn: Mapping = self.one_of(
                {"policy": "power-of-two", "choices": self.one_of(1, 2, 9)},
                {
                    "policy": "prefix-affinity",
                    "remembered_blocks": self.one_of(1, 3),
                    "min_match": self.one_of(0.0, 1.0),
                    "balance_requests": 0,
                },
                {"policy": "shortest-queue"},
                {"policy": "session-sticky"},
            )
            kept = {key: cluster["router"][key] for key in ("decode_policy", "refresh_s") if key in cluster["router"]}
            cluster["router"] = kept | drawn
