"""The command line as users meet it: exit codes, one clear message, no traceback, light imports."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from simserve import __version__
from simserve.cli import main
from simserve.cli.root import COMMANDS, command
from simserve.compiled import engine_build
from simserve.errors import InvariantError, SimserveError

HEAVY = {"pandas", "matplotlib", "scipy", "pyarrow", "jinja2", "simpy", "lightgbm", "torch", "joblib", "pooch", "numpy", "pydantic", "yaml"}


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running the code."""
    script = f"import sys\n{code}\nprint('\\n'.join({{name.split('.')[0] for name in sys.modules}}), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stderr.split())


def failing(monkeypatch: pytest.MonkeyPatch, problem: BaseException) -> None:
    """Makes `simserve version` end with the given problem."""
    import typer

    import simserve.cli.version as module

    app = typer.Typer()

    @app.command()
    def version() -> None:
        raise problem

    monkeypatch.setattr(module, "app", app)


def test_help_loads_no_heavy_library() -> None:
    assert not HEAVY & modules_after("from simserve.cli import main\nassert main(['--help']) == 0")


def test_importing_the_package_is_light() -> None:
    assert not HEAVY & modules_after("import simserve")
    heavy = HEAVY - {"numpy", "pydantic", "yaml"}
    assert not heavy & modules_after("import simserve\nsimserve.load, simserve.run")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_exists_and_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert "Usage" in out
    assert "completion" not in out


@pytest.mark.parametrize("columns", ["60", "200"])
@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["policies"], ["policies", "sarathi"], ["engines"], ["engines", "vllm-v1"]]
)
def test_output_fits_the_terminal(
    columns: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "policies" not in arguments or max(len(line) for line in lines if "  " in line) <= int(columns)
    assert lines


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"simserve {__version__}\nengine: {engine_build()}\n"


@pytest.mark.parametrize("arguments", [["no-such-command"], ["run"], ["run", "--no-such-option"], ["policies", "a", "b"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("problem", "code", "words"),
    [
        (SimserveError("a is b"), 2, "error: a is b"),
        (InvariantError("I3"), 3, "error: I3"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, "No space left on device", "out/x"), 2, "error: the disk is full: cannot write out/x"),
        (PermissionError(errno.EACCES, "Permission denied", "out"), 2, "error: out: Permission denied"),
        (EOFError("Compressed file ended"), 2, "error: an input ends before it should: Compressed file ended"),
        (MemoryError(), 2, "error: out of memory"),
        (RuntimeError("surprise"), 1, "bug in simserve: RuntimeError: surprise"),
    ],
)
def test_endings_are_one_message_and_a_code(
    problem: BaseException, code: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, problem)
    assert main(["version"]) == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert "Traceback" not in captured.err and "Aborted" not in captured.err
    assert captured.out == ""


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, SimserveError("a is b"))
    with pytest.raises(SimserveError):
        main(["version", "--debug"])
    monkeypatch.setenv("SIMSERVE_DEBUG", "1")
    with pytest.raises(SimserveError):
        main(["version"])


def test_a_reader_that_goes_away_is_no_error() -> None:
    pipeline = f"set -o pipefail; {sys.executable} -m simserve schema | head -c 1 > /dev/null"
    done = subprocess.run(["bash", "-c", pipeline], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["policies"], "sarathi"),
        (["models"], "llama-2-7b"),
        (["hardware"], "a100-sxm-80gb"),
        (["engines"], "vllm-v1"),
        (["experiments"], "quickstart"),
    ],
)
def test_lists_name_what_is_bundled(arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert word in capsys.readouterr().out


def test_unknown_names_get_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, nearest in (
        (["policies", "sarati"], "sarathi"),
        (["policies", "llumnix-migratio"], "llumnix-migration"),
        (["engines", "vlm-v1"], "vllm-v1"),
        (["run", "quikstart"], "quickstart"),
    ):
        assert main(arguments) == 2
        assert f"did you mean '{nearest}'" in capsys.readouterr().err


def test_the_command_is_built_without_running_anything() -> None:
    group: Any = command()
    assert group.list_commands(None) == list(COMMANDS)


def test_help_comes_at_once() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "simserve", "--help"], check=True, capture_output=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5, "seconds of processor time"


