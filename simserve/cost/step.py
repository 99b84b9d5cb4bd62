"""StepCost: seconds of engine steps from tables (see `contract.CostModel`).

Everything that depends only on the number of tokens is one table; decode attention is one row of line segments per batch size;
prefill attention is a table over (new, context). All come from the profile's kernel models, so a step is a few list lookups.
"""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from simserve.compiled import mypyc_attr
from simserve.contracts import PREFILL, VERIFY, DecodeSteps, Slice, Step
from simserve.contracts.cost import F64, I64
from simserve.cost.decode import Attending
from simserve.cost.energy import StepTotals, energy_j, expert_bytes
from simserve.cost.host import HostOverheads
from simserve.cost.host_copy import host_copy_s
from simserve.cost.kernels import KernelChoice
from simserve.cost.layered import LayeredSteps
from simserve.cost.lines import on_lines, on_segments, rising, slower_on_lines
from simserve.cost.options import CostOptions
from simserve.cost.spread import spread_log
from simserve.cost.stage import Stage, StageRow, Sum, build_stages, check_options
from simserve.cost.tokens import TokenTable
from simserve.cost.verification import Pace, folded, verifies
from simserve.errors import ModelError
from simserve.hardware.device import Device
from simserve.hardware.profile import HardwareProfile
from simserve.model.architecture import ModelArchitecture
from simserve.model.layout import rank_kv_bytes_per_token
from simserve.model.operators import Operator
from simserve.model.parallel import Parallel

_NO_PACE = Pace(1, 0.0, 0.0, ())
"""Of sequences that verify nothing: their arithmetic is in the decode kernel's time."""

ARRAY_FROM = 48
"""Steps from which an array is faster than a list comprehension."""

_MOST_SUMS = 1 << 14  # remembered: some megabytes

Line = tuple[float, float, float, bool]
"""Seconds of steps as base + (intercept + slope x tokens): tokens of the longest sequence, or of all (False)."""


