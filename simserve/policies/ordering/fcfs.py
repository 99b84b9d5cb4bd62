"""First come, first served: requests wait in order of arrival; preempted ones go back to the front."""

from __future__ import annotations

from simserve.contracts import FCFS

key = FCFS.key
victim_key = FCFS.victim_key
oracle = FCFS.oracle
dynamic = FCFS.dynamic
