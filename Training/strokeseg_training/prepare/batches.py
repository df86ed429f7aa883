"""Prepared patients as PyTorch data sets: slice by slice, or whole; `patches` has patches of volumes.

Everything is a function of the item's number: order, augmentation and batches are the trainer's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from strokeseg.errors import InputError
from strokeseg.volume import Grid, resample
from strokeseg_training.prepare.arrays import AXES
from strokeseg_training.prepare.labels import move_labels
from strokeseg_training.prepare.prepared_set import PreparedSet, PreparedVolume, Side
from strokeseg_training.recipe_data import Slices


class PreparedItem(NamedTuple):
    """What a network sees, and what it should say.

    Attributes:
        channels: float32 (C, x, y, z); a slice is (C, u, v, 1), as the engine's strategy ``slices`` gives it.
        labels: uint8 (x, y, z) or (u, v, 1).
        brain: bool, likewise.
        patient: Number in the set.
        plane: Of a slice, along its axis in the prepared volume; -1 for a volume or a patch.
    """

    channels: Tensor
    labels: Tensor
    brain: Tensor
    patient: int
    plane: int


class VolumeItems(Dataset[PreparedItem]):
    """Whole patients of a side.

    Args:
        prepared: The set.
        side: Of its split.
    """

    def __init__(self, prepared: PreparedSet, side: Side) -> None:
        self.prepared, self.numbers = prepared, prepared.side(side)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> PreparedItem:
        """One patient."""
        number = self.numbers[index]
        return as_item(self.prepared.volume(number), number, -1)


class SliceItems(Dataset[PreparedItem]):
    """Slices of the patients of a side, patient after patient and from the first plane to the last.

    Args:
        prepared: The set.
        side: Of its split.
        slices: What a slice is; None: as the recipe of the set said.

    Attributes:
        places: Number of the patient and plane of each slice.

    Raises:
        InputError: Neither the set nor `slices` says what a slice is.
    """

    def __init__(self, prepared: PreparedSet, side: Side, slices: Slices | None = None) -> None:
        chosen = slices or prepared.slices
        if chosen is None:
            raise InputError(
                "The prepared set is not for slices.",
                f"The recipe '{prepared.manifest['recipe']}' has no 'datasets.slices'.",
                "Add it to the recipe, and prepare again; finished patients stay.",
            )
        self.prepared, self.slices = prepared, chosen
        self.places = [
            (number, plane)
            for number in prepared.side(side)
            for plane in prepared.patients[number].planes(chosen.axis, chosen.which)
        ]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> PreparedItem:
        """One slice."""
        number, plane = self.places[index]
        flat = self.prepared.plane(number, plane, self.slices.axis)
        if self.slices.size is not None:
            spacing = self.prepared.patients[number].grid.spacing_mm
            pixel = [s for axis, s in enumerate(spacing) if axis != AXES[self.slices.axis]]
            fit = _cropped if self.slices.fit == "crop" else _resized
            flat = fit(flat, self.slices.size, pixel)
        return as_item(PreparedVolume(*(array[..., None] for array in flat)), number, plane)


def as_item(volume: PreparedVolume, patient: int, plane: int) -> PreparedItem:
    """Arrays of any part of a patient as tensors."""
    return PreparedItem(
        torch.from_numpy(np.ascontiguousarray(volume.channels, dtype=np.float32)),
        torch.from_numpy(np.array(volume.labels, order="C")),
        torch.from_numpy(np.ascontiguousarray(volume.brain, dtype=bool)),
        patient,
        plane,
    )


def _cropped(flat: PreparedVolume, size: Sequence[int], _: Sequence[float]) -> PreparedVolume:
    """Cut or padded with 0 around the middle, where the engine puts a slice in its window, too."""
    return PreparedVolume(*(_around_middle(array, size) for array in flat))


def _around_middle(array: NDArray[Any], size: Sequence[int]) -> NDArray[Any]:
    for axis, wanted in ((array.ndim - 2, size[0]), (array.ndim - 1, size[1])):
        have = array.shape[axis]
        if have > wanted:
            first = (have - wanted) // 2
            array = array[(*(slice(None),) * axis, slice(first, first + wanted))]
        elif have < wanted:
            pads = [(0, 0)] * array.ndim
            pads[axis] = ((wanted - have) // 2, wanted - have - (wanted - have) // 2)
            array = np.pad(array, pads)
    return array


def _resized(flat: PreparedVolume, size: Sequence[int], pixel_mm: Sequence[float]) -> PreparedVolume:
    """Stretched so that the same rectangle is covered; no lesion of the slice vanishes."""
    u, v = flat.labels.shape
    source = Grid((u, v, 1), np.diag([*pixel_mm, 1.0, 1.0]))
    steps = [n * mm / wanted for n, mm, wanted in zip((u, v), pixel_mm, size, strict=True)]
    affine = np.diag([*steps, 1.0, 1.0])
    affine[:2, 3] = [(step - mm) / 2 for step, mm in zip(steps, pixel_mm, strict=True)]
    target = Grid((size[0], size[1], 1), affine)
    channels = np.stack([resample(c[..., None], source, target)[..., 0] for c in flat.channels])
    brain = (resample(flat.brain[..., None], source, target)[..., 0] >= 0.5).astype(np.uint8)
    return PreparedVolume(channels * brain, move_labels(flat.labels[..., None], source, target).labels[..., 0], brain)
