"""Speculative decoding in results of `vllm bench serve` and `sglang.bench_serving`: who drafted how much, and how much was accepted."""

from __future__ import annotations

from typing import Any

from simserve.validation.readers.clients.fields import Fields
from simserve.validation.readers.clients.run import LoadError

MOST_TOKENS = 128
"""Drafted in a row or in a tree (`simserve.speculation`)."""

_ALGORITHMS = {"eagle": "eagle", "eagle3": "eagle3", "nextn": "mtp", "mtp": "mtp", "deepseek_mtp": "mtp", "ngram": "ngram"}
"""Words of SGLang's `--speculative-algorithm` and vLLM's `method`, in small letters -> ours. A small model's size is not in a result."""


def stated(document: Fields, server: Fields) -> dict[str, Any]:
    """The setting of a case whose server drafted; empty where it did not.

    SGLang writes its mean `accept_length` and what the server was started with (sglang/bench_serving.py, `server_info`), vLLM counts of
    drafts and of drafted and accepted tokens, but not who drafted (vllm/benchmarks/serve.py, `spec_decode_*`): that comes as metadata,
    `speculative_method`. Raises LoadError for a run of which this is not known.
    """
    counted = [key for key in document.names("spec_decode_") if document.raw(key)]
    word = server.text("speculative_algorithm") or document.text("speculative_method")
    if not counted and not document.raw("accept_length") and not word:
        return {}
    method = _ALGORITHMS.get(word.lower())
    if not word:
        raise LoadError(
            "the server used speculative decoding, and the result does not say whose: add the metadata speculative_method=eagle3"
        )
    if method is None:
        raise LoadError(f"the server used speculative decoding by '{word}'; a result can be compared for {', '.join(sorted(_ALGORITHMS))}")
    length = document.number("accept_length", least=1.0)
    tokens = server.count("speculative_num_steps")
    drafts, drafted, accepted = (document.number(f"spec_decode_{name}") for name in ("num_drafts", "draft_tokens", "accepted_tokens"))
    if drafts and drafted:
        tokens = round(drafted / drafts)
        length = 1.0 + (accepted or 0.0) / drafts
    if length is None or tokens is None:
        unsaid = "the result does not say how many tokens it drafted and accepted"
        raise LoadError(f"the server used speculative decoding, and {document.problems[0] if document.problems else unsaid}")
    if tokens > MOST_TOKENS or not 1.0 <= length <= tokens + 1:
        raise LoadError(
            f"the server drafted {tokens} tokens in a row and got {length:g} a step; a step gives 1 to one more than are drafted"
        )
    told: dict[str, Any] = {"method": method, "tokens": tokens, "length": length}
    top_k = server.count("speculative_eagle_topk")
    if top_k is not None and top_k > 1:
        told |= {"top_k": top_k, "verify_tokens": max(server.count("speculative_num_draft_tokens") or 0, tokens + 1)}
    return {"speculation": told}
