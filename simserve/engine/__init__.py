"""The SimPy loop: instances, their steps, KV cache, recorder. The only package that knows time passing."""

from simserve.engine.live import LiveRun
from simserve.engine.records import EndedRequest
from simserve.engine.simulate import simulate
from simserve.engine.spec import ClusterSpec, InstanceSpec

__all__ = ["ClusterSpec", "EndedRequest", "InstanceSpec", "LiveRun", "simulate"]
