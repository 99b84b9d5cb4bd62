"""Writes learned overheads into an engine profile's YAML text, everything else left as it is."""

from __future__ import annotations

import json
import re

from simserve.errors import ConfigError
from simserve.validation.machine import Overheads

_HOST_SOURCE = "  - host seconds - "


def with_overheads(text: str, overheads: Overheads, provenance: str, *, name: str | None = None) -> str:
    """The profile `text` with the host and request-path seconds replaced, and their origin in `sources`. What was recorded of other
    overheads (`held_out`) and a `validated` of old files are left out.

    name  a new name for the profile; None keeps it
    Raises ConfigError when the text lacks a `host:` line to replace.
    """
    host, lines = overheads.host, []
    launch = f", kernel_launch_s: {_number(host.kernel_launch_s)}" if host.kernel_launch_s is not None else ""
    new_host = (
        f"host: {{per_step_s: {_number(host.per_step_s)}, per_decode_request_s: {_number(host.per_decode_request_s)},"
        f" per_prefill_token_s: {_number(host.per_prefill_token_s)}{launch}}}"
    )
    delay = f" delay_s: {_number(overheads.request_delay_s)}," if overheads.request_delay_s else ""
    servers = f" per_output_token_s: {_number(overheads.request_per_output_token_s)}, api_servers: {overheads.api_servers},"
    new_path = (
        f"request_path: {{per_request_s: {_number(overheads.request_s)},"
        f" per_prompt_token_s: {_number(overheads.request_per_prompt_token_s)},{delay}{servers if overheads.api_servers else ''}"
        f" steps_ahead: {overheads.steps_ahead}}}"
    )
    found = False
    for line in text.splitlines():
        if line.startswith("host:"):
            lines += [new_host, new_path]
            found = True
        elif line.startswith(("request_path:", "validated:", "held_out:")):
            continue
        elif line.replace('"', "", 1).startswith(_HOST_SOURCE):
            lines.append(_source_line(provenance))
        elif name is not None and re.match(r"name:\s", line):
            plain = re.fullmatch(r"[A-Za-z][\w.\-]*", name) and name.lower() not in ("true", "false", "null")
            lines.append(f"name: {name if plain else json.dumps(name)}")
        else:
            lines.append(line)
    if not found:
        raise ConfigError("the engine profile has no 'host:' line to write the overheads to")
    return "\n".join(lines) + "\n"


def _source_line(provenance: str) -> str:
    """The entry of the list; quoted where its text would be something else to YAML (a folder may be called `a: b`)."""
    item = f"{_HOST_SOURCE}{provenance}"
    plain = provenance.isprintable() and not re.search(r": |:$| #", provenance)
    return item if plain else f"  - {json.dumps(item.removeprefix('  - '))}"


def _number(seconds: float | None) -> str:
    """Three significant digits, without an exponent."""
    value = float(f"{seconds or 0.0:.3g}")
    return f"{value:.10f}".rstrip("0").rstrip(".") or "0"
