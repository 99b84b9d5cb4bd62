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
    groups = experiment.get("cluster", {}).get("instances", ())
    if any(group.get("kv", {}).get("prefix_caching") for group in groups):
        why = _contents_unknown(provenance.get("read_as"), experiment.get("workload") or {})
        if not why and any(group.get("kv", {}).get("prefix_match") == "token" for group in groups):
            notes += _coarser_than_tokens(provenance.get("read_as"))
        notes += [f"Prefix caching is on, but {why}: no prompt tokens were found in a cache."] if why else []
    return notes


def _coarser_than_tokens(about: Any) -> list[str]:
    """How finely prompts can be matched at all, where the trace tells their contents in runs of several tokens."""
    run = about.get("block_tokens") if isinstance(about, Mapping) else None
    if not isinstance(run, int) or run <= 1:
        return []
    told = f"Prompts are matched token by token, but the trace tells what they contain in blocks of {run} tokens"
    return [f"{told}: matches end with such a block, or where a prompt ends."]


def _contents_unknown(about: Any, workload: Mapping[str, Any]) -> str:
    """Why it is not known what the prompts of a recorded workload, or of sessions, contain; '' where it is known, or where prompts are
    drawn one by one, which are not expected to begin alike."""
    if isinstance(about, Mapping) and workload.get("lengths"):
        return "workload.lengths replaces the prompts of the trace, and with them what they contain"
    if isinstance(about, Mapping) and about.get("block_tokens") is None:
        return "the trace does not say what its prompts contain"
    made = workload.get("burstgpt_like") or {}
    if made.get("multi_turn") and made.get("prefix_block_tokens") is None:
        return "workload.burstgpt_like.prefix_block_tokens is not stated, without which the turns of a session do not repeat its history"
    return ""
