"""A latency of another package, by its entry point: a column, statistics, an SLO target, a quantity of studies, rows of tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import blocks

ROOT = Path(__file__).resolve().parents[2]

METRIC = '''
import numpy as np

from simserve.catalogue import Metric


def first_to_tenth_s(records, gaps):
    """From the first token to the tenth."""
    emissions, times = records.emissions, [[] for _ in range(len(records.table))]
    for segment in np.argsort(emissions.request, kind="stable"):
        own = times[emissions.request[segment]]
        if not np.isnan(emissions.prefill_end_s[segment]):
            own.append(emissions.prefill_end_s[segment])
        own.extend(gaps.tick_end_s[emissions.lane[segment]][emissions.first_tick[segment] : emissions.last_tick[segment] + 1])
    return np.array([at[9] - at[0] if len(at) >= 10 else np.nan for at in times])


first_ten = Metric(
    "first_ten_s", "first_ten", "First ten", "first ten tokens", "First ten tokens", "from the first token to the tenth",
    target="First token to the tenth, seconds.", headline=True, banded=True, formula=first_to_tenth_s,
)
'''

USE = """
import json, sys
import numpy as np
import simserve
from simserve.report.request_file import request_table
from simserve.study.predicate import parse
from simserve.study.quantities import standard, value_of

result = simserve.run("quickstart", **{"workload.trace.duration_s": 60, "slo.first_ten_s": 0.2, "intervals": 8})
table = request_table(result.measurement)
(wanted,) = parse("first_ten.p99 <= 1").quantities
low, high = result.summary_dict()["intervals"]["latency"]["all"]["first_ten_s"]["mean"]
print(json.dumps({
    "latency": result.summary_dict()["latency"]["all"]["first_ten_s"],
    "slo": result.summary_dict()["slo"]["all"]["attainment_by_limit"],
    "columns": table.column_names,
    "metadata": {k.decode(): v.decode() for k, v in table.schema.field("first_ten_s").metadata.items()},
    "column": table.column("first_ten_s").to_pylist(),
    "output": table.column("generated_tokens").to_pylist(),
    "p99": value_of(result, wanted),
    "sweep": [quantity.column for quantity in standard()],
    "band": [low, high],
    "frame": list(result.summary.index),
    "title": result.plot.latency_cdf("first_ten_s")[0].get_title(loc="left"),
    "compared": [row.name for row in simserve.compare([result]).rows],
}))
"""

KEY = "import simserve; from simserve.study.cache import run_key; print(run_key(simserve.load('quickstart')))"
FEW = ("--set", "workload.trace.duration_s=60", "--no-plots", "--no-report", "--out", "out")


def install(folder: Path, code: str, target: str = "their_metric:first_ten") -> None:
    (folder / "their_metric.py").write_text(code)
    info = folder / "their_metric-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-metric\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[simserve.metrics]\nfirst-ten = {target}\n")


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "MPLBACKEND": "agg", "COLUMNS": "140"}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_it_is_everywhere_where_metrics_are(tmp_path: Path) -> None:
    install(tmp_path, METRIC)
    run = python(tmp_path, "-c", USE)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)

    known = [value for value in found["column"] if value is not None]
    assert len(known) == found["latency"]["count"] == sum(tokens >= 10 for tokens in found["output"]) > 10
    assert found["p99"] == found["latency"]["p99"] and found["latency"]["max"] == max(known) and min(known) > 0
    assert found["columns"][-2:] == ["slo_met", "first_ten_s"]  # columns keep their places: a new one is the last
    assert found["metadata"] == {"unit": "s", "meaning": "from the first token to the tenth"}
    # Who has fewer than ten tokens cannot violate it.
    within = sum(value is None or value <= 0.2 for value, tokens in zip(found["column"], found["output"], strict=True) if tokens)
    assert 0 < found["slo"]["first_ten_s"] == within / sum(tokens > 0 for tokens in found["output"]) < 1
    assert {"first_ten_mean_s", "first_ten_p99_s"} <= set(found["sweep"])
    assert found["band"][0] < found["latency"]["mean"] < found["band"][1]
    assert found["frame"][-1] == "first_ten_s" and "First ten p99" in found["compared"]
    assert found["title"] == "First ten tokens, per request"


def test_it_is_in_the_language_and_in_the_tables(tmp_path: Path) -> None:
    install(tmp_path, METRIC)
    schema = json.loads(python(tmp_path, "-m", "simserve", "schema").stdout)["$defs"]
    assert schema["Targets"]["properties"]["first_ten_s"]["description"] == "First token to the tenth, seconds."
    assert list(schema["SloSection"]["properties"])[-2:] == ["first_ten_s", "classes"]
    run = python(tmp_path, "-m", "simserve", "run", "quickstart", *FEW)
    assert run.returncode == 0 and "First ten" in run.stdout, run.stderr
    near = python(tmp_path, "-m", "simserve", "run", "quickstart", "--set", "slo.first_tan_s=1")
    assert near.returncode == 2 and "did you mean 'first_ten_s'" in near.stderr


def test_the_one_of_the_documentation_works(tmp_path: Path) -> None:
    (code,) = [block.text for block in blocks(ROOT / "docs" / "metrics.md") if block.title == "decode_time.py"]
    install(tmp_path, code, "their_metric:decode")
    run = python(tmp_path, "-m", "simserve", "run", "quickstart", *FEW, "--set", "slo.decode_s=1")
    assert run.returncode == 0, run.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    latency = summary["latency"]["all"]
    assert latency["decode_s"]["mean"] == pytest.approx(latency["e2e_s"]["mean"] - latency["ttft_s"]["mean"])
    assert 0 < summary["slo"]["all"]["attainment_by_limit"]["decode_s"] < 1
    changed = python(tmp_path, "-c", KEY)
    (tmp_path / "their_metric.py").write_text(code + "\n# another definition\n")
    assert changed.stdout != python(tmp_path, "-c", KEY).stdout != ""  # rows of finished runs are not taken for those of another formula


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "formula=first_to_tenth_s",
            "formula=None",
            "'first-ten' of their-metric 1.0: it must be a simserve.catalogue.Metric",
        ),
        ('"first_ten_s",', '"first_ten",', "its name must be lower case and end in _s"),
        ('"first_ten_s",', '"ttft_s",', "the name 'ttft_s' is taken"),
        ('"first_ten_s",', '"finish_s",', "the name 'finish_s' is taken"),
        ('"first_ten",', '"goodput",', "the name 'goodput' is taken"),
        ("import numpy", "import nowhere", "of their-metric 1.0 cannot be loaded from their_metric:first_ten: ModuleNotFoundError"),
        ("for at in times]", "for at in times[1:]]", "metric 'first_ten_s': its formula gave an array of shape"),
        ("at[9] - at[0]", "at[0] - at[9]", "its formula gave values that are negative or infinite"),
        ("at[9] - at[0]", "at[99999]", "metric 'first_ten_s': its formula failed: IndexError"),
    ],
)
def test_what_is_wrong_with_it_is_one_clear_message(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in METRIC
    install(tmp_path, METRIC.replace(old, new))
    run = python(tmp_path, "-m", "simserve", "run", "quickstart", *FEW)
    assert run.returncode == 2, run.stderr
    assert words in run.stderr and "Traceback" not in run.stderr and len(run.stderr.strip().splitlines()) == 1
