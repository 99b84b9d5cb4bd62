"""The published facts of one accelerator: what the bounds and the unvalidated estimates are computed from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

DTYPE_BYTES: dict[str, float] = {
    "fp32": 4,
    "bf16": 2,
    "fp16": 2,
    "fp8": 1,
    "fp8_block128": 1,
    "int8": 1,
    "w8a8_int8": 1,
    "w8a8_int8_smoothquant": 1,
    "w8a16_int8": 1,
    "w4a16_int4": 0.5,
    "w4a16_mxfp4": 0.5,
    "w4a8_int4": 0.5,
    "w4a4_int4": 0.5,
    "bf16_2of4": 1.125,
    "w4a4_nvfp4": 0.5625,
    "w4a16_nvfp4": 0.5625,
    "w4a4_mxfp4": 0.53125,
    "w4a8_mxfp4": 0.53125,
    "w8a8_mxfp8": 1.03125,
    "w4a8_fp8": 0.5,
    "w8a16_fp8": 1,
    "w4a16_nf4": 0.5625,
    "llm_int8": 1,
    "w3a16_int3": 0.375,
    "w2a16_int2": 0.25,
    "int4": 0.5,
    "bytes": 1,
}
"""Bytes of one stored weight (or element) of each type, scales left out; with them where few weights share one and the
kernels were not measured (NVFP4: 1 byte for 16; MXFP8 and W4A4 MXFP4: 1 for 32; nf4: 4 for 64)."""

COMPUTE_DTYPE: dict[str, str] = {
    "fp16": "bf16",
    "w8a16_int8": "bf16",
    "w4a16_int4": "bf16",
    "w4a16_mxfp4": "bf16",
    "w4a8_int4": "int8",
    "w4a4_int4": "int4",
    "fp8_block128": "fp8",
    "w8a8_int8": "int8",
    "w8a8_int8_smoothquant": "int8",
    "w4a4_nvfp4": "fp4",
    "w4a4_mxfp4": "fp4",
    "w4a8_mxfp4": "fp8",
    "w4a16_nvfp4": "bf16",
    "w8a8_mxfp8": "fp8",
    "w4a8_fp8": "fp8",
    "w8a16_fp8": "bf16",
    "w4a16_nf4": "bf16",
    "llm_int8": "int8",
    "w3a16_int3": "bf16",
    "w2a16_int2": "bf16",
}
"""The type the tensor cores multiply in, for types that are stored differently."""


class Link(BaseModel):
    """One kind of connection. `bytes_per_s` is one direction, as published (not what a copy reaches).

    `mesh_peers` where each device has a wire of its own to each of so many others, as under HCCS on Ascend 910B: `bytes_per_s` is that of
    all wires together, and a group of g devices uses g - 1 of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bytes_per_s: PositiveFloat
    latency_s: float = Field(ge=0)
    mesh_peers: PositiveInt | None = None

    def reached_by(self, devices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bytes per second that one device sends to the others of groups of so many `devices`, on the wires between them."""
        if self.mesh_peers is None:
            return np.full(len(devices), self.bytes_per_s)
        wires = np.clip(np.ceil(devices) - 1.0, 1.0, self.mesh_peers)
        reached: NDArray[np.float64] = self.bytes_per_s * wires / self.mesh_peers
        return reached


class Energy(BaseModel):
    """What work costs one device in joules. `busy_w` is drawn as long as a step runs, whatever it does; the rest comes on top.

    `joules_per_flop` is for bf16; faster types cost less in proportion to their peaks. `joules_per_hbm_byte` includes the way from
    memory to the cores. `joules_per_activation_byte` is for what operators pass to each other, with the arithmetic of the elementwise
    ones and the caches on the way; as for HBM where it is not stated. `validated` says whether measured power stands behind the figures.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    busy_w: PositiveFloat
    joules_per_flop: PositiveFloat
    joules_per_hbm_byte: PositiveFloat
    joules_per_activation_byte: PositiveFloat | None = None
    joules_per_link_byte: PositiveFloat
    validated: bool = False
    source: str


class Core(BaseModel):
    """What one core (AI core, SM) reads in a second while all of them read: from HBM and from the L2 cache."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hbm_bytes_per_s: PositiveFloat
    l2_bytes_per_s: PositiveFloat


class Device(BaseModel):
    """Published facts of one device (one accelerator, or one die where a package has two).

    `hbm_bytes` is what a program can allocate on an empty device (less than the name says). `peak_flops_per_s` is dense, by compute
    type; `hbm_share` is what streaming kernels reach of the bandwidth. `sms` counts the cores that multiply matrices (SMs, AI cores),
    `core` says what one of them reads, where that is known. `launch_s` is the shortest kernel inside a CUDA graph, `eager_launch_s`
    the host's time per kernel outside. `scale_up` is NVLink or its like, `host` PCIe, `network` the NIC of one device. `peer_access` says
    whether devices without a scale-up fabric reach each other's memory over PCIe or stage what they exchange in the host's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    vendor: str
    architecture: str
    peak_flops_per_s: dict[str, PositiveFloat]
    hbm_bytes: PositiveInt
    hbm_bytes_per_s: PositiveFloat
    hbm_share: float = Field(default=0.8, gt=0, le=1)
    l2_bytes: PositiveInt
    sms: PositiveInt
    core: Core | None = None
    launch_s: PositiveFloat
    eager_launch_s: PositiveFloat
    scale_up: Link | None = None
    host: Link
    network: Link | None = None
    peer_access: bool = True
    devices_per_node: PositiveInt = 8
    idle_w: PositiveFloat
    tdp_w: PositiveFloat
    energy: Energy | None = None

    def peak(self, dtype: str) -> float:
        """FLOP/s at which operands of `dtype` are multiplied; types without their own units run at bf16 (4-bit floats before Blackwell: as
        weights only), int4 at int8.

        Dense, but for 2:4 sparse weights (`bf16_2of4`): the tensor cores of NVIDIA's Ampere and later skip the zeros and count twice
        the dense rate (arXiv 2104.08378); elsewhere they are multiplied like the others.
        """
        if dtype == "bf16_2of4":
            return self.peak_flops_per_s["bf16"] * (2.0 if self.vendor.lower() == "nvidia" else 1.0)
        compute = COMPUTE_DTYPE.get(dtype, dtype)
        peaks = self.peak_flops_per_s
        if compute == "int4" and compute not in peaks:
            compute = "int8"
        return peaks.get(compute, peaks["bf16"])
