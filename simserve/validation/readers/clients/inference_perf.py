"""inference-perf's `stage_N_lifecycle_metrics.json`: one stage at one rate, latencies in seconds.

A stage states its requested rate and not whether the gaps were equal or random (`load.type`, constant unless the user's configuration says
otherwise). That configuration may have been saved beside the results as `config.yaml`; without it the run is skipped.
The summary over all stages says nothing of the rates.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simserve.errors import ConfigError
from simserve.validation.case import Lengths, Load
from simserve.validation.readers.clients.fields import Fields
from simserve.validation.readers.clients.run import EQUAL_GAPS, ClientRun, LoadError, arriving, closed


def is_one(document: Fields) -> bool:
    """Whether a document has the keys of this client."""
    return isinstance(document.raw("load_summary"), dict) and isinstance(document.raw("successes"), dict)


def read(document: Fields, file: Path) -> ClientRun:
    """The run of one stage; the configuration is looked for beside `file`. Raises LoadError."""
    configuration = _configuration(file)
    good = document.inside("successes")
    latency = good.inside("latency")
    measured: dict[str, float | None] = {}
    for key, name in (("time_to_first_token", "ttft"), ("time_per_output_token", "tpot"), ("request_latency", "e2e")):
        entry = latency.inside(key)
        for theirs, ours in (("mean", "mean"), ("median", "median"), ("p90", "p90"), ("p99", "p99")):
            if theirs in entry:
                measured[f"{name}_{ours}"] = entry.seconds(theirs)
    measured["output_tokens_per_s"] = good.inside("throughput").number("output_tokens_per_sec")
    return ClientRun(
        requests=good.count("count", least=0) or 0,
        failed=document.inside("failures").count("count", least=0) or 0,
        prompt=Lengths(good.inside("prompt_len").number("mean") or 0.0),
        output=Lengths(good.inside("output_len").number("mean") or 0.0),
        load=_load(document.inside("load_summary"), configuration),
        measured=measured,
        model=configuration.inside("server").text("model_name"),
    )


def _load(summary: Fields, configuration: Fields) -> Load:
    clients = summary.count("concurrency")
    kind = configuration.inside("load").text("type")
    if clients is not None and (not kind or kind == "concurrent"):
        return closed(clients)
    rate = summary.rate("requested_rate")
    if rate is None or rate == float("inf"):
        raise LoadError("the result lacks the rate of its stage (a summary over several stages has none)")
    if kind not in ("constant", "poisson"):
        said = (
            f"load.type '{kind[:30]}' is not understood" if kind else "no config.yaml beside the result says whether arrivals were Poisson"
        )
        raise LoadError(said)
    return arriving(rate, burstiness=EQUAL_GAPS if kind == "constant" else 1.0)


def _configuration(file: Path) -> Fields:
    from simserve.files import yaml_text

    place = file.parent / "config.yaml"
    if not place.is_file():
        return Fields(None)
    try:
        found: Any = yaml_text.read(place).data
    except ConfigError:
        return Fields(None)
    return Fields(found, "config.yaml", [])
