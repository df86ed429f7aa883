"""The lesions of a mask as objects: connected components, where they lie in the patient, and what the images say there.

Plain arrays and affines in, frozen `Lesion` rows out. Imports the standard library, numpy, scipy and
`strokeseg.errors` only.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from strokeseg.errors import InputError

Plane = tuple[Sequence[float] | NDArray[np.float64], float]

# ADC at or below 0.62e-3 mm²/s marks the infarct core (Purushotham 2015); the field prints the volume below it.
CORE_ADC = 0.62
# A lesion with this share of its volume on each side, its centroid this close to the midplane, belongs to neither side.
MIDLINE_SHARE = 0.2
MIDLINE_MM = 5.0
# Bright voxels without infarct: the lower two fifths of the brain, half of them within 6 mm of the mask's edge.
HINT_HEIGHT = 0.4
HINT_EDGE_MM = 6.0

_NEIGHBOURS = {6: 1, 18: 2, 26: 3}


@dataclass(frozen=True)
class Lesion:
    """One connected component of a lesion mask; None where the image or the midplane that it needs was not given.

    Attributes:
        label: Its number in the label array, from 1, largest lesion first.
        volume_ml: Volume.
        voxels: Number of voxels.
        centroid_ras_mm: Mean position of its voxels in RAS mm.
        side: "left", "right" or "midline" of the patient.
        extent_mm: Size of its bounding box along the world's R, A and S axes, outer voxel borders included.
        adc_mean: Mean ADC in 1e-3 mm²/s over its voxels with a positive ADC (0 and below are no measurement).
        adc_min: Lowest positive ADC.
        adc_below_062_ml: Volume with a positive ADC under 0.62e-3 mm²/s.
        dwi_mean: Mean DWI signal in the image's own unit.
        probability_mean: Mean of the probability map.
        hint: A sentence when place and size suggest an artefact, else "".
    """

    label: int
    volume_ml: float
    voxels: int
    centroid_ras_mm: tuple[float, float, float]
    side: str | None
    extent_mm: tuple[float, float, float]
    adc_mean: float | None
    adc_min: float | None
    adc_below_062_ml: float | None
    dwi_mean: float | None
    probability_mean: float | None
    hint: str


def find_lesions(
    mask: ArrayLike,
    affine: ArrayLike,
    *,
    probability: ArrayLike | None = None,
    adc: ArrayLike | None = None,
    dwi: ArrayLike | None = None,
    brain: ArrayLike | None = None,
    midplane: Plane | None = None,
    connectivity: int = 26,
) -> tuple[NDArray[np.int32], list[Lesion]]:
    """Label the lesions of a mask, largest first, and describe each.

    Equal volumes are ordered by the centroid's R, A and S, so that the same scan stored along other axes gives the
    same list.

    Args:
        mask: Boolean or label map (x, y, z); every label above 0 is lesion, touching classes are one lesion.
        affine: 4x4, voxel index to RAS mm.
        probability: Probability map of the same shape.
        adc: ADC in 1e-3 mm²/s, same shape.
        dwi: DWI, same shape.
        brain: Brain mask of the same shape; it is needed for `hint`.
        midplane: (normal, offset_mm): unit vector in RAS pointing to the patient's right, and normal · p of the
            plane's points. "midline" is a lesion with at least 20 % of its volume on either side and its centroid
            within 5 mm of the plane; every other one belongs to the side that holds more of it.
        connectivity: 26, 18 or 6 neighbours join voxels into one lesion.

    Returns:
        Labels (x, y, z) int32, 0 outside, and one `Lesion` for each label from 1 upwards.

    Raises:
        InputError: Shapes differ, the mask is not three-dimensional, or connectivity or affine are not usable.
    """
    lesion, matrix = _as_mask(mask), _as_affine(affine)
    images = {name: _on_grid(a, lesion.shape, name) for name, a in (("ADC", adc), ("DWI", dwi))}
    images["probability map"] = _on_grid(probability, lesion.shape, "probability map")
    inside = _on_grid(brain, lesion.shape, "brain mask")
    if connectivity not in _NEIGHBOURS:
        raise InputError(
            "The connectivity of lesions is not known.",
            f"{connectivity} neighbours were asked for.",
            "Choose 6 (faces), 18 (faces and edges) or 26 (faces, edges and corners).",
        )
    labels = np.zeros(lesion.shape, np.int32)
    box = ndimage.find_objects(lesion.view(np.uint8))
    if not box:
        return labels, []
    structure = ndimage.generate_binary_structure(3, _NEIGHBOURS[connectivity])
    found, count = ndimage.label(lesion[box[0]], structure, output=np.int32)
    start = np.array([s.start for s in box[0]])
    points = _Points(np.argwhere(found) + start, found[found > 0], count, matrix)

    order = _largest_first(points)
    new_label = np.zeros(count + 1, np.int32)
    new_label[order + 1] = np.arange(1, count + 1)
    labels[box[0]] = new_label[found]
    rows = _describe(points, images, inside, midplane)
    return labels, [Lesion(label=k, **rows[old]) for k, old in enumerate(order.tolist(), start=1)]


def total_volume_ml(lesions: Iterable[Lesion]) -> float:
    """Volume of all lesions together."""
    return math.fsum(lesion.volume_ml for lesion in lesions)


class _Points:
    """The lesion voxels, grouped by component: component k from 0 is the run from `starts[k]` of length `sizes[k]`."""

    def __init__(
        self, index: NDArray[np.int64], label: NDArray[np.int32], count: int, matrix: NDArray[np.float64]
    ) -> None:
        by_label = np.argsort(label, kind="stable")
        self.index = index[by_label]
        self.world = self.index @ matrix[:3, :3].T + matrix[:3, 3]
        self.component = label[by_label] - 1
        self.sizes = np.bincount(self.component, minlength=count)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        self.matrix = matrix
        self.voxel_ml = abs(float(np.linalg.det(matrix[:3, :3]))) / 1000.0
        self.centroids = np.stack([self.sums(self.world[:, a]) for a in range(3)], axis=1) / self.sizes[:, None]

    def sums(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Sum per component of one number a voxel."""
        return np.bincount(self.component, weights=values, minlength=len(self.sizes)).astype(np.float64)

    def at(self, image: NDArray[Any]) -> NDArray[np.float64]:
        """The image's values at the voxels."""
        return np.asarray(image[tuple(self.index.T)], dtype=np.float64)


