"""One run of a study, as it travels to a worker and back: an experiment out, a row of figures in."""

from __future__ import annotations

from typing import NamedTuple

from simserve.config.experiment import Experiment
from simserve.errors import SimserveError
from simserve.study.quantities import Quantity, classes_of, standard, value_of
from simserve.uncertainty.belief import Belief

WORKER_DIED = "the worker process died in it (killed, or out of memory)"


class Task(NamedTuple):
    """An experiment to run. `extra` are figures wanted besides the standard row; `believe`: also how far to believe the run."""

    number: int
    experiment: Experiment
    extra: tuple[Quantity, ...] = ()
    believe: bool = False


class Outcome(NamedTuple):
    """The row of a run by column (None = not defined), or the error that ended it."""

    number: int
    values: dict[str, float | None] | None
    error: str | None
    belief: Belief | None = None


def evaluate(task: Task) -> Outcome:
    """Runs the experiment in this process. Only figures come back, so memory does not grow with the requests of a study.

    Never raises: what goes wrong in one run is its row, not the end of the study.
    """
    from simserve.simulation import simulated

    try:
        result = simulated(task.experiment, believe=task.believe)  # without bands: a study has replicates of its own
        wanted = dict.fromkeys((*standard(classes_of(result)), *task.extra))
        return Outcome(task.number, {q.column: value_of(result, q) for q in wanted}, None, result.uncertainty)
    except SimserveError as error:
        return Outcome(task.number, None, f"{type(error).__name__}: {error}")
    except MemoryError:
        return Outcome(task.number, None, "MemoryError: the run needs more memory than there is")
    except Exception as error:  # a bug in a policy under study must not cost the other points
        return Outcome(task.number, None, f"{type(error).__name__}: {error} (a bug; `simserve run` with --debug shows where)")
