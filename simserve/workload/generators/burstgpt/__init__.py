"""The BurstGPT-like trace: facts (numbers with their sources), rates (when), jobs (API), sessions (turns), lengths, trace (the whole)."""

from simserve.workload.generators.burstgpt.trace import burstgpt_like

__all__ = ["burstgpt_like"]
