"""Steps whose prompt chunks pass through one group of the layers only (layered prefill, arXiv 2510.08055).

The layers of the group run over decodes and chunks together, as in an ordinary mixed step; all others over the decodes alone. Prompt
tokens are embedded in the step of the first group and sampled in that of the last, so that a sweep over all groups does the work of an
ordinary step for its chunks, and the decodes' in each step.
"""

from __future__ import annotations

from collections.abc import Sequence

from simserve.contracts import Slice
from simserve.cost.decode import Attending
from simserve.cost.kernels import KernelChoice
from simserve.cost.prefill import PrefillAttention
from simserve.cost.tokens import TokenTable
from simserve.errors import ModelError
from simserve.model.architecture import ModelArchitecture
from simserve.model.layout import head_operators, layer_groups, layer_operators
from simserve.model.operators import Attention, IndexerScores
from simserve.model.parallel import Parallel

_FIRST_TOKENS = 8192


def group_layers(layers: int, group: int, groups: int) -> range:
    """The layers of group `group` of `groups`: contiguous, as equal as possible. Raises ModelError for more groups than layers."""
    if groups > layers:
        raise ModelError(f"prefill passes through {groups} groups of layers, the model has {layers} layers: give the policy fewer groups")
    return range(group * layers // groups, (group + 1) * layers // groups)


class LayeredSteps:
    """Tables of single layers, one for each kind of layer.

    Raises ModelError for an instance with pipeline stages, or a model some of whose layers prompts skip.
    """

    def __init__(self, model: ModelArchitecture, parallel: Parallel, kernels: KernelChoice, max_context_tokens: int) -> None:
        if parallel.pp > 1:
            raise ModelError(f"prefill by groups of layers is modelled for one pipeline stage, this instance has {parallel.pp}")
        if kernels.options.prefill_layer_fraction < 1.0:
            raise ModelError("prefill by groups of layers is not modelled together with layers that prompts skip (prefill_layer_fraction)")
        examples = [layer for layer, _ in layer_groups(model)]
        kinds = [model.layer_kind(layer) for layer in examples]
        self._kind_of_layer = [kinds.index(model.layer_kind(layer)) for layer in range(model.num_layers)]
        self._tokens: list[TokenTable] = []
        self._prefill: list[PrefillAttention] = []
        for layer in examples:
            operators = layer_operators(model, parallel, layer)
            attention = [(op, 1) for op in operators if isinstance(op, Attending)]
            # MLA brings a matrix multiplication too.
            others = [(op, 1) for op in operators if not isinstance(op, Attention | IndexerScores)]
            self._tokens.append(TokenTable(kernels, others, _FIRST_TOKENS, parallel.dp))
            self._prefill.append(PrefillAttention(kernels, attention, max_context_tokens, parallel.dp))
        embedding = [(op, 1) for op in head_operators(model, parallel).embedding]
        self._embedding = TokenTable(kernels, embedding, _FIRST_TOKENS, parallel.dp)

    def parts(self, decode_requests: int, prefills: Sequence[Slice]) -> dict[str, float]:
        """Seconds by part of a step, decode attention and the output head left out."""
        assert prefills[0].layers is not None
        group, groups = prefills[0].layers
        new = sum(p.new_tokens for p in prefills)
        inside = [0] * len(self._tokens)
        for layer in group_layers(len(self._kind_of_layer), group, groups):
            inside[self._kind_of_layer[layer]] += 1
        parts: dict[str, float] = {}
        _add(parts, self._embedding, 1, decode_requests + (new if group == 0 else 0))
        for kind, (table, count) in enumerate(zip(self._tokens, inside, strict=True)):
            _add(parts, table, count, decode_requests + new)
            _add(parts, table, self._kind_of_layer.count(kind) - count, decode_requests)
        parts["attention_prefill"] = sum(count * table.seconds(prefills) for table, count in zip(self._prefill, inside, strict=True))
        return parts


def _add(parts: dict[str, float], table: TokenTable, layers: int, tokens: int) -> None:
    """Adds the seconds of `layers` layers over `tokens` tokens."""
    if layers and tokens:
        table.extend(tokens)
        for part, values in table.parts.items():
            parts[part] = parts.get(part, 0.0) + layers * float(values[tokens])
