"""`evaluate`: a prediction file against a reference file. Puts `volume` and `metrics` together; knows no model."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from strokeseg.checks import check_overlap, check_reference_mask
from strokeseg.errors import InputError
from strokeseg.metrics import Metrics, evaluate_masks
from strokeseg.metrics.empty import EmptyMode
from strokeseg.volume import Grid, Volume, read_volume, resample_mask

Source = str | os.PathLike[str] | Volume


def evaluate(
    prediction: Source,
    reference: Source,
    *,
    probability: NDArray[np.float32] | None = None,
    brain: NDArray[np.bool_] | None = None,
    connectivity: int = 26,
    empty: EmptyMode = "nan",
) -> Metrics:
    """Compare a lesion mask with a reference mask, on the prediction's grid.

    A reference on another grid is brought over by world coordinates, every voxel going to the label with the largest
    share.

    Args:
        prediction: Lesion mask: a file, or a volume.
        reference: Expert's mask: a file, or a volume.
        probability: Probability map on the prediction's grid, for PR-AUC.
        brain: Brain mask on the prediction's grid; specificity and accuracy are counted over it.
        connectivity: 26, 18 or 6 neighbours join voxels into one lesion.
        empty: What overlap is worth when both masks are empty: ``nan`` or ``isles`` (1.0).

    Raises:
        InputError: A file cannot be read, is no mask, or the two do not overlap in space.
    """
    predicted, expected = _mask(prediction, "prediction"), _mask(reference, "reference")
    return evaluate_masks(
        predicted.array > 0.5,
        reference_on(expected, predicted.grid),
        predicted.affine,
        probability=probability,
        brain=brain,
        connectivity=connectivity,
        empty=empty,
    )


def read_reference(source: Source) -> Volume:
    """A reference mask, checked: whole numbers, 0 is background.

    Raises:
        InputError: The file cannot be read or is no mask.
    """
    return _mask(source, "reference")


def reference_on(reference: Volume, grid: Grid) -> NDArray[np.bool_]:
    """The reference (x, y, z) on another grid.

    Raises:
        InputError: The two do not overlap in space.
    """
    if reference.grid.matches(grid, tolerance_mm=0.01):
        return reference.array > 0.5
    overlap = check_overlap(grid.shape, grid.affine, reference.array.shape, reference.affine, "reference")
    if overlap is not None and overlap.severity == "error":
        raise InputError("The reference does not lie on the prediction.", overlap.message, overlap.next_step)
    return resample_mask((reference.array > 0.5).astype(np.uint8), reference.grid, grid) > 0


def _mask(source: Source, name: str) -> Volume:
    volume = source if isinstance(source, Volume) else read_volume(os.fspath(source), role="reference")
    for finding in check_reference_mask(volume.array):
        if finding.severity == "error":
            raise InputError(f"The {name} is no lesion mask.", finding.message, finding.next_step)
    return volume
