"""What every test gets."""

from __future__ import annotations

import gc
import signal
import sys

import pytest

from simserve.compiled import PURE, engine_build


@pytest.fixture(autouse=True)
def no_figures_left_open():
    """Where a test has imported pyplot the figures of later ones are pyplot's too; they are closed as a notebook closes them."""
    yield
    if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
        pyplot.close("all")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if engine_build() != PURE:
        for item in items:
            if marker := item.get_closest_marker("pure"):
                item.add_marker(pytest.mark.skip(reason=f"the engine is {engine_build()}: {marker.args[0]}"))


def pytest_collection_finish() -> None:
    # Ten thousand tests and what they import stay to the end: a garbage collection that looks through them takes half a second.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def pytest_configure() -> None:
    # A shell that starts pytest in the background makes it ignore Ctrl-C, and so would every command that a test starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
