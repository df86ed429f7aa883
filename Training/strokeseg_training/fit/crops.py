"""Where a volume is cut, and how crops of several sizes become one batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from strokeseg_training.recipe_parts import CloseUp


def crop_box(
    brain: Tensor, *, margin: int, multiple: int, extra: np.ndarray[tuple[int, int], np.dtype[np.int64]] | None = None
) -> list[tuple[int, int]]:
    """First voxel and size of a crop along each axis: the brain's box in its middle, as the engine lays it.

    Args:
        brain: (x, y, z) boolean, not empty.
        margin: Voxels around the box.
        multiple: The size is rounded up to a multiple of this.
        extra: (3, 2), further voxels before and behind the box.

    Returns:
        The first voxel may lie before the grid, and the crop may end behind it.
    """
    box = []
    for axis in range(3):
        hit = brain.movedim(axis, 0).flatten(1).any(1).nonzero().flatten()
        before, behind = (int(e) for e in extra[axis]) if extra is not None else (0, 0)
        low, high = int(hit[0]) - before, int(hit[-1]) + behind
        size = -(-(high - low + 1 + 2 * margin) // multiple) * multiple
        box.append((low - (size - (high - low + 1)) // 2, size))
    return box


def close_up_box(
    lesion: Tensor, brain: Tensor, close_up: CloseUp, rng: np.random.Generator, weights: Tensor | None = None
) -> list[tuple[int, int]]:
    """First voxel and size of a part of a volume along each axis, around a voxel of lesion or of brain.

    Args:
        lesion: (x, y, z), where it is above 0.
        brain: (x, y, z) boolean, not empty.
        close_up: Says how large, and how often around a lesion.
        rng: Of the sample.
        weights: (x, y, z), of each voxel of lesion; none: all alike, and large lesions are seen most.

    Returns:
        Within the volume; where that is smaller along an axis, all of it.
    """
    chance = (weights if weights is not None else (lesion > 0) & brain).flatten().double().cpu().numpy()
    if rng.random() >= close_up.lesion_share or not chance.any():
        chance = brain.flatten().double().cpu().numpy()
    ends = np.cumsum(chance)
    voxel = int(np.searchsorted(ends, rng.random() * ends[-1], side="right"))
    middle = np.unravel_index(voxel, tuple(brain.shape))
    sizes = [min(n, s) for n, s in zip(close_up.size, brain.shape, strict=True)]
    return [(min(max(int(m) - n // 2, 0), s - n), n) for m, n, s in zip(middle, sizes, brain.shape, strict=True)]


def cropped(volume: Tensor, box: list[tuple[int, int]]) -> Tensor:
    """The crop of (..., x, y, z), 0 where it leaves the grid."""
    pads: list[int] = []
    for axis, (first, size) in enumerate(box):
        dim, length = volume.dim() - 3 + axis, volume.shape[volume.dim() - 3 + axis]
        start, stop = max(first, 0), min(first + size, length)
        volume = volume.narrow(dim, start, stop - start)
        pads = [start - first, first + size - stop, *pads]
    return functional.pad(volume, pads)


def flipped(volume: Tensor, turned: bool) -> Tensor:
    """Left and right exchanged: the first spatial axis runs to the right, and every channel goes with its voxel."""
    return volume.flip(volume.dim() - 3) if turned else volume


def joined(rows: Sequence[Sequence[Tensor]], fill: Sequence[int]) -> list[Tensor]:
    """Rows of a batch as one tensor for each column, smaller volumes in the middle of larger ones.

    Args:
        rows: Each with the same columns, (..., x, y, z); the second column has three axes.
        fill: Of each column, what stands around smaller volumes.
    """
    largest = [max(r[1].shape[axis] for r in rows) for axis in range(3)]
    columns = zip(*rows, strict=True)
    return [torch.stack([_padded(v, largest, f) for v in column]) for column, f in zip(columns, fill, strict=True)]


def _padded(volume: Tensor, size: Sequence[int], value: int) -> Tensor:
    missing = [s - n for s, n in zip(size, volume.shape[-3:], strict=True)]
    pads = [p for m in reversed(missing) for p in (m // 2, m - m // 2)]
    return functional.pad(volume, pads, value=value)
