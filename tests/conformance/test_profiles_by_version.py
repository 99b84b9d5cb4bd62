"""Which profile stands for a version of an engine."""

from __future__ import annotations

import pytest

from simserve.config import engine_profile
from simserve.errors import ConfigError
from simserve.validation.schedules.profiles import profile_for
from simserve.validation.schedules.schedule import ENGINES


@pytest.mark.parametrize(
    ("engine", "version", "asynchronous", "profile"),
    [
        ("vllm", "0.8.5", False, "vllm-v1"),
        ("vllm", "0.11.0", False, "vllm-v1"),
        ("vllm", "0.11.0", True, "vllm-v1"),  # the only one; that it schedules ahead is then stated
        ("vllm", "0.13.2", False, "vllm-v1"),
        ("vllm", "0.14.0", True, "vllm-v1-async"),
        ("vllm", "0.19.1", True, "vllm-0.19"),  # two hold it: the one for this version alone
        ("sglang", "0.5.1.post3", False, "sglang-0.5.1"),
        ("sglang", "0.5.6.post2", False, "sglang"),
    ],
)
def test_versions(engine, version, asynchronous, profile):
    assert profile_for(engine, version, asynchronous=asynchronous) == profile


def test_a_version_without_a_profile():
    with pytest.raises(ConfigError, match=r"no engine profile is for vLLM 7\.1: those of vLLM are .*vllm-v1.*; name one with --profile"):
        profile_for("vllm", "7.1")
    with pytest.raises(ConfigError, match=r"no engine profile is for nano-vllm 1\.0: none is of nano-vllm"):
        profile_for("nano-vllm", "1.0")
    with pytest.raises(ConfigError, match="no engine profile is for vLLM dev"):
        profile_for("vllm", "dev")


def test_engines_are_named_as_profiles_name_them():
    named = {engine_profile.load_engine(name).engine for name in engine_profile.names()}
    assert {ENGINES[one] for one in ("vllm", "vllm-ascend", "sglang", "lightllm")} <= named
