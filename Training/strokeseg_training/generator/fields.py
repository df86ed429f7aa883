"""Smooth random fields, blurring and resampling: the generator's arithmetic, batched, on any torch device.

Fields are named by a seed that a scene holds, never drawn from a global state: the same scene gives the same field.
Arrays are (N, C, x, y, z) float32; lengths are in millimetres.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

FWHM_TO_SIGMA = 1.0 / 2.3548


def white_noise(seeds: Sequence[int], shape: Sequence[int], device: torch.device) -> Tensor:
    """Independent normal numbers (N, *shape), one seed a patient.

    Drawn on `device`: a CPU and a GPU give different noise of the same kind, a CPU always the same.
    """
    rows = []
    for seed in seeds:
        source = torch.Generator(device=device).manual_seed(int(seed))
        rows.append(torch.randn(tuple(shape), generator=source, device=device))
    return stacked(rows)


def stacked(rows: Sequence[Tensor]) -> Tensor:
    """One row a patient, (N, ...)."""
    # One patient is the common case in a worker: no copy.
    return rows[0][None] if len(rows) == 1 else torch.stack(list(rows))


def smooth_field(
    seeds: Sequence[int],
    fwhm_mm: Sequence[float],
    shape: Sequence[int],
    spacing_mm: Sequence[float],
    device: torch.device,
    channels: int = 1,
) -> Tensor:
    """Random fields (N, channels, x, y, z) of mean about 0 and variance 1, smooth over `fwhm_mm`.

    Normal numbers on a lattice about half the width apart, interpolated: no full-size noise is drawn or blurred. The
    width of a patient's field is its own, hence the loop.
    """
    fields = []
    for seed, width in zip(seeds, fwhm_mm, strict=True):
        step = [max(1.0, 0.5 * float(width) / s) for s in spacing_mm]
        nodes = [max(3, math.ceil(n / k) + 2) for n, k in zip(shape, step, strict=True)]
        low = white_noise([seed], (channels, *nodes), device)
        low = _soften(low)
        # The lattice is cut so that its nodes lie `step` voxels apart, whatever the grid's size.
        field = low
        for axis, (n, k) in enumerate(zip(shape, step, strict=True)):
            field = along(field, _linear_rows(n, nodes[axis], k, device), axis)
        fields.append(field / field.std().clamp_min(1e-3))
    return fields[0] if len(fields) == 1 else torch.cat(fields)


def along(volume: Tensor, rows: Tensor, axis: int) -> Tensor:
    """A matrix applied along one spatial axis.

    Args:
        volume: (N, C, x, y, z).
        rows: (out, in), or (N, out, in) with a matrix a patient.
        axis: 0, 1 or 2.

    Returns:
        The volume with `out` voxels along the axis.
    """
    n, c, x, y, z = volume.shape
    own = rows.dim() == 3
    # Shaped so that the axis is one of a matrix product's two: nothing is transposed or copied.
    if axis == 2:
        return volume @ (rows.transpose(1, 2)[:, None, None] if own else rows.T)
    if axis == 1:
        return (rows[:, None, None] if own else rows) @ volume
    flat = (rows[:, None] if own else rows) @ volume.reshape(n, c, x, y * z)
    return flat.view(n, c, -1, y, z)


def blur(volume: Tensor, sigma_mm: float | Sequence[float], spacing_mm: Sequence[float]) -> Tensor:
    """Gaussian blur of (N, C, x, y, z), border values continued; `sigma_mm` one number, or one an axis."""
    sigmas = [float(sigma_mm)] * 3 if isinstance(sigma_mm, int | float) else [float(s) for s in sigma_mm]
    for axis, (sigma, spacing) in enumerate(zip(sigmas, spacing_mm, strict=True)):
        if sigma / spacing >= 0.15:
            volume = along(volume, _gauss_rows(volume.shape[2 + axis], sigma / spacing, volume.device), axis)
    return volume


def sample_at(volume: Tensor, points: Tensor, affine: np.ndarray, nearest: bool = False) -> Tensor:
    """A volume's values at world points, 0 outside it.

    Args:
        volume: (C, X, Y, Z) or (N, C, X, Y, Z).
        points: (N, 3, x, y, z), world mm of the volume.
        affine: 4x4, voxel index of the volume to the world mm of `points`.
        nearest: Nearest voxel instead of linear interpolation.

    Returns:
        (N, C, x, y, z).
    """
    inverse = torch.from_numpy(np.linalg.inv(affine)).to(points)
    sizes = torch.tensor(volume.shape[-3:]).to(points)
    # grid_sample wants (z, y, x) from -1 at the first voxel's middle to 1 at the last one's.
    scale = 2.0 / (sizes - 1.0)
    matrix, offset = inverse[:3, :3] * scale[:, None], inverse[:3, 3] * scale - 1.0
    n, _, x, y, z = points.shape
    flat = torch.baddbmm(offset[None, :, None], matrix[None].expand(n, 3, 3), points.reshape(n, 3, -1))
    grid = flat.flip(1).transpose(1, 2).reshape(n, x, y, z, 3)
    source = volume.expand(n, *volume.shape) if volume.dim() == 4 else volume
    mode = "nearest" if nearest else "bilinear"
    return functional.grid_sample(source, grid, mode=mode, padding_mode="zeros", align_corners=True)


def centred_mm(shape: Sequence[int], spacing_mm: Sequence[float], device: torch.device) -> Tensor:
    """(3, x, y, z): each voxel's place in mm from the middle of the grid."""
    axes = [
        (torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2) * s
        for n, s in zip(shape, spacing_mm, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def per_patient(values: Sequence[float], device: torch.device) -> Tensor:
    """Numbers (N, 1, 1, 1) that multiply (N, x, y, z)."""
    return torch.tensor([float(v) for v in values], dtype=torch.float32, device=device).view(-1, 1, 1, 1)


def _soften(lattice: Tensor) -> Tensor:
    """A 1-2-1 average along each axis: hides the lattice in what is interpolated from it."""
    for axis in range(3):
        lattice = along(lattice, _gauss_rows(lattice.shape[2 + axis], 0.7, lattice.device), axis)
    return lattice


def _linear_rows(out: int, nodes: int, step: float, device: torch.device) -> Tensor:
    """(out, nodes): linear interpolation at every 1/step-th node, the lattice's middle on the grid's middle."""
    place = (torch.arange(out, dtype=torch.float32) - (out - 1) / 2) / step + (nodes - 1) / 2
    distance = (place[:, None] - torch.arange(nodes, dtype=torch.float32)[None]).abs()
    return (1.0 - distance).clamp_min(0.0).to(device)


def _gauss_rows(size: int, sigma: float, device: torch.device) -> Tensor:
    """(size, size): Gaussian weights of `sigma` voxels, the border value standing in for what lies beyond."""
    reach = math.ceil(3.0 * sigma)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (offsets.float() / sigma) ** 2)
    weights = weights / weights.sum()
    rows = torch.zeros(size, size)
    index = torch.arange(size)
    for offset, weight in zip(offsets.tolist(), weights.tolist(), strict=True):
        rows.index_put_((index, (index + offset).clamp(0, size - 1)), torch.tensor(weight), accumulate=True)
    return rows.to(device)
