"""Names in measurement files -> names of simserve: hardware profiles, engine profiles, models."""

from __future__ import annotations

import re

from simserve import resources
from simserve.errors import ModelError
from simserve.files.words import clipped
from simserve.model import load_model
from simserve.model.name_words import parse, without_format
from simserve.validation import devices

_GPUS = (  # first match wins; on the lower-case name without spaces, dashes and underscores
    ("rtxpro6000blackwellserver", "rtx-pro-6000-server"),
    ("rtxpro6000server", "rtx-pro-6000-server"),
    ("rtxpro6000", "rtx-pro-6000"),
    ("rtx5090", "rtx-5090"),
    ("rtx4090", "rtx-4090"),
    ("gh200", "gh200"),
    ("h100pcie", "h100-pcie"),
    ("h100", "h100-sxm-80gb"),
    ("h200", "h200-sxm-141gb"),
    ("h800", "h800"),
    ("h20", "h20"),
    ("a100", "a100-sxm-80gb"),
    ("a800", "a800"),
    ("l40s", "l40s"),
    ("gb200", "gb200"),
    ("gb300", "gb300"),
    ("b200", "b200-sxm"),
    ("b300", "b300-sxm"),
    ("mi300x", "mi300x"),
    ("910c", "ascend-910c"),
    ("a3node", "ascend-910c"),
    ("910b", "ascend-910b"),
    ("a264g", "ascend-910b"),
    ("310p", "ascend-310p"),
)


_LONGEST_NAME = 200
"""Hugging Face allows 96 characters for each of the two parts of a name."""

_UNSTATED_VLLM = (0, 11)
"""The release a run without a version is read as."""


def hardware_name(gpu: str) -> str:
    """The hardware profile for a device as a file spells it; the spelling itself when nothing is known of it."""
    word = re.sub(r"[\s_\-]", "", gpu.lower())
    wanted = next((name for part, name in _GPUS if part in word), gpu)
    installed = resources.available("hardware_profiles")
    if wanted in installed:
        return wanted
    return next((name for name in installed if name.startswith(wanted)), wanted)


def hardware_exists(name: str) -> bool:
    """Whether a profile of that name is installed."""
    return devices.exists(name)


def engine_profile_name(engine: str, version: str = "") -> str:
    """The engine profile for an engine and a version ('' = not stated: the current generation). '' when the engine is unknown."""
    word = re.sub(r"[\s_\-]", "", engine.lower())
    if "ascend" in word and "vllm" in word:
        return "vllm-ascend-0.9" if (0, 0) < _numbers(version)[:2] < (0, 11) else "vllm-ascend"
    if "ascend" in word and "sglang" in word:
        return "sglang-ascend"
    if word.startswith("vllm"):
        number = re.search(r"(\d+)\.(\d+)", version)
        if "2023" in version:
            return "vllm-2023"
        release = (int(number[1]), int(number[2])) if number else _UNSTATED_VLLM
        if release >= (0, 19):
            return "vllm-0.19"
        return "vllm-v0" if release < (0, 8) else "vllm-v1" if release < (0, 14) else "vllm-v1-async"
    if "trtllm" in word or "tensorrt" in word:
        numbers = _numbers(version)
        return "tensorrt-llm-1.0" if numbers and numbers < (1, 1) else "tensorrt-llm"
    if "sglang" in word:
        number = re.search(r"(\d+)\.(\d+)\.(\d+)", version)
        return "sglang-0.5.1" if number and tuple(map(int, number.groups())) < (0, 5, 6) else "sglang"
    for part, name in (
        ("mindie", "mindie"),
        ("lightllm", "lightllm"),
        ("llama.cpp", "llama.cpp"),
        ("mii", "deepspeed-fastgen"),
        ("fastgen", "deepspeed-fastgen"),
    ):
        if part in word:
            return name
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: '1.0.0rc3' -> (1, 0, 0)."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", version.strip())
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def find_model(name: str) -> str:
    """The name, or its last part where it is a path to a folder of weights, if `load_model` knows what model that is; '' otherwise."""
    found, _ = _looked_up(name)
    return found


def unknown_model(name: str) -> str:
    """Why `find_model` finds nothing, in words that rows share; '' when it finds something."""
    return _looked_up(name)[1]


def stated_apart(model: str, quantisation: str | None) -> tuple[str, str | None]:
    """A model that `find_model` found and its weight format, told apart where the name of a copy says both: the same pair whether a file
    states the format in the name or in a column of its own."""
    told = parse(model)
    if quantisation is not None or told is None or told.stored.method is None or not load_model(model).taken:
        return model, quantisation
    return without_format(model), told.stored.method


def _looked_up(name: str) -> tuple[str, str]:
    """A name that `load_model` knows and why there is none; one of the two is ''."""
    unknown = f"unknown model {clipped(name)}"
    if len(name) > _LONGEST_NAME or not name.isprintable():
        return "", unknown
    for candidate in (name, name.rsplit("/", 1)[-1]):
        try:
            load_model(candidate)
        except ModelError as problem:
            if not str(problem).startswith(("unknown model", "model configuration")):
                return "", str(problem)
            continue
        return candidate, ""
    return "", unknown
