"""Which measured runs the overheads may be learned from, and which only judge them.

Two rules. By run: the split is by whole runs (`Case.run`: an engine and version with a model on a device, a page, a load test), never by
single rows, and depends on nothing but the run's name: a hash of it puts 40 % of the runs of each data set into the check part. By group:
everything of a model, of a device or of an engine's version is left out of the fit and judged by what the others taught (`leave_out`). The
first says how the runs at hand are met, the second what to expect of a model, a device or a version that is not among them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping

from simserve.errors import SimserveError
from simserve.model import load_model
from simserve.validation.case import Case

CHECK_FRACTION = 0.4

_ENGINES = {"trtllm": "tensorrt-llm"}


def is_check(case: Case) -> bool:
    """Whether the case's run is kept for judging."""
    digest = hashlib.sha256(f"{case.dataset}/{case.run}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < CHECK_FRACTION


def fit_part(cases: Iterable[Case]) -> list[Case]:
    """The cases to learn from."""
    return [case for case in cases if not is_check(case)]


def check_part(cases: Iterable[Case]) -> list[Case]:
    """The cases to judge by."""
    return [case for case in cases if is_check(case)]


def model_group(case: Case) -> str:
    """The architecture, whatever its weights' format and whichever checkpoint of that shape: DeepSeek-V3 and R1 are one model."""
    return _architecture(case.model)


def device_group(case: Case) -> str:
    """The hardware profile."""
    return case.gpu


def version_group(case: Case) -> str:
    """Engine and release, patches taken together; runs that state none are those of the profile that they are read as."""
    found = re.match(r"v?(\d+\.\d+(?:\.\d+)?)", case.version)
    return f"{_ENGINES.get(case.engine.lower(), case.engine.lower())} {found[1] if found else case.version or case.profile}"


GROUPINGS: Mapping[str, Callable[[Case], str]] = {"model": model_group, "device": device_group, "version": version_group}
"""What is left out as a whole -> the group of a case."""


def _architecture(name: str) -> str:
    """Its family and shape, such as `llama 32x4096`, with the number of experts where there are any."""
    try:
        model = load_model(name)
    except SimserveError:
        return name
    experts = f" {model.experts.num_experts} experts" if model.experts else ""
    return f"{model.family} {model.num_layers}x{model.hidden_size}{experts}"
