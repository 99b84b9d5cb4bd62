"""What the serve options of Ascend runs say of graphs and drafts, and what they leave out."""

from __future__ import annotations

import json
import re
from typing import Any

from benchmarks.measured_runs import drafts
from simserve.config.engine_profile import load_engine

EAGLE3_LENGTH = {1: 1.6, 2: 1.85, 3: 2.03, 4: 2.21, 5: 2.36, 6: 2.46, 7: 2.56}
"""Tokens that a step gives with an EAGLE-3 chain of so many, where a run does not state its own: means over ten models and seven benchmarks
(sgl-project/SpecForge@a6b6b0230009, 3, 5 and 7 measured), between them straight lines."""

_FULL = re.compile(r"""cudagraph_mode["']?\s*:\s*["']FULL""")
_SIZES = re.compile(r"""cudagraph_capture_sizes["']?\s*:\s*\[([\d,\s]+)\]""")
_TOKENS = re.compile(r"""num_speculative_tokens["']?\s*[:=]\s*(\d+)""")
_METHOD = re.compile(r"""["']method["']\s*:\s*["'](\w+)["']""")
_ON_310P = re.compile(r"-310(?:-vllm-tp\d+)?$")


def checkpoint(model: str) -> str:
    """The name without what only the files of a copy are about: `Qwen3-8B-w8a8sc-310-vllm-tp1` -> `Qwen3-8B-w8a8` (sc: the weights are
    stored compressed, and are read as 8 bits)."""
    return _ON_310P.sub("", model).replace("w8a8sc", "w8a8")


def shared_prefix(text: str) -> float:
    """The fraction of each prompt that a name states as common to all: `prefix90` -> 0.9; 0 where it states none."""
    found = re.search(r"prefix_?(\d+)", text)
    return int(found[1]) / 100.0 if found else 0.0


def of_graphs(options: str, profile: str, dp: int) -> dict[str, Any]:
    """The graph settings of a vLLM-Ascend command: one graph a step under FULL_DECODE_ONLY, cut at every layer under its default."""
    settings: dict[str, Any] = {}
    if _FULL.search(options):
        settings["whole_graphs"] = True
    sizes = _SIZES.search(options)
    return settings | graph_sizes([int(size) for size in sizes[1].split(",") if size.strip()] if sizes else [], profile, dp)


def graph_sizes(stated: list[int], profile: str, dp: int) -> dict[str, Any]:
    """The captured sizes of all `dp` replicas together: those stated, or the engine's own where there are replicas."""
    sizes = stated or (load_engine(profile).cuda_graph_sizes if dp > 1 else [])
    return {"graph_sizes": [dp * size for size in sizes]} if sizes else {}


def of_drafts(options: str) -> dict[str, Any]:
    """The draft of a vLLM-Ascend command, with an acceptance that was published elsewhere; empty where there is none to be had."""
    found = drafts.stated(options)
    if found:
        return found
    tokens, method = _TOKENS.search(options), _METHOD.search(options)
    return eagle3(int(tokens[1])) if tokens and method and method[1] == "eagle3" else {}


def eagle3(tokens: int) -> dict[str, Any]:
    """The setting of a case with an EAGLE-3 chain of so many tokens; empty for longer ones than were published."""
    length = EAGLE3_LENGTH.get(tokens)
    return {} if length is None else {"speculation": {"method": "eagle3", "tokens": tokens, "length": length}}


def arguments(text: str) -> dict[str, list[str]]:
    """Flags of SGLang's launcher given as a JSON list, `["--tp-size", 2, "--trust-remote-code"]`: each with the words behind it."""
    try:
        words = [str(word) for word in json.loads(text)]
    except ValueError:
        return {}
    flags: dict[str, list[str]] = {}
    name = ""
    for word in words:
        if word.startswith("--"):
            name = word.removeprefix("--")
            flags[name] = []
        elif name:
            flags[name].append(word)
    return flags
