"""`simserve report`: the page of a run, a comparison, an experiment with variants, a sweep, a capacity search; and what it refuses."""

import json
import shutil

import numpy as np
import pytest
from offline_page import Page

import simserve
from simserve.cli import main
from simserve.study.capacity.file import read_capacity
from simserve.study.claims.check import check_claims
from simserve.study.outputs import Kind, read_sweep, recognise
from simserve.study.sweep.page import sweep_page
from simserve.study.sweep.result import SweepResult

SHORT = {"workload.trace.duration_s": 150}
BUDGET = "cluster.instances.0.scheduler.token_budget"
SCALE = "workload.trace.rate_scale"


@pytest.fixture
def pictures(monkeypatch):
    """Without the library of charts, pages have pictures."""
    monkeypatch.setattr("simserve.report.charts.library", lambda: "")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Two runs, a sweep with points that fail, a capacity search and an experiment with variants."""
    folder = tmp_path_factory.mktemp("out")
    for name, budget in (("wide", 512), ("narrow", 128)):
        result = simserve.run(simserve.load("quickstart", **SHORT, **{"name": name, BUDGET: budget}))
        result.write(folder / name, plots=name == "wide", report=False)
    experiment = simserve.load("quickstart", **SHORT)
    simserve.sweep(experiment, {SCALE: [4, 16], BUDGET: [128, 512, 0]}, jobs=1, out=folder / "sweep")
    clients = simserve.load("closed_loop", **{"workload.count": 80})
    simserve.capacity(clients, "tpot.p99 <= 0.02", replicates=1, tolerance=0.3, jobs=1).write(folder / "capacity")
    small = json.loads(json.dumps(simserve.load("closed_loop").resolved()))
    small["workload"]["count"] = 40
    small["variants"] = {"slow": {"cluster.instances.0.hardware": "a100-sxm-80gb"}, "quick": {}}
    small["claims"] = [
        {"figure": "tpot.p50", "of": ["slow", "quick"], "at_least": 1.0},
        {"figure": "tpot.p50", "of": ["quick", "slow"], "order": True},
        {"figure": "tpot.p50", "of": ["slow"], "published": 99.0, "within": 0.1, "note": "a note <b>"},
    ]
    (folder / "claims").mkdir()
    check_claims(small).write(folder / "claims", plots=False, report=False)
    return folder


def report(*arguments):
    return main(["report", *map(str, arguments)])


def page(path):
    found = Page(path.read_text())
    assert found.needs_nothing()
    return found


def test_one_run_again(out, capsys):
    assert report(out / "wide") == 0
    first = page(out / "wide" / "report.html")
    assert first.tags["img"] == 7 and "Lacking" not in first.text
    assert f"written to {out / 'wide' / 'report.html'}" in capsys.readouterr().err
    before = (out / "wide" / "report.html").read_bytes()
    assert report(out / "wide" / "summary.json", "-q") == 0 and capsys.readouterr().err == ""
    assert (out / "wide" / "report.html").read_bytes() == before


def test_a_run_without_plots_is_drawn_from_its_requests(out, tmp_path, capsys):
    assert report(out / "narrow", "--out", tmp_path / "r.html") == 0
    found = page(tmp_path / "r.html")
    assert found.tags["img"] == 3 and "kv usage" in found.text
    assert "kv usage" in capsys.readouterr().err
    assert not (out / "narrow" / "report.html").exists()


def test_the_report_of_run_is_the_report_of_report(tmp_path):
    result = simserve.run(simserve.load("closed_loop", **{"workload.count": 30}))
    result.write(tmp_path / "a")
    written = page(tmp_path / "a" / "report.html")
    assert report(tmp_path / "a") == 0
    again = page(tmp_path / "a" / "report.html")
    assert again.tables == written.tables and again.addresses == written.addresses


def test_two_runs_are_compared(out):
    assert report(out / "wide", out / "narrow") == 0
    found = page(out / "comparison.html")
    assert {row["key"]: (row["wide"], row["narrow"]) for row in found.table("key")} == {BUDGET: ("512", "128")}
    ttft = next(row for row in found.table("wide", "narrow") if row[""] == "TTFT p50")
    stored = simserve.Result.read(out / "narrow").summary_dict()["latency"]["all"]["ttft_s"]["p50"]
    assert ttft["narrow"].startswith(f"{1e3 * stored:,.0f} ms" if stored >= 1 else f"{1e3 * stored:.1f} ms")


def test_variants_come_with_their_claims(out, tmp_path):
    assert report(out / "claims", "--out", tmp_path / "c.html") == 0
    found = page(tmp_path / "c.html")
    assert (
        "published numbers: 0 of 1 within their bands" in found.text
        and "bounds, predictions of ours): 2 of 2 within" in found.text
        and found.tags["b"] == 0
    )
    rows = found.table("claim", "ours")
    values = json.loads((out / "claims" / "summary.json").read_text())["claims"][1]["values"]
    assert rows[1]["ours"] == f"{values['quick']:.3g} < {values['slow']:.3g}"
    assert [row["claim"] for row in rows if row[""] == "out"] == ["tpot.p50 of slowa note <b>"]
    assert {"slow", "quick"} <= found.table("slow", "quick")[0].keys()


def test_variants_that_were_only_asked_have_no_comparison(tmp_path):
    assert main(["run", "lserve_ctx", "--out", str(tmp_path / "p"), "-q"]) == 0
    assert report(tmp_path / "p") == 0
    found = page(tmp_path / "p" / "report.html")
    assert "within their bands" in found.text and "Asked of the cost model" in found.text and found.tags["img"] == 0


def test_a_sweep_shows_best_points_errors_and_all_points(out, pictures):
    assert report(out / "sweep") == 0
    found = page(out / "sweep" / "report.html")
    frame = read_sweep(out / "sweep").by_point
    best = next(row for row in found.table("best", "worst") if row[""] == "lowest TTFT p99")
    assert best["token budget"] == str(frame.loc[frame["ttft_p99_s"].idxmin(), BUDGET])
    failed = found.table("runs", "status", "error")
    assert sum(int(row["runs"]) for row in failed) == 2 and all(row["status"] == "invalid" for row in failed)
    assert all("token_budget" in row["error"] for row in failed)
    rows = found.table("rate scale", "token budget", "TTFT p99")
    assert [(row["rate scale"], row["token budget"]) for row in rows] == [("4", "128"), ("4", "512"), ("16", "128"), ("16", "512")]
    assert found.tags["img"] == 7 and found.tags["script"] == 1
    values = [float(part.split('"')[0]) for part in found.html.split('data-value="')[1:]]
    assert set(frame["ttft_p99_s"]) <= set(values), "cells sort by their numbers"


def test_the_table_of_a_sweep_alone_is_enough(out, tmp_path):
    shutil.copy(out / "sweep" / "sweep.parquet", tmp_path / "mine.parquet")
    alone, whole = read_sweep(tmp_path / "mine.parquet"), read_sweep(out / "sweep")
    assert alone.keys == whole.keys == (SCALE, BUDGET) and alone.by_point.equals(whole.by_point)
    assert recognise(tmp_path / "mine.parquet") == (Kind.SWEEP, tmp_path / "mine.parquet")
    assert recognise(out / "sweep" / "sweep.parquet") == (Kind.SWEEP, out / "sweep")


@pytest.mark.parametrize(("method", "keys"), [("latin-hypercube", 3), ("grid", 0), ("grid", 1)])
def test_every_design_has_plots(method, keys, pictures):
    over = {BUDGET: {"low": 128, "high": 512, "whole": True}, SCALE: {"low": 4, "high": 16}, "hardware": ["a100-sxm-80gb", "h100-sxm-80gb"]}
    over = dict(list(over.items())[:keys]) if keys > 1 else {"hardware": over["hardware"]} if keys else {}
    short = simserve.load("quickstart", **{"workload.trace.duration_s": 60})
    options = {"method": method, "sample": 6} if method != "grid" else {}
    result = simserve.sweep(short, over, seeds=[0, 1] if not keys else None, jobs=1, **options)
    found = Page(sweep_page(result))
    assert found.tags["img"] == (4 if keys else 1)


def test_a_sweep_in_which_everything_failed(out):
    result = read_sweep(out / "sweep")
    found = Page(sweep_page(SweepResult(result.failures, result.about)))
    assert "No run has figures" in found.text and found.tags["img"] == 0
    assert sum(int(row["runs"]) for row in found.table("runs", "error")) == 2


def test_heat_map_and_panels_show_the_medians(out):
    result = read_sweep(out / "sweep")
    axes = result.plot.heat_map("ttft_p99_s", x=BUDGET, by=SCALE)
    (mesh,) = axes.collections[:1]
    wanted = result.by_point.set_index([SCALE, BUDGET])["ttft_p99_s"].sort_index().to_numpy()
    assert np.allclose(mesh.get_array().ravel(), wanted)
    panels = result.plot.by_key("ttft_p99_s")
    line = panels[0].lines[1]
    medians = result.by_point.groupby(SCALE)["ttft_p99_s"].median()
    assert list(line.get_xdata()) == list(medians.index) and np.allclose(line.get_ydata(), medians)
    with pytest.raises(simserve.SimserveError, match="ttft_p99_s"):
        result.plot.heat_map("ttft_p9_s")


def test_a_capacity_search_shows_its_answer_and_probes(out, pictures):
    assert report(out / "capacity") == 0
    found = page(out / "capacity" / "report.html")
    about = json.loads((out / "capacity" / "capacity.json").read_text())
    assert about["message"] in found.text and found.tags["img"] == 2
    rows = found.table("load, clients", "holds", "why not")
    assert [row["holds"] == "yes" for row in rows] == [probe["holds"] for probe in about["probes"]]
    assert all((row["why not"] == "") == (row["holds"] == "yes") for row in rows)


def test_a_capacity_search_read_back_is_what_was_written(out, tmp_path):
    found = read_capacity(out / "capacity")
    found.write(tmp_path / "again", plots=False)
    assert (tmp_path / "again" / "capacity.json").read_text() == (out / "capacity" / "capacity.json").read_text()
    assert found.frame.equals(read_capacity(tmp_path / "again").frame)


def _half_run(folder, out):
    shutil.copytree(out / "wide", folder)
    (folder / "summary.json").unlink()


def _other_version(folder, out):
    shutil.copytree(out / "wide", folder)
    text = (folder / "summary.json").read_text()
    (folder / "summary.json").write_text(text.replace('"schema_version": 1', '"schema_version": 99'))


def _cut_requests(folder, out):
    shutil.copytree(out / "narrow", folder)
    (folder / "requests.parquet").write_bytes((folder / "requests.parquet").read_bytes()[:1000])


def _other_sweep(folder, out):
    shutil.copytree(out / "sweep", folder)
    (folder / "sweep.json").write_text((folder / "sweep.json").read_text().replace('"schema_version": 1', '"schema_version": 0'))


def _other_capacity(folder, out):
    shutil.copytree(out / "capacity", folder)
    (folder / "capacity.json").write_text('{"schema_version": 2}')


def _cut_capacity(folder, out):
    shutil.copytree(out / "capacity", folder)
    (folder / "probes.parquet").unlink()


def _cut_sweep(folder, out):
    shutil.copytree(out / "sweep", folder)
    (folder / "sweep.parquet").unlink()


def _interrupted(folder, out):
    (folder / "runs").mkdir(parents=True)


def _not_json(folder, out):
    folder.mkdir()
    (folder / "summary.json").write_text("{")


def _a_list(folder, out):
    folder.mkdir()
    (folder / "summary.json").write_text("[1]")


def _claims_without_runs(folder, out):
    folder.mkdir()
    shutil.copy(out / "claims" / "summary.json", folder)


def _claims_of_nothing(folder, out):
    folder.mkdir()
    (folder / "summary.json").write_text('{"claims": [3], "name": "x", "paper": {}}')


def _results_inside(folder, out):
    shutil.copytree(out / "wide", folder / "inside")


def _empty(folder, out):
    folder.mkdir()


BAD = {
    _half_run: "half a run",
    _other_version: "schema version 99",
    _cut_requests: "requests.parquet",
    _other_sweep: "schema version 0",
    _other_capacity: "schema version 2",
    _cut_capacity: "no probes.parquet",
    _cut_sweep: "no sweep.parquet",
    _interrupted: "--resume",
    _not_json: "JSON",
    _a_list: "is not the summary",
    _claims_without_runs: "none of the variants",
    _claims_of_nothing: "is not the summary",
    _results_inside: "(inside)",
    _empty: "is not the output of a finished run",
}


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_bad_outputs_are_named_and_nothing_is_written(make, out, tmp_path, capsys):
    make(tmp_path / "bad", out)
    before = sorted(path for path in tmp_path.rglob("*"))
    assert report(tmp_path / "bad") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert str(tmp_path / "bad") in error and BAD[make] in error
    assert sorted(path for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("wide", "sweep"), "wide is a run"),
        (("sweep", "wide"), "sweep is a sweep"),
        (("claims", "wide"), "experiment with variants"),
        (("claims", "claims"), "name the variants"),
        (("sweep", "sweep"), "a comparison is of runs"),
        (("wide", "nowhere"), "nowhere: does not exist"),
        (("wide/requests.parquet",), "is not the table of a sweep"),
        (("wide/plots/latency_cdf.png",), "is a file"),
    ],
)
def test_mixtures_and_strangers_are_refused(given, message, out, tmp_path, capsys):
    assert report(*(out / name for name in given), "--out", tmp_path / "r.html") == 2
    assert message in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_only_pages_of_ours_are_replaced(out, tmp_path, capsys):
    mine = tmp_path / "r.html"
    mine.write_text("<p>mine</p>")
    assert report(out / "wide", "--out", mine) == 2
    assert "--force" in capsys.readouterr().err and mine.read_text() == "<p>mine</p>"
    assert report(out / "wide", "--out", mine, "--force") == 0
    assert report(out / "narrow", "--out", mine) == 0 and "narrow" in mine.read_text()
    assert report(out / "wide", "--out", tmp_path) == 2 and "is a directory" in capsys.readouterr().err
    assert report(out / "wide", "--out", tmp_path / "no" / "r.html") == 2 and "there is no directory" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
