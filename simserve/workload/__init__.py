"""Requests: readers of trace formats, arrival and length generators, sessions."""

from simserve.workload.requests import Labels, PrefixBlocks, RequestTable, Workload

__all__ = ["Labels", "PrefixBlocks", "RequestTable", "Workload"]
