"""`slices`: axial slices of the model grid, for networks that work in two dimensions.

Such a network takes (N, C, x, y, 1): a slice is a window of one voxel's thickness, and nothing else is different.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from strokeseg.predict.strategies.whole import Told
from strokeseg.predict.strategies.windows import Size, Tiling, windows
from strokeseg.runtime import Logits, Runtime


def slice_window(shape: Size, input_shape: Size | None) -> Size:
    """A slice as a window: all of it, or what the network takes where it takes one size only.

    Args:
        shape: Voxels (x, y, z) of the model grid.
        input_shape: The card's.
    """
    x, y, _ = input_shape or shape
    return x, y, 1


def slices(
    runtime: Runtime, channels: NDArray[np.float32], wanted: NDArray[np.bool_], tiling: Tiling, told: Told
) -> Logits:
    """Run a model slice by slice, `tiling.batch` of them together; see `windows`, whose window is made one slice."""
    x, y, _ = tiling.window
    return windows(runtime, channels, wanted, replace(tiling, window=(x, y, 1)), told)
