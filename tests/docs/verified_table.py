"""The made section of docs/conformance.md: which versions' schedules were equal, and the first difference of the others."""

from __future__ import annotations

from simserve.config import engine_profile, verified_schedules
from simserve.config.verified_schedules import VerifiedKind, VerifiedVersion


def verified_table() -> str:
    """Versions with counts, kinds that were not all equal or not compared, and profiles of which nothing is known."""
    versions = verified_schedules.everything().versions
    lines = []
    if versions:
        lines = ["| engine | profile | equal | kinds all equal |", "|---|---|--:|---|"]
        lines += [f"| {one.engine} {one.version} | `{one.profile}` | {one.equal} of {one.workloads} | {_equal(one)} |" for one in versions]
    others = [(one, name, kind) for one in versions for name, kind in one.kinds.items() if kind.equal < kind.of or kind.why]
    if others:
        lines += ["", "Not equal, or not compared:", ""]
        lines += ["| engine | profile | kind | equal | first difference, or why not |", "|---|---|---|--:|---|"]
        for one, name, kind in others:
            lines.append(f"| {one.engine} {one.version} | `{one.profile}` | {name} | {_count(kind)} | {_why(kind)} |")
    known = {one.profile for one in versions}
    unknown = [f"`{name}`" for name in engine_profile.names() if name not in known]
    lines += ["", f"Not verified: the schedulers behind {', '.join(unknown[:-1])} and {unknown[-1]} were not driven."]
    return "\n".join(lines).strip() + "\n"


def _equal(version: VerifiedVersion) -> str:
    return ", ".join(name for name, kind in version.kinds.items() if kind.of and kind.equal == kind.of) or "–"


def _count(kind: VerifiedKind) -> str:
    return f"{kind.equal} of {kind.of}" if kind.of else "–"


def _why(kind: VerifiedKind) -> str:
    said = [kind.first_difference] if kind.first_difference else []
    if kind.why:
        said.append(f"{kind.not_driven + kind.not_simulated} not compared: {kind.why}")
    return "; ".join(said).replace("|", "\\|")
