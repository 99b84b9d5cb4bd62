"""Finding shipped files from a checkout and from an installed wheel."""

import pytest

from simserve import resources
from simserve.errors import ConfigError, ProfileError, TraceError


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The layout of a wheel: site-packages/simserve/_data, and another package's folder called `traces` beside it."""
    package = tmp_path / "site-packages" / "simserve"
    for kind, names in {
        "hardware_profiles": ["a100-sxm-80gb.yaml", "h100-sxm-80gb.yaml", "a100.csv"],
        "experiments": ["quickstart.yaml"],
        "traces": ["burstgpt-sample.csv", "burstgpt-sample.md", "small.csv.gz"],
    }.items():
        folder = package / "_data" / kind
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).write_text("x")
    (tmp_path / "site-packages" / "traces").mkdir()
    monkeypatch.setattr(resources, "_PACKAGE", package)
    return package


def test_wheel_data_is_found_by_any_spelling(installed):
    expected = installed / "_data" / "traces" / "burstgpt-sample.csv"
    for name in ("burstgpt-sample", "burstgpt-sample.csv", "traces/burstgpt-sample.csv", "BurstGPT-sample"):
        assert resources.find_trace(name) == expected
    assert resources.find("hardware_profiles", "h100-sxm-80gb").name == "h100-sxm-80gb.yaml"
    assert resources.find_trace("small").name == "small.csv.gz"


def test_only_files_of_the_kind_are_listed(installed):
    assert resources.available("hardware_profiles") == ["a100-sxm-80gb", "h100-sxm-80gb"]
    assert resources.available("traces") == ["burstgpt-sample", "small"]


def test_a_checkout_wins(installed):
    checkout = installed.parent
    (checkout / "pyproject.toml").write_text("")
    (checkout / "traces" / "mine.csv").write_text("x")
    assert resources.available("traces") == ["mine"]
    assert resources.available("experiments") == ["quickstart"]  # the checkout has no such folder


@pytest.mark.parametrize(
    ("kind", "name", "error", "message"),
    [
        ("hardware_profiles", "a100-sxm-40gb", ProfileError, "unknown hardware profile 'a100-sxm-40gb'; did you mean 'a100-sxm-80gb'?"),
        ("experiments", "quikstart", ConfigError, "did you mean 'quickstart'"),
        ("traces", "burstgpt_sample.csv", TraceError, "did you mean 'burstgpt-sample'"),
        ("traces", "../simserve", TraceError, "unknown trace"),
    ],
)
def test_unknown_names(installed, kind, name, error, message):
    with pytest.raises(error) as raised:
        resources.find(kind, name)
    assert message in str(raised.value)


def test_nothing_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "simserve")
    with pytest.raises(TraceError, match="none is installed"):
        resources.find_trace("x")
    assert resources.available("traces") == []
