"""What engines multiply 4-bit floats with: their tensor cores where the device has such, 16-bit activations elsewhere.

NVFP4 checkpoints (weights and activations in e2m1, an fp8 scale for 16 elements, one fp32 scale a tensor) need Blackwell's FP4 units. On
devices from Ampere on without them vLLM and SGLang keep the weights as they are and unpack them inside a 16-bit kernel (Marlin: vllm
model_executor/layers/quantization/utils/marlin_utils_fp4.py, sglang srt/layers/quantization/marlin_utils_fp4.py).

MXFP4 (a power-of-two scale for 32 elements) on both sides has kernels on AMD's CDNA 4 alone; on NVIDIA's devices vLLM runs such
checkpoints with Marlin too (its table rows are named `compressedtensorsw4a4mxfp4moe_marlin`, on Blackwell as on Hopper). Models whose
weights alone are MXFP4 (gpt-oss) get activations in MXFP8 on Blackwell from SGLang (`flashinfer_mxfp4_moe_precision`: default) and
TensorRT-LLM (W4A8_MXFP4_MXFP8), and 16-bit ones from vLLM (vllm model_executor/layers/quantization/mxfp4.py).
"""

from __future__ import annotations

from simserve.hardware.device import Device

_WEIGHTS_ONLY = {"w4a4_nvfp4": "w4a16_nvfp4", "w4a4_mxfp4": "w4a16_mxfp4", "w4a8_mxfp4": "w4a16_mxfp4"}
_EIGHT_BIT_ACTIVATIONS = ("sglang", "trtllm")
"""Engines that quantise the activations of MXFP4 experts to MXFP8 where the device multiplies 4-bit floats."""

MARLIN_EXPERTS = {"w4a16_nvfp4": "w4a16_int4"}
"""Formats of experts whose measured kernel stands in: Marlin unpacks 4-bit integers and floats in the same loop. What is read more (a scale
for 16 weights instead of 128) the least time of an expert layer holds (`cost/cold.py`)."""


def multiplied_as(device: Device, engine: str | None, operator: str, dtype: str) -> str:
    """The format of the kernel that an engine runs for weights stored as `dtype`; `dtype` itself for all but 4-bit floats.

    engine  `vllm`, `sglang`, `trtllm` with or without a version; None = any
    """
    has_units = "fp4" in device.peak_flops_per_s
    if dtype in _WEIGHTS_ONLY and not has_units:
        return _WEIGHTS_ONLY[dtype]
    if dtype == "w4a4_mxfp4" and device.vendor == "NVIDIA":
        return "w4a16_mxfp4"
    if dtype == "w4a16_mxfp4" and operator == "moe" and has_units and engine is not None and engine.startswith(_EIGHT_BIT_ACTIVATIONS):
        return "w4a8_mxfp4"
    return dtype
