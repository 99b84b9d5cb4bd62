"""Runs real kernels on a device through PyTorch and writes the tables that `simserve calibrate fit` reads.

Needs numpy and PyTorch only (pyarrow for Parquet, otherwise CSV is written), so that it runs on a bare machine:
`python -m simserve.calibration.measure --device cuda --out DIR`.
"""
