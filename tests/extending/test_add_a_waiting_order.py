"""An order of the waiting requests of another package: a module of two functions and two facts."""

from __future__ import annotations

from pathlib import Path

from tests.extending.package import Package

LONGEST = '''
"""The longest prompt first."""

oracle = False
dynamic = False


def key(request):
    return -request.prompt_tokens


def victim_key(request):
    return request.admission
'''

POINTS = '[project.entry-points."simserve.orders"]\nlongest-prompt = "longest"\n'

EXPERIMENT = """\
model: llama-2-7b
hardware: a100-sxm-80gb
cluster: {instances: [{order: longest-prompt, scheduler: {policy: vllm-v0, max_seqs: 1}}]}
workload:
  arrivals: {kind: constant, rate_per_s: 1000}
  lengths: {prompt: {kind: uniform, low_tokens: 16, high_tokens: 1024}, output: {kind: fixed, tokens: 4}}
  count: 40
"""


def test_requests_run_in_its_order(tmp_path: Path) -> None:
    package = Package(tmp_path, "longest-prompt", {"longest.py": LONGEST}, POINTS)
    summary, requests = package.run(EXPERIMENT)
    assert summary["requests"]["completed"] == 40
    waited = requests[requests.scheduled_s > requests.released_s.max() + 1.0].sort_values("scheduled_s")  # all that were there are seen
    assert len(waited) > 20 and waited.prompt_tokens.is_monotonic_decreasing and not waited.released_s.is_monotonic_increasing
    assert f"longest-prompt ({package.name})" in package.simserve("policies")
