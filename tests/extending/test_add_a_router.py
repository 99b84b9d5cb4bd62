"""A router of another package: eight lines and an entry point."""

from __future__ import annotations

from pathlib import Path

from tests.docs.blocks import ROOT, blocks
from tests.extending.package import Package

POINTS = '[project.entry-points."simserve.routers"]\nfewest-prompt-tokens = "fewest:FewestPromptTokens"\n'

ONE_PLACE = '''
from simserve.contracts import Router


class Last(Router):
    """Everything goes to the last instance."""

    def choose(self, request, view):
        return view.open[-1]
'''

EXPERIMENT = """\
model: llama-2-7b
hardware: a100-sxm-80gb
cluster: {instances: [{count: 3}], router: {policy: %s}}
workload:
  arrivals: {kind: constant, rate_per_s: 2000}
  lengths: {prompt: {kind: uniform, low_tokens: 16, high_tokens: 1024}, output: {kind: fixed, tokens: 20}}
  count: 60
"""


def test_the_one_of_the_documentation_has_eight_lines_and_works(tmp_path: Path) -> None:
    (text,) = [block.text for block in blocks(ROOT / "docs" / "policies.md") if block.title == "fewest.py"]
    assert len(text.strip().splitlines()) <= 8
    package = Package(tmp_path, "fewest-prompt-tokens", {"fewest.py": text}, POINTS)
    summary, requests = package.run(EXPERIMENT % "fewest-prompt-tokens")
    assert summary["experiment"]["cluster"]["router"]["policy"] == "fewest-prompt-tokens"
    assert summary["requests"]["completed"] == 60
    # All arrive before one ends: each goes where the sum of the prompts before it is smallest.
    sent = [0, 0, 0]
    for name, tokens in zip(requests.instance, requests.prompt_tokens, strict=True):
        number = int(str(name)[-1])
        assert number == sent.index(min(sent))
        sent[number] += tokens
    listed = package.simserve("policies")
    assert f"({package.name})" in listed and "fewest-prompt-tokens" in listed
    shown = package.simserve("policies", "fewest-prompt-tokens")
    assert shown.startswith(f"fewest-prompt-tokens ({package.name}): ") and "parameter" not in shown


def test_where_requests_go_is_its_decision(tmp_path: Path) -> None:
    points = '[project.entry-points."simserve.routers"]\nlast = "last:Last"\n'
    package = Package(tmp_path, "last-router", {"last.py": ONE_PLACE}, points)
    _, requests = package.run(EXPERIMENT % "last")
    assert {str(name)[-1] for name in requests.instance} == {"2"}
    (tmp_path / "last.py").write_text(ONE_PLACE.replace("view.open[-1]", "view.open[-70]"))
    assert "routing policy 'last' of last-router 1.0 failed in choose" in package.refused("run", "experiment.yaml", "-q")


def test_it_has_no_parameters_unless_it_says_so(tmp_path: Path) -> None:
    package = Package(tmp_path, "last-router", {"last.py": ONE_PLACE}, '[project.entry-points."simserve.routers"]\nlast = "last:Last"\n')
    (tmp_path / "e.yaml").write_text(EXPERIMENT % "last, kept: 1")
    assert "policy last has no parameter 'kept'" in package.refused("run", "e.yaml", "-q")
