"""Smooth maps on every second voxel: an eighth of the work, then interpolated to the working grid."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from strokeseg_training.generator._rows import matrix, spline_rows
from strokeseg_training.generator.fields import along


def coarse(volume: Tensor) -> Tensor:
    """Every second voxel of the last three axes, from the first on."""
    return volume[..., ::2, ::2, ::2].contiguous()


def fine(volume: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """(N, C, x, y, z) of every second voxel, on the `shape` that `coarse` took them from; cubic."""
    for axis in range(3):
        volume = along(volume, _between(volume.shape[2 + axis], shape[axis], str(volume.device)), axis)
    return volume


def fine_along(volume: Tensor, size: int, axis: int) -> Tensor:
    """(x, y, z) of every second voxel, on all `size` voxels of one axis; cubic."""
    return along(volume[None, None], _between(volume.shape[axis], size, str(volume.device)), axis)[0, 0]


@functools.lru_cache(maxsize=32)
def _between(nodes: int, size: int, device: str) -> Tensor:
    return matrix(spline_rows(nodes, np.arange(size, dtype=np.float64) / 2.0), torch.device(device))
