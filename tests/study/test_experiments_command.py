"""`simserve experiments`: the list comes from the record, `run` makes it again, and the record is what the experiments give today."""

from __future__ import annotations

import functools
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simserve.cli import experiments as command
from simserve.errors import ConfigError, OutputError
from simserve.study.claims import markdown as claims_markdown
from simserve.study.claims import record as claims_record
from simserve.study.claims.record import Recorded

ROOT = Path(__file__).resolve().parents[2]
AGAIN = "run: simserve experiments run"
CHEAP = [name for name, data in claims_record.claimed().items() if claims_record.priority(data) == "A"]

OF_MANY_RUNS = {"burstgpt_vs_poisson", "pastfuture_goodput", "sarathi_capacity_mistral"}
"""Searches and long traces, ten seconds each: run at night."""


@functools.cache
def recorded() -> dict[str, Recorded]:
    return claims_record.read()


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(command.app, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


def same(a: float | None, b: float | None) -> bool:
    return a == b or (a is not None and b is not None and math.isclose(a, b, rel_tol=1e-5))


def test_every_experiment_with_claims_is_recorded() -> None:
    assert set(recorded()) == set(claims_record.claimed()), f"{AGAIN} --all"


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.nightly] if name in OF_MANY_RUNS else []) for name in CHEAP])
def test_the_record_of_cheap_experiments_is_what_they_give(name: str) -> None:
    """Every figure and every verdict. Five digits: a last bit of another machine's arithmetic is no news."""
    from simserve.study.claims.check import check_claims

    assert name in recorded(), f"{AGAIN} {name}"
    known, fresh = recorded()[name], check_claims(name)
    assert [outcome.claim for outcome in fresh.outcomes] == [outcome.claim for outcome in known.outcomes], f"{AGAIN} {name}"
    for old, new in zip(known.outcomes, fresh.outcomes, strict=True):
        assert same(new.ours, old.ours), f"{new.claim}: {new.ours}, recorded {old.ours}; if that is meant, {AGAIN} {name}"
        assert same(new.low, old.low) and same(new.high, old.high)
        assert list(new.values) == list(old.values) and all(same(new.values[key], old.values[key]) for key in old.values)
        assert new.reproduced == old.reproduced


def test_the_page_shows_the_record() -> None:
    text = (ROOT / "docs" / "serving-accuracy.md").read_text(encoding="utf-8")
    shown = text.split(claims_markdown.BEGIN)[1].split(claims_markdown.END)[0]
    assert shown.strip() == claims_markdown.page(recorded()).strip(), f"{AGAIN} NAME"
    readme = (ROOT / "README.md").read_text(encoding="utf-8").split(claims_markdown.BEGIN)[1].split(claims_markdown.END)[0]
    assert readme.strip() == claims_markdown.summary(recorded()).strip(), f"{AGAIN} NAME"


def test_a_figure_out_of_its_band_comes_with_what_was_found() -> None:
    for name, of in recorded().items():
        for outcome in of.outcomes:
            assert outcome.reproduced or outcome.note or of.paper.get("misses"), f"{name}: {outcome.claim} is out and nothing says why"


def test_the_list_runs_nothing_and_shows_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims_record, "check_claims", None)
    monkeypatch.setenv("COLUMNS", "250")
    code, text = run()
    assert code == 0
    for name, of in recorded().items():
        assert f"{name}  {of.paper.get('title', '')}" in text
        for outcome in of.outcomes:
            verdict = "in" if outcome.reproduced else "out"
            rows = [line.split() for line in text.splitlines() if line.strip().startswith(f"{outcome.claim} ")]
            assert any(verdict in row[-2:] and claims_markdown.ours_text(outcome).split()[-1] in row for row in rows), outcome.claim
    assert "quickstart" in text.split("experiments without claims")[1]


def test_the_list_by_priority_and_by_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    assert "sarathi_capacity_yi34b" not in run("--priority", "A")[1]
    text = run("--out-of-band")[1]
    assert "sarathi_tile" in text and "xquant_map" not in text and "quickstart" not in text
    assert set(json.loads(run("--json", "--priority", "B")[1])) == {n for n in recorded() if n not in CHEAP and "priority: C" not in n} - {
        name for name, of in recorded().items() if of.paper.get("priority") == "C"
    }


