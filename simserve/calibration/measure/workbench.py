"""What every kernel is prepared with, and how a kernel says that it cannot run here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simserve.calibration.measure.devices import TorchDevice
from simserve.calibration.measure.random_data import RandomData


class UnsupportedError(Exception):
    """This device or this PyTorch has no such kernel. The point is counted under the reason, not an error."""


@dataclass(frozen=True, slots=True)
class Workbench:
    """A device and random data on it."""

    device: TorchDevice
    data: RandomData

    @property
    def torch(self) -> Any:
        """The torch module."""
        return self.device.torch

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An uninitialised tensor on the device."""
        return self.torch.empty(shape, dtype=dtype, device=self.device.device)
