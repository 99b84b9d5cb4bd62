"""The two forms of fitted models: trees of integers and curves, and the analytic work they start from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simserve.errors import ProfileError
from simserve.hardware import curves, trees
from simserve.hardware.operators.attention import attended_pairs
from simserve.hardware.trees import Trees


def stump(threshold: float, below: int, above: int) -> Trees:
    nodes = [np.array(a, dtype=np.int32) for a in ([0, -1, -1], [0, 1 << 30, 1 << 30], [1, 1, 2], [0, below, above], [0])]
    return Trees(("x",), (np.array([threshold]),), *nodes, depth=1)  # type: ignore[misc]


def test_a_point_on_the_edge_goes_left() -> None:
    out = stump(2.0, -10000, 5000).log_factor({"x": np.array([1.0, 2.0, np.nextafter(2.0, 3.0), 9.0])})
    assert out.tolist() == pytest.approx([-1.0, -1.0, 0.5, 0.5])


def test_trees_survive_their_file_and_other_files_do_not(tmp_path: Path) -> None:
    path = tmp_path / "a.json.gz"
    sha = trees.write_document(path, stump(2.0, 1, 2).document())
    assert trees.write_document(tmp_path / "b.json.gz", stump(2.0, 1, 2).document()) == sha, "equal fits are byte-identical files"
    read = trees.from_document(trees.document_in(trees.read_file(path, sha), path), str(path))
    x = {"x": np.linspace(0, 4, 9)}
    assert (read.log_factor(x) == stump(2.0, 1, 2).log_factor(x)).all()
    with pytest.raises(ProfileError, match="format"):
        trees.from_document({"format": "other"}, "file")
    with pytest.raises(ProfileError, match="not a complete"):
        trees.from_document({"format": trees.FORMAT}, "file")


def test_curves_are_flat_below_and_proportional_above() -> None:
    size, us = np.array([1e3, 1e6]), np.array([10.0, 100.0])
    curve = curves.Curves(("num_gpus",), "message_bytes", {(8.0,): (np.log(size), np.log(us * 1e-6))})
    columns = {"num_gpus": np.full(4, 8.0), "message_bytes": np.array([1.0, 1e3, 1e6, 4e6])}
    assert curve.seconds(columns) == pytest.approx(np.array([10e-6, 10e-6, 100e-6, 400e-6]))
    again = curves.from_document(curve.document(), "file")
    assert again.seconds(columns) == pytest.approx(curve.seconds(columns), rel=1e-4)
    with pytest.raises(ProfileError, match=r"num_gpus=4.*num_gpus=8"):
        curve.seconds({"num_gpus": np.array([4.0]), "message_bytes": np.array([1.0])})


@pytest.mark.parametrize(("new", "prefix", "window"), [(5, 0, 0), (5, 7, 0), (5, 0, 3), (5, 7, 3), (5, 2, 4), (1, 0, 0), (6, 3, 100)])
def test_attended_pairs_count_each_query_and_key_once(new: int, prefix: int, window: int) -> None:
    brute = sum(min(prefix + i, window) if window else prefix + i for i in range(1, new + 1))
    assert attended_pairs(np.array([new * 1.0]), np.array([prefix * 1.0]), np.array([window * 1.0]))[0] == brute
