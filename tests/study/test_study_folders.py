"""What `simserve report` makes of a study's folder: finished, interrupted, resumed, of every kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import simserve
import simserve.simulation
from simserve.cli import main
from simserve.errors import OutputError
from simserve.study.folder import RUNS, STUDY
from simserve.study.outputs import Kind, recognise
from simserve.study.placement.file import read_placement
from tests.report.offline_page import Page
from tests.study.conftest import RATE


def _sweep(tiny: dict[str, Any], out: Path, resume: bool = False) -> Any:
    return simserve.sweep(tiny, {RATE: [4.0, 8.0]}, jobs=1, out=out, resume=resume)


def _capacity(tiny: dict[str, Any], out: Path, resume: bool = False) -> Any:
    return simserve.capacity(tiny, "ttft.p90 <= 0.06", replicates=1, tolerance=0.4, jobs=1, out=out, resume=resume)


def _place(tiny: dict[str, Any], out: Path, resume: bool = False) -> Any:
    return simserve.place(tiny, 2, when="ttft.p90 <= 0.06", kinds=("mixed",), tolerance=0.3, jobs=1, out=out, resume=resume)


STUDIES: dict[str, tuple[Callable[..., Any], str, Kind, str]] = {
    "sweep": (_sweep, "sweep.json", Kind.SWEEP, "sweep"),
    "capacity": (_capacity, "capacity.json", Kind.CAPACITY, "capacity search"),
    "place": (_place, "placement.json", Kind.PLACEMENT, "placement search"),
}


class _Interrupt:
    """Lets so many runs end, and interrupts the next."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.left, self.run = after, simserve.simulation.simulated
        monkeypatch.setattr("simserve.simulation.simulated", self)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return self.run(*arguments, **options)


@pytest.mark.parametrize("study", STUDIES)
def test_finished_interrupted_and_resumed(
    study: str, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, result, kind, called = STUDIES[study]
    with monkeypatch.context() as patched:
        _Interrupt(patched, after=1)
        with pytest.raises(KeyboardInterrupt):
            run(tiny, tmp_path / "s")
    assert main(["report", str(tmp_path / "s")]) == 2
    said = capsys.readouterr().err
    assert f"is a {called} that was interrupted" in said and "1 finished run is kept" in said and "--resume" in said
    other = next(name for name in STUDIES if name != study)
    with pytest.raises(OutputError, match=f"interrupted {called}, something that is not"):
        STUDIES[other][0](tiny, tmp_path / "s", resume=True)
    run(tiny, tmp_path / "s", resume=True)
    assert recognise(tmp_path / "s") == (kind, tmp_path / "s")
    run(tiny, tmp_path / "whole")
    assert (tmp_path / "s" / result).read_bytes() == (tmp_path / "whole" / result).read_bytes()
    assert main(["report", str(tmp_path / "s")]) == 0
    page = Page((tmp_path / "s" / "report.html").read_text())
    assert (page.tags["img"] or "vegaEmbed(" in page.html) and "interrupted" not in page.text
    assert main(["report", str(tmp_path / "s" / result), "-q"]) == 0, "the file names its folder"


def test_a_folder_of_an_older_version_or_a_damaged_note_is_still_a_study(tiny: dict[str, Any], tmp_path: Path) -> None:
    for number, content in enumerate((None, "", "[]", '{"study": "nonsense"}', "[" * 50_000)):
        out = tmp_path / str(number)
        (out / RUNS).mkdir(parents=True)
        if content is not None:
            (out / RUNS / STUDY).write_text(content)
        with pytest.raises(OutputError, match="is a study that was interrupted"):
            recognise(out)
        _sweep(tiny, out, resume=True)


def test_a_placement_search_reads_back_as_it_was(tiny: dict[str, Any], tmp_path: Path) -> None:
    found = _place(tiny, tmp_path / "p")
    again = read_placement(tmp_path / "p")
    assert again.message == found.message and again.notes == found.notes and again.frame.equals(found.frame)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"schema_version": 2}', '{"schema_version": 1}', '{"schema_version": 1, "placements": 3}']
)
def test_a_damaged_placement_file_is_one_message(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "placement.json").write_text(content)
    assert main(["report", str(tmp_path)]) == 2
    assert "placement.json" in capsys.readouterr().err


def test_an_experiment_with_variants_is_a_page_of_claims(tmp_path: Path) -> None:
    assert main(["run", "lserve_ctx", "--out", str(tmp_path / "v"), "-q"]) == 0
    assert recognise(tmp_path / "v")[0] == Kind.VARIANTS and main(["report", str(tmp_path / "v"), "-q"]) == 0
    assert "claims" in json.loads((tmp_path / "v" / "summary.json").read_text())
