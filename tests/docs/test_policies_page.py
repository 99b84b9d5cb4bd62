"""docs/policies.md does what it says: its policy, in a third party's package, runs from YAML and from Python without touching simserve."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from simserve.report.result import Result
from tests.docs.blocks import ROOT, blocks

PAGE = ROOT / "docs" / "policies.md"


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """The page's files in a folder, with what `pip install` would have made of its pyproject.toml."""
    folder = tmp_path_factory.mktemp("third-party")
    for block in blocks(PAGE):
        if block.title:
            (folder / block.title).write_text(block.text)
        if block.language == "toml":
            project = tomllib.loads(block.text)["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in points.items()) for group, points in project["entry-points"].items()]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


def call(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "MPLBACKEND": "agg", "COLUMNS": "100"}
    return subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_commands_of_the_page(package):
    (script,) = [block.text for block in blocks(PAGE) if block.language == "bash"]
    for line in script.splitlines():
        program, *arguments = line.split()
        assert program == "simserve"
        run = call(package, "-m", "simserve", *arguments)
        assert run.returncode == 0, run.stderr
    assert (package / "out" / "paced" / "summary.json").is_file()
    assert "prefill_tokens_per_s" in run.stdout


def test_the_router_and_the_controller_do_what_their_files_say(package):
    """Needs what test_commands_of_the_page wrote; runs it if it has not."""
    out = package / "out" / "evening"
    if not out.is_dir():
        assert call(package, "-m", "simserve", "run", "evening.yaml").returncode == 0
    requests = Result.read(out).requests
    number = requests.instance.astype(str).str[-1]
    served = requests.scheduled_s.notna()
    assert not (number[served] == "2").any(), "all are ordinary, and the last instance is not for them"
    evening = requests.released_s > 45  # the next look after it has begun
    assert set(number[served & ~evening]) == {"0", "1"} and set(number[served & evening]) == {"0"}
    summary = Result.read(out).summary_dict()
    assert summary["requests"]["reasons"]["rejected"] == {"no room for ordinary requests": summary["requests"]["rejected"]}
    assert summary["cluster"]["instances_mean"] < 3


def test_python_of_the_page(package):
    code = "\n".join(block.text for block in blocks(PAGE) if block.language == "python" and not block.title)
    run = call(package, "-c", code)
    assert run.returncode == 0, run.stderr
    assert "ttft_s" in run.stdout


def test_a_mistake_in_its_parameters_is_explained(package):
    run = call(package, "-m", "simserve", "run", "paced.yaml", "--set", "cluster.instances.0.scheduler.prefill_token_per_s=1")
    assert run.returncode == 2
    assert "prefill_tokens_per_s" in run.stderr and "Traceback" not in run.stderr


def test_pacing_does_what_its_file_says(package, monkeypatch):
    """Slower prompts: the first token comes later, the others come more evenly."""
    monkeypatch.syspath_prepend(str(package))
    from paced import Paced

    from simserve.config.assemble import assemble
    from simserve.config.experiment import load
    from simserve.engine import simulate
    from simserve.report.result import Result

    def latency(rate: float) -> tuple[float, float]:
        from dataclasses import replace

        parts = assemble(load("quickstart", ["workload.trace.duration_s=900"]))
        specs = [replace(spec, scheduler=Paced(Paced.Params(prefill_tokens_per_s=rate))) for spec in parts.instances]
        all_of = Result(simulate(parts.workload, specs)).summary_dict()["latency"]["all"]
        return all_of["ttft_s"]["mean"], all_of["itl_s"]["p99"]

    slow, fast = latency(1500.0), latency(1e9)
    assert slow[0] > fast[0]
    assert slow[1] < fast[1]
