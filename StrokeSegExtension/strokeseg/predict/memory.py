"""How much memory a pass needs, known before it: systems end a process that takes too much, without an error.

Measured with the residual U-Net (first level 16 or 32 channels wide, fp32), growth of the process's peak resident
memory between inputs of 64x64x64 and 96x96x80 voxels, up to 128x128x112: OpenVINO 2026.4 takes 223 and 433 bytes a
voxel, PyTorch 2.13 on the CPU 413 and 863, that is 3.5 and 6.6 maps of the first level in single precision; what does
not grow (weights, code) stays under 64 MB. No GPU was measured: PyTorch's figure is taken.

In bf16, which is planned for as fp32, OpenVINO takes half (112 to 127 and 228 to 234 bytes a voxel), PyTorch about two
thirds: between 64x64x64 and 128x128x112 voxels 259 against 387 to 448, and 435 to 474 against 694 to 732 bytes a voxel.
The peak of PyTorch's whole process falls to about three quarters.
"""

from __future__ import annotations

from strokeseg.models import ModelCard
from strokeseg.predict.strategies import Size
from strokeseg.runtime import Runtime

_MAPS = {"openvino": 4.0, "torch": 7.0}
_FIXED_BYTES = 64 * 2**20
# Networks other than ours were not measured, and may keep twice as much; without a width, that of a large one.
_OTHERS = 2.0
_UNKNOWN_WIDTH = 48
_WIDTHS = ("channels", "features", "filters", "init_filters", "feature_size")
# Channels of the finest level where a card leaves them out; Lesion-Net's decoder is as wide at every pixel.
_USUAL_WIDTHS = {
    "residual-unet": 16,
    "lesion-net": 256,
    "atlas-unet": 32,
    "atlas-segnet": 64,
    "atlas-resunet": 16,
    "attention-unet-3d": 64,
}
# Networks whose widest maps are coarser than the input: what widens them, which of several, by how much it is divided
# to stand for channels at every voxel, and its usual value. MSCS-Net has six maps of five channels a unit at an eighth
# of the voxels, SegFormer3D six as wide as its decoder at one in 64. Counted for PyTorch; neither was measured.
_COARSE = {
    "mscs-net": (("units", 0, 2, 16), ("decoder_channels", -1, 1, 8)),
    "segformer3d": (("decoder_width", 0, 64, 256), ("widths", 0, 16, 32)),
}
# What is free now need not be free in a second.
_SHARE = 0.8


def pass_bytes(card: ModelCard, runtime: str, voxels: int) -> int:
    """Memory for one pass of a network.

    Args:
        card: The model.
        runtime: Name of the runtime.
        voxels: Of all windows of the batch together.
    """
    ours = card.network == "residual-unet"
    maps = _MAPS.get(runtime, max(_MAPS.values())) * (1.0 if ours else _OTHERS)
    return int(_FIXED_BYTES + 4.0 * maps * _width(card) * voxels)


def map_bytes(card: ModelCard, shape: Size) -> int:
    """Memory for the maps to which windows add up: logits and weight, for every output."""
    lesion = len(card.classes) + (len(card.classes) > 1)
    maps = sum(1 + (lesion if name == "lesion" else 4) for name in card.outputs)
    return 4 * maps * shape[0] * shape[1] * shape[2]


def usable_bytes(runtime: Runtime) -> int | None:
    """Memory that a pass may take on the runtime's device; None where it cannot be known."""
    free = runtime.free_memory_bytes()
    return None if free is None else int(free * _SHARE)


def _width(card: ModelCard) -> int:
    """Channels of a network's finest level, or as many as its coarser maps are worth."""
    if card.network in _COARSE:
        parts = _COARSE[card.network]
        return max(-(-(_number(card, name, place) or usual) // divisor) for name, place, divisor, usual in parts)
    names = ("decoder_width",) if card.network == "lesion-net" else _WIDTHS
    found = next((n for n in (_number(card, name) for name in names) if n is not None), None)
    return _USUAL_WIDTHS.get(card.network, _UNKNOWN_WIDTH) if found is None else found


def _number(card: ModelCard, name: str, place: int = 0) -> int | None:
    """An argument of the network, one of several by its place; None where it is no whole number."""
    value = card.network_arguments.get(name)
    one = value[place] if isinstance(value, list | tuple) and value else value
    return one if isinstance(one, int) and not isinstance(one, bool) else None
