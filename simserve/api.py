"""The Python entry point: load an experiment, run it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.config import experiment as experiments
from simserve.config import python_policies
from simserve.config.experiment import Experiment
from simserve.config.python_names import Arguments
from simserve.config.schema import check_draws
from simserve.policies import blame
from simserve.progress.run import Progress, shown

if TYPE_CHECKING:
    from simserve.report.result import Result


def load(source: str | Path | Mapping[str, Any], /, **overrides: Any) -> Experiment:
    """The experiment in a YAML file, of a bundled name, or in a mapping of the same keys.

    Overrides change single keys; a dotted path is passed as `load(path, **{"workload.trace.rate_scale": 4})`.
    Raises ConfigError listing every mistake found.
    """
    with blame.named():
        return experiments.load(source, overrides)


def run(
    experiment: Experiment | str | Path | Mapping[str, Any],
    /,
    *,
    progress: bool | Progress = False,
    check: bool = False,
    intervals: int | None = None,
    scheduler: Any = None,
    router: Any = None,
    decode_router: Any = None,
    requests_file: Path | None = None,
    **overrides: Any,
) -> Result:
    """Simulates an experiment (or what `load` would make one of) and returns its result; nothing is written to disk, but for the requests
    of a run of more than `stream_above`, which are written while they end.

    progress  True shows a progress line on stderr; a function is called with (requests ended, requests in all, simulated seconds)
    check     verify the invariants of docs/invariants.md while running (slower)
    intervals   run so many times more with steps as fast or slow as measured errors allow, and report the band of every
                headline (simserve/study/intervals.py); None = what the experiment says, 0 = none
    scheduler   an object or a class that follows simserve.contracts.Scheduler, for every instance (each gets a copy of its own), or a
                mapping from number or role of an instance group to one; instead of what the experiment names
    requests_file   where those are written until `result.write` moves them; default: a temporary place
    router, decode_router   likewise, of simserve.contracts.Router

    The result says which objects were given: the experiment's YAML alone does not reproduce it.
    Raises SimserveError for anything the user can fix.
    """
    from simserve.simulation import streamed_or_whole

    given = Arguments(scheduler, router, decode_router)
    if isinstance(experiment, Experiment):
        if overrides:
            raise TypeError("overrides go to load() when the experiment is loaded already")
        loaded = experiment
    else:
        with blame.named():
            loaded = experiments.load(experiment, overrides, given=given)
    policies = python_policies.checked(loaded, given)
    draws = loaded.spec.intervals if intervals is None else intervals
    check_draws(draws)
    with shown(progress) as callback:
        result = streamed_or_whole(loaded, policies, progress=callback, check=check, requests_file=requests_file, bands=bool(draws))
    if draws:
        from simserve.study.intervals import bands, steps_of

        result.intervals = bands(loaded, draws, progress is True, given=policies, steps=steps_of(result))
    return result
