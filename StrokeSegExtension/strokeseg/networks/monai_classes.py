"""The networks of MONAI that a card may name, and what each takes. Standard library only.

The list is closed: a card must not be able to call any class by its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class MonaiClass:
    """A class of ``monai.networks.nets``.

    Attributes:
        halvings: Name of the argument that tells how often the input is made smaller: its axes must be multiples of
            the product of ``strides``, or of 2 for every block of ``blocks_down`` but the first; "" where it is fixed.
        multiple: The multiple where it is fixed.
        usual: Arguments for a network of usual size, taken where none are given.
        any_size_in_graph: Whether its ONNX graph holds for every size.
        needs: Libraries that MONAI asks for only when the network is used.
    """

    halvings: str
    usual: dict[str, Any]
    multiple: int = 1
    any_size_in_graph: bool = True
    needs: tuple[str, ...] = ()


_TWO_TO_ONE = {"spatial_dims": 3, "in_channels": 2, "out_channels": 1}
_LEVELS = {"channels": [16, 32, 64, 128, 256], "strides": [2, 2, 2, 2]}

MONAI_CLASSES = {
    "AttentionUnet": MonaiClass("strides", {**_TWO_TO_ONE, **_LEVELS}),
    # Four poolings by two.
    "BasicUNet": MonaiClass("", {**_TWO_TO_ONE}, multiple=16),
    "DynUNet": MonaiClass(
        "strides",
        {
            **_TWO_TO_ONE,
            "kernel_size": [3, 3, 3, 3, 3],
            "strides": [1, 2, 2, 2, 2],
            "upsample_kernel_size": [2, 2, 2, 2],
            "filters": [16, 32, 64, 128, 256],
            "res_block": True,
        },
    ),
    "SegResNet": MonaiClass("blocks_down", {**_TWO_TO_ONE, "init_filters": 8}),
    # Patches of 2 voxels, merged four times.
    "SwinUNETR": MonaiClass(
        "", {**_TWO_TO_ONE, "feature_size": 24}, multiple=32, any_size_in_graph=False, needs=("einops",)
    ),
    "UNETR": MonaiClass(
        "", {**_TWO_TO_ONE, "img_size": [96, 96, 96]}, multiple=16, any_size_in_graph=False, needs=("einops",)
    ),
    "UNet": MonaiClass("strides", {**_TWO_TO_ONE, **_LEVELS, "num_res_units": 2}),
}