def test_run_rewrites_one_entry_and_keeps_the_others(tmp_path: Path) -> None:
    record = tmp_path / "claims.json"
    before = {"sarathi_tile": recorded()["sarathi_tile"], "million_32k": replace(recorded()["million_32k"], simserve_version="0.0.1")}
    claims_record.write(before, record)
    code, text = run("run", "sarathi_tile", "--record", str(record), "--quiet")
    assert code == 0 and "in: published 2 of 3" in text
    assert claims_record.read(record) == before
    code, text = run("run", "million_32k", "--record", str(record), "--json", "--quiet")
    assert list(json.loads(text)) == ["million_32k"]
    after = claims_record.read(record)
    assert after["sarathi_tile"] == before["sarathi_tile"] and after["million_32k"] == recorded()["million_32k"]
    same = record.read_bytes()
    run("run", "million_32k", "sarathi_tile", "--record", str(record), "--quiet")
    assert record.read_bytes() == same


def test_neighbours_of_a_chosen_number_are_recorded_too() -> None:
    rows = [row for row in recorded()["sarathi_ablation"].sensitivity if row.factor is None]
    assert [row.value for row in rows] == [0.7, 0.8, 0.9, 1.0, 1.1] and {row.key for row in rows} == {"workload.arrivals.rate_per_s"}
    chosen = next(row for row in rows if row.value == 0.9)
    assert chosen.ours == {o.claim: o.ours for o in recorded()["sarathi_ablation"].outcomes}
    assert chosen.reproduced == {o.claim: o.reproduced for o in recorded()["sarathi_ablation"].outcomes}


def test_a_factor_moves_what_hangs_on_the_number_and_nothing_else() -> None:
    """Host time of a step, doubled: the cells where it counts go down, and what fits in memory stays."""
    qserve = recorded()["qserve_a100_table"]
    doubled = next(row for row in qserve.sensitivity if row.key == "engine.host" and row.factor == 2)
    assert doubled.chosen
    for outcome in qserve.outcomes:
        now = doubled.ours[outcome.claim]
        assert outcome.ours is not None and now is not None
        if outcome.claim.startswith(("probes.fits", "probes.batch")):
            assert now == outcome.ours
        elif " of " in outcome.claim:
            assert 0.5 * outcome.ours < now < outcome.ours


def test_an_installed_copy_keeps_nothing_by_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Site-packages are not rewritten; --record says where to."""
    monkeypatch.setattr(claims_record, "checkout", lambda: None)
    monkeypatch.setattr(claims_record, "write", None)
    assert run("run", "sarathi_tile", "--quiet")[0] == 0


def test_old_records_are_marked() -> None:
    known = recorded()["xquant_map"]
    assert claims_record.older_than(known) == []
    old = replace(known, simserve_version="0.0.1", files={**known.files, "hardware_profiles/h100-sxm-80gb": "0" * 12, "engines/gone": "1"})
    assert claims_record.older_than(old)[1:] == ["hardware_profiles/h100-sxm-80gb", "engines/gone"]


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'sarathi_tile'"):
        run("run", "sarathi_tiel")
    with pytest.raises(ConfigError, match="no bundled experiment 'quickstart' makes claims"):
        run("run", "quickstart")
    with pytest.raises(ConfigError, match="--priority A or --all"):
        run("run")
    with pytest.raises(ConfigError, match="expected A, B or C"):
        run("--priority", "Z")
    broken = tmp_path / "claims.json"
    for text, words in (("{", "not a record"), ('{"schema_version": 9, "experiments": {}}', "reads version 2"), ("[]", "not a record")):
        broken.write_text(text)
        with pytest.raises(ConfigError, match=words):
            run("run", "sarathi_tile", "--record", str(broken))
    with pytest.raises(OutputError, match="does not exist"):
        run("run", "sarathi_tile", "--quiet", "--record", str(tmp_path / "no" / "claims.json"))


def test_the_whole_command(tmp_path: Path) -> None:
    """As a user calls it: the table on stdout, progress on stderr, exit code 2 for a mistake."""
    call = [sys.executable, "-m", "simserve", "experiments", "run"]
    done = subprocess.run([*call, "xquant_map", "--record", str(tmp_path / "claims.json")], capture_output=True, text=True, check=True)
    assert "in: no published value 5 of 5, identities 4 of 4" in done.stdout and (tmp_path / "claims.json").is_file()
    wrong = subprocess.run([*call, "xquant_mop"], capture_output=True, text=True)
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1 and "xquant_map" in wrong.stderr
