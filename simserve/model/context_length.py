"""How many tokens a model's positions reach: the stated number, and what a scaling of rotary positions makes of it."""

from __future__ import annotations

from simserve.model.config_file import MOST, Config

_STATED = ("llama3", "longrope", "su", "mrope", "default", "proportional", "")
"""Rules whose `max_position_embeddings` is the scaled length already."""


def context_length(config: Config, stated: int) -> int:
    """Tokens of the longest context, from `max_position_embeddings` and `rope_scaling` (or `rope_parameters`).

    The rule is the engines' (vLLM, `_get_and_verify_max_len`): llama3, longrope and mrope state the scaled length; linear and dynamic
    scaling multiply it by the factor; yarn multiplies `original_max_position_embeddings`, or, where that is not given, changes nothing.
    Gemma 3 states the scaled length whatever the rule. A scaling for each kind of layer changes nothing.
    """
    scaling = config.section("rope_scaling") or config.section("rope_parameters")
    if scaling is None or config.text("model_type").startswith("gemma3"):
        return stated
    rule = (scaling.text("rope_type") or scaling.text("type")).lower()
    if rule in _STATED:
        return stated
    factor = scaling.number("factor", default=1.0, most=1e6)
    if "yarn" in rule:
        original = scaling.integer("original_max_position_embeddings", default=0, minimum=0)
        return min(MOST, max(1, int(original * factor))) if original else stated
    return min(MOST, max(1, int(stated * factor)))
