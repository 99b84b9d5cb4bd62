"""Collectives between several devices of this machine: a process for each rank, NCCL on CUDA, HCCL on NPUs, gloo on the CPU."""

from __future__ import annotations

import multiprocessing
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from simserve.calibration.measure.collective_worker import serve
from simserve.calibration.measure.points import Point
from simserve.calibration.measure.timing import Timing

_START_S = 120.0
_POINT_S = 60.0
LIBRARY = {"cuda": "NCCL", "npu": "HCCL", "cpu": "gloo"}


class CollectiveError(Exception):
    """The point did not run, or the processes did not start."""


class CollectiveGroup:
    """The processes of one group size. They start with the first point and stop with `close`."""

    def __init__(self, kind: str, ranks: int) -> None:
        self.kind, self.ranks = kind, ranks
        self._folder = tempfile.TemporaryDirectory(prefix="simserve-group-")
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Any] = []
        self._processes: list[Any] = []
        meeting = str(Path(self._folder.name) / "meeting")
        for rank in range(ranks):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(kind, rank, ranks, meeting, theirs), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self._answers(_START_S)

    def measure(self, point: Point) -> Timing:
        """Median over rounds of the slowest rank. Raises CollectiveError; after a hang the group is gone (`alive` is False)."""
        for pipe in self._pipes:
            pipe.send(point.values)
        by_rank = np.array(self._answers(_POINT_S))
        if point.operator == "p2p":
            by_rank = by_rank[:2]
        rounds = by_rank.max(axis=0)
        q25, median, q75 = np.quantile(rounds, (0.25, 0.5, 0.75))
        return Timing(float(median), float(100.0 * (q75 - q25) / median), len(rounds), 1)

    @property
    def alive(self) -> bool:
        """Whether all ranks can take another point."""
        return bool(self._processes) and all(p.is_alive() for p in self._processes)

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            try:
                pipe.send(None)
            except OSError:
                continue
        for process in self._processes:
            process.join(timeout=5.0)
        self._stop()

    def _answers(self, within_s: float) -> list[Any]:
        answers = []
        for rank, pipe in enumerate(self._pipes):
            try:
                if not pipe.poll(within_s):
                    raise EOFError
                answers.append(pipe.recv())
            except (EOFError, OSError):
                self._stop()
                raise CollectiveError(f"rank {rank} of {self.ranks} did not answer within {within_s:.0f} s") from None
        failed = [text for status, text in answers if status == "failed"]
        if failed:
            if len(failed) < self.ranks:  # the others wait for it for ever
                self._stop()
            raise CollectiveError(str(failed[0]))
        return [value for _, value in answers]

    def _stop(self) -> None:
        for process in self._processes:
            if process.is_alive():
                process.terminate()
        for process in self._processes:
            process.join(timeout=5.0)
        self._processes, self._pipes = [], []
        self._folder.cleanup()
