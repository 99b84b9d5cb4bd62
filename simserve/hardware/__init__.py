"""Devices, their measured operators and the profiles that hold both."""

from simserve.hardware.device import Device, Link
from simserve.hardware.kernel_model import KernelModel
from simserve.hardware.profile import HardwareProfile, load_profile

__all__ = ["Device", "HardwareProfile", "KernelModel", "Link", "load_profile"]
