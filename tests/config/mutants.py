# ruff: noqa: E501
"""Broken experiments, profiles, overrides and command lines, made at random from sound ones: each must end well or with one clear message.

    python -m tests.config.mutants --seeds 0:3000

runs so many and prints those that end in a traceback, a hang, "a bug in simserve", "Aborted." or a message that says too much or too little.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from simserve import resources
from simserve.cli import main
from simserve.cli.failures import report
from simserve.config import engine_profile
from simserve.config.experiment import load
from simserve.files import yaml_text

FORBIDDEN = (
    "bug in simserve",
    "Traceback",
    "Aborted",
    "pydantic",
    "Input should",
    "<class",
    "yaml.s",
    "while parsing",
    "while scanning",
    "numpy.",
    "validation error",
)
MOST_LINE, MOST_LINES = 650, 25
TIME_S = 30.0

BUNDLED = "bundled"
"""The experiments that ship, which are loaded and not run."""

BASES = {
    "closed": """\
model: llama-3-8b
hardware: h100-sxm-80gb
workload: {closed_loop: {concurrency: 2, think_s: 0.1}, lengths: {prompt: {kind: fixed, tokens: 50}, output: {kind: fixed, tokens: 5}}, count: 4}
slo: {ttft_s: 1, classes: {default: {e2e_s: 3}}}
metrics: {warmup_s: 0.1, cooldown_s: 0.1}
""",
    "cluster": """\
name: two pools
model: {name: llama-2-7b, quantisation: fp8, options: {kv_bits: 8}}
hardware: a100-sxm-80gb
engine: {name: vllm-v1, max_num_seqs: 64, gpu_memory_utilization: 0.8, host: {per_step_s: 0.001}}
cluster:
  instances:
    - {count: 2, role: prefill, parallel: {tp: 2}, boot_s: 1}
    - {count: 2, role: decode, kv: {memory_utilisation: 0.7, block_tokens: 16, watermark: 0.01}, max_model_len: 2048}
  router: {policy: shortest-queue, decode_policy: least-tokens, refresh_s: 0.05}
  network: {bytes_per_s: 2e10, latency_s: 1e-5, kv_transfer: push, between_nodes: {bytes_per_s: 1e10, node_devices: 4}}
  failures: {times: [{at_s: 0.5, instance: 1}], mtbf_s: 100, restart_s: 1, rule: retry}
workload:
  arrivals: {kind: gamma, rate_per_s: 5, cv: 2}
  lengths: {prompt: {kind: lognormal, median_tokens: 100, sigma: 0.5, max_tokens: 500}, output: {kind: uniform, low_tokens: 2, high_tokens: 9}}
  count: 5
  slo_classes: [{name: a, fraction: 0.5, priority: 3}]
  priority: 1
seed: 7
until_s: 50
""",
    "moving": """\
model: llama-2-7b
hardware: a100-sxm-80gb
engine: vllm-v0
cluster:
  instances:
    - {count: 2, max_count: 3, boot_s: 1, order: priority, scheduler: {policy: sarathi, token_budget: 256, max_seqs: 8},
       kv: {blocks: 200, preemption: swap, host_memory_gib: 1}}
  router: {policy: freeness}
  controllers: [{policy: llumnix-migration, interval_s: 0.1}, {policy: llumnix-scaling, interval_s: 1, scale_up: 10, min_instances: 1}]
  migration: {last_stage_blocks: 4, max_stages: 3}
workload:
  arrivals: {kind: piecewise, pieces: [{duration_s: 1, rate_per_s: 5}, {duration_s: 1, rate_per_s: 0}]}
  lengths: {prompt: {kind: normal, mean_tokens: 100, sd_tokens: 30}, output: {kind: zipf, exponent: 1.1, high_tokens: 20}}
  count: 5
  max_output_tokens: 10
""",
    "trace": """\
model: llama-3.1-8b
hardware: h100-sxm-80gb
engine: {name: sglang, max_running_requests: 16}
workload:
  trace: {path: burstgpt-sample, limit: 4, start_s: 0, duration_s: 3600, rate_scale: 2, clip: {total_tokens: 1000}, filter: {model: ChatGPT}}
  arrivals: {kind: diurnal, rate_per_s: 2, period_s: 100, peak_s: 50}
slo: {tpot_s: 0.1, itl_p99_s: 0.2}
fast_forward: false
""",
    "probes": """\
