"""Answers to the probes of an experiment: step times, memory and static batches from the cost model alone, capacities by searching."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from simserve.config.assemble import deployment
from simserve.config.deployment import Deployment
from simserve.config.experiment import Experiment
from simserve.config.probes import ProbeSection
from simserve.contracts import Slice, Step
from simserve.errors import ConfigError, ModelError, nearest
from simserve.model import Parallel, load_model, rank_kv_bytes_per_token, rank_weight_bytes
from simserve.study.part_seconds import run_part_s
from simserve.study.predicate import parse_quantity
from simserve.study.quantities import standard

_STEP_TOKENS = 8192
"""Prompt tokens of a step where the policy has no token budget."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The probes of one variant: `values` by name (None = not defined, such as the speed of a batch that does not fit)."""

    name: str
    values: dict[str, float | None]
    simulated_with: dict[str, Any]

    def write(self, directory: Path, **_: bool) -> None:
        """summary.json in a new folder."""
        directory.mkdir(parents=True)
        content = {"name": self.name, "probes": self.values, "simulated_with": self.simulated_with}
        (directory / "summary.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def evaluate(experiment: Experiment, names: Collection[str] | None = None) -> Figures:
    """Answers the experiment's probes (those in `names` if given).

    Raises SimserveError for a part that the step does not have, an impossible layout, or a workload too short to find its capacity.
    """
    section = experiment.spec.model_section
    model = load_model(section.name, base_dir=experiment.base_dir, quantisation=section.quantisation)
    asked = _Asked(deployment(experiment, experiment.groups[0], model))
    values = {
        name: _answer(experiment, asked, name, probe) for name, probe in experiment.spec.probes.items() if names is None or name in names
    }
    return Figures(experiment.name, values, asked.deployed.cost.describe())


def _answer(experiment: Experiment, asked: _Asked, name: str, probe: ProbeSection) -> float | None:
    if probe.measure == "capacity":
        return _capacity(experiment, name, probe)
    if probe.measure == "run_part_s":
        return run_part_s(experiment, str(probe.part), mixed=probe.steps == "mixed")
    if probe.measure == "transfer_s":
        return _transfer_s(experiment, asked.deployed, probe.prompt_tokens)
    return asked.answer(probe)


def _capacity(experiment: Experiment, name: str, probe: ProbeSection) -> float | None:
    """The load, or the figure asked for at that load: the mean over the replicates."""
    from simserve.study.capacity.search import capacity

    column = None if probe.report is None else parse_quantity(probe.report).column
    if column not in (None, *(quantity.column for quantity in standard())):
        raise ConfigError(f"{experiment.name}: probes.{name}: report {probe.report}: studies record mean, p50, p90, p95, p99 and max")
    found = capacity(experiment, probe.when, rate_key=probe.rate_key, tolerance=probe.tolerance, replicates=probe.replicates, jobs=1)
    if found.outcome == "always":
        raise ConfigError(f"{experiment.name}: probes.{name}: {found.message}")
    if column is None or found.rate is None:
        return (found.rate or 0.0) / (_devices(experiment) if probe.per_device else 1)
    best = {(replicate.seed, replicate.low) for replicate in found.replicates}
    values = [probed.values.get(column) for probed in found.probes if (probed.seed, probed.rate) in best]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(best) else None


def _devices(experiment: Experiment) -> int:
    return sum(group.count * Parallel(**group.parallel.model_dump()).devices for group in experiment.groups)


def _transfer_s(experiment: Experiment, of: Deployment, tokens: int) -> float:
    link = of.link(experiment.spec.cluster.network)
    size_bytes = tokens * link.kv_bytes_per_token + link.beside_bytes(tokens)
    return link.latency_s + (link.messages(size_bytes) - 1) * link.per_message_s + size_bytes / link.bytes_per_s


class _Asked:
    def __init__(self, of: Deployment) -> None:
        self.deployed = of

    def answer(self, probe: ProbeSection) -> float | None:
        if probe.measure in ("decode_s", "prefill_s"):
            return self._step(probe)
        if probe.measure == "prefill_sweep_s":
            lengths = range(1, probe.prompt_tokens + 1)
            return math.exp(sum(math.log(self._step(probe, tokens)) for tokens in lengths) / len(lengths))
        if probe.measure == "kv_bytes_per_token":
            return self._kv_bytes_per_token
        if probe.measure == "weight_bytes":
            return float(self._weight_bytes)
        if probe.measure == "memory_bytes":
            return self._weight_bytes + (probe.requests or 1) * probe.context_tokens * self._kv_bytes_per_token
        fitting = self._fitting(probe)
        if probe.measure == "requests_that_fit":
            return float(fitting)
        if probe.measure == "fits":
            return float(fitting > 0)
        requests = probe.requests or fitting
        return self._batch_tokens_per_s(probe, requests) if requests else None

    @cached_property
    def _kv_bytes_per_token(self) -> float:
        of = self.deployed
        return rank_kv_bytes_per_token(of.model, of.parallel, of.kv_element_bytes) * of.parallel.devices

    @cached_property
    def _weight_bytes(self) -> int:
        return rank_weight_bytes(self.deployed.model, self.deployed.parallel) * self.deployed.parallel.devices

    def _step(self, probe: ProbeSection, prompt_tokens: int | None = None) -> float:
        requests, context, prompt = probe.requests or 1, probe.context_tokens, prompt_tokens or probe.prompt_tokens
        if probe.measure == "decode_s":
            drafted = probe.drafted_tokens
            attended = context + 1 + drafted
            step = Step(requests, requests * attended, attended, (), requests * drafted)
        else:
            step = Step(0, slices=[Slice(prompt, context)] * requests)
        parts = self.deployed.cost.breakdown(step)
        if probe.part is None:
            return float(self.deployed.cost.step_time(step))
        if probe.part not in parts:
            raise ConfigError(f"probes: the step has no part '{probe.part}'{nearest(probe.part, parts)}")
        return float(parts[probe.part])

    def _fitting(self, probe: ProbeSection) -> int:
        """The largest batch that fits. With `prefill_together` its activations grow with it, so it is searched for."""
        most, tokens = self.deployed.slots, probe.prompt_tokens + probe.output_tokens
        if not probe.prefill_together:
            return min(most, self._sequences(self._budget, tokens))
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            if self._sequences(middle * probe.prompt_tokens, tokens) >= middle:
                low = middle
            else:
                high = middle - 1
        return low

    def _sequences(self, step_tokens: int, tokens: int) -> int:
        """Sequences of so many tokens whose cache fits beside the weights and a step of `step_tokens`; 0 when not even a block does."""
        try:
            return self.deployed.sequences_that_fit(self.deployed.capacity(step_tokens, max_seqs=1), tokens)
        except ModelError:
            return 0

    @property
    def _budget(self) -> int:
        return self.deployed.step_tokens or _STEP_TOKENS

    def _batch_tokens_per_s(self, probe: ProbeSection, requests: int) -> float:
        """As a static scheduler would run it: prompts (the last one's step gives the first token), then all requests decode together."""
        cost, prompt = self.deployed.cost, probe.prompt_tokens
        per_step = requests if probe.prefill_together else max(1, self._budget // prompt)
        seconds = 0.0
        for first in range(0, requests, per_step):
            seconds += cost.step_time(Step(0, slices=[Slice(prompt, 0)] * min(per_step, requests - first)))
        seconds += sum(cost.decode_times(Step(requests, requests * (prompt + 1), prompt + 1), probe.output_tokens - 1))
        return float(requests * probe.output_tokens / seconds)
