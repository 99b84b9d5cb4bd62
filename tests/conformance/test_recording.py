"""Recording: what versions did lies beside what others did under the same workloads, and what is asked for wrongly is said."""

from __future__ import annotations

import sys
import zipfile
from types import SimpleNamespace

import pytest

from benchmarks.schedules import environments, recording
from benchmarks.schedules.__main__ import main
from simserve.config import verified_schedules
from simserve.config.verified_schedules import VerifiedKind, VerifiedSchedules, VerifiedVersion
from simserve.validation.schedules.fixture import NotDriven, ScheduleCase, read_cases, write_cases
from tests.conformance.small import V1, random_workload, recorded


def test_it_imports_without_an_engine():
    assert "vllm" not in sys.modules and "torch" not in sys.modules


def test_versions_beside_each_other(tmp_path, capsys):
    path, asked = tmp_path / "tight.json.gz", [random_workload(seed) for seed in range(2)]
    old, new = [recorded(one, "0.8.5") for one in asked], [recorded(one, "0.24.0") for one in asked]
    recording._put(path, "vllm", "0.24.0", [ScheduleCase(one, (made,)) for one, made in zip(asked, new, strict=True)])
    refused = NotDriven("vllm", "0.8.5", "watermark: no such rule")
    recording._put(path, "vllm", "0.8.5", [ScheduleCase(asked[0], (old[0],)), ScheduleCase(asked[1], (), (refused,))])
    first, second = read_cases(path)
    assert [one.version for one in first.schedules] == ["0.8.5", "0.24.0"]  # in the order of versions
    assert [one.version for one in second.schedules] == ["0.24.0"] and second.not_driven == (refused,)
    recording._put(path, "vllm", "0.8.5", [ScheduleCase(one, (made,)) for one, made in zip(asked, old, strict=True)])
    assert [one.version for one in read_cases(path)[1].schedules] == ["0.8.5", "0.24.0"] and not read_cases(path)[1].not_driven
    assert not capsys.readouterr().err
    recording._put(path, "vllm", "0.8.5", [ScheduleCase(asked[0], (old[0],))])
    assert "other workloads than before; record 0.24.0 again" in capsys.readouterr().err


def test_what_was_said_to_be_equal_has_to_be(tmp_path, monkeypatch, capsys):
    asked = random_workload(2, kind="slots")
    write_cases(tmp_path / "a.json.gz", [ScheduleCase(asked, (recorded(random_workload(2, kind="slots", max_num_seqs=3)),))])
    said = VerifiedVersion(engine="vLLM", version="0.11.0", profile=V1, kinds={"slots": VerifiedKind(equal=0, of=1)})
    for equal, code in ((0, 0), (1, 1)):
        known = VerifiedSchedules(versions=[said.model_copy(update={"kinds": {"slots": VerifiedKind(equal=equal, of=1)}})])
        monkeypatch.setattr(verified_schedules, "everything", lambda known=known: known)
        assert main(["hold", str(tmp_path)]) == code
        assert ("said to be equal" in capsys.readouterr().out) == bool(code)


def test_what_is_asked_for_wrongly(tmp_path, capsys):
    assert main(["record", "--engine", "vllm", "--kinds", "tigth", "--into", str(tmp_path)]) == 2
    assert "kind 'tigth': vllm has none of that name; did you mean 'tight'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["record", "--engine", "vlm"])
    assert ended.value.code == 2


def test_an_environment_that_cannot_be_built(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(environments.subprocess, "run", lambda words, **_: SimpleNamespace(returncode=int("pip" in words)))
    words = ["--scratch", str(tmp_path / "scratch"), "--into", str(tmp_path)]
    assert main(["record", "--engine", "vllm", "--version", "0.24.0", *words]) == 2
    assert f"error: pip install {environments.TORCH}: exit code 1" in capsys.readouterr().err


def test_python_files_of_a_wheel_and_nothing_else(tmp_path):
    wheel = tmp_path / "vllm-9.9.9-cp38-abi3-any.whl"
    with zipfile.ZipFile(wheel, "w") as made:
        for name in ("vllm/__init__.py", "vllm/_C.abi3.so", "vllm-9.9.9.dist-info/METADATA"):
            made.writestr(name, "")
    folder = environments._files(tmp_path / "python", "vllm", "9.9.9", tmp_path / "scratch", tmp_path)
    assert sorted(one.name for one in folder.rglob("*") if one.is_file()) == [".built", "METADATA", "__init__.py"] and wheel.is_file()
