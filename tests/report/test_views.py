"""What people look at: terminal tables, the report, the comparison, plots and the timeline."""

import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
from synthetic import poisson, serve

from simserve.errors import OutputError
from simserve.report import Result
from simserve.report.compare.comparison import compare
from simserve.report.compare.html import comparison_page
from simserve.report.compare.terminal import compare_table
from simserve.report.html import run_html
from simserve.report.page import Picture
from simserve.report.terminal import summary_table
from tests.report.printed import printed


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_summary_fits_the_terminal_without_cutting_words(result, width):
    text = printed(summary_table(result), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text and "TTFT" in text and "p99" in text and "SLO attainment" in text
    assert "Not validated" in text.replace("\n", " ")


def test_the_terminal_shows_the_right_numbers():
    records, _ = serve([0.0, 5.0], [100, 100], [3, 3], step_s=0.25, per_request_s=0.0)
    text = printed(summary_table(Result(records, {"name": "x"})), 120)
    assert re.search(r"ITL +250\.0 ms +250\.0 ms", text)
    assert re.search(r"TTFT +250\.1 ms", text)


def test_a_comparison_shows_differences_and_what_else_differs(result, tmp_path):
    arrival, prompt, output = poisson(100, 5)
    slow = Result(
        serve(arrival, prompt, output, step_s=0.02, per_request_s=0.0, describe={"model": "other"})[0], {"name": "slow", "seed": 1}
    )
    fast = Result(serve(arrival, prompt, output, step_s=0.01, per_request_s=0.0)[0], {"name": "fast", "seed": 0})
    found = compare([fast, slow])
    row = next(row for row in found.rows if row.name == "ITL p50")
    assert row.changes[0] == "" and row.changes[1] == "+100.0 %"
    notes = " ".join(found.notes)
    assert "seed" in notes and "other profiles or models" in notes and "workload" not in notes
    assert compare([fast, fast]).names == ("fast [1]", "fast [2]")
    assert all(row.changes[1] in ("+0.0 %", "+0.0 pt", "") for row in compare([fast, fast]).rows)
    assert "…" not in printed(compare_table([fast, slow]), 60)
    assert "+100.0 %" in comparison_page(compare([fast, slow]))
    with pytest.raises(OutputError):
        compare([])


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.addresses, self.open = Counter(), [], []

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.addresses += [value for key, value in attrs if key in ("src", "href", "srcset", "data")]
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_is_one_file_that_needs_nothing_from_outside(result, tmp_path):
    result.write(tmp_path / "a", plots=False)
    text = (tmp_path / "a" / "report.html").read_text()
    page = _Page()
    page.feed(text)
    assert not page.open and page.tags["img"] == 7 and page.tags["table"] >= 4
    assert page.tags["script"] == page.tags["link"] == 0
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert "url(" not in text and "@import" not in text
    assert "Not validated" in text and "attention_decode" in text and "toy-engine 1.0" in text


def test_the_report_states_the_error_of_each_operator_and_the_engine_version():
    fitted = {"operator": "gemm", "dtype": "bf16", "backend": "lib 1.2", "points": 1234, "check_mape_percent": {"points": 3.72}}
    cost = {
        "model": "m",
        "engine_profile": {"engine": "vLLM", "versions": "0.9", "validated": False, "name": "host"},
        "operators": [fitted],
    }
    summary = Result(serve([0.0], [5], [5], describe=cost)[0], {}).summary_dict()
    text = run_html(summary, [])
    assert "3.7 % (points)" in text and "1,234" in text and "lib 1.2" in text and "vLLM 0.9" in text
    assert summary["unvalidated"] == ["host"]


def test_names_from_users_are_text_not_markup(two_classes):
    result = Result(two_classes[0], {"name": "<script>alert(1)</script>"})
    text = run_html(result.summary_dict(), [Picture("p", '"><b>x', b"png")])
    assert "<script>" not in text and "<b>x" not in text and "&lt;script&gt;" in text
    assert "<script>" not in result._repr_html_()


def test_plots_return_axes_and_leave_pyplot_alone():
    code = """
import sys; sys.path.insert(0, sys.argv[1])
from synthetic import serve, poisson
from simserve.report import Result
plot = Result(serve(*poisson(60, 5))[0], {}, {"ttft_s": 1}).plot
axes = [*plot.latency_cdf(), *plot.latency_over_time(), *plot.queue_and_batch(), *plot.throughput()]
axes += [plot.kv_usage(), plot.step_time(), plot.timeline(), plot.frontier()]
empty = Result(serve([1.0], [5], [0])[0], {}).plot
assert len(list(empty.figures())) == 7 and empty.timeline()
none = Result(serve([], [], [])[0], {}).plot
assert len(list(none.figures())) == 7 and none.timeline()
print(len(axes), {type(a).__name__ for a in axes}, "matplotlib.pyplot" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code, str(__file__).rsplit("/", 1)[0]], capture_output=True, text=True)
    assert done.stdout == "14 {'Axes'} False\n", done.stderr


def test_the_cdf_plot_draws_the_distribution(result):
    axes = result.plot.latency_cdf()[0]
    line = next(line for line in axes.lines if line.get_label().startswith("chat"))
    chat = result.measurement.in_window & (result.records.table.slo_class.codes == 0)
    ttft = result.measurement.requests.ttft_s[chat]
    ttft = ttft[~np.isnan(ttft)]
    for value, fraction in zip(line.get_xdata(), line.get_ydata(), strict=True):
        assert fraction == pytest.approx(100 * (ttft <= value).mean())
    assert any(line.get_xdata()[0] == 0.05 for line in axes.lines)


def test_runs_of_one_name_are_told_apart_by_their_directories(result, tmp_path):
    stored = [Result.read(result.write(tmp_path / name, plots=False, report=False)) for name in ("before", "after")]
    assert compare(stored).names == ("before", "after")


def test_plots_are_whole_on_a_phone_and_tables_scroll_in_their_own_box(result, tmp_path):
    """At any width: a picture is as wide as its box and not wider (until it is tapped), and every table is inside a box that scrolls."""
    text = (result.write(tmp_path / "a", plots=False) / "report.html").read_text()
    rules = re.findall(r"^ *([^{}\n]*img[^{}\n]*)\{([^}]*)\}", text, re.M)
    always = [body for selector, body in rules if ":focus" not in selector]
    assert always and all("min-width" not in body for body in always) and any("width: 100%" in body for body in always)
    assert text.count("<table>") == len(re.findall(r'<div class="scroll[^"]*"><table>', text))
    assert "initial-scale=1" in text
