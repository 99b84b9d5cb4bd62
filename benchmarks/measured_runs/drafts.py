"""Speculative decoding of measured servers: what their options say of it, and the acceptance that they do not say."""

from __future__ import annotations

import re
from typing import Any

MTP_ACCEPTANCE = 0.76
"""Probability that a token of a prediction layer is accepted, where a run does not state its own: the middle of what was published, 71 to
72 % (vllm-ascend issue 13045) and 81 to 82 % (vllm issue 12755, DeepSeek-R1). The same for each token of a draft."""

UNSTATED = "the draft's acceptance is not stated"

_TOKENS = re.compile(r"""num_speculative_tokens["']?\s*[:=]\s*(\d+)""")
_METHOD = re.compile(r"""["']?method["']?\s*[:=]\s*["'](\w+)["']""")


def mtp(tokens: int) -> dict[str, Any]:
    """The setting of a case whose model drafts so many tokens with its own prediction layers."""
    return {"speculation": {"method": "mtp", "tokens": tokens, "rate": MTP_ACCEPTANCE}}


def stated(options: str) -> dict[str, Any]:
    """The same from a vLLM command's `--speculative-config`; empty for another method, whose acceptance was not published."""
    tokens, method = _TOKENS.search(options), _METHOD.search(options)
    if tokens is None or method is None or not method[1].endswith("mtp"):
        return {}
    return mtp(int(tokens[1]))
