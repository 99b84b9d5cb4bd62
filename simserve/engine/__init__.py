"""The SimPy loop: instances, their steps, KV cache, recorder. The only package that knows time passing."""

from simserve.engine.simulate import simulate
from simserve.engine.spec import InstanceSpec

__all__ = ["InstanceSpec", "simulate"]