model: llama-2-7b
hardware: a100-sxm-80gb
cost: {polynomial: distserve-a100}
workload: {arrivals: {kind: weibull, rate_per_s: 2, shape: 0.8}, lengths: {prompt: {kind: fixed, tokens: 50}, output: {kind: fixed, tokens: 5}}, count: 3}
probes: {step: {measure: decode_s, requests: 4, context_tokens: 100}}
variants: {small: {cluster.instances: [{max_model_len: 512}]}, large: {seed: 3}}
claims: [{figure: probes.step, of: [small], at_most: 1}]
paper: {title: None of them, reference: "here"}
""",
    "own": """\
model: llama-3-8b
hardware: hardware.yaml
engine: {name: engine.yaml, max_num_seqs: 8}
workload: {arrivals: {kind: constant, rate_per_s: 9}, lengths: {prompt: {kind: fixed, tokens: 50}, output: {kind: fixed, tokens: 5}}, count: 3}
""",
}
"""Sound experiments that take milliseconds and use every section of the language."""

NUMBERS: tuple[Any, ...] = (
    *(0, -1, 1, 2, 3, 0.5, -0.5, 1.5, 10**6, 10**9, 10**30, -(10**30), 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**299),
    *(5e-324, 1e-308, 1e-9, 1e-5, 1e9, 1e12, 1e18, 1e200, 1e308, -1e308, float("nan"), float("inf"), float("-inf")),
)
TEXTS: tuple[Any, ...] = (
    *("", " ", "x", "x" * 100_000, "1", "1e5", "true", "null", "NaN", "0x" + "f" * 3000, "9" * 5000, "1" + "0" * 30, "2024-01-01", "12:30"),
    *(
        "200ms",
        "../../etc/passwd",
        "/",
        ".",
        "/dev/null",
        "~",
        "nul\0l",
        "line\nbreak",
        "é",
        "\u2028",
        "\U0001f600",
        "%s%n",
        "{{x}}",
        "${HOME}",
    ),
    *("h100", "llama3-8b", "vllm", "none", "fcfs", "round-robin", "sarathi", "mixed", "decode", "push-layerwise", "poisson", "own.yaml"),
)
SHAPES: tuple[Any, ...] = (None, True, False, [], {}, [[]], [{}], {"": 1}, {"a": {"b": {}}}, [1, 2, 3], ["a"], [None], {"kind": "fixed"})
KEYS = ("", "x", "lora", "gpu", "ttft", "rps", "tp", "kind", "name", "policy", "x" * 5000, "é", "1", "null", "<<", "a.b", "count ", "COUNT")


class Hang(BaseException):
    """A case took longer than it may."""


class Case(NamedTuple):
    """One broken input: files by name, and the command line."""

    files: dict[str, bytes]
    argv: list[str]
    what: str


class Outcome(NamedTuple):
    """How it ended: exit code, stderr, seconds."""

    code: int
    said: str
    seconds: float

    def faults(self) -> list[str]:
        """What is wrong with the ending; empty when it is a success or one clear message."""
        if self.code == 0:
            return []
        unfinished = self.code == 1 and "no figures" in self.said  # a sweep whose runs are listed with their errors
        found = [] if self.code == 2 or unfinished else [f"exit code {self.code}"]
        words = FORBIDDEN[:3] if self.said.startswith("Usage:") else FORBIDDEN  # a wrong option is said by the command framework
        found += [f"says {word!r}" for word in words if word in self.said]
        lines = self.said.strip().splitlines()
        if not self.said.strip():
            found.append("says nothing")
        if len(lines) > MOST_LINES or any(len(line) > MOST_LINE for line in lines):
            found.append(f"says too much: {len(lines)} lines, {max(map(len, lines))} characters")
        return found


def case(seed: int) -> Case:
    """The case of a seed, always the same."""
    rng = random.Random(seed)
    base = rng.choice((*sorted(BASES), BUNDLED))
    text = BASES[base] if base in BASES else bundled(rng.choice(resources.available("experiments")))
    files = {"e.yaml": text, **(own_files() if base == "own" else {})}
    argv = ["run", "e.yaml", "--out", "out", "-q", "--no-plots", "--no-report"]
    victim = rng.choice(sorted(files)) if base == "own" else "e.yaml"
    way = rng.choice(("tree", "tree", "tree", "text", "bytes", "set", "set", "argv" if base in BASES else "tree"))
    raw = {name: text.encode() for name, text in files.items()}
    what = f"{base} {way} {victim}"
    if way == "tree":
        data = yaml_text.parse(files[victim], victim).data
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            what += " " + change(data, rng)
        raw[victim] = written(data, rng).encode("utf-8", "surrogatepass")
    elif way == "text":
        raw[victim] = broken_text(files[victim], rng).encode("utf-8", "surrogatepass")
    elif way == "bytes":
        raw[victim] = broken_bytes(files[victim].encode(), rng)
    elif way == "set":
        for _ in range(rng.choice((1, 1, 2))):
            argv += ["--set", override(files["e.yaml"], rng)]
    else:
        argv = broken_argv(argv, rng)
    return Case(raw, argv if base in BASES else ["load", *argv[1:2], *argv[7:]], what)


@functools.cache
def bundled(name: str) -> str:
    """The text of a bundled experiment."""
    return resources.find("experiments", name).read_text(encoding="utf-8")


@functools.cache
def own_files() -> dict[str, str]:
    """A hardware and an engine profile as a user writes them: copies of bundled ones, without fitted operators."""
    hardware = resources.find("hardware_profiles", "a10").read_text(encoding="utf-8")
    return {"hardware.yaml": hardware, "engine.yaml": (engine_profile.FOLDER / "vllm-v1.yaml").read_text(encoding="utf-8")}


def paths(node: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a tree but its root."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in items:
        yield (*here, key)
        yield from paths(child, (*here, key))


def parent(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        tree = tree[key]
    return tree


def nasty(rng: random.Random) -> Any:
    """A value that a user or a program may write where another is expected."""
    return rng.choice(rng.choice((NUMBERS, NUMBERS, TEXTS, SHAPES)))


def change(tree: Any, rng: random.Random) -> str:
    """Breaks one place of a tree and says how."""
    places = list(paths(tree))
    if not places:
        return "nothing left"
    path = rng.choice(places)
    holder, key = parent(tree, path), path[-1]
    way = rng.choice(("value", "value", "value", "value", "delete", "rename", "add", "swap", "wrap", "deep", "copy"))
    if way == "value":
        holder[key] = nasty(rng)
    elif way == "delete":
        del holder[key]
    elif way == "rename" and isinstance(holder, dict):
        name = str(key)
        at = rng.randrange(len(name) + 1)
        new = rng.choice((*KEYS, name.upper(), name + "s", name[:at] + "x" + name[at:], name[:at] + name[at + 1 :], name.replace("_", "-")))
        holder[new] = holder.pop(key)
    elif way == "add" and isinstance(holder, dict):
        holder[rng.choice(KEYS)] = nasty(rng)
    elif way == "swap":
        other = rng.choice(places)
        with contextlib.suppress(KeyError, IndexError, TypeError):
            there = parent(tree, other)
            holder[key], there[other[-1]] = json.loads(json.dumps(there[other[-1]])), json.loads(json.dumps(holder[key]))
    elif way == "wrap":
        holder[key] = rng.choice(([holder[key]], {"value": holder[key]}, {str(key): holder[key]}))
    elif way == "deep":
        for _ in range(rng.choice((20, 100, 300))):
            holder[key] = [holder[key]] if rng.random() < 0.5 else {"a": holder[key]}
    elif way == "copy" and isinstance(holder, list):
        holder.extend([holder[key]] * rng.choice((1, 50, 2000)))
    return f"{way} {'.'.join(map(str, path))[:80]}"


def written(tree: Any, rng: random.Random) -> str:
    """The tree as text: JSON is YAML too, and leaves every value as it is."""
    text = json.dumps(tree, ensure_ascii=rng.random() < 0.5)
    return re.sub(r"(?<![\w\"])(-?)(NaN|Infinity)\b(?!\")", lambda m: f"{m[1]}.{'nan' if m[2] == 'NaN' else 'inf'}", text)


def broken_text(text: str, rng: random.Random) -> str:
    """A slip of an editor, or a piece of YAML that does not belong here."""
    lines = text.splitlines()
    at = rng.randrange(len(lines))
    where = rng.randrange(len(text))
    pieces = (
        "\t",
        ":",
        "- ",
        "{",
        "}",
        "[",
        "]",
        "'",
        '"',
        "#",
        "&a ",
        "*a",
        "|",
        ">",
        "!!python/object:os.system ",
        "<<: *a",
        "---",
        "...",
    )
    pieces += (
        "!!binary aGk=",
        "%YAML 1.1",
        "? x",
        "@",
        "`",
        "\0",
        "\x85",
        "\ufeff",
        "9" * 4000,
        "1e999",
        "!!float x",
        "!!set {a}",
        "&a [*a]",
    )
    way = rng.randrange(8)
    if way == 0:
        return text[:where]
    if way == 1:
        return text[:where] + rng.choice(pieces) + text[where:]
    if way == 2:
        return text[:where] + text[where + rng.choice((1, 3, 10)) :]
    if way == 3:
        return "\n".join([*lines[:at], lines[at], *lines[at:]])
    if way == 4:
        return "\n".join([*lines[:at], rng.choice(("\t", "   ", " ")) + lines[at], *lines[at + 1 :]])
    if way == 5:
        return text + rng.choice(
            ("---\nmodel: x\n", "model: x\n", "a: &a [x,x]\nb: *c\n", "x: [" * 500, "[" * 5000, "{a: " * 2000, laughs())
        )
    if way == 6:
        return "\n".join(rng.sample(lines, len(lines)))
    return re.sub(r"\d+(\.\d+)?", lambda m: rng.choice((m[0], m[0], m[0] * 40, "-" + m[0], m[0] + "e300", m[0] + "x")), text)


def laughs() -> str:
    """Nine levels of nine aliases each: half a billion values."""
    rows = [f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]" for i in range(9)]
    return "\n".join(["a: &a [x,x,x,x,x,x,x,x,x]", *rows, ""])


def broken_bytes(raw: bytes, rng: random.Random) -> bytes:
    """Another encoding, other line ends, or damage."""
    text = raw.decode()
    at = rng.randrange(len(raw))
    ways = (
        *(text.encode("utf-16"), text.encode("utf-32"), b"\xef\xbb\xbf" + raw, raw.replace(b"\n", b"\r\n"), raw.replace(b"\n", b"\r")),
        *(
            raw[:at] + bytes([rng.randrange(256)]) + raw[at + 1 :],
            raw[:at] + b"\xe9" + raw[at:],
            b"",
            b"\n",
            b"\0" * 100,
            b"\x1f\x8b" + raw,
        ),
        *(raw + b"#" * 10**6, raw + b"\n" * 10**6, rng.randbytes(200), b"# nothing\n", b"--- \n", b"null", b"[]", b"3", b"PK\x03\x04"),
    )
    return rng.choice(ways)


def override(text: str, rng: random.Random) -> str:
    """A `--set`: a place that is there or is not, and a value that fits or does not."""
    names = [".".join(map(str, path)) for path in paths(yaml_text.parse(text, "e.yaml").data)]
    path = rng.choice(
        (*names, *names, "", ".", "a..b", "seed.", "cluster.instances.7.count", "cluster.instances.²", "x" * 10_000, ".".join("a" * 900))
    )
    if rng.random() < 0.3:
        path += "." + rng.choice(("x", "0", "-1", "tp", "lora", "9" * 30, "name", ""))
    value = nasty(rng)
    texts = [
        str(value) if isinstance(value, str | int | float) else json.dumps(value),
        "[" * 300,
        "{a: ",
        "*a",
        "&a [*a]",
        "!!x y",
        "'",
        "a: b: c",
    ]
    return rng.choice((f"{path}={texts[0]}",) * 8 + (f"{path}={rng.choice(texts)}", path, "=" + texts[0])).replace("\0", "?")


def broken_argv(argv: list[str], rng: random.Random) -> list[str]:
    """A command line that goes wrong, or a command that is told nonsense."""
    number = str(rng.choice(NUMBERS[:24]))
    lines = (
        *(
            ["run"],
            ["run", "nowhere.yaml"],
            ["run", "."],
            ["run", "/dev/null"],
            ["run", ""],
            ["run", "x" * 5000],
            ["run", "e.yaml", "e.yaml"],
        ),
        *(
            [*argv, "--intervals", number],
            [*argv, "--intervals", "9", "--set", "workload.count=1"],
            [*argv, "--no-such"],
            [*argv, "--timeline"],
        ),
        *(
            [*argv[:3], "e.yaml", *argv[4:]],
            [*argv[:3], "x" * 300, *argv[4:]],
            [*argv[:3], "", *argv[4:]],
            [*argv[:3], "/proc/x/y", *argv[4:]],
        ),
        *([*argv[:3], "/dev/null/x", *argv[4:]], [*argv, "--check"], [*argv, "--json"], [*argv, "--steps", "--json"], ["-h"], ["--help"]),
        *(
            ["policies", rng.choice(TEXTS)],
            ["engines", rng.choice(TEXTS)],
            ["schema", "--policy", rng.choice(TEXTS)],
            ["hardware", "x"],
            ["nope"],
        ),
        *(["hardware", "--json"], ["models", "--json"], ["policies", "--json"], ["policies", "sarathi", "--json"], ["engines", "--json"]),
        *(
            ["experiments", "--priority", "Z"],
            ["experiments", "run", "nope"],
            ["compare", "e.yaml"],
            ["report", "e.yaml"],
            ["version", "x"],
        ),
        *(["sweep", "e.yaml", "--over", override(BASES["closed"], rng), "--out", "sw", "-q"], ["sweep", "e.yaml", "--out", "sw", "-q"]),
        *(["run", rng.choice(resources.available("experiments")), "--set", f"seed={rng.choice(('x', '-1', '10' * 40))}"],),
    )
    return [str(word).replace("\0", "?") for word in rng.choice(lines)]


def run(one: Case, folder: Path, time_s: float = TIME_S) -> Outcome:
    """Runs a case in a folder of its own, in this process."""
    for name, raw in one.files.items():
        (folder / name).write_bytes(raw)
    said, answer = io.StringIO(), io.StringIO()

    def late(number: int, frame: FrameType | None) -> None:
        raise Hang(f"more than {time_s:g} s")

    before = signal.signal(signal.SIGALRM, late)
    start = time.perf_counter()
    signal.setitimer(signal.ITIMER_REAL, time_s)
    try:
        with contextlib.chdir(folder), contextlib.redirect_stderr(said), contextlib.redirect_stdout(answer):
            code = loaded(one.argv) if one.argv[:1] == ["load"] else main(one.argv)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return Outcome(code, said.getvalue(), time.perf_counter() - start)


def loaded(argv: list[str]) -> int:
    """Loads an experiment and every variant as `simserve run` does, without running it: bundled ones take minutes."""
    try:
        experiment = load(argv[1], argv[3::2])
        for changes in experiment.spec.variants.values():
            load(argv[1], changes)
    except BaseException as problem:
        return report(problem)
    return 0


def campaign(seeds: range, *, verbose: bool = False) -> dict[int, tuple[Case, Outcome]]:
    """Runs the cases of the seeds; those that ended badly."""
    bad = {}
    for seed in seeds:
        one = case(seed)
        folder = Path(tempfile.mkdtemp(prefix="mutant-"))
        try:
            outcome = run(one, folder)
            left = [path.name for path in folder.iterdir() if "partial" in path.name or ".old-" in path.name]
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if outcome.faults() or left:
            bad[seed] = (one, outcome)
            if verbose:
                print(
                    f"{seed}: {one.what}: {', '.join(outcome.faults() + left)}; {outcome.seconds:.1f} s\n    {outcome.said.strip()[:600]}",
                    flush=True,
                )
        elif verbose and outcome.seconds > 5:
            print(f"{seed}: {one.what}: {outcome.seconds:.1f} s, exit code {outcome.code}: {outcome.said.strip()[:200]}", flush=True)
    return bad


def command() -> int:
    parser = argparse.ArgumentParser(description="Run broken inputs and print those that end badly.")
    parser.add_argument("--seeds", default="0:150", help="FIRST:END")
    parser.add_argument("--memory-gib", type=float, default=6.0, help="most address space, so that a case that wants all is seen")
    parser.add_argument("--show", action="store_true", help="print the files and the command line of each seed, run nothing")
    options = parser.parse_args()
    first, end = map(int, options.seeds.split(":"))
    if options.show:
        for seed in range(first, end):
            one = case(seed)
            print(seed, one.what, one.argv, *(f"\n--- {name}\n{raw[:3000]!r}" for name, raw in one.files.items()))
        return 0
    import resource

    most = int(options.memory_gib * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    bad = campaign(range(first, end), verbose=True)
    print(f"{end - first} inputs, {len(bad)} ended badly")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(command())
