"""Patches of prepared volumes for networks in three dimensions: drawn anew in each pass, or where the engine looks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from strokeseg.predict.strategies import Size, Tiling
from strokeseg.predict.strategies.windows import positions
from strokeseg_training.prepare.batches import PreparedItem, as_item
from strokeseg_training.prepare.prepared_set import PreparedSet, PreparedVolume, Side
from strokeseg_training.recipe_data import Patches

_PATCH = 45  # names the stream of random numbers


class PatchItems(Dataset[PreparedItem]):
    """Patches of the patients of a side, patient after patient.

    Args:
        prepared: The set.
        side: Of its split.
        patches: What a patch is.
        seed: Of the recipe: with the number of a sample in the run it says where a random patch lies.
        overlap: Least share of a window that neighbours have in common, where patches are windows.
        multiple: Windows start at multiples of it where the sizes allow that, as the engine's do.

    Attributes:
        places: Number of the patient, and which of that patient's patches.
    """

    def __init__(
        self, prepared: PreparedSet, side: Side, patches: Patches, seed: int, *, overlap: float, multiple: int
    ) -> None:
        self.prepared, self.patches, self._seed = prepared, patches, seed
        self._tiling = Tiling(patches.size, overlap, multiple)
        self.places = [(n, part) for n in prepared.side(side) for part in range(self._count(n))]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> PreparedItem:
        """One patch, as the first pass shows it."""
        return self.at(index, index)

    def at(self, index: int, number: int) -> PreparedItem:
        """One patch.

        Args:
            index: Of the patch in a pass.
            number: Of the sample in the run, counted over all passes.

        Returns:
            Of the size that the recipe says; all of it of one patient, zeros where it leaves the volume.
        """
        patient, part = self.places[index]
        volume = self.prepared.volume(patient)
        first = self._first(volume, part, number)
        return as_item(PreparedVolume(*(_cut(array, first, self.patches.size) for array in volume)), patient, -1)

    def _count(self, patient: int) -> int:
        """Patches of a patient in a pass."""
        if self.patches.place == "windows":
            return len(positions(self._padded(self.prepared.patients[patient].grid.shape), self._tiling))
        return self.patches.each

    def _first(self, volume: PreparedVolume, part: int, number: int) -> Size:
        """First voxel of a patch in its volume; below 0 where zeros come before the volume."""
        if self.patches.start is not None:
            return self.patches.start
        shape, size = volume.labels.shape, self.patches.size
        padded = self._padded(volume.labels.shape)
        if self.patches.place == "windows":
            wanted = positions(padded, self._tiling)[part]
        else:
            wanted = self._drawn(volume, number)
        # As the engine does, a volume that is smaller stands in the middle.
        ends = zip(wanted, shape, size, padded, strict=True)
        x, y, z = (min(max(w, 0), p - n) - (p - s) // 2 for w, s, n, p in ends)
        return x, y, z

    def _drawn(self, volume: PreparedVolume, number: int) -> Size:
        """First voxel of a patch around a voxel of lesion or brain."""
        rng = np.random.default_rng([self._seed, _PATCH, number])
        on_lesion = rng.random() < self.patches.lesion_share
        inside = np.asarray(volume.brain) > 0
        lesion = np.flatnonzero(inside & (np.asarray(volume.labels) > 0)) if on_lesion else np.empty(0, np.intp)
        voxels = lesion if len(lesion) else np.flatnonzero(inside)
        middle = np.unravel_index(voxels[rng.integers(len(voxels))], inside.shape)
        x, y, z = (int(m) - n // 2 for m, n in zip(middle, self.patches.size, strict=True))
        return x, y, z

    def _padded(self, shape: tuple[int, ...]) -> Size:
        x, y, z = (max(s, n) for s, n in zip(shape, self.patches.size, strict=True))
        return x, y, z


def _cut(array: NDArray[Any], first: Size, size: Size) -> NDArray[Any]:
    """(..., size) from a voxel on, 0 where it leaves the array (..., x, y, z)."""
    result = np.zeros((*array.shape[:-3], *size), dtype=array.dtype)
    into: list[Any] = [...]
    take: list[Any] = [...]
    for start, wanted, have in zip(first, size, array.shape[-3:], strict=True):
        low = max(start, 0)
        high = max(min(start + wanted, have), low)
        take.append(slice(low, high))
        into.append(slice(low - start, high - start))
    result[tuple(into)] = array[tuple(take)]
    return result
