"""From probabilities to a decision: threshold, peak, cascade or highest class, brain restriction, smallest lesion.

The same functions serve the first result, the live threshold slider and the worker's new decision from kept
probabilities. Plain arrays and affines; imports the standard library, numpy, scipy and `strokeseg.errors` only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from strokeseg.errors import InputError

_Number = TypeVar("_Number", bound=np.generic)
_NEIGHBOURS = {6: 1, 18: 2, 26: 3}


def decide(
    probability: ArrayLike,
    *,
    threshold: float,
    minimum_lesion_ml: float,
    affine: ArrayLike,
    peak: float = 0.0,
    brain: ArrayLike | None = None,
    connectivity: int = 26,
) -> NDArray[np.uint8]:
    """Lesion where the probability is at least the threshold, inside the brain, in lesions that are not too small.

    A peak keeps outlines generous without keeping every faint spot: two thresholds with hysteresis, as Canny joined
    edges (IEEE Trans. Pattern Anal. Mach. Intell. 1986).

    Args:
        probability: (x, y, z), 0 to 1.
        threshold: 0 to 1; compared in the map's own precision, so that a float32 map holding 0.3 reaches 0.3.
        minimum_lesion_ml: Lesions smaller than this are removed; 0 keeps all.
        affine: 4x4, voxel index to mm.
        peak: Lesions that reach this probability in no voxel are removed, 0 to 1; 0 keeps all.
        brain: Mask of the same shape outside which nothing is lesion; None: no restriction.
        connectivity: 26, 18 or 6 neighbours join voxels into one lesion.

    Returns:
        (x, y, z) uint8, 1 in lesions.

    Raises:
        InputError: NaN in the map, a threshold or peak outside 0 to 1, or unusable shapes, affine, minimum or
            connectivity.
    """
    array = _as_probabilities(probability, axes=3)
    if not 0.0 <= threshold <= 1.0:
        raise InputError(
            "The threshold is not usable.",
            f"It is {threshold:g}, probabilities lie between 0 and 1.",
            "Choose a threshold from 0 to 1.",
        )
    if not 0.0 <= peak <= 1.0:
        raise InputError(
            "The peak that lesions must reach is not usable.",
            f"It is {peak:g}, probabilities lie between 0 and 1.",
            "Choose a peak from 0 to 1; 0 asks for none.",
        )
    mask = _inside((array >= float(threshold)).astype(np.uint8), brain)
    needed = _needed_voxels(affine, minimum_lesion_ml, connectivity)
    return _without(mask, needed, array >= float(peak) if peak > threshold else None, connectivity)


def peak_at(threshold: float, *, own_threshold: float, own_peak: float) -> float:
    """The peak for another threshold than the model's own: it moves along, so that a lower one shows fainter lesions.

    Straight from 0 at 0 by the model's pair to 1 at 1. What a higher threshold keeps, a lower one keeps, too.

    Args:
        threshold: Probability from which a voxel is lesion.
        own_threshold: The model's.
        own_peak: The model's at its threshold, at least as high; 0: it asks for none.

    Returns:
        0 to 1, for `decide`.
    """
    if not own_peak or not 0.0 <= threshold <= 1.0:
        return 0.0  # `decide` refuses such a threshold
    if threshold < own_threshold:
        return own_peak * threshold / own_threshold
    if threshold == own_threshold:
        return own_peak
    return own_peak + (1.0 - own_peak) * (threshold - own_threshold) / (1.0 - own_threshold)


def cascade_threshold(
    probability: ArrayLike,
    *,
    steps: Sequence[tuple[float, float, float]],
    otherwise: float,
    affine: ArrayLike,
    brain: ArrayLike | None = None,
) -> float:
    """The threshold that a map calls for: of the first step that fits it, to be given to `decide`.

    Faint maps are decided at lower thresholds than clear ones. Nothing but the map is asked. The published system also
    erased maps with more than 5 ml above 0.5 and a mean below 0.02: a sharp map of a brain of 1400 ml is one of these
    whenever the lesion has 5 to 28 ml, so that this is left out.

    Args:
        probability: As in `decide`.
        steps: (maximum, threshold, volume in ml) each: it fits where the largest probability in the brain is above the
            maximum, and the voxels that reach the threshold make more than the volume.
        otherwise: The threshold where no step fits.
        affine: As in `decide`.
        brain: As in `decide`.

    Returns:
        0 to 1.

    Raises:
        InputError: As `decide`.
    """
    array = _as_probabilities(probability, axes=3)
    voxel_ml = _voxel_ml(affine)
    inside = array[_inside(np.ones(array.shape, np.uint8), brain) > 0]
    largest = float(inside.max()) if inside.size else 0.0
    for maximum, threshold, volume_ml in steps:
        # A thousandth of a voxel, as in `remove_small`.
        if largest > maximum and np.count_nonzero(inside >= float(threshold)) > volume_ml / voxel_ml + 1e-3:
            return float(threshold)
    return float(otherwise)


def decide_argmax(
    probabilities: ArrayLike,
    *,
    minimum_lesion_ml: float,
    affine: ArrayLike,
    brain: ArrayLike | None = None,
    connectivity: int = 26,
) -> NDArray[np.uint8]:
    """The class with the highest probability in each voxel; in a tie the lower class, hence background before lesion.

    Args:
        probabilities: (K, x, y, z), class 0 is background.
        minimum_lesion_ml: As in `decide`; the classes of one lesion count together.
        affine: 4x4, voxel index to mm.
        brain: As in `decide`.
        connectivity: As in `decide`.

    Returns:
        (x, y, z) uint8, the number of the class.

    Raises:
        InputError: As `decide`, or fewer than 2 or more than 256 classes.
    """
    array = _as_probabilities(probabilities, axes=4)
    if not 2 <= array.shape[0] <= 256:
        raise InputError(
            "The class probabilities are not usable.",
            f"There are {array.shape[0]} classes, background included.",
            "Give between 2 and 256 maps, the background's first.",
        )
    labels = np.argmax(array, axis=0).astype(np.uint8)
    return remove_small(_inside(labels, brain), affine, minimum_lesion_ml, connectivity=connectivity)


def remove_small(
    mask: NDArray[_Number], affine: ArrayLike, minimum_lesion_ml: float, *, connectivity: int = 26
) -> NDArray[_Number]:
    """A copy of `mask` without the lesions that are strictly smaller than `minimum_lesion_ml`.

    Args:
        mask: Boolean or label map (x, y, z). A lesion is a component of everything above 0, so touching classes stay
            together.
        affine: 4x4, voxel index to mm; a voxel's volume is its determinant, right for sheared grids, too.
        minimum_lesion_ml: 0 or more.
        connectivity: 26, 18 or 6 neighbours join voxels into one lesion.

    Returns:
        Same shape and type; removed voxels are 0.

    Raises:
        InputError: Unusable affine, minimum or connectivity.
    """
    return _without(mask, _needed_voxels(affine, minimum_lesion_ml, connectivity), None, connectivity)


def _needed_voxels(affine: ArrayLike, minimum_lesion_ml: float, connectivity: int) -> int:
    """Of the smallest lesion that is kept."""
    voxel_ml = _voxel_ml(affine)
    if not (math.isfinite(minimum_lesion_ml) and minimum_lesion_ml >= 0.0):
        raise InputError(
            "The smallest lesion volume is not usable.",
            f"It is {minimum_lesion_ml:g} ml.",
            "Choose 0 ml or more.",
        )
    if connectivity not in _NEIGHBOURS:
        raise InputError(
            "The connectivity of lesions is not known.",
            f"{connectivity} neighbours were asked for.",
            "Choose 6 (faces), 18 (faces and edges) or 26 (faces, edges and corners).",
        )
    # Affines come from float32 headers: ten voxels of 8 mm³ may sum to 0.0799999 ml. Hence a thousandth of a voxel.
    return math.ceil(minimum_lesion_ml / voxel_ml - 1e-3)


def _without(
    mask: NDArray[_Number], needed: int, reached: NDArray[np.bool_] | None, connectivity: int
) -> NDArray[_Number]:
    """A copy without the lesions of fewer voxels than needed, or with none that is `reached`."""
    kept = mask.copy()
    foreground: NDArray[np.bool_] = np.asarray(mask) > 0
    box = ndimage.find_objects(foreground.view(np.uint8))
    if (needed <= 1 and reached is None) or not box:
        return kept
    structure = ndimage.generate_binary_structure(3, _NEIGHBOURS[connectivity])
    labels, _ = ndimage.label(foreground[box[0]], structure, output=np.int32)
    dropped = np.bincount(labels.ravel()) < needed
    if reached is not None:
        faint = np.ones_like(dropped)
        faint[labels[reached[box[0]]]] = False
        dropped |= faint
    dropped[0] = False
    kept[box[0]][dropped[labels]] = 0
    return kept


def _inside(mask: NDArray[np.uint8], brain: ArrayLike | None) -> NDArray[np.uint8]:
    if brain is None:
        return mask
    inside = np.asarray(brain) > 0
    if inside.shape != mask.shape:
        raise InputError(
            "The brain mask does not lie on the grid of the probability map.",
            f"Its shape is {inside.shape}, the map's is {mask.shape}.",
            "Resample the brain mask to the map's grid first.",
        )
    mask[~inside] = 0
    return mask


def _as_probabilities(probability: ArrayLike, axes: int) -> NDArray[Any]:
    array = np.asarray(probability)
    if array.ndim != axes or not array.size:
        raise InputError(
            "The probability map has the wrong shape.",
            f"It is {array.shape}, {axes} axes with at least one voxel each are needed.",
            "Give (x, y, z) for one map, (class, x, y, z) for one map a class.",
        )
    low, high = float(array.min()), float(array.max())  # one NaN makes both NaN
    if math.isnan(low):
        raise InputError(
            "The probability map holds values that are not numbers.",
            f"{int(np.isnan(array).sum())} of its {array.size} voxels are NaN.",
            "Check the input images for NaN and the model for overflow, then run the model again.",
        )
    # A sum of class probabilities in half precision may pass 1 by its last bit.
    if low < -1e-3 or high > 1.0 + 1e-3:
        raise InputError(
            "The probability map holds values that are no probabilities.",
            f"They go from {low:g} to {high:g}.",
            "Give values from 0 to 1; logits have to pass the sigmoid or softmax first.",
        )
    return array


def _voxel_ml(affine: ArrayLike) -> float:
    matrix = np.asarray(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or np.linalg.det(matrix[:3, :3]) == 0.0:
        raise InputError(
            "The affine is not usable.",
            f"A finite 4x4 matrix with voxels of non-zero volume is needed, this is {matrix.tolist()}.",
            "Repair the header of the volume (sform or qform).",
        )
    return abs(float(np.linalg.det(matrix[:3, :3]))) / 1000.0
