"""What a run's workload was taken for, and what a reader of its figures should know of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def trace_line(provenance: Mapping[str, Any]) -> str | None:
    """'trace t.csv, read as burstgpt, times in s'; None for a workload that is no trace."""
    about = provenance.get("read_as")
    if provenance.get("source") != "trace" or not isinstance(about, Mapping):
        return None
    return f"trace {provenance.get('file', '-')}, read as {about.get('summary', '-')}"


def workload_notes(provenance: Mapping[str, Any], experiment: Mapping[str, Any]) -> list[str]:
    """Sentences on the trace: what it holds that is not simulated, what was left out, and that nothing could be reused where prefixes are
    cached but the trace does not say what prompts contain."""
    notes = [f"Trace: {note}." if not note.endswith("?") else f"Trace: {note}" for note in provenance.get("notes", ())]
    about = provenance.get("read_as")
    groups = experiment.get("cluster", {}).get("instances", ())
    caching = any(group.get("kv", {}).get("prefix_caching") for group in groups)
    if caching and isinstance(about, Mapping) and about.get("block_tokens") is None:
        notes.append("Prefix caching is on, but the trace does not say what its prompts contain: no prompt tokens were found in a cache.")
    return notes
