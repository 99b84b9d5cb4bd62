"""Small trace files written by the tests, and the measured ones beside the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared" / "traces"

V1 = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
V3 = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def shared(name: str) -> Path:
    """A file of the measured data; skips the test where it is absent."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs ../shared/traces/{name}")
    return path


def write(folder: Path, text: str, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def cases(name: str) -> Path:
    """A case from the field; skips the test where it is absent."""
    path = SHARED.parent / "cases" / name
    if not path.exists():
        pytest.skip(f"needs ../shared/cases/{name}")
    return path
