"""What `validate serving` and `fit-engine` show: tables on stdout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simserve.validation.fit import FitResult
    from simserve.validation.validate import ServingValidation

_MOST_FIGURES = 24
"""Measured figures that are shown one by one: those of a few runs."""


def show_validation(result: ServingValidation) -> None:
    """Errors by data set, then by group, skipped rows by reason, the worst rows."""
    from simserve.cli.tables import show

    show(
        ("data set", "metric", "rows", "coverage %", "median %", "MAPE %", "bias %"),
        [
            (
                r["dataset"],
                r["metric"],
                f"{r['rows']:,}",
                f"{r['coverage_percent']:.0f}",
                *(_percent(r[k]) for k in ("median_percent", "mape_percent", "bias_percent")),
            )
            for r in result.table()
        ],
    )
    print()
    groups = [g for g in result.document()["groups"] if g["rows"]]
    show(
        ("engine", "gpu", "model", "metric", "rows", "skipped", "median %", "MAPE %"),
        [
            (
                g["engine"],
                g["gpu"],
                g["model"].rsplit("/", 1)[-1],
                g["metric"],
                f"{g['rows']:,}",
                f"{g['skipped']:,}",
                _percent(g["median_percent"]),
                _percent(g["mape_percent"]),
            )
            for g in groups
        ],
    )
    intervals = result.document()["intervals"]
    if len(intervals["rows"]) <= _MOST_FIGURES:
        _show_figures(intervals["rows"])
    _show_intervals(intervals["inside"])
    for sentence in result.models_taken():
        print(sentence)
    for reason, count in result.document()["skipped_reasons"].items():
        print(f"skipped {count:,}: {reason}")
    for reason in result.unreadable.values():
        print(f"not read: {reason}")
    worst = result.worst()
    if worst:
        print("\nFurthest off:")
        for row in worst:
            figures = f"{row.predicted:.4g} predicted, {row.measured:.4g} measured ({row.error_percent:+.0f} %)"
            print(f"  {row.label}: {row.metric} {figures}: {row.reason}")


def _show_figures(rows: list[dict[str, Any]]) -> None:
    """Each measured figure beside its prediction and the interval in which such a server lies."""
    from simserve.cli.tables import show
    from simserve.report.rows import milliseconds, number

    def shown(row: dict[str, Any], key: str) -> str:
        return number(row[key]) if row["metric"].endswith("_per_s") else milliseconds(row[key])

    print()
    show(
        ("run", "metric", "measured", "predicted", "80 % interval", "inside"),
        [
            (
                row["label"],
                row["metric"],
                shown(row, "measured"),
                shown(row, "predicted"),
                f"{shown(row, 'low')} to {shown(row, 'high')}",
                "yes" if row["inside"] else "no",
            )
            for row in rows
        ],
    )


def _show_intervals(inside: dict[str, dict[str, int]]) -> None:
    """How many measurements lie in the intervals of their predictions."""
    for label, count in inside.items():
        what = "of all measured figures" if label == "all" else f"of those with the label {label}"
        print(f"in the 80 % interval of their prediction: {count['inside']:,} of {count['of']:,} {what}")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def show_fit(engine: str, result: FitResult) -> None:
    """Learned overheads, what was not learned, the errors before and after, and what to know of them."""
    from simserve.cli.tables import show

    show(("overhead", "seconds"), [(name, f"{value:.3g}") for name, value in result.values.items()])
    print(f"\n{engine}: learned from {result.rows:,} rows of {result.runs} runs. Median error on them:")
    show(
        ("metric", "before %", "after %"),
        [(metric, f"{result.before_percent[metric]:.1f}", f"{after:.1f}") for metric, after in result.after_percent.items()],
    )
    for name, why in result.kept.items():
        print(f"kept {name} of the profile: {why}")
    for reason, count in result.skipped.items():
        print(f"left out {count:,}: {reason}")
    for doubt in result.doubts:
        print(f"note: {doubt}")


def show_budgets(result: ServingValidation) -> None:
    """Where the errors of the worst runs come from."""
    from simserve.cli.tables import show
    from simserve.validation.budget import budgets_of_worst

    print("\nError budget of the runs furthest off, percent of the measured value:")
    rows = [
        (
            case.label,
            b.metric,
            *(f"{v:+.1f}" for v in (b.kernels_percent, b.with_host_percent, b.predicted_percent, b.steps_percent, b.queueing_percent)),
        )
        for case, budgets in budgets_of_worst(result.outcomes)
        for b in budgets
    ]
    show(("run", "metric", "kernels alone", "+ host", "+ request path", "due to steps", "due to queueing"), rows)
