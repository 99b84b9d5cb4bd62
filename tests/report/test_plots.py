"""Plots: which panels, into which axes, with what labels; and whose figures they are."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from synthetic import poisson, serve

from simserve.errors import ConfigError
from simserve.report import Result
from simserve.report.compare.comparison import compare
from simserve.report.plots.style import figure_of, log_seconds

SEVERAL = {
    "latency_cdf": ("ttft_s", "itl_s", "tpot_s", "e2e_s"),
    "latency_over_time": ("ttft_s", "itl_s"),
    "queue_and_batch": ("waiting", "batch"),
    "throughput": ("tokens", "requests"),
}
SINGLE = ("kv_usage", "step_time", "frontier", "timeline")


@pytest.fixture(scope="module")
def run():
    return Result(serve(*poisson(150, 5))[0], {"name": "one"}, {"ttft_s": 0.2, "tpot_s": 0.05})


@pytest.fixture(scope="module")
def comparison(run):
    return compare([run, Result(serve(*poisson(150, 5), step_s=0.03)[0], {"name": "other"}, {"ttft_s": 0.2, "tpot_s": 0.05})])


@pytest.fixture(scope="module")
def stored(run, tmp_path_factory):
    return Result.read(run.write(tmp_path_factory.mktemp("run") / "r", plots=False, report=False))


@pytest.mark.parametrize("name", SEVERAL)
def test_one_panel_goes_into_the_axes_given_and_looks_like_that_of_the_whole(run, name):
    draw = getattr(run.plot, name)
    whole = draw()
    assert len(whole) == len(SEVERAL[name]) and len({id(figure_of(ax)) for ax in whole}) == 1
    for metric, panel in zip(SEVERAL[name], whole, strict=True):
        ax = Figure().subplots()
        assert draw(metric, ax=ax) == [ax]
        assert ax.get_title(loc="left") == panel.get_title(loc="left") != ""
        assert len(ax.lines) == len(panel.lines)
        for ours, theirs in zip(ax.lines, panel.lines, strict=True):
            assert np.array_equal(ours.get_xydata(), theirs.get_xydata(), equal_nan=True)


def test_panels_are_chosen_by_name_and_drawn_in_that_order(run):
    axes = run.plot.latency_cdf(["queueing_s", "itl_s", "itl_max_s"])
    assert [ax.get_title(loc="left").split(",")[0].split(" until")[0] for ax in axes] == [
        "Queueing",
        "Inter-token latency (ITL)",
        "Longest gap between two tokens",
    ]
    mine = Figure().subplots(2, 2)
    assert run.plot.latency_cdf(ax=mine) == list(mine.ravel()), "an array of axes of any shape"


@pytest.mark.parametrize("name", SEVERAL)
def test_an_unknown_metric_or_the_wrong_number_of_axes_is_an_error(run, name):
    draw = getattr(run.plot, name)
    with pytest.raises(ConfigError, match="no metric"):
        draw("nonsense_s")
    with pytest.raises(ConfigError, match="axes are needed"):
        draw(ax=Figure().subplots())
    with pytest.raises(ConfigError, match="1 axes are needed"):
        draw(SEVERAL[name][0], ax=Figure().subplots(1, 2))


def test_a_metric_of_nearly_the_right_name_is_hinted_at(run):
    with pytest.raises(ConfigError, match="'ttft_s'"):
        run.plot.latency_cdf("ttft")


def every(run, stored, comparison, **options):
    """(what, axes) of every plot there is."""
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
    for name in SEVERAL:
        yield name, getattr(run.plot, name)(**options)
    for name in SINGLE:
        yield name, [getattr(run.plot, name)(**options)]
    yield "stored cdf", stored.plot.latency_cdf(**options)
    yield "stored time", stored.plot.latency_over_time(**options)
    yield "stored frontier", [stored.plot.frontier(**options)]
    yield "compared cdf", comparison.plot.latency_cdf(**options)
    yield "compared one", comparison.plot.latency_cdf("tpot_s", **options)
    yield "compared frontier", [comparison.plot.frontier(**options)]
    yield "compared goodput", [comparison.plot.goodput(**options)]


def test_titles_and_legends_are_switches(run, stored, comparison):
    for what, axes in every(run, stored, comparison, title=False, legend=False):
        for ax in axes:
            assert ax.get_title(loc="left") == ax.get_title() == "" and ax.get_legend() is None, what
        assert not figure_of(axes[0]).legends, what
    for what, axes in every(run, stored, comparison, title="Mine"):
        above = figure_of(axes[0]).get_suptitle()
        assert (axes[0].get_title(loc="left"), above) == ("Mine", "") if len(axes) == 1 else above == "Mine", what


def test_every_axis_says_what_it_is_and_in_which_unit(run, stored, comparison):
    for what, axes in every(run, stored, comparison):
        for ax in axes:
            shared = len(axes) == 2 and ax is axes[0]  # its neighbour below has the label
            for axis in [ax.yaxis] if shared else [ax.xaxis, ax.yaxis]:
                label, ticks = axis.get_label_text(), " ".join(axis.get_major_formatter().format_ticks(axis.get_majorticklocs()))
                if what == "compared goodput" and axis is ax.yaxis:
                    assert ticks == "one other", "the names of the runs"
                    continue
                units = ("%", "/s", ", s", "ms", "tokens", "requests", "minutes", "hours", "days", "order of release")
                assert label and (any(unit in label for unit in units) or " ms" in ticks or " s" in ticks), (what, label, ticks)


def test_axes_of_seconds_have_several_ticks_each_with_its_unit():
    for low_s, high_s in ((0.0101, 0.047), (0.9, 1.1), (0.002, 3.0), (1e-4, 300.0), (0.05, 0.051), (0.61, 0.8), (0.038, 0.061)):
        ax = Figure().subplots()
        ax.plot([low_s, high_s], [0, 1])
        ax.set_xlim(low_s, high_s)
        log_seconds(ax.xaxis)
        ax.set_xlim(low_s, high_s)
        inside = [place for place in ax.xaxis.get_majorticklocs() if low_s <= place <= high_s]
        texts = ax.xaxis.get_major_formatter().format_ticks(inside)
        assert 2 <= len(texts) <= 10 and len(set(texts)) == len(texts), (low_s, high_s, texts)
        assert all(text.endswith((" ms", " s", " µs")) for text in texts)


def test_lines_over_time_are_told_apart_without_hue(run):
    """p50, p95 and p99 have their own lightness (luminance at least 0.03 apart), for a reader of a grey copy or with any colour vision."""
    from itertools import pairwise

    from matplotlib.colors import to_rgb

    for ax in run.plot.latency_over_time():
        lines = [line for line in ax.lines if line.get_linestyle() != "None"]
        assert [line.get_label() for line in lines] == ["p50", "p95", "p99"]
        light = sorted(float(np.dot(to_rgb(line.get_color()), (0.2126, 0.7152, 0.0722))) for line in lines)
        assert all(b - a > 0.03 for a, b in pairwise(light)), light


SETUP = """
import json, sys, types
sys.path.insert(0, sys.argv[1])
import matplotlib
from synthetic import serve, poisson
from simserve.report import Result
result = Result(serve(*poisson(60, 5))[0], {"name": "x"}, {"ttft_s": 1})
"""

NOTEBOOK = """
# A shell with a kernel, and a backend that, as matplotlib_inline does, sets up the session when pyplot first loads it.
ipython = types.ModuleType("IPython")
ipython.version_info = (9, 0)
shell = types.SimpleNamespace(kernel=object(), events=types.SimpleNamespace(register=lambda *_: None), enable_gui=lambda *_: None)
ipython.get_ipython = lambda: shell
sys.modules["IPython"] = ipython
backend = types.ModuleType("inline_like")
from matplotlib.backends import backend_agg
class Canvas(backend_agg.FigureCanvasAgg): pass
backend.FigureCanvas = Canvas
class Finder:
    def find_spec(self, name, path=None, target=None):
        import importlib.machinery
        return importlib.machinery.ModuleSpec(name, self) if name == "inline_like" else None
    def create_module(self, spec): return backend
    def exec_module(self, module):
        matplotlib.interactive(True)
        matplotlib.rcParams["figure.dpi"] = 72.5
