"""Results of benchmark clients: which client wrote a file, and what the caller adds to it.

None of them says which device or layout served the model (unless the user added it as metadata), so the caller completes that:
see `completed_by`. How each client's load is read is in `readers/clients`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from simserve.errors import ConfigError
from simserve.files.json_text import parse_json
from simserve.files.text import read_text
from simserve.files.words import clipped
from simserve.validation import names
from simserve.validation.case import Case
from simserve.validation.readers.clients import aiperf, bench_serve, guidellm, inference_perf, llmperf
from simserve.validation.readers.clients.fields import Fields
from simserve.validation.readers.clients.run import ClientRun, LoadError, case_of

_NO_DEVICE = "the result does not name its device: give --hardware"

_MOST_BYTES = 2**30
"""guidellm writes every request into its result."""

_LOOKED_FOR = (
    "not a result of a known client. Looked for 'mean_ttft_ms' and 'completed' (vllm bench serve, sglang.bench_serving),"
    " 'time_to_first_token' (aiperf, genai-perf), 'benchmarks' (guidellm), 'load_summary' and 'successes' (inference-perf),"
    " 'num_concurrent_requests' and 'results_ttft_s_mean' (LLMPerf)"
)


def read(file: Path) -> list[Case]:
    """The runs of one result file; sglang appends one line for each run.

    Raises ConfigError: not JSON, empty, or a document of none of the clients, naming the keys that were looked for. A run whose load or
    values are not understood is a case that is skipped, with the reason.
    """
    documents = _documents(read_text(file, ConfigError, what="a result of a benchmark client", most_bytes=_MOST_BYTES), file)
    cases: list[Case] = []
    for index, document in enumerate(documents):
        label = file.name if len(documents) == 1 else f"{file.name} run {index + 1}"
        if not isinstance(document, dict):
            raise ConfigError(f"{file}: {_LOOKED_FOR}")
        fields = Fields(document)
        if guidellm.is_one(fields):
            runs = document["benchmarks"]
            for i, benchmark in enumerate(runs):
                cases.append(_case(partial(guidellm.read, document=fields), Fields(benchmark), f"{label} benchmark {i + 1}", file))
        else:
            cases.append(_case(_reader(fields, file), fields, label, file))
    return cases


def _reader(document: Fields, file: Path) -> Callable[[Fields], ClientRun]:
    if aiperf.is_one(document):
        return aiperf.read
    if bench_serve.is_one(document):
        return bench_serve.read
    if inference_perf.is_one(document):
        return partial(inference_perf.read, file=file)
    if llmperf.is_one(document):
        return llmperf.read
    raise ConfigError(f"{file}: {_LOOKED_FOR}")


def _case(read_run: Callable[[Fields], ClientRun], fields: Fields, label: str, file: Path) -> Case:
    run, lacks = None, ""
    try:
        run = read_run(fields)
    except LoadError as problem:
        lacks = str(problem)
    return _complete(case_of(run, fields, lacks, label, file.stem), None, None, None, 1)


def completed_by(
    *, hardware: str | None = None, model: str | None = None, engine: str | None = None, tp: int = 1
) -> Callable[[list[Case]], list[Case]]:
    """A function that gives the runs of benchmark clients what their files do not say; other runs stay as they are."""

    def complete(cases: list[Case]) -> list[Case]:
        return [_complete(case, hardware, model, engine, tp) if case.settings.get("client") else case for case in cases]

    return complete


def _complete(case: Case, hardware: str | None, model: str | None, engine: str | None, tp: int) -> Case:
    gpu = hardware or case.gpu
    name = names.find_model(model or case.model)
    profile = engine or case.profile
    skip = case.settings.get("lacks", "")
    if not skip:
        skip = _NO_DEVICE if not gpu else "" if names.hardware_exists(gpu) else f"no hardware profile for {clipped(gpu)}"
    if not skip and not name:
        skip = names.unknown_model(model or case.model)
    if not skip and not profile:
        skip = f"no engine profile for {clipped(case.engine) or 'a result that names no engine'}: give --engine"
    return replace(case, gpu=gpu, model=name or case.model, profile=profile, tp=max(tp, case.tp), skip=skip)


def _documents(text: str, file: Path) -> list[Any]:
    """One document, or one for each line: the first line of several is then a document of its own."""
    if not text.strip():
        raise ConfigError(f"{file}: is empty")
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        found = parse_json(text, str(file), ConfigError)
        return found if isinstance(found, list) and found else [found]  # a sweep is a list of runs
    except ConfigError:
        if len(lines) == 1 or not _parses(lines[0], file):
            raise
    return [parse_json(line, f"{file}: line {place}", ConfigError) for place, line in enumerate(lines, start=1)]


def _parses(line: str, file: Path) -> bool:
    try:
        parse_json(line, str(file), ConfigError)
    except ConfigError:
        return False
    return True
