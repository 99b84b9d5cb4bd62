"""The documentation is executed: every code block runs, every link leads somewhere, every figure shown is the program's own."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.docs import refresh
from tests.docs.blocks import ROOT, blocks

README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

# Who executes the blocks of a page that this module does not. Plain fences are drawings and signatures.
ELSEWHERE = {
    "architecture.md": "tests/engine/test_a_step_in_60_lines.py",
    "cost-models.md": "tests/extending/test_add_a_cost_model.py",
    "policies.md": "tests/docs/test_policies_page.py",
    "intervals.md": "tests/uncertainty/test_beliefs_of_runs.py",
    "questions.md": "tests/docs/test_questions_page.py",
    "models.md": "tests/model/test_docs.py",
    "workloads.md": "tests/workload/test_workload_docs.py",
    "studies.md": "tests/study/test_studies_page.py",
    "reports.md": "tests/report/test_reports_page.py",
    "placement.md": "tests/study/test_placement_page.py",
    "planning.md": "tests/study/test_planning_page.py",
    "ascend.md": "tests/docs/test_ascend_page.py",
    "clusters.md": "tests/docs/test_clusters_page.py",
    "speculation.md": "tests/docs/test_speculation_page.py",
    "metrics.md": "tests/report/test_metric_of_a_package.py",
    "serving-validation.md": "tests/validation/test_table_readers.py",
}
INSTALLS = re.compile(r"^(python -m venv|\. |source |(SIMSERVE_COMPILE=1 )?pip |simserve version|pytest)")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_each_block_is_executed(page):
    kinds = {block.language for block in blocks(page)} - {"", "text"}
    if page == README or not kinds:
        return
    if page.name in ("CONTRIBUTING.md", "scale.md"):
        assert all(INSTALLS.match(line) for block in blocks(page) for line in block.text.splitlines()), "what CI runs"
        return
    assert page.name in ELSEWHERE, f"no test executes the {sorted(kinds)} blocks of {page.name}"
    assert page.name in (ROOT / ELSEWHERE[page.name]).read_text()


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A folder that looks like a fresh clone with simserve installed."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("experiments", "traces"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "bin").mkdir()
    command = folder / "bin" / "simserve"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m simserve "$@"\n')
    command.chmod(0o755)
    return folder


def call(folder: Path, *command: str) -> str:
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "COLUMNS": "110"}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_readme_commands(clone):
    scripts = [block.text for block in blocks(README) if block.language == "bash"]
    first, second = scripts[:2]
    # What installs is run by .ci/run; here it must only be what a person would type.
    assert [line for line in first.splitlines() if not INSTALLS.match(line)] == ["simserve run experiments/quickstart.yaml"]
    assert second.splitlines() == ["pip install -e '.[test]'", "pytest"]
    ours = "\n".join(line for script in scripts for line in script.splitlines() if not INSTALLS.match(line))
    printed = call(clone, "bash", "-euo", "pipefail", "-c", ours)
    assert "Normalised" in printed
    for file in ("report.html", "summary.json", "requests.parquet", "experiment.resolved.yaml"):
        assert (clone / "out" / "quickstart" / file).is_file()
    assert (clone / "out" / "closer" / "timeline.json").is_file()


def test_readme_experiment_is_the_quickstart():
    (shown,) = [yaml.safe_load(block.text) for block in blocks(README) if block.language == "yaml"]
    real = yaml.safe_load((ROOT / "experiments" / "quickstart.yaml").read_text())
    del real["description"]
    assert shown == real


def test_readme_python(clone):
    code = next(block.text for block in blocks(README) if block.language == "python")
    assert "requests completed" in call(clone, sys.executable, "-c", code)
    assert (clone / "out" / "from-python" / "report.html").is_file()


def test_readme_policy_serves_short_prompts_first():
    import simserve
    from simserve.config.assemble import assemble
    from simserve.engine import simulate

    (code,) = [block.text for block in blocks(README) if block.language == "python" and "def plan" in block.text]
    names: dict[str, type] = {}
    exec(code, names)
    parts = assemble(simserve.load("quickstart", **{"workload.trace.duration_s": 300}))
    from dataclasses import replace

    (spec,) = parts.instances
    entered_at_once = {"request_s": 0.0, "request_per_prompt_token_s": 0.0, "request_delay_s": 0.0}
    records = simulate(parts.workload, [replace(spec, scheduler=names["ShortPromptsFirst"](), max_seqs=1, **entered_at_once)], check=True)
    prompts, scheduled = records.table.prompt_tokens, records.requests.scheduled_s
    released = records.requests.released_s
    served = scheduled >= 0
    assert served.any()
    for i in range(len(prompts)):  # a request that waited while this one started has a longer (or equal) prompt
        if served[i]:
            waited = served & (released < scheduled[i]) & (scheduled > scheduled[i])
            assert not (prompts[waited] < prompts[i]).any()


def test_readme_output_is_real(tmp_path):
    stale = "run: python -m tests.docs.refresh"
    assert refresh.readme_with(refresh.quickstart(tmp_path / "out")) == README.read_text(encoding="utf-8"), stale
    assert (tmp_path / "out" / "plots" / "latency_cdf.png").is_file() and refresh.PICTURE.is_file()


def test_figures_of_kernels_are_real():
    assert refresh.kernel_page() == refresh.KERNELS.read_text(encoding="utf-8"), "run: python -m tests.docs.refresh"


def test_verified_schedules_are_those_of_the_record():
    assert refresh.CONFORMANCE.read_text(encoding="utf-8") == refresh.conformance_page()


def test_readme_lists_every_policy():
    from simserve.policies import registry

    text = README.read_text(encoding="utf-8")
    for name in [*registry._BUILT_IN_SCHEDULERS, *registry._BUILT_IN_ORDERS, *registry._BUILT_IN_ROUTERS]:
        assert f"`{name}`" in text, name


def test_architecture_lists_every_package():
    from tests.test_house import ALLOWED_IMPORTS, PACKAGE

    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for folder in PACKAGE.iterdir():
        if folder.is_dir() and (folder / "__init__.py").is_file():
            assert re.search(rf"^\| `{folder.name}` \|", text, re.MULTILINE), folder.name
            assert folder.name in ALLOWED_IMPORTS


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)]*))?\)", text):
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{page.name} links to {target}#{anchor}"


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert not [page.name for page in (ROOT / "docs").glob("*.md") if page.name != "index.md" and f"({page.name})" not in index]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_named_in_backticks_exist(page):
    """`engine/plan.py` and the like, from the repository or from inside the package. Names in no folder of ours are the user's own."""
    homes = [ROOT, ROOT / "simserve"]
    for name in re.findall(r"`([\w.-]+/[\w./-]+\.(?:py|yaml|csv|ipynb|md))`", page.read_text(encoding="utf-8")):
        ours = [home for home in homes if name[0] != "." and (home / name.split("/")[0]).is_dir()]
        assert not ours or any((home / name).exists() for home in ours), f"{page.name} names {name}"


def test_blocks_of_python_compile():
    for page in PAGES:
        for block in blocks(page):
            if block.language == "python" and not block.text.lstrip().startswith(">>>"):
                ast.parse(block.text, filename=f"{page.name}:{block.line}")