@mypyc_attr(allow_interpreted_subclasses=True, serializable=True)
class StepCost:
    """The cost model of one instance: a model on a hardware profile, laid out by `parallel`, driven by an engine's host.

    backend   serving engine whose kernel measurements are preferred (`vllm`, `sglang 0.5.14` ...), None = the profile's own order
    expert_skew   exponent of the power law of expert popularity (0 = balanced; the fits know 1.01 and 1.2); None = as tokens choose
    options   a paper's changes to formats, layers and attention (see `CostOptions`)
    analytic  True uses the analytic estimates only, as on a device without measurements
    extra     what every token passes before the first layer (a draft's fusion of embedding and hidden state)
    Raises ModelError when the model cannot be laid out so or has operators without a kernel model.
    """

    def __init__(
        self,
        model: ModelArchitecture,
        profile: HardwareProfile,
        host: HostOverheads | None = None,
        parallel: Parallel | None = None,
        *,
        backend: str | None = None,
        max_context_tokens: int | None = None,
        kv_dtype_bytes: float = 2.0,
        expert_skew: float | None = None,
        analytic: bool = False,
        options: CostOptions | None = None,
        extra: tuple[Operator, ...] = (),
    ) -> None:
        self.slice_kinds = frozenset({PREFILL, VERIFY})
        self._model = model
        self._profile = profile
        self._host = host or HostOverheads()
        self._parallel = parallel or Parallel()
        options = options or CostOptions()
        check_options(options, model, self._parallel)
        self._kernels = KernelChoice(profile, backend, analytic, expert_skew, options)
        self._context_limit = min(max_context_tokens or model.max_position_embeddings, 1 << 20)
        self._pairs_flops = float(model.attention_flops_per_pair())
        self._token_flops = float(model.flops_per_token(logits=False))
        self._swap_bytes = rank_kv_bytes_per_token(model, self._parallel, kv_dtype_bytes)
        self._extra = extra
        self._build()

    def _build(self) -> None:
        """Makes the tables."""
        self._stages = build_stages(self._model, self._parallel, self._kernels, self._context_limit, self._extra)
        self._layered: LayeredSteps | None = None
        """Made at the first step with layer groups: most instances have none."""
        self._staged = len(self._stages) > 1
        self._skips = any(stage.skipped is not None for stage in self._stages)
        self._sums: dict[tuple[int, int, int, int], tuple[Sum, ...]] = {}
        self._stage_rows: dict[int, tuple[float, list[StageRow]]] = {}
        self._decode_rows: dict[int, tuple[float, float, list[int], list[float], list[float]]] = {}
        self._verify_rows: dict[tuple[int, int], tuple[float, float, Pace]] = {}
        first = self._stages[0]
        self._single_knots, self._single_intercept, self._single_slope = first.decode.row(1)
        self._tokens, self._rows, self._prompts = first.tokens, first.rows, first.prefill
        self._drive(self._host)

    def _drive(self, host: HostOverheads) -> None:
        """Notes what steps take of the host that drives them."""
        self._host = host
        self._launch_s = self._profile.device.eager_launch_s if host.kernel_launch_s is None else host.kernel_launch_s
        self._launching_s = self._stages[0].launched_kernels * self._launch_s
        self._per_prompt_token_s = host.per_prefill_token_s
        self._replicas = self._parallel.dp
        self._host_rows: dict[int, float] = {}
        """Host seconds of steps with so many sequences, without those of their prompts."""

    def with_host(self, host: HostOverheads) -> StepCost:
        """The same tables driven by another host; nothing is built again."""
        twin = self._twin()
        twin._drive(host)
        twin._decode_rows, twin._verify_rows, twin._sums, twin._stage_rows = {}, {}, {}, {}
        return twin

    def _twin(self) -> StepCost:
        twin = copy.copy(self)
        # What an interpreted class adds to a compiled one lies beside it, where the copy of a compiled object does not look.
        if hasattr(self, "__dict__"):
            vars(twin).update(vars(self))
        return twin

    def table_of(self, operators: Iterable[Operator], tokens: int) -> TokenTable:
        """Seconds of some operators over 1, 2 ... `tokens` tokens, by the kernels that this instance runs on."""
        return TokenTable(self._kernels, [(op, 1) for op in operators], tokens)

    @property
    def device(self) -> Device:
        """What it runs on."""
        return self._profile.device

    @property
    def attention_layers(self) -> tuple[tuple[Attending, int], ...]:
        """Attention of the first stage, each kind with the number of its layers."""
        return self._stages[0].verify.layers

    def attention_seconds(self, sequences: int, context_tokens: int) -> float:
        """Seconds of the first stage's decode attention over equally long contexts."""
        return self._stages[0].decode.seconds(sequences, context_tokens)

    def scaled(self, factors: Mapping[str, float]) -> StepCost:
        """The same instance with the times of operators multiplied: label (a key of `spreads`) -> factor. Nothing gets faster than its
        physical bound."""
        twin = self._twin()
        twin._kernels = replace(self._kernels, factors=dict(factors), used={}, assumed=set())
        twin._build()
        return twin

    def spreads(self) -> dict[str, float]:
        """How uncertain each operator is: label -> standard deviation of ln(true / predicted) seconds."""
        return {model.label: spread_log(model) for _, model in sorted(self._kernels.used.items())}

    def reach(self) -> dict[str, dict[str, float]]:
        """How far the measurements of each operator go: label -> feature (`log_batch`, `log_context`) -> largest size."""
        return {model.label: model.reach for _, model in sorted(self._kernels.used.items())}

    @property
    def energy_validated(self) -> bool:
        """Whether measured power stands behind the profile's energy figures."""
        return self._profile.device.energy is not None and self._profile.device.energy.validated

    def energy(self, steps: F64, tokens: F64, attended_tokens: F64, pairs: F64, busy_s: float, run_s: float) -> float | None:
        """Joules of the instance over a run, from the totals of its steps (see `cost.energy`); None when the profile has no figures."""
        totals = StepTotals(steps, tokens, attended_tokens, pairs)
        return energy_j(self._profile.device, self._model, self._parallel, totals, busy_s, run_s)

    def expert_bytes(self, steps: F64, tokens: F64) -> float | None:
        """Bytes of expert weights read by all devices over a run (see `cost.energy`); None for a model without experts."""
        return expert_bytes(self._model, self._parallel, steps, tokens)

    # ---- the contract ----

    @property
    def stages(self) -> int:
        """Pipeline-parallel stages."""
        return len(self._stages)

    def step_time(self, step: Step) -> float:
        """Seconds of one step on a single-stage instance. Raises ModelError when there is more than one stage."""
        if self._staged:
            raise ModelError(f"step_time is for one pipeline stage, this instance has {len(self._stages)}: use stage_times")
        slices = step.slices
        if slices:
            _, _, layers, kind, _ = slices[0]
            if kind == VERIFY if len(slices) == 1 else verifies(slices):
                return self.step_time(folded(step))
            if layers is not None:
                return sum(self.breakdown(step).values())
            return self.mixed_seconds(step.decodes, step.drafted_tokens, step.context_tokens, step.longest_tokens, slices)
        n, context_tokens, longest_tokens = step.decodes, step.context_tokens, step.longest_tokens
        if step.drafted_tokens:
            return self.verify_seconds(n, step.drafted_tokens, context_tokens, longest_tokens)
        base, floor, knots, intercept, slope = self._decode_rows.get(n) or self._decode_row(n)
        i = bisect_right(knots, context_tokens) - 1
        attention = intercept[i] + slope[i] * context_tokens
        j = bisect_right(self._single_knots, longest_tokens) - 1
        longest = self._single_intercept[j] + self._single_slope[j] * longest_tokens
        seconds = base + (attention if attention > longest else longest)
        return seconds if seconds > floor else floor

    def verify_seconds(self, n: int, drafted_tokens: int, context_tokens: int, longest_tokens: int) -> float:
        """Seconds of one step on a single-stage instance in which `n` sequences decode and verify, and nothing else happens."""
        if drafted_tokens:
            base, floor, _ = self._verify_rows.get((n, drafted_tokens)) or self._verify_row(n, drafted_tokens)
        else:
            base, floor, _, _, _ = self._decode_rows.get(n) or self._decode_row(n)
        seconds = base + self._decode_attention(n, drafted_tokens, context_tokens, longest_tokens)
        return seconds if seconds > floor else floor

    def verify_each(self, n: int, drafted: Sequence[int], contexts: Sequence[int], longest: Sequence[int]) -> list[float]:
        """`verify_seconds` of several steps of the same sequences."""
        first = drafted[0]
        if drafted.count(first) == len(drafted):
            line = self.verify_line(n, first, min(contexts), max(contexts), min(longest), max(longest))
            if line is not None:
                base, a, b, of_longest = line
                return [base + (a + b * tokens) for tokens in (longest if of_longest else contexts)]
        base, floor, knots, intercept, slope = self._decode_rows.get(n) or self._decode_row(n)
        ones, one_intercept, one_slope = self._single_knots, self._single_intercept, self._single_slope
        known, per_token, ahead, bounded = 0, 0.0, 0.0, False
        pace, row = _NO_PACE, (base, floor, _NO_PACE)
        out = []
        for drafted_tokens, context_tokens, longest_tokens in zip(drafted, contexts, longest, strict=True):
            if drafted_tokens != known:
                known = drafted_tokens
                base, floor, pace = (self._verify_rows.get((n, known)) or self._verify_row(n, known)) if known else row
                per_token, ahead, bounded = pace.per_token, pace.ahead, bool(pace.bounded)
            i = bisect_right(knots, context_tokens) - 1
            attention = intercept[i] + slope[i] * context_tokens
            j = bisect_right(ones, longest_tokens) - 1
            single = one_intercept[j] + one_slope[j] * longest_tokens
            if single > attention:
                attention = single
            computing = pace.seconds(context_tokens) if bounded else per_token * (context_tokens - ahead)
            if computing > attention:
                attention = computing
            seconds = base + attention
            out.append(seconds if seconds > floor else floor)
        return out

    def verify_line(self, n: int, drafted: int, context: int, last_context: int, longest: int, last_longest: int) -> Line | None:
        """`verify_seconds` of all steps of the same sequences and drafts with tokens in these ranges, where one line has it; None where
        none is known to. More tokens never take less time, not even by rounding: the ends of the ranges answer for what is between."""
        base, floor, knots, intercept, slope = self._decode_rows.get(n) or self._decode_row(n)
        i = bisect_right(knots, context)
        if i < len(knots) and last_context >= knots[i]:
            return None
        a, b = intercept[i - 1], slope[i - 1]
        attention, last_attention, of_longest = a + b * context, a + b * last_context, False
        ones = self._single_knots
        j = bisect_right(ones, longest)
        one_a, one_b = self._single_intercept[j - 1], self._single_slope[j - 1]
        last_single = one_a + one_b * last_longest
        if j < len(ones) and last_longest >= ones[j]:
            if attention < last_single or attention < self._single_most(j, last_longest):
                return None
        elif attention < last_single:
            single = one_a + one_b * longest
            if single < last_attention:
                return None
            a, b, attention, last_attention, of_longest = one_a, one_b, single, last_single, True
        if b < 0 or one_b < 0:
            return None
        if drafted:
            base, floor, pace = self._verify_rows.get((n, drafted)) or self._verify_row(n, drafted)
            computing = pace.seconds(last_context) if pace.bounded else pace.per_token * (last_context - pace.ahead)
            if computing > attention:
                return None
        if base + attention >= floor:
            return base, a, b, of_longest
        return (0.0, floor, 0.0, False) if base + last_attention <= floor else None

    def _single_most(self, knot: int, longest: int) -> float:
        """Most seconds of the attention of one sequence of up to `longest` tokens, from the end of the line before a knot on."""
        ones, most = self._single_knots, 0.0
        while knot <= len(ones) and (knot == 0 or ones[knot - 1] <= longest):
            end = min(longest, ones[knot] - 1) if knot < len(ones) else longest
            most = max(most, self._single_intercept[knot - 1] + self._single_slope[knot - 1] * end)
            knot += 1
        return most

    def decode_times(self, step: Step, steps: int) -> list[float] | F64:
        """Seconds of `steps` decode-only steps of one batch whose contexts grow by one token a step; bit-identical to `step_time`."""
        if self._staged:
            raise ModelError(f"decode_times is for one pipeline stage, this instance has {len(self._stages)}")
        n, context_tokens, longest_tokens = step.decodes, step.context_tokens, step.longest_tokens
        base, floor, knots, intercept, slope = self._decode_rows.get(n) or self._decode_row(n)
        ones, one_intercept, one_slope = self._single_knots, self._single_intercept, self._single_slope
        if steps >= ARRAY_FROM:
            context = np.arange(context_tokens, context_tokens + n * steps, n)
            attention = on_lines(context, knots, intercept, slope)
            if n > 1 or context_tokens != longest_tokens:
                longest = np.arange(longest_tokens, longest_tokens + steps)
                np.maximum(attention, on_lines(longest, ones, one_intercept, one_slope), out=attention)
            attention += base
            return attention if floor <= base else np.maximum(attention, floor, out=attention)
        row, one = (knots, intercept, slope), (ones, one_intercept, one_slope)
        out = slower_on_lines(row, one, n, context_tokens, longest_tokens, steps, base)
        return out if floor <= base else [seconds if seconds > floor else floor for seconds in out]

    def verify_times(self, steps: DecodeSteps) -> list[float] | F64:
        """Seconds of decode-only steps that verify; bit-identical to `step_time`."""
        if len(self._stages) > 1:
            raise ModelError(f"verify_times is for one pipeline stage, this instance has {len(self._stages)}")
        n, drafted, context, longest = steps.decodes, steps.drafted_tokens, steps.context_tokens, steps.longest_tokens
        if len(context) < ARRAY_FROM:
            return self.verify_each(n, drafted.tolist(), context.tolist(), longest.tolist())
        first = int(drafted[0])
        if (drafted == first).all():
            return self.verify_same(n, first, context, longest)
        base, floor, _, _, _ = self._decode_rows.get(n) or self._decode_row(n)
        attention = self._reading(n, context, longest)
        out = np.maximum(base + attention, floor)
        for some in set(drafted.tolist()) - {0}:
            base, floor, pace = self._verify_rows.get((n, some)) or self._verify_row(n, some)
            own = np.flatnonzero(drafted == some)
            slower = np.maximum(attention[own], pace.seconds_of(context[own]))
            out[own] = np.maximum(base + slower, floor)
        return out

    def verify_same(self, n: int, drafted: int, contexts: I64, longest: I64) -> F64:
        """`verify_seconds` of many steps of the same sequences that draft alike."""
        base, floor, _, _, _ = self._decode_rows.get(n) or self._decode_row(n)
        out = self._reading(n, contexts, longest)
        if drafted:
            base, floor, pace = self._verify_rows.get((n, drafted)) or self._verify_row(n, drafted)
            np.maximum(out, pace.seconds_of(contexts), out=out)
        out += base
        return np.maximum(out, floor, out=out)

    def _reading(self, n: int, contexts: I64, longest: I64) -> F64:
        """Seconds of the decode kernels of many steps of the same sequences."""
        _, _, knots, intercept, slope = self._decode_rows.get(n) or self._decode_row(n)
        lines = on_lines if rising(contexts) and rising(longest) else on_segments
        reading = lines(contexts, knots, intercept, slope)
        return np.maximum(reading, lines(longest, self._single_knots, self._single_intercept, self._single_slope), out=reading)

    def stage_times(self, step: Step) -> tuple[float, ...]:
        """Seconds of the step on each stage, sending its activations to the next one included. Host work is counted on the first."""
        if len(self._stages) == 1:
            return (self.step_time(step),)
        if step.decodes and not step.slices and not step.drafted_tokens and not self._skips:
            return self._decode_stages(step)
        step = folded(step)
        n, drafted, prefills, new = step.decodes, step.drafted_tokens, step.slices, 0
        for piece in prefills:
            new += piece[0]
        sums = self._sums.get((n, drafted, new, len(prefills))) or self._sum(n, drafted, new, len(prefills))
        if self._skips or (prefills and prefills[0].layers is not None):
            out = []
            for stage, (_, _, floor, send) in zip(self._stages, sums, strict=True):
                seconds = sum(self._device_parts(stage, step).values())
                out.append((seconds if seconds > floor else floor) + send)
        else:
            reading = prompts = 0.0
            out, before = [], None
            for stage, (first, others, floor, send) in zip(self._stages, sums, strict=True):
                if before is None or stage.decode is not before.decode:  # stages of alike layers share their attention
                    prompts = stage.prefill.seconds(prefills) if prefills else 0.0
                    reading = self._attention_s(stage, step) if n else 0.0
                    before = stage
                seconds = first + prompts if prefills else first
                for part in others:
                    seconds += part
                if n:
                    seconds += reading
                out.append((seconds if seconds > floor else floor) + send)
        out[0] += self._host_seconds(n, new)
        return tuple(out)

    def stage_decode_times(self, step: Step, steps: int) -> Sequence[Sequence[float]] | F64:
        """`stage_times` of `steps` decode-only steps of one batch whose contexts grow by one token a step; bit-identical to it."""
        if self._skips or len(self._stages) == 1:
            return [self.stage_times(step.after(i)) for i in range(steps)]
        if steps >= ARRAY_FROM:
            return self._stage_array(step, steps)
        n, reading = step.decodes, [0.0]
        host, rows = self._stage_rows.get(n) or self._stage_row(n)
        columns: list[list[float]] = []
        for base, floor, send, attention in rows:
            if attention is not None:
                together, alone = attention
                reading = slower_on_lines(together, alone, n, step.context_tokens, step.longest_tokens, steps, 0.0)
            columns.append([(seconds if (seconds := base + one) > floor else floor) + send for one in reading])
        columns[0] = [seconds + host for seconds in columns[0]]
        return list(zip(*columns, strict=True))

    def _stage_array(self, step: Step, steps: int) -> F64:
        """The same of many steps."""
        n = step.decodes
        host, rows = self._stage_rows.get(n) or self._stage_row(n)
        context = np.arange(step.context_tokens, step.context_tokens + n * steps, n)
        longest = np.arange(step.longest_tokens, step.longest_tokens + steps)
        out, reading = np.empty((steps, len(rows))), np.empty(0)
        for place, (base, floor, send, attention) in enumerate(rows):
            if attention is not None:
                together, alone = attention
                reading = np.maximum(on_lines(context, *together), on_lines(longest, *alone))
            out[:, place] = np.maximum(base + reading, floor) + send
        out[:, 0] += host
        return out

    def _decode_stages(self, step: Step) -> tuple[float, ...]:
        """Seconds on each stage of a step in which sequences decode, and nothing else happens."""
        context_tokens, longest_tokens, reading, out = step.context_tokens, step.longest_tokens, 0.0, []
        host, rows = self._stage_rows.get(step.decodes) or self._stage_row(step.decodes)
        for base, floor, send, attention in rows:
            if attention is not None:
                (knots, intercept, slope), (ones, one_intercept, one_slope) = attention
                i, j = bisect_right(knots, context_tokens) - 1, bisect_right(ones, longest_tokens) - 1
                reading, longest = intercept[i] + slope[i] * context_tokens, one_intercept[j] + one_slope[j] * longest_tokens
                if longest > reading:
                    reading = longest
            seconds = base + reading
            out.append((seconds if seconds > floor else floor) + send)
        out[0] += host
        return tuple(out)

    def _stage_row(self, n: int) -> tuple[float, list[StageRow]]:
        """What decode-only steps of so many sequences share: the host's seconds, and those of each stage."""
        rows: list[StageRow] = []
        before: Stage | None = None
        for stage, (first, others, floor, send) in zip(self._stages, self._sum(n, 0, 0, 0), strict=True):
            seconds = first
            for part in others:
                seconds += part
            known = before is not None and stage.decode is before.decode
            rows.append((seconds, floor, send, None if known else (stage.decode.row(n), stage.decode.row(1))))
            before = stage
        row = self._stage_rows[n] = (self._host_seconds(n, 0), rows)
        return row

    def _sum(self, n: int, drafted: int, new: int, pieces: int) -> tuple[Sum, ...]:
        """What the stages of a step share with all others of so many sequences and tokens."""
        tokens, found = n + drafted, []
        rows, computed = tokens + pieces, tokens + new if pieces else self._graph_tokens(n, drafted)
        for stage in self._stages:
            stage.tokens.extend(computed)
            stage.rows.extend(rows)
            parts = {part: float(values[computed]) for part, values in stage.tokens.parts.items()}
            others = []
            for part, values in stage.rows.parts.items():
                if part in parts:
                    parts[part] += float(values[rows])
                else:
                    others.append(float(values[rows]))
            send = stage.stage_transfer[0] + stage.stage_transfer[1] * (tokens + new) if stage.stage_transfer else 0.0
            found.append((sum(parts.values()), tuple(others), self._launch_floor(stage, n, bool(pieces), drafted), send))
        if len(self._sums) >= _MOST_SUMS:
            self._sums.clear()
        self._sums[n, drafted, new, pieces] = sums = tuple(found)
        return sums

    def swap_time(self, tokens: int) -> float:
        """Seconds to copy the KV of `tokens` tokens over each rank's host link, either way."""
        return host_copy_s(self._profile.device, tokens * self._swap_bytes)

    def breakdown(self, step: Step) -> dict[str, float]:
        """Seconds of the step by part, summed over stages; `launch` is time that the devices wait for kernels to be launched."""
        step = folded(step)
        n, tokens = step.decodes, step.decode_tokens
        new = sum(p[0] for p in step.slices)
        parts: dict[str, float] = {}
        for stage in self._stages:
            own = self._device_parts(stage, step)
            wait = self._launch_floor(stage, n, bool(step.slices), step.drafted_tokens) - sum(own.values())
            own["launch"] = max(wait, 0.0)
            if stage.stage_transfer:
                own["stage_transfer"] = stage.stage_transfer[0] + stage.stage_transfer[1] * (tokens + new)
            for part, seconds in own.items():
                parts[part] = parts.get(part, 0.0) + seconds
        layers = step.slices[0].layers if step.slices else None
        # The host prepares a chunk's tokens when they enter the model.
        parts["host"] = self._host_seconds(n, new if layers is None or layers[0] == 0 else 0)
        return {part: seconds for part, seconds in parts.items() if seconds}

    def flops(self, new_tokens: float, attended_pairs: float) -> float:
        """Useful FLOPs of all ranks: the layers' matrix products of `new_tokens` tokens and attention over `attended_pairs` pairs."""
        return new_tokens * self._token_flops + attended_pairs * self._pairs_flops

    def logits_flops(self, rows: float) -> float:
        """FLOPs of the LM head for `rows` rows."""
        return rows * 2.0 * self._model.vocab_size * self._model.hidden_size

    @property
    def peak_flops_per_s(self) -> float:
        """Dense peak of the instance's devices at the type its matrix multiplications run in."""
        method = self._model.quantisation.mlp if not any(self._model.moe_layers) else self._model.quantisation.experts
        return self._parallel.devices * self._profile.device.peak(self._model.dtype if method == "none" else method)

    def describe(self) -> dict[str, Any]:
        """What was simulated with, for the results: model, layout, profile, host overheads, check errors, what is unvalidated."""
        host, parallel, kernels = self._host, self._parallel, self._kernels.describe()
        return {
            "model": self._model.name,
            **({"model_taken": self._model.taken} if self._model.taken else {}),
            "quantisation": self._model.quantisation.name,
            "parallel": {"tp": parallel.tp, "pp": parallel.pp, "dp": parallel.dp, "ep": parallel.ep},
            "hardware": self._profile.name,
            "hardware_schema_version": self._profile.document.schema_version,
            "hardware_sources": list(self._profile.document.sources),
            **({} if self._kernels.options.is_plain else {"options": self._kernels.options.changed()}),
            "kernel_backend": self._kernels.backend or "the profile's order",
            "host": {
                "per_step_s": host.per_step_s,
                "per_decode_request_s": host.per_decode_request_s,
                "per_prefill_token_s": host.per_prefill_token_s,
                "kernel_launch_s": self._launch_s,
                "cuda_graphs": bool(host.cuda_graph_sizes),
            },
            **kernels,
            "unvalidated": [*self._model.assumptions, *kernels["unvalidated"]],
        }

    # ---- inside ----

    def _decode_row(self, n: int) -> tuple[float, float, list[int], list[float], list[float]]:
        stage = self._stages[0]
        host = self._host_seconds(n, 0)
        tokens = self._graph_tokens(n)
        skipped = stage.skipped[tokens] if stage.skipped is not None else 0.0
        base = host + (stage.tokens[tokens] + skipped + stage.rows[n])
        floor = host + self._launch_floor(stage, n, False)
        row = self._decode_rows[n] = (base, floor, *stage.decode.row(n))
        return row

    def _verify_row(self, n: int, drafted: int) -> tuple[float, float, Pace]:
        """What steps share in which `n` sequences verify so many drafted tokens: seconds but attention, the least, attention's pace."""
        stage = self._stages[0]
        host = self._host_seconds(n, 0)
        tokens = self._graph_tokens(n, drafted)
        skipped = stage.skipped[tokens] if stage.skipped is not None else 0.0
        base = host + (stage.tokens[tokens] + skipped + stage.rows[n + drafted])
        floor = host + self._launch_floor(stage, n, False, drafted)
        row = self._verify_rows[n, drafted] = (base, floor, stage.verify.pace(n, drafted))
        return row

    def _decode_attention(self, n: int, drafted_tokens: int, context_tokens: int, longest_tokens: int) -> float:
        """Seconds of the first stage's attention of the decoding sequences: reading their caches, or computing, if they verify."""
        _, _, knots, intercept, slope = self._decode_rows.get(n) or self._decode_row(n)
        i = bisect_right(knots, context_tokens) - 1
        attention = intercept[i] + slope[i] * context_tokens
        j = bisect_right(self._single_knots, longest_tokens) - 1
        longest = self._single_intercept[j] + self._single_slope[j] * longest_tokens
        slower = attention if attention > longest else longest
        if drafted_tokens:
            _, _, pace = self._verify_rows.get((n, drafted_tokens)) or self._verify_row(n, drafted_tokens)
            computing = pace.seconds(context_tokens)
            return computing if computing > slower else slower
        return slower

    def _graph_tokens(self, n: int, drafted: int = 0) -> int:
        return self._captured(n, drafted) or n + drafted

    def _captured(self, n: int, drafted: int) -> int | None:
        """Tokens of all attention replicas in the graphs that `n` sequences run at, None when there is none so large. Each replica
        launches a graph of its own, for its part of the batch."""
        replicas = self._parallel.dp
        own = -(-n // replicas)
        captured = self._host.verify_graph_tokens(own, -(-(n + drafted) // replicas)) if drafted else self._host.graph_size(own)
        return None if captured is None else captured * replicas

    def _launch_floor(self, stage: Stage, n: int, has_prefills: bool, drafted: int = 0) -> float:
        """Seconds the host needs to launch the stage's kernels one by one, or the pieces of a graph; nothing where a graph is whole."""
        if not has_prefills and self._captured(n, drafted) is not None:
            return stage.graph_pieces * self._host.per_graph_piece_s
        return stage.launched_kernels * self._launch_s

    def _host_seconds(self, n: int, new: int) -> float:
        """Host work of a step: each attention replica has a process of its own, which does its part of the sequences and prompts."""
        host, replicas = self._host, self._parallel.dp
        return host.per_step_s + n / replicas * host.per_decode_request_s + new / replicas * host.per_prefill_token_s

    def mixed_seconds(self, n: int, drafted_tokens: int, context_tokens: int, longest_tokens: int, prefills: Sequence[Slice]) -> float:
        """Seconds of one step on a single-stage instance with chunks of prompts that pass through all layers."""
        tokens, pieces, new = n + drafted_tokens, len(prefills), 0
        for piece in prefills:
            new += piece[0]
        try:
            seconds = self._tokens.seconds[tokens + new] + self._rows.seconds[tokens + pieces]
        except IndexError:  # the tables grow when they are asked for more
            seconds = self._tokens[tokens + new] + self._rows[tokens + pieces]
        seconds += self._prompts.seconds(prefills)
        if self._skips:
            stage = self._stages[0]
            if stage.skipped is not None and stage.skipped_keys is not None:
                seconds += stage.skipped[tokens + pieces] + stage.skipped_keys[new]
        if drafted_tokens:
            seconds += self._decode_attention(n, drafted_tokens, context_tokens, longest_tokens)
        elif n:
            _, _, knots, intercept, slope = self._decode_rows.get(n) or self._decode_row(n)
            i = bisect_right(knots, context_tokens) - 1
            attention = intercept[i] + slope[i] * context_tokens
            i = bisect_right(self._single_knots, longest_tokens) - 1
            longest = self._single_intercept[i] + self._single_slope[i] * longest_tokens
            seconds += attention if attention > longest else longest
        if (host := self._host_rows.get(n)) is None:
            host = self._host_rows[n] = self._host_seconds(n, 0)
        host += new / self._replicas * self._per_prompt_token_s
        return (seconds if seconds > self._launching_s else self._launching_s) + host

    def _device_parts(self, stage: Stage, step: Step) -> dict[str, float]:
        n, tokens, prefills = step.decodes, step.decode_tokens, step.slices
        layers = prefills[0].layers if prefills else None
        if layers is None:
            parts = self._whole_parts(stage, n, step.drafted_tokens, prefills)
            rows = tokens + len(prefills)
        else:
            parts = self._layered_steps().parts(tokens, prefills)
            rows = tokens + (len(prefills) if layers[0] + 1 == layers[1] else 0)
        stage.rows.extend(rows)
        for part, values in stage.rows.parts.items():
            parts[part] = parts.get(part, 0.0) + float(values[rows])
        if n:
            parts["attention_decode"] = self._attention_s(stage, step)
        return parts

    def _attention_s(self, stage: Stage, step: Step) -> float:
        """Seconds of a stage's attention of the decoding sequences."""
        n = step.decodes
        reading = max(stage.decode.seconds(n, step.context_tokens), stage.decode.seconds(1, step.longest_tokens))
        if step.drafted_tokens:
            reading = max(reading, stage.verify.pace(n, step.drafted_tokens).seconds(step.context_tokens))
        return reading

    def _layered_steps(self) -> LayeredSteps:
        if self._layered is None:
            self._layered = LayeredSteps(self._model, self._parallel, self._kernels, self._context_limit)
        return self._layered

    def _whole_parts(self, stage: Stage, n: int, drafted: int, prefills: Sequence[Slice]) -> dict[str, float]:
        """What chunks that pass through all layers share with the decodes, and their attention."""
        new = sum(p[0] for p in prefills)
        tokens = n + drafted + new if prefills else self._graph_tokens(n, drafted)
        stage.tokens.extend(tokens)
        parts = {part: float(values[tokens]) for part, values in stage.tokens.parts.items()}
        for table, count in ((stage.skipped, n + drafted + len(prefills) if prefills else tokens), (stage.skipped_keys, new)):
            if table is not None:
                table.extend(count)
                for part, values in table.parts.items():
                    parts[part] = parts.get(part, 0.0) + float(values[count])
        if prefills:
            parts["attention_prefill"] = stage.prefill.seconds(prefills)
        return parts