def _largest_first(points: _Points) -> NDArray[np.intp]:
    # Rounded, so that the last bits of a sum taken along other axes do not decide a tie.
    r, a, s = np.round(points.centroids, 4).T
    return np.lexsort((s, a, r, -points.sizes))


def _describe(
    points: _Points, images: dict[str, NDArray[Any] | None], brain: NDArray[Any] | None, midplane: Plane | None
) -> list[dict[str, Any]]:
    """The fields of `Lesion` but `label` for every component."""
    # A voxel reaches half its extent beyond its centre; on an oblique grid all three edges add to each world axis.
    own = np.abs(points.matrix[:3, :3]).sum(axis=1)
    low, high = (f.reduceat(points.world, points.starts, axis=0) for f in (np.minimum, np.maximum))
    extents = high - low + own
    sides: list[str] | list[None] = [None] * len(points.sizes) if midplane is None else _sides(points, midplane)
    hints = [""] * len(points.sizes) if brain is None else _hints(points, brain > 0)
    adc_mean, adc_min, adc_core = _adc(points, images["ADC"])
    dwi_mean, probability_mean = (_means(points, images[name]) for name in ("DWI", "probability map"))
    return [
        {
            "volume_ml": int(points.sizes[k]) * points.voxel_ml,
            "voxels": int(points.sizes[k]),
            "centroid_ras_mm": tuple(float(v) for v in points.centroids[k]),
            "side": sides[k],
            "extent_mm": tuple(float(v) for v in extents[k]),
            "adc_mean": adc_mean[k],
            "adc_min": adc_min[k],
            "adc_below_062_ml": adc_core[k],
            "dwi_mean": dwi_mean[k],
            "probability_mean": probability_mean[k],
            "hint": hints[k],
        }
        for k in range(len(points.sizes))
    ]


def _means(points: _Points, image: NDArray[Any] | None) -> list[float | None]:
    """Mean of the finite values per component; None without image or without a finite value."""
    if image is None:
        return [None] * len(points.sizes)
    return _mean_of_values(points, points.at(image))


def _mean_of_values(points: _Points, values: NDArray[np.float64]) -> list[float | None]:
    good = np.isfinite(values)
    number = points.sums(good)
    total = points.sums(np.where(good, values, 0.0))
    return [float(t / n) if n else None for t, n in zip(total, number, strict=True)]


def _adc(
    points: _Points, adc: NDArray[Any] | None
) -> tuple[list[float | None], list[float | None], list[float | None]]:
    """Mean, minimum and ml under 0.62 of the positive ADC values per component."""
    if adc is None:
        nothing: list[float | None] = [None] * len(points.sizes)
        return nothing, nothing, nothing
    values = points.at(adc)
    values = np.where(values > 0, values, np.nan)  # NaN compares false and stays NaN
    lowest = np.fmin.reduceat(values, points.starts)
    below = points.sums(values < CORE_ADC) * points.voxel_ml
    return (
        _mean_of_values(points, values),
        [float(v) if np.isfinite(v) else None for v in lowest],
        [float(b) if np.isfinite(v) else None for b, v in zip(below, lowest, strict=True)],
    )


