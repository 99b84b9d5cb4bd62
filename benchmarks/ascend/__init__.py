"""Ascend: the published measurements of operators behind the profiles' efficiencies, and the few numbers fitted on serving runs.

python -m benchmarks.ascend points    how far each measured efficiency is off its published points
python -m benchmarks.ascend fit       choose the fitted numbers, and again without each model; cached, goes on where it was
python -m benchmarks.ascend report    write the tables of docs/ascend.md
"""
