"""What every test gets."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def no_figures_left_open():
    """Where a test has imported pyplot the figures of later ones are pyplot's too; they are closed as a notebook closes them."""
    yield
    if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
        pyplot.close("all")
