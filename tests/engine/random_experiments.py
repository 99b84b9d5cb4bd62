"""Random experiments as a user would write them: mappings for `simserve.run`, valid, small and tight, in which everything may meet.

`experiment(seed)` is a function of the seed alone. What the random clusters of `test_cluster_random.py` draw as engine objects is drawn
here as YAML: pipeline stages with roles, oracles on any instance, scaling with roles, cuts at any time, failures under every rule,
migrations, every KV transfer, stale signals, contents of prompts, swap, every policy, order, router and engine profile, windows
and recurrent state.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from simserve.policies import registry

HARDWARE = "h100-sxm-80gb"
MODELS = ("llama-3-8b", "llama-3-8b", "qwen2-7b", "deepseek-v2-lite")
KINDS_OF_LAYERS = {"gpt-oss-20b": 0, "llama-4-scout": 0, "mistral-7b": 0, "qwen3.5-35b-a3b": 3145}
"""Models with a window or a recurrent state -> tokens whose KV cache takes as much as the state of a sequence."""

STAGES = (1, 1, 1, 2, 2, 3, 4)
ENGINES = ("vllm-v1", "vllm-v1", "vllm-v0", "sarathi-serve", "vllm-v1-async", "orca", "fastertransformer", "deepspeed-fastgen", "lightllm")
ORDERS = ("fcfs", "fcfs", "fcfs", "priority", "shortest-job", "longest-prefix")
MODEL_LEN = 2048

Mapping = dict[str, Any]


@dataclass(frozen=True)
class RandomExperiment:
    """`mapping` for `simserve.run`. `trace` = the lines of the file that its `workload.trace.path` names; empty when it needs none."""

    seed: int
    mapping: Mapping
    trace: tuple[Mapping, ...] = ()


def experiment(seed: int) -> RandomExperiment:
    """The experiment of this seed. One in seven has a model whose layers keep different tokens; from seed 1000 on three in ten speculate,
    and in three in ten steps vary. All are drawn apart: the rest stay as they were."""
    drawn, dice = _Draw(seed).experiment(), Random(f"tokens kept {seed}")
    if dice.random() < 1 / 7:
        with_kinds_of_layers(drawn.mapping, dice.choice((*KINDS_OF_LAYERS, "gpt-oss-20b")))
    dice = Random(f"speculation {seed}")
    if seed >= 1000 and dice.random() < 0.3:
        with_speculation(drawn.mapping, dice)
    dice = Random(f"jitter {seed}")
    if seed >= 1000 and dice.random() < 0.3:
        stalls = {"stall_probability": dice.choice((0.0, 0.02, 0.5)), "stall_s": dice.choice((0.004, 1.0))}
        drawn.mapping["engine"] = {"name": drawn.mapping["engine"], "jitter": {"spread": dice.choice((0.3, 2.0)), **stalls}}
    return drawn


def with_speculation(mapping: Mapping, dice: Random) -> None:
    """Decoding requests have tokens drafted, by an engine that has that: any policy, any roles, without pipeline stages."""
    engine = mapping["engine"] = dice.choice(("vllm-v1", "vllm-v1", "vllm-v1-async", "sglang"))
    tokens = dice.choice((1, 2, 3, 5, 8))
    section: Mapping = {"method": dice.choice(("eagle3", "ngram")), "tokens": tokens}
    section["acceptance"] = dice.choice(
        ({"rate": dice.choice((0.0, 0.5, 0.8, 1.0))}, {"length": 1 + 0.6 * tokens}, {"lengths": {1: 1, tokens + 1: 2}})
    )
    if section["method"] == "ngram":
        section["acceptance"] = {**section["acceptance"], "hit": dice.choice((0.2, 0.9))}
    if engine == "sglang" and section["method"] == "eagle3" and dice.random() < 0.5:
        section |= {"top_k": 2, "verify_tokens": tokens + 2}
    if "top_k" not in section and dice.random() < 0.3:  # a tree is drafted whole or not at all
        section["by_batch"] = [{"from": 2, "tokens": tokens // 2}, {"from": dice.choice((3, 9)), "tokens": 0}]
    mapping["speculation"] = section
    for group in mapping["cluster"]["instances"]:
        group["parallel"].pop("pp", None)
        if engine == "sglang":
            group["scheduler"] = {
                "policy": "sglang",
                "max_seqs": group["scheduler"]["max_seqs"],
                "chunked_prefill_size": dice.choice((8, 64, -1)),
            }


def with_kinds_of_layers(mapping: Mapping, model: str) -> None:
    """Puts a model with windows or recurrent state in the place of an experiment's, with memory for as many requests."""
    mapping["model"] = model
    for group in mapping["cluster"]["instances"]:
        kv = group["kv"]
        if "blocks" in kv:
            state_blocks = -(-KINDS_OF_LAYERS[model] // kv.get("block_tokens", 16))
            kv["blocks"] = 2 * kv["blocks"] + (state_blocks and (2 + kv["blocks"] % 4) * state_blocks)


class _Draw:
    """One experiment in the making."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.block_tokens = self.one_of(1, 4, 8, 16)
        self.pools = self.chance(0.45)
        self.longest = self.one_of(20, 60, 200)
        """Tokens of the longest prompt; outputs are up to a third of it."""

    def chance(self, fraction: float) -> bool:
        return self.random.random() < fraction

    def one_of(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def experiment(self) -> RandomExperiment:
        workload, trace = self.workload()
        mapping: Mapping = {
            "name": f"random-{self.seed}",
            "model": self.one_of(*MODELS),
            "hardware": HARDWARE,
            "engine": self.one_of(*ENGINES),
            "seed": self.seed,
            "workload": workload,
            "cluster": self.cluster(),
        }
        if self.chance(0.3):
            mapping["until_s"] = round(10 ** self.random.uniform(-2, 1.5), 3)
        if self.chance(0.25):
            mapping["metrics"] = {"warmup_s": self.one_of(0.0, 0.1, 2.0, 500.0), "cooldown_s": self.one_of(0.0, 0.1, 2.0, 500.0)}
        if self.chance(0.3):
            mapping["slo"] = {"ttft_s": self.one_of(0.05, 1.0), "classes": {"fast": {"tpot_s": 0.02, "e2e_s": 2.0}}}
        return RandomExperiment(self.seed, mapping, trace)

    # -- requests ------------------------------------------------------------------------------------------------------------------

    def workload(self) -> tuple[Mapping, tuple[Mapping, ...]]:
        count = self.one_of(5, 15, 30, 50)
        closed = {"concurrency": self.one_of(1, 3, 8, 20), "think_s": self.one_of(0.0, 0.0, 0.1)} if self.chance(0.2) else None
        if self.chance(0.4):
            lines = self.lines(count, follow=closed is None and self.chance(0.4))
            load: Mapping = {"trace": {"path": f"random-{self.seed}.jsonl", "format": "simserve"}}
        else:
            lines = ()
            load = {"count": count, "lengths": {"prompt": self.lengths(self.longest), "output": self.lengths(max(2, self.longest // 3))}}
            load["arrivals"] = self.arrivals()
        if closed is not None:
            load["closed_loop"] = closed
        if self.chance(0.3):
            load["slo_classes"] = [{"name": "fast", "fraction": self.one_of(0.2, 0.6), "priority": self.one_of(0, 2)}]
        if self.chance(0.2):
            load["max_output_tokens"] = self.one_of("output", 5, 100)
        return load, lines

    def lengths(self, most: int) -> Mapping:
        low = self.one_of(1, 1, most // 2, most)
        return {"kind": "uniform", "low_tokens": max(1, low), "high_tokens": most}

    def arrivals(self) -> Mapping:
        rate = self.one_of(1.0, 20.0, 1000.0)
        return self.one_of(
            {"kind": "constant", "rate_per_s": rate},
            {"kind": "poisson", "rate_per_s": rate},
            {"kind": "gamma", "rate_per_s": rate, "cv": 4.0},
            {"kind": "weibull", "rate_per_s": rate, "shape": 0.3},
            {"kind": "piecewise", "pieces": [{"duration_s": 0.5, "rate_per_s": rate}, {"duration_s": 20.0, "rate_per_s": 0.0}]},
        )

    def lines(self, count: int, follow: bool) -> tuple[Mapping, ...]:
        """Rows of a trace: contents that begin alike, sessions, requests that follow others, failed ones."""
        run_tokens = self.block_tokens * self.one_of(1, 2)
        contents, sessions, gap_s = self.chance(0.7), self.chance(0.5), self.one_of(0.0, 0.001, 0.3)
        out = []
        clock = 0.0
        for row in range(count):
            prompt = self.random.randint(1, self.longest)
            line: Mapping = {
                "arrival_s": 0.0,
                "prompt_tokens": prompt,
                "output_tokens": 0 if self.chance(0.03) else self.random.randint(1, max(1, self.longest // 3)),
                "priority": self.random.randint(0, 2),
                "session": self.random.randint(-1, 3) if sessions else -1,
                "after": self.random.randrange(row) if follow and row and self.chance(0.3) else -1,
            }
            pause = round(gap_s * self.random.choice((0, 0, 1, 2)), 6)
            clock += pause if line["after"] < 0 else 0.0
            line["arrival_s"] = clock if line["after"] < 0 else pause
            if contents:
                family, alike = self.random.randint(0, 1), self.random.choice((99, 99, 2, 1))
                runs = -(-prompt // run_tokens)
                line["prefix_ids"] = [1000 * family + k if k < alike else 10_000 + 1000 * row + k for k in range(runs)]
                line["prefix_block_tokens"] = run_tokens
            out.append(line)
        return tuple(out)

    # -- instances -----------------------------------------------------------------------------------------------------------------

    def cluster(self) -> Mapping:
        roles = ["prefill", "decode", *(["mixed"] if self.chance(0.4) else [])] if self.pools else ["mixed"] * self.one_of(1, 1, 1, 2)
        swap = self.chance(0.25)
        alike = self.scheduler() if self.chance(0.5) else None
        groups = [self.group(role, swap, alike) for role in roles]
        instances = sum(max(one["count"], one.get("max_count", 0)) for one in groups)
        cluster: Mapping = {"instances": groups, "router": self.router()}
        if self.chance(0.7):
            cluster["network"] = self.network()
        migrates = instances > 1 and self.chance(0.4)
        scales = self.chance(0.3) and (not self.pools or "mixed" in roles)
        controllers = []
        if migrates:
            controllers.append(
                {
                    "policy": "llumnix-migration",
                    "interval_s": self.one_of(0.01, 0.05, 1.0),
                    "threshold": self.one_of(0.5, 3.0, 20.0),
                    "pairing": self.one_of("defrag", "balanced"),
                    "request": self.one_of("shortest", "longest", "last"),
                    "concurrent": self.one_of(1, 3),
                    "headroom_blocks": self.one_of(0, 0, 3),
                }
            )
            cluster["migration"] = {"last_stage_blocks": self.one_of(1, 2, 16), "max_stages": self.one_of(1, 3)}
        if scales:
            controllers.append(
                {
                    "policy": "llumnix-scaling",
                    "interval_s": self.one_of(0.1, 1.0, 10.0),
                    "scale_up": self.one_of(3.0, 10.0),
                    "scale_down": self.one_of(12.0, 60.0),
                    "min_instances": self.one_of(0, 1, 1, 2),
                }
            )
        if controllers:
            cluster["controllers"] = controllers if self.chance(0.5) else controllers[::-1]
        if self.chance(0.3):
            cluster["failures"] = self.failures(instances)
        return cluster

    def group(self, role: str, swap: bool, scheduler: Mapping | None) -> Mapping:
        stages = self.one_of(*STAGES)
        one: Mapping = {
            "role": role,
            "count": self.one_of(1, 1, 2, 3),
            "parallel": {"pp": stages},
            "scheduler": dict(scheduler or self.scheduler()),
            "order": self.one_of(*ORDERS),
            "max_model_len": MODEL_LEN,
            "kv": self.kv(swap),
        }
        if one["scheduler"]["policy"] == "layered":
            one["parallel"] = {"tp": self.one_of(1, 2)}
        if self.chance(0.3):
            one |= {"max_count": one["count"] + self.one_of(1, 2), "boot_s": self.one_of(0.0, 0.5, 20.0)}
        return one

    def kv(self, swap: bool) -> Mapping:
        most = self.longest + max(2, self.longest // 3)
        blocks = -(-most // self.block_tokens)
        tight = self.random.choice((1, 2, 3, blocks // 2 + 1, blocks, 4 * blocks))
        kv: Mapping = {
            "blocks": max(1, blocks + tight if self.chance(0.85) else self.one_of(1, 2, blocks // 2 + 1)),
            "block_tokens": self.block_tokens,
            "watermark": self.one_of(0.0, 0.0, 0.01, 0.1),
            "prefix_caching": self.chance(0.6),
        }
        if swap:
            kv |= {"preemption": "swap", "host_memory_gib": self.one_of(0.001, 0.01, 1.0)}
        return kv

    def scheduler(self) -> Mapping:
        policy = self.one_of(*sorted(registry._BUILT_IN_SCHEDULERS))
        budget = self.one_of(8, 32, 100, 512)
        more: Mapping = {"max_seqs": self.one_of(1, 3, 8, 64)}
        if policy == "vllm-v1":
            more |= {"max_num_batched_tokens": budget, "long_prefill_token_threshold": self.one_of(0, 0, 10)}
        elif policy == "sarathi":
            more |= {"token_budget": budget, **self.one_of({}, {}, {"hybrid": False}, {"chunked": False})}
        elif policy == "xy-serve":
            more |= {"token_budget": budget, "reserved_tokens": self.one_of(0, 1, budget - 1)}
        elif policy == "fastgen":
            more |= {"token_budget": budget}
        elif policy in ("orca", "static"):
            more |= {"reserve": self.one_of("max", "oracle")}
        elif policy == "distserve":
            more |= {"max_num_batched_tokens": budget}
        elif policy == "past-future":
            more |= {"predict": self.one_of("history", "limit", "oracle"), "wait_steps": self.one_of(1, 6), "window": self.one_of(1, 50)}
        elif policy == "layered":
            more |= {"group_tokens": self.one_of(4, 64), "max_num_batched_tokens": budget}
        return {"policy": policy, **more}

    # -- what they share -----------------------------------------------------------------------------------------------------------

    def router(self) -> Mapping:
        crossing = self.pools and self.chance(0.25)
        names = sorted(set(registry._BUILT_IN_ROUTERS) - {"splitwise", "splitwise-decode"})
        self.pulls = crossing
        found = {
            "policy": "splitwise" if crossing else self.one_of(*names),
            "decode_policy": "splitwise-decode" if crossing else self.one_of(*names),
        }
        if found["policy"] == "splitwise":
            found["cap_tokens"] = self.one_of(20, 500)
        if self.chance(0.35):
            found["refresh_s"] = self.one_of(0.001, 0.05, 2.0)
        return found

    def network(self) -> Mapping:
        found: Mapping = {"latency_s": self.one_of(0.0, 1e-5, 0.05, 1.0), "bytes_per_s": self.one_of(1e8, 2.5e10, 4e11)}
        if self.chance(0.3):
            found |= {"per_message_s": 1e-4, "message_bytes": 1e6}
        if self.chance(0.3):
            found["between_nodes"] = {"bytes_per_s": self.one_of(1e8, 1e10), "latency_s": 0.01, "node_devices": self.one_of(2, 4, 8)}
        if self.pools and not self.pulls:
            found["kv_transfer"] = self.one_of("pull", "push", "push-layerwise")
        return found

    def failures(self, instances: int) -> Mapping:
        found: Mapping = {"rule": self.one_of("resume", "retry", "fail"), "restart_s": self.one_of(0.0, 0.1, 5.0)}
        times = [
            {"at_s": round(10 ** self.random.uniform(-2, 1), 3), "instance": self.random.randrange(instances)}
            for _ in range(self.random.randint(0, 3))
        ]
        found["times"] = times
        if self.chance(0.4):
            found["mtbf_s"] = self.one_of(2.0, 30.0)
        return found
