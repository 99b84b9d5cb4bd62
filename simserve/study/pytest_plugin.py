"""pytest plugin: the fixture `simserve_suite` runs the regression suite that the test's marker names.

    @pytest.mark.simserve_suite("suites/gate.yaml")
    def test_scheduler_is_as_good_as_before(simserve_suite):
        assert simserve_suite.ok, simserve_suite.text()

Paths are relative to the test's file. `pytest --simserve-update` records new baselines instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from simserve.study.regress.report import RegressReport


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --simserve-update."""
    group = parser.getgroup("simserve")
    group.addoption("--simserve-update", action="store_true", help="record the baselines of simserve suites instead of checking them")


def pytest_configure(config: pytest.Config) -> None:
    """Makes the marker known."""
    config.addinivalue_line("markers", "simserve_suite(path, jobs=None): the regression suite that the fixture simserve_suite runs")


@pytest.fixture
def simserve_suite(request: pytest.FixtureRequest) -> RegressReport:
    """The report of the suite in the test's marker. An unusable suite or baseline is an error of the test, in one line."""
    marker = request.node.get_closest_marker("simserve_suite")
    if marker is None or not marker.args:
        pytest.fail("simserve_suite: mark the test with @pytest.mark.simserve_suite('path/to/suite.yaml')", pytrace=False)
    from simserve.errors import SimserveError
    from simserve.study.regress.check import regress

    try:
        return regress(request.path.parent / marker.args[0], update=request.config.getoption("--simserve-update"), **marker.kwargs)
    except SimserveError as error:
        pytest.fail(f"simserve_suite: {error}", pytrace=False)
