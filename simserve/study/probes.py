"""Experiments that ask the cost model alone: step times, memory and static batches, without simulating requests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from simserve.config.assemble import Machine, machine
from simserve.config.experiment import Experiment
from simserve.config.probes import ProbeSection
from simserve.cost.contract import PrefillSlice
from simserve.cost.memory import kv_capacity
from simserve.errors import ConfigError, ModelError, nearest
from simserve.model import load_model, rank_kv_bytes_per_token, rank_weight_bytes

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


def evaluate(experiment: Experiment) -> Figures:
    """Answers the experiment's probes. Raises SimserveError for a part that the step does not have, or an impossible layout."""
    section = experiment.spec.model_section
    model = load_model(section.name, base_dir=experiment.base_dir, quantisation=section.quantisation)
    asked = _Asked(machine(experiment, experiment.groups[0], model))
    values = {name: asked.answer(probe) for name, probe in experiment.spec.probes.items()}
    return Figures(experiment.name, values, asked.machine.cost.describe())


class _Asked:
    def __init__(self, of: Machine) -> None:
        self.machine = of

    def answer(self, probe: ProbeSection) -> float | None:
        if probe.measure in ("decode_s", "prefill_s"):
            return self._step(probe)
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
        of = self.machine
        return rank_kv_bytes_per_token(of.model, of.parallel, of.kv_element_bytes) * of.parallel.devices

    @cached_property
    def _weight_bytes(self) -> int:
        return rank_weight_bytes(self.machine.model, self.machine.parallel) * self.machine.parallel.devices

    def _step(self, probe: ProbeSection) -> float:
        requests, context = probe.requests or 1, probe.context_tokens
        if probe.measure == "decode_s":
            step: tuple[int, int, int, list[PrefillSlice]] = (requests, requests * (context + 1), context + 1, [])
        else:
            step = (0, 0, 0, [PrefillSlice(probe.prompt_tokens, context)] * requests)
        parts = self.machine.cost.breakdown(*step)
        if probe.part is None:
            return float(self.machine.cost.step_time(*step))
        if probe.part not in parts:
            raise ConfigError(f"probes: the step has no part '{probe.part}'{nearest(probe.part, parts)}")
        return float(parts[probe.part])

    def _fitting(self, probe: ProbeSection) -> int:
        """The largest batch that fits. With `prefill_together` its activations grow with it, so it is searched for."""
        most, tokens = self.machine.seats, probe.prompt_tokens + probe.output_tokens
        if not probe.prefill_together:
            return min(most, self._cached_tokens(self._budget) // tokens)
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            if self._cached_tokens(middle * probe.prompt_tokens) >= middle * tokens:
                low = middle
            else:
                high = middle - 1
        return low

    def _cached_tokens(self, step_tokens: int) -> int:
        """Tokens whose cache fits beside the weights and a step of `step_tokens`; 0 when not even a block does."""
        of = self.machine
        try:
            return kv_capacity(
                of.model,
                of.profile,
                of.parallel,
                memory_utilisation=of.memory_utilisation,
                block_tokens=of.block_tokens,
                max_batched_tokens=step_tokens,
                max_seqs=1,
                kv_dtype_bytes=of.kv_element_bytes,
            ).tokens
        except ModelError:
            return 0

    @property
    def _budget(self) -> int:
        return self.machine.step_tokens or _STEP_TOKENS

    def _batch_tokens_per_s(self, probe: ProbeSection, requests: int) -> float:
        """As a static scheduler would run it: prompts (the last one's step gives the first token), then everybody decodes together."""
        cost, prompt = self.machine.cost, probe.prompt_tokens
        per_step = requests if probe.prefill_together else max(1, self._budget // prompt)
        seconds = 0.0
        for first in range(0, requests, per_step):
            seconds += cost.step_time(0, 0, 0, [PrefillSlice(prompt, 0)] * min(per_step, requests - first))
        seconds += sum(cost.decode_times(requests, requests * (prompt + 1), prompt + 1, probe.output_tokens - 1))
        return float(requests * probe.output_tokens / seconds)
