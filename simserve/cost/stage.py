"""One pipeline stage: its tables, put together from the operators of its layers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simserve.cost.decode import DecodeAttention
from simserve.cost.kernels import KernelChoice
from simserve.cost.prefill import PrefillAttention
from simserve.cost.tokens import Counted, TokenTable, kernel_count
from simserve.model.architecture import ModelArchitecture
from simserve.model.layout import head_operators, layer_groups, layer_operators, stage_handover_bytes_per_token
from simserve.model.operators import MLA, Attention
from simserve.model.parallel import Parallel

_FIRST_TOKENS = 8192
_FIRST_ROWS = 512


@dataclass(slots=True)
class Stage:
    """Tables of one stage. `rows` is over sequences that need logits (0 everywhere but on the last stage)."""

    tokens: TokenTable
    rows: TokenTable
    decode: DecodeAttention
    prefill: PrefillAttention
    handover: list[float]
    launched_kernels: int


def build_stages(model: ModelArchitecture, parallel: Parallel, kernels: KernelChoice, max_context_tokens: int) -> tuple[Stage, ...]:
    """The stages of an instance. Raises ModelError for an operator without a kernel model or an impossible layout."""
    head = head_operators(model, parallel)
    stages = []
    for index in range(parallel.pp):
        last = index == parallel.pp - 1
        operators: list[Counted] = [(op, 1) for op in (head.embedding if index == 0 else ())]
        attention: list[tuple[Attention | MLA, int]] = []
        for layer, count in layer_groups(model, parallel, index):
            for op in layer_operators(model, parallel, layer):
                if isinstance(op, Attention | MLA):
                    attention.append((op, count))
                if not isinstance(op, Attention):  # MLA brings a matrix multiplication too
                    operators.append((op, count))
        output: list[Counted] = [(op, 1) for op in head.output] if last else []
        stages.append(
            Stage(
                TokenTable(kernels, operators, _FIRST_TOKENS, parallel.dp),
                TokenTable(kernels, output, _FIRST_ROWS, parallel.dp),
                DecodeAttention(kernels, attention, max_context_tokens, parallel.dp),
                PrefillAttention(kernels, attention, max_context_tokens, parallel.dp),
                [] if last else _handover(model, parallel, kernels),
                kernel_count([*operators, *output, *((op, n) for op, n in attention if isinstance(op, Attention))]),
            )
        )
    return tuple(stages)


def _handover(model: ModelArchitecture, parallel: Parallel, kernels: KernelChoice) -> list[float]:
    """Seconds at zero and one token of the straight line through the hand-over of 1 and of 1,024 tokens."""
    per_token = stage_handover_bytes_per_token(model, parallel)
    group = 2 if parallel.tp * parallel.pp <= kernels.profile.device.devices_per_node else kernels.profile.device.devices_per_node + 1
    few, many = kernels.communication("p2p", group, np.array([1.0, 1024.0]) * per_token, "bf16").tolist()
    slope = max(many - few, 0.0) / 1023.0
    return [few - slope, slope]
