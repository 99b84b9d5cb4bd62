"""Results: metrics, tables, plots, the HTML report and the Perfetto timeline. Definitions of every metric: docs/metrics.md."""

from simserve.report.result import Result
from simserve.report.stored import StoredResult

__all__ = ["Result", "StoredResult"]
