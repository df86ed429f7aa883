"""Matrices of one image axis: from the working grid to the scanner's samples, and from those back.

Everything a scanner and a resampling program do to an image that can be said axis by axis is one small matrix an axis
here, however many steps it had. Positions are in voxels of the grid that is read; every row sums to 1.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from strokeseg_training.generator.fields import along

Rows = NDArray[np.float64]
_NEGLIGIBLE = 1e-9


def scanner_positions(size: int, spacing_mm: float, pitch_mm: float, offset_mm: float = 0.0) -> NDArray[np.float64]:
    """Where the samples of a scanner axis lie, in voxels of the working axis; they reach over the whole axis.

    Args:
        size: Voxels of the working axis.
        spacing_mm: Their spacing.
        pitch_mm: Spacing of the samples.
        offset_mm: The samples' middle from the axis' middle.
    """
    count = max(2, int(np.floor((size - 1) * spacing_mm / pitch_mm + 1e-6)) + 1)
    samples = (np.arange(count, dtype=np.float64) - (count - 1) / 2.0) * pitch_mm + offset_mm
    places: NDArray[np.float64] = samples / spacing_mm + (size - 1) / 2.0
    return places


def spline_rows(size: int, positions: NDArray[np.float64]) -> Rows:
    """(positions, size): cubic B-spline interpolation, the axis mirrored about its outermost voxels.

    Positions beyond the outermost voxels take those voxels' values.
    """
    at = np.clip(positions, 0.0, size - 1.0)
    first = np.floor(at).astype(int) - 1
    weights: Rows = np.zeros((len(at), size))
    for step in range(4):
        index = first + step
        distance = np.abs(at - index)
        value = np.where(distance < 1, 2 / 3 - distance**2 + distance**3 / 2, np.clip(2 - distance, 0, None) ** 3 / 6)
        # Whole-sample mirror; the period covers an axis of two voxels, too.
        folded = np.abs(index)
        folded = np.where(folded > size - 1, 2 * (size - 1) - folded, folded)
        np.add.at(weights, (np.arange(len(at)), np.abs(folded)), value)
    prefilter: Rows = ndimage.spline_filter1d(np.eye(size), order=3, axis=0, mode="mirror")
    return weights @ prefilter


def linear_rows(size: int, positions: NDArray[np.float64]) -> Rows:
    """(positions, size): linear interpolation; beyond the outermost voxels their values."""
    at = np.clip(positions, 0.0, size - 1.0)
    return np.clip(1.0 - np.abs(at[:, None] - np.arange(size)[None]), 0.0, None)


def slice_rows(size: int, centres: NDArray[np.float64], width: float) -> Rows:
    """(centres, size): the mean over `width` voxels about each centre, parts of voxels counted as parts.

    Where slices of this width touch, each voxel inside the stack is counted once: the integral is kept.
    """
    voxels = np.arange(size)[None]
    low, high = centres[:, None] - width / 2, centres[:, None] + width / 2
    overlap = np.clip(np.minimum(high, voxels + 0.5) - np.maximum(low, voxels - 0.5), 0.0, None)
    # A slice that lies beyond the axis shows the last voxel.
    beyond = overlap.sum(axis=1) < 1e-9
    overlap[beyond, np.clip(np.rint(centres[beyond]).astype(int), 0, size - 1)] = 1.0
    return overlap / overlap.sum(axis=1, keepdims=True)


def sinc_rows(size: int, positions: NDArray[np.float64], width: float, hamming: float, blur: float) -> Rows:
    """(positions, size): samples of an image whose spatial frequencies end at half of 1 / `width`.

    Args:
        size: Voxels of the axis that is read.
        positions: Where samples are taken.
        width: Resolved length, voxels. Below 1 the axis' own resolution is the limit.
        hamming: Share of the constant in the window of frequencies: 1 cuts them off sharply, which rings at edges;
            0.54 is Hamming's window.
        blur: Standard deviation of a Gaussian on top, voxels.
    """
    limit = max(width, 1.0)
    t = (positions[:, None] - np.arange(size)[None]) / limit
    rows = hamming * np.sinc(t) + (1.0 - hamming) / 2.0 * (np.sinc(t - 1.0) + np.sinc(t + 1.0))
    if blur > 0.1:
        distance = np.arange(size)[:, None] - np.arange(size)[None]
        gauss = np.exp(-0.5 * (distance / blur) ** 2)
        rows = rows @ (gauss / gauss.sum(axis=1, keepdims=True))
    return rows / rows.sum(axis=1, keepdims=True)


def tensors(rows: tuple[Rows, Rows, Rows], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The three axes' matrices on a device, float32."""
    x, y, z = (matrix(r, device) for r in rows)
    return x, y, z


def matrix(rows: Rows, device: torch.device) -> Tensor:
    """One axis' matrix on a device, float32."""
    # The tails of splines and Gaussians reach into denormal numbers, which cost a processor a hundredfold.
    clean = np.where(np.abs(rows) < _NEGLIGIBLE, 0.0, rows)
    return torch.from_numpy(clean.astype(np.float32)).to(device)


def through(volume: Tensor, rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """A volume (C, x, y, z) with one matrix applied along each axis, the ones that shrink it first."""
    result = volume[None]
    for axis in sorted(range(3), key=lambda a: rows[a].shape[0] / rows[a].shape[1]):
        result = along(result, rows[axis], axis)
    return result[0].contiguous()
