"""Executes the steps of a simulated run on a real device and compares their times with the predictions.

Planning (which steps, what was predicted) happens where simserve is installed; executing needs numpy and PyTorch only:
`python -m simserve.calibration.replay plan.json --device cuda --out DIR`.
"""
