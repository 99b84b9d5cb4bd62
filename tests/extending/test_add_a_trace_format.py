"""A trace format of another package: told by its columns or by its name, read by simserve's own tools, its mistakes named."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from simserve.errors import ConfigError, SimserveError
from simserve.workload import formats
from simserve.workload.trace import read_trace
from tests.docs.blocks import ROOT, blocks
from tests.extending.package import Package

POINTS = '[project.entry-points."simserve.trace_formats"]\ngateway = "gateway:gateway"\n'

LOG = "received_ms,in_tokens,out_tokens,tenant\n1000,100,10,a\n1500,2000,20,b\n1250,300,30,a\n4000,50,5,b\n"

EXPERIMENT = """\
model: llama-2-7b
hardware: a100-sxm-80gb
workload: {trace: {path: log.csv%s}}
"""


@pytest.fixture
def package(tmp_path: Path) -> Package:
    (text,) = [block.text for block in blocks(ROOT / "docs" / "workloads.md") if block.title == "gateway.py"]
    (tmp_path / "log.csv").write_text(LOG)
    return Package(tmp_path, "gateway-trace", {"gateway.py": text}, POINTS)


@pytest.fixture
def here(package: Package, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package is found by this process, which starts faster than another."""
    monkeypatch.syspath_prepend(str(package.folder))
    for cached in (formats.of_packages, formats.load):
        cached.cache_clear()
    yield
    for cached in (formats.of_packages, formats.load):
        cached.cache_clear()
    sys.modules.pop("gateway", None)


@pytest.mark.parametrize("stated", ["", ", format: gateway"])
def test_a_run_reads_it(package: Package, stated: str) -> None:
    summary, requests = package.run(EXPERIMENT % stated)
    assert requests.released_s.tolist() == [0.0, 0.25, 0.5, 3.0]
    assert requests.prompt_tokens.tolist() == [100, 300, 2000, 50] and requests.generated_tokens.tolist() == [10, 30, 20, 5]
    workload = summary["workload"]["provenance"]
    assert workload["format"] == "gateway" and workload["read_as"]["summary"] == "gateway, times in ms"
    assert workload["columns_not_used"] == ["tenant"]


def test_it_is_listed_with_its_package_and_in_the_schema(package: Package) -> None:
    (row,) = [row for row in json.loads(package.simserve("trace", "formats", "--json")) if row["package"] != "simserve"]
    assert (row["format"], row["package"], row["files"]) == ("gateway", "gateway-trace 1.0", "CSV")
    assert "(gateway-trace 1.0)" in package.simserve("trace", "formats")
    kinds = json.loads(package.simserve("schema"))["$defs"]["TraceSource"]["properties"]["format"]
    assert "gateway" in json.dumps(kinds)
    assert "gateway, times in ms" in package.simserve("trace", "info", "log.csv")
    assert "did you mean 'gateway'" in package.refused("trace", "info", "log.csv", "--format", "gatewy")


def test_mistakes_of_a_file_have_their_line(package: Package) -> None:
    (package.folder / "log.csv").write_text(LOG + "4100,50,many,b\n")
    assert "log.csv: line 6: 'out_tokens' is 'many', not a number" in package.refused("trace", "info", "log.csv")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("    prompt, output = ", "    1 / 0\n    prompt, output = ", "trace format 'gateway' of gateway-trace 1.0 failed in read, "),
        ("return TraceColumns(", "return {} and TraceColumns(", "its reader gave dict instead of TraceColumns"),
        ("TraceColumns(arrival_s,", "TraceColumns(arrival_s[1:],", "its reader gave arrival_s with 3 rows, prompt_tokens with 4"),
        ("TraceColumns(arrival_s,", "TraceColumns(-arrival_s,", "its reader gave arrival_s -1.0 in row 0, which must be a number >= 0"),
        ("prompt, output,", "prompt / 2, output,", "its reader gave prompt_tokens that is no array of whole numbers"),
        (
            "from simserve",
            "import nowhere\nfrom simserve",
            "of gateway-trace 1.0 cannot be loaded from gateway:gateway: ModuleNotFoundError",
        ),
        ("gateway = Format(", "gateway = dict(read=", "it must be a simserve.workload.formats.Format"),
        ('known_by=("received_ms", "in_tokens", "out_tokens")', "known_by=()", "its known_by must name at least one column"),
    ],
)
def test_its_own_mistakes_name_its_package(package: Package, here: None, old: str, new: str, words: str) -> None:
    module = package.folder / "gateway.py"
    text = module.read_text()
    assert old in text
    module.write_text(text.replace(old, new, 1))
    with pytest.raises(SimserveError) as caught:
        read_trace(package.folder / "log.csv", "gateway")
    assert words in str(caught.value) and "gateway-trace 1.0" in str(caught.value) and "\n" not in str(caught.value)


def test_a_broken_one_does_no_harm_to_other_files_and_takes_no_name(package: Package) -> None:
    (package.folder / "gateway.py").write_text("1 / 0\n")
    info = next(package.folder.glob("*.dist-info"))
    (info / "entry_points.txt").write_text("[simserve.trace_formats]\ngateway = gateway:gateway\nburstgpt = gateway:gateway\n")
    assert "burstgpt" in package.simserve("trace", "info", "burstgpt-sample")
    assert "ZeroDivisionError" in package.refused("trace", "info", "log.csv")


def test_two_packages_of_one_name_are_told_of(package: Package, here: None) -> None:
    info = package.folder / "other_trace-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-trace\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[simserve.trace_formats]\ngateway = elsewhere:gateway\n")
    with pytest.raises(ConfigError) as caught:
        read_trace(package.folder / "log.csv", "gateway")
    line = str(caught.value)
    assert "gateway-trace 1.0" in line and "other-trace 2.0" in line and "has one of the same name" in line
