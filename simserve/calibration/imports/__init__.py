"""Published tables of measured kernels, brought into the schema that `calibrate fit` and `validate kernels` read."""

from simserve.calibration.imports.command import FORMATS, import_tables

__all__ = ["FORMATS", "import_tables"]