def _sides(points: _Points, midplane: Plane) -> list[str]:
    normal, offset_mm = np.asarray(midplane[0], dtype=np.float64), float(midplane[1])
    if normal.shape != (3,) or not abs(np.linalg.norm(normal) - 1.0) < 1e-3 or not math.isfinite(offset_mm):
        raise InputError(
            "The midplane is not usable.",
            f"A unit vector and an offset in mm are needed, these are {normal.tolist()} and {offset_mm}.",
            "Estimate the midplane from the brain mask, or leave it out.",
        )
    distance = points.world @ normal - offset_mm
    # Voxels on the plane belong half to each side, whatever the last bit of their distance says.
    right = points.sums(np.where(np.abs(distance) < 1e-6, 0.5, distance > 0)) / points.sizes
    centre = points.centroids @ normal - offset_mm
    return [_side(float(r), float(c)) for r, c in zip(right, centre, strict=True)]


def _side(right_share: float, centroid_mm: float) -> str:
    if min(right_share, 1.0 - right_share) >= MIDLINE_SHARE and abs(centroid_mm) <= MIDLINE_MM:
        return "midline"
    if right_share == 0.5:
        return "right" if centroid_mm > 0 else "left"
    return "right" if right_share > 0.5 else "left"


def _hints(points: _Points, brain: NDArray[np.bool_]) -> list[str]:
    """A sentence for each component that lies low in the brain and close to its edge."""
    hints = [""] * len(points.sizes)
    edge = _surface(brain) @ points.matrix[:3, :3].T + points.matrix[:3, 3]
    if not len(edge):
        return hints
    bottom, top = float(edge[:, 2].min()), float(edge[:, 2].max())
    height = (points.centroids[:, 2] - bottom) / max(top - bottom, 1e-6)
    low = np.flatnonzero(height < HINT_HEIGHT)
    if not low.size:
        return hints
    chosen = np.isin(points.component, low)
    depth = np.zeros(len(points.world))
    tree = cKDTree(edge, balanced_tree=False, compact_nodes=False)
    depth[chosen] = np.where(points.at(brain)[chosen] > 0, tree.query(points.world[chosen])[0], 0.0)
    mean_depth = points.sums(depth) / points.sizes
    for k in low[mean_depth[low] < HINT_EDGE_MM]:
        hints[k] = (
            f"Low in the brain ({max(0.0, height[k]):.0%} of its height), on average {mean_depth[k]:.1f} mm from its "
            "edge, where bright signal without infarct is common: look at the images."
        )
    return hints


def _surface(brain: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Indices of brain voxels with a face neighbour outside the brain; outside the grid is outside."""
    box = ndimage.find_objects(brain.view(np.uint8))
    if not box:
        return np.zeros((0, 3), np.int64)
    part = brain[box[0]]
    return np.argwhere(part & ~ndimage.binary_erosion(part)) + [s.start for s in box[0]]


_COLUMNS = (
    "label", "volume_ml", "voxels", "centroid_r_mm", "centroid_a_mm", "centroid_s_mm", "side",
    "extent_r_mm", "extent_a_mm", "extent_s_mm", "adc_mean_1e-3_mm2_per_s", "adc_min_1e-3_mm2_per_s",
    "adc_below_0.62_ml", "dwi_mean", "probability_mean", "hint",
)  # fmt: skip


def lesions_csv(lesions: Iterable[Lesion]) -> str:
    """The lesion table as CSV text: header with units, one line a lesion, line feeds, empty cells for None."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for x in lesions:
        place = [_number(v, 1) for v in x.centroid_ras_mm]
        extent = [_number(v, 1) for v in x.extent_mm]
        adc = [_number(x.adc_mean, 3), _number(x.adc_min, 3), _number(x.adc_below_062_ml, 3)]
        image = [_number(x.dwi_mean, 2), _number(x.probability_mean, 3)]
        writer.writerow(
            [x.label, _number(x.volume_ml, 4), x.voxels, *place, x.side or "", *extent, *adc, *image, x.hint]
        )
    return text.getvalue()


def _number(value: float | None, digits: int) -> str:
    """Fixed digits; adding 0.0 after rounding turns -0.0 into 0.0."""
    return "" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"


def _as_mask(mask: ArrayLike) -> NDArray[np.bool_]:
    array = np.asarray(mask)
    if array.ndim != 3:
        raise InputError(
            "The lesion mask is not three-dimensional.",
            f"Its shape is {array.shape}.",
            "Give one mask volume with the axes (x, y, z).",
        )
    inside: NDArray[np.bool_] = array > 0
    return inside


def _as_affine(affine: ArrayLike) -> NDArray[np.float64]:
    matrix = np.asarray(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or np.linalg.det(matrix[:3, :3]) == 0.0:
        raise InputError(
            "The affine is not usable.",
            f"A finite 4x4 matrix with voxels of non-zero volume is needed, this is {matrix.tolist()}.",
            "Repair the header of the volume (sform or qform).",
        )
    return matrix


def _on_grid(image: ArrayLike | None, shape: tuple[int, ...], name: str) -> NDArray[Any] | None:
    if image is None:
        return None
    array = np.asarray(image)
    if array.shape != shape:
        raise InputError(
            f"The {name} does not lie on the grid of the lesion mask.",
            f"Its shape is {array.shape}, the mask's is {shape}.",
            f"Resample the {name} to the mask's grid first.",
        )
    return array
