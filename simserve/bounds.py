"""Between which values a number of an experiment makes sense: what machines can be, and what the arithmetic of a run can hold.

Seconds, tokens and requests of a run are multiplied and added up; with these bounds no sum overflows a double or 64 bits, and a time keeps
enough digits to tell two steps apart.
"""

from __future__ import annotations

MOST_S = 1e9
"""Thirty years. A double next to 1e9 s still resolves 0.1 microseconds, less than the launch of a kernel."""

LEAST_INTERVAL_S = 1e-5
"""What acts or is refreshed on a timer learns of the instances through a network: faster than its latency nothing can be known."""

MOST_STEP_S = 1e4
"""Host or link seconds for one step, request or message: hours, where published ones are milliseconds."""

LEAST_RATE_PER_S = 1e-9
"""One arrival in thirty years (MOST_S)."""

MOST_RATE_PER_S = 1e9
"""A request every nanosecond."""

MOST_TOKENS = 100_000_000
"""Of one prompt, answer, step or block: a hundred times the longest published contexts."""

MOST_REQUESTS = 100_000_000
"""Of one run: a hundred million are some tens of GiB of columns."""

MOST_BLOCKS = 2**40
"""KV blocks of an instance, or remembered by a router: more than any memory holds."""

MOST_INSTANCES = 100_000
"""Of a group and of all groups together."""

MOST_DEVICES = 100_000
"""Along one dimension of a parallel layout."""

MOST_EXACT = 2**53
"""Whole numbers are exact in a double up to here. Larger priorities could not be told apart in a table."""

MOST_SEED = 2**63 - 1
"""Seeds and other whole numbers are 64-bit."""

MOST_BYTES_PER_S = 1e18
"""A million times the memory bandwidth of a device."""

LARGEST, SMALLEST = 1e18, 1e-18
"""Magnitudes of numbers that have no closer bound; the product of a dozen of them is still a double."""

STREAM_ABOVE = 1_000_000
"""Requests above which a run is recorded in pieces: so many take about 1.5 GB recorded whole (docs/scale.md)."""
