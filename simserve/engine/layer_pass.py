"""Chunks that pass through the layers of a model group by group, one group a step (StepPlan.prefill, `layers`)."""

from __future__ import annotations

from simserve.engine.planned import Planned
from simserve.engine.request import LiveRequest


def pass_layers(plan: Planned, request: LiveRequest, tokens: int, layers: tuple[int, int] | None, stages: int) -> None:
    """Checks that the slice may pass through `layers` next, and notes them. One group of all layers is an ordinary slice."""
    if layers is not None:
        group, groups = layers
        if not 0 <= group < groups:
            plan.refuse(f"prefills {request!r} in layer group {group} of {groups}")
        if stages > 1:
            plan.refuse(f"prefills by layer groups on an instance of {stages} pipeline stages: it must have one")
        if groups == 1:
            layers = None
    if plan.slices and layers != plan.layers:
        plan.refuse(f"prefills {request!r} in {_text(layers)} and others of the step in {_text(plan.layers)}")
    of_chunk, passed, groups = request.layer_pass or (tokens, 0, layers[1] if layers else 1)
    if tokens != of_chunk or (layers or (0, 1)) != (passed, groups):
        plan.refuse(
            f"prefills {tokens} tokens of {request!r} in {_text(layers)} where {of_chunk} tokens in {_text((passed, groups))} come next"
        )
    plan.layers = layers


def _text(layers: tuple[int, int] | None) -> str:
    return "all layers" if layers is None or layers[1] == 1 else f"layer group {layers[0]} of {layers[1]}"