sys.meta_path.insert(0, Finder())
matplotlib.rcParams["backend"] = "module://inline_like"
"""

SHOW = """
before = {k: v for k, v in matplotlib.rcParams.items() if k not in ("backend", "interactive", "figure.dpi")}
counts = []
def figures():
    pyplot = sys.modules.get("matplotlib.pyplot")
    return len(pyplot.get_fignums()) if pyplot else None
counts.append(figures())
for draw in (result.plot.latency_cdf, result.plot.kv_usage, result.plot.queue_and_batch):
    draw()
    counts.append(figures())
import tempfile
result.write(tempfile.mkdtemp(), force=True)
counts.append(figures())
after = {k: v for k, v in matplotlib.rcParams.items() if k in before}
print(json.dumps({"counts": counts, "interactive": matplotlib.is_interactive(), "dpi": matplotlib.rcParams["figure.dpi"],
                  "backend": str(matplotlib.rcParams["backend"]), "changed": [k for k in before if before[k] != after[k]]}))
"""


def session(*parts, backend="agg"):
    import os

    code = "\n".join([SETUP, *parts, SHOW])
    environment = {**os.environ, "MPLBACKEND": backend}
    done = subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_in_a_notebook_every_figure_is_pyplots_and_the_session_stays_interactive():
    """What a notebook needs to show figures: pyplot has them, and the backend's own settings outlive the first plot."""
    found = session(NOTEBOOK)
    assert found["interactive"] and found["dpi"] == 72.5 and found["backend"] == "module://inline_like"
    assert found["counts"] == [None, 1, 2, 3, 3], "and writing a result shows nothing"
    assert found["changed"] == []


def test_where_pyplot_is_in_use_its_show_has_the_figures():
    found = session("import matplotlib.pyplot as plt\nplt.switch_backend('agg')")
    assert found["counts"] == [0, 1, 2, 3, 3] and not found["interactive"] and found["changed"] == []


def test_elsewhere_pyplot_is_left_alone():
    found = session()
    assert found["counts"] == [None] * 5 and not found["interactive"] and found["changed"] == []


COMMAND = """
import inspect, sys
from simserve.report.plots.style import load_matplotlib
load_matplotlib()
from matplotlib.artist import Artist, kwdoc
from matplotlib.lines import Line2D
class Mine(Line2D): pass
class Own(Line2D):
    def set(self, **kwargs): return "own"
class Below(Own): pass
line = Line2D([0], [0])
line.set(color="r", lw=3)
print(line.get_color(), line.get_linewidth(), "linewidth" in str(inspect.signature(Mine.set)), "linewidth" in kwdoc(Mine))
print(Below([0], [0]).set())
"""


def test_matplotlib_of_a_command_sets_properties_as_any_other():
    """What a command leaves out when it loads matplotlib is documentation: later classes have it again."""
    done = subprocess.run([sys.executable, "-c", COMMAND], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["r", "3.0", "True", "True", "own"]