@pytest.mark.parametrize(
    ("arguments", "offered", "not_offered"),
    [
        (["ca"], {"capacity", "calibrate"}, {"run"}),
        (["run", "qui"], {"quickstart"}, {"closed_loop"}),
        (["run", "x", "--set", "hardware=h100"], {"hardware=h100-sxm-80gb"}, {"hardware=a10"}),
        (["run", "x", "--set", "engine=vllm-v1"], {"engine=vllm-v1", "engine=vllm-v1-async"}, {"engine=sglang"}),
        (["run", "x", "--set", "wor"], {"workload"}, {"model="}),
        (["run", "x", "--no-p"], {"--no-plots"}, {"--no-report"}),
        (["policies", "sar"], {"sarathi"}, {"vllm-v1"}),
        (["engines", "tens"], {"tensorrt-llm"}, {"vllm-v1"}),
        (["run", "no-such-experiment-or-file"], set(), {"quickstart"}),
    ],
)
def test_the_shell_completes_commands_options_and_bundled_names(arguments: list[str], offered: set[str], not_offered: set[str]) -> None:
    words = ["simserve", *arguments]
    environment = {**os.environ, "_SIMSERVE_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run([sys.executable, "-m", "simserve"], env=environment, capture_output=True, text=True, timeout=60)
    found = set(done.stdout.split())
    assert done.stderr == "" and offered <= found and not not_offered & found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_shown_and_installed(shell: str, tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    shown = subprocess.run(
        [sys.executable, "-m", "simserve", "--show-completion", shell], env=environment, capture_output=True, text=True, timeout=60
    )
    assert shown.returncode == 0 and "_SIMSERVE_COMPLETE" in shown.stdout and "simserve" in shown.stdout
    installed = subprocess.run(
        [sys.executable, "-m", "simserve", "--install-completion", shell], env=environment, capture_output=True, text=True, timeout=60
    )
    assert installed.returncode == 0, installed.stderr
    assert any("_SIMSERVE_COMPLETE" in path.read_text() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("arguments", "key", "name"),
    [
        (["models"], "model", "llama-2-7b"),
        (["hardware"], "profile", "a100-sxm-80gb"),
        (["engines"], "name", "vllm-v1"),
        (["policies"], "policy", "sarathi"),
    ],
)
def test_tables_are_printed_as_json(arguments: list[str], key: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert name in [row[key] for row in rows]


WITHOUT_TABLE = {
    "report", "schema", "version", "trace fetch", "trace convert", "trace generate", "calibrate fit", "calibrate measure",
    "calibrate replay",
}  # fmt: skip


def test_every_command_that_prints_a_table_has_json() -> None:
    root, found = command(), {}
    context = root.make_context("simserve", [], resilient_parsing=True)
    for name in root.list_commands(context):
        one = root.get_command(context, name)
        found |= {f"{name} {word}": sub for word, sub in one.commands.items()} if hasattr(one, "commands") else {name: one}
    assert set(found) >= WITHOUT_TABLE
    lacking = {name for name, one in found.items() if not any("--json" in option.opts for option in one.params)}
    assert lacking <= WITHOUT_TABLE | {"experiments run"}, lacking


def test_numbers_in_json_are_those_of_the_objects(capsys: pytest.CaptureFixture[str]) -> None:
    from simserve.hardware import load_profile
    from simserve.model import load_model

    main(["models", "--json"])
    model = next(row for row in json.loads(capsys.readouterr().out) if row["model"] == "llama-3-8b")
    # 32 layers x 8 KV heads x 128 x keys and values x 2 bytes
    assert model["kv_bytes_per_token"] == 32 * 8 * 128 * 2 * 2 and model["parameters"] == load_model("llama-3-8b").parameters()
    main(["hardware", "--json"])
    profile = next(row for row in json.loads(capsys.readouterr().out) if row["profile"] == "h100-sxm-80gb")
    assert profile["device"]["hbm_bytes"] == load_profile("h100-sxm-80gb").device.hbm_bytes
    main(["policies", "sarathi", "--json"])
    assert {row["name"] for row in json.loads(capsys.readouterr().out)["parameters"]} >= {"token_budget", "max_seqs"}
    main(["engines", "vllm-v1", "--json"])
    assert json.loads(capsys.readouterr().out)["flags"]["max_num_seqs"] == "scheduler.max_seqs"


def test_ctrl_c_while_the_line_is_read_is_told(monkeypatch, capsys):
    """The command framework's own answer to it is silence."""

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("typer.core.TyperGroup.parse_args", interrupted)
    assert main(["version"]) == 130
    assert capsys.readouterr().err == "interrupted: no result was written\n"
