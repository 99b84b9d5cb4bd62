"""How far to believe a run: a label by a rule, and an 80 % interval of each headline.

    belief = uncertainty.of_run(result)          # of a `Result` that `simserve.run` returned, or its summary; None for runs of studies,
                                                 # unless they were made with `simulated(..., believe=True)`
    belief.label                                 # "measured", "fitted", "extrapolated" or "estimate"
    belief.reasons                               # why, a sentence each
    belief.intervals["ttft.p99"]                 # (low, high) in the figure's own unit; names as in predicates of studies
    belief.line                                  # all of it in one line

    uncertainty.relative_interval(belief, "ttft.p99")    # (low, high) over the predicted value: 0.8, 1.3
    uncertainty.apart(a, b, "tpot.mean")         # of two summaries: do they differ by more than what does not cancel between them?

Nothing here runs a simulation: sensitivities come from the run's own records (`sensitivity`), kernels' errors from the cost model
(`kernels`), what they leave unexplained from measured runs (`residuals`, learned by `learning`). docs/intervals.md says what each part is,
and what it is not.
"""

from simserve.uncertainty.belief import LABELS, LEVEL, Belief, Label, of_run, relative_interval
from simserve.uncertainty.difference import apart

__all__ = ["LABELS", "LEVEL", "Belief", "Label", "apart", "of_run", "relative_interval"]
