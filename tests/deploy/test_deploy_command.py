"""`simserve deploy` and the end of `simserve plan`: what is printed, what is written, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import simserve
from simserve.cli import main
from simserve.report.files import write_json
from simserve.study.plan.file import read_plan
from simserve.study.plan.page import plan_page

SMALL = """
name: small
model: llama-3.1-8b
hardware: h100-sxm-80gb
workload:
  arrivals: {kind: poisson, rate_per_s: 4}
  lengths: {prompt: {kind: fixed, tokens: 200}, output: {kind: fixed, tokens: 50}}
  count: 40
slo: {ttft_s: 1.0, tpot_s: 0.05}
plan: {budget: {devices: 2}, tp: [1], max_num_seqs: [32], replicates: 2, finalists: 1}
"""


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    (folder / "small.yaml").write_text(SMALL)
    assert main(["plan", str(folder / "small.yaml"), "--jobs", "1", "--out", str(folder / "out"), "-q"]) == 0
    return folder


def test_a_search_ends_with_what_to_type(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(searched / "small.yaml"), "--jobs", "1", "--out", str(searched / "again")]) == 0
    out, err = capsys.readouterr()
    assert "--max-num-seqs 32" in out and f"kubernetes.yaml: in {searched / 'again' / 'deploy'}" in out
    assert "checkpoints with the architecture" in err and "!" not in out
    found = read_plan(searched / "out")
    assert found.launch is not None and found.launch.commands[0].count == 1
    for name, text in found.launch.files().items():
        assert (searched / "out" / "deploy" / name).read_text() == text
    assert json.loads((searched / "out" / "plan.json").read_text())["deploy"]["version"] == "0.11.0"


def test_its_page_has_the_commands_to_copy(searched: Path) -> None:
    page = plan_page(read_plan(searched / "out"))
    assert "<h2>What to type</h2>" in page and "vllm serve meta-llama/Llama-3.1-8B-Instruct" in page and "kind: Deployment" in page
    assert page.count('<button type="button">copy</button>') == 2


def test_the_folder_of_a_search_is_deployed(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", str(searched / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["commands"] == json.loads((searched / "out" / "plan.json").read_text())["deploy"]["commands"]
    newer = [
        str(searched / "out"),
        "--engine-version",
        "0.24.0",
        "--model-name",
        "me/mine",
        "--image",
        "mine:1",
        "--out",
        str(searched / "d"),
    ]
    assert main(["deploy", *newer]) == 0
    out, err = capsys.readouterr()
    assert "# vLLM 0.24.0" in out and "vllm serve me/mine" in out and "checkpoints" not in err
    assert "image: mine:1" in (searched / "d" / "kubernetes.yaml").read_text()


def test_a_run_is_deployed_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run")
    assert main(["run", "quickstart", "--set", "workload.trace.duration_s=20", "--out", out, "-q", "--no-plots", "--no-report"]) == 0
    capsys.readouterr()
    assert main(["deploy", out]) == 0
    assert "vllm serve" in capsys.readouterr().out


def test_a_search_without_an_answer_has_nothing_to_deploy(searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads((searched / "out" / "plan.json").read_text())
    for plan in data["plans"]:
        plan["fate"] = "misses the SLO"
    write_json(tmp_path / "plan.json", data)
    assert main(["deploy", str(tmp_path)]) == 2
    assert "the search found no plan, so there is nothing to deploy: No plan" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nosuch"], "neither a file nor a bundled experiment"),
        (["quickstart", "--engine-version", "9.9"], "its flags are not known; the list of"),
        (["quickstart", "--engine-version", "latest"], "expected one such as 0.33.0"),
        (["quickstart", "--set", "engine=orca"], "engine orca: no command lines"),
        (["quickstart", "--set", "engine=vlm-v1"], "unknown engine 'vlm-v1'"),
    ],
)
def test_bad_input_is_said_and_ends_with_2(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", *arguments]) == 2
    out, err = capsys.readouterr()
    assert says in err and not out and "Traceback" not in err


def test_a_folder_of_something_else_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", str(tmp_path)]) == 2
    assert "holds neither a finished plan search (best.yaml) nor a run" in capsys.readouterr().err


def test_a_plan_for_an_engine_without_command_lines_says_so() -> None:
    changes: dict[str, Any] = {"workload.count": 20, "plan.hardware": ["h100-sxm-80gb"], "plan.tp": [1], "plan.max_num_seqs": [64]}
    found = simserve.plan("plan_chat", changes=changes | {"engine": "orca", "workload.arrivals.rate_per_s": 1}, jobs=1)
    assert found.launch is None and any(note.startswith("no command lines: engine orca") for note in found.notes)


def test_from_python(searched: Path) -> None:
    found = simserve.launch(simserve.load(searched / "out" / "best.yaml"), version="0.19.1")
    assert found.title == "vLLM 0.19.1" and found.script().startswith("# 1 instance, on 1 x h100-sxm-80gb\nvllm serve")
    assert list(found.files()) == ["commands.sh", "kubernetes.yaml"]
