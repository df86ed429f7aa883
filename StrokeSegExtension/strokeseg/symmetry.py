"""The brain's own mid-sagittal plane, and images mirrored about it.

The plane is the one about which the brain mask overlaps best with its mirror image. It decides on which side a lesion
lies and lets a model compare each voxel with the healthy side. Everything is measured in world millimetres on a
lattice anchored at the brain's centroid, so that flipping or permuting the axes of the arrays gives the same plane.

Plain arrays and affines; imports the standard library, numpy, scipy and `strokeseg.errors` only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from strokeseg.errors import InputError

MAX_TILT_DEGREES = 15.0
LATTICE_MM = 4.0
# A lattice of the same number of cells whatever the size of the brain: 1300 ml in cells of 4 mm.
_LATTICE_CELLS = 20_000
# What the image weighs against the mask, which alone leaves roll soft: from the front the brain is nearly round.
_IMAGE_WEIGHT = 1.0

_Vector = NDArray[np.float64]
_Cost = Callable[[_Vector], float]


@dataclass(frozen=True)
class Midplane:
    """The plane {p : normal_ras · p = offset_mm} that divides the brain into left and right.

    Attributes:
        normal_ras: Unit vector in RAS, pointing to the patient's right.
        offset_mm: Signed distance of the plane from the world's origin along the normal.
        quality: Share of the brain that falls onto brain when mirrored, 0 to 1. Complete real brains gave 0.94 to 0.97;
            below 0.85 something is missing on one side, and sides and mirror differences deserve a look.
        method: What it was estimated from, in words.
    """

    normal_ras: tuple[float, float, float]
    offset_mm: float
    quality: float
    method: str

    @property
    def plane(self) -> tuple[tuple[float, float, float], float]:
        """(normal, offset_mm), as `lesions.find_lesions` takes it."""
        return self.normal_ras, self.offset_mm


def estimate_midplane(brain: ArrayLike, affine: ArrayLike, image: ArrayLike | None = None) -> Midplane:
    """Find the mid-sagittal plane of a brain.

    The search starts from the plane across the world's R axis through the brain's centroid, tries tilts of up to 15
    degrees about the A and S axes on a coarse lattice, and refines tilt and offset on a fine one. The cost is a sum
    of absolute
    differences: a lesion, or a piece of brain that skull-stripping lost, counts by its size but has no lever.

    Args:
        brain: Brain mask (x, y, z); above 0 is brain.
        affine: 4x4, voxel index to RAS mm.
        image: Any image of the same shape (ADC or DWI); its differences between the sides join the cost.

    Raises:
        InputError: The mask is empty or not three-dimensional, shapes differ, or the affine is not usable.
    """
    mask, matrix = np.asarray(brain) > 0, _as_affine(affine)
    box = ndimage.find_objects(mask.view(np.uint8)) if mask.ndim == 3 else []
    if not box:
        raise InputError(
            "The brain's midplane cannot be found.",
            f"The brain mask has the shape {mask.shape} and {int(mask.sum())} voxels.",
            "Give a three-dimensional brain mask that covers the brain.",
        )
    if image is not None and np.shape(image) != mask.shape:
        raise InputError(
            "The image does not lie on the grid of the brain mask.",
            f"Its shape is {np.shape(image)}, the mask's is {mask.shape}.",
            "Resample the image to the mask's grid first.",
        )
    start = np.array([s.start for s in box[0]], dtype=np.float64)
    local = matrix.copy()
    local[:3, 3] += matrix[:3, :3] @ start
    values = None if image is None else np.asarray(image)[box[0]]
    sampled = _Lattice(mask[box[0]], local, values)
    tilt_and_shift = _search(sampled)
    normal = _normal(tilt_and_shift)
    overlap = 1.0 - sampled.mask_cost(every=1)(tilt_and_shift)
    return Midplane(
        normal_ras=(float(normal[0]), float(normal[1]), float(normal[2])),
        offset_mm=float(normal @ sampled.centroid + tilt_and_shift[2]),
        quality=float(np.clip(overlap, 0.0, 1.0)),
        method="overlap of the brain mask" if image is None else "overlap of the brain mask and likeness of the image",
    )


def mirror(array: ArrayLike, affine: ArrayLike, midplane: Midplane, order: int = 1) -> NDArray[Any]:
    """The array's values at the mirrored world positions of its voxels; 0 where those lie outside the grid.

    Args:
        array: (x, y, z).
        affine: 4x4, voxel index to RAS mm.
        midplane: The plane to mirror about.
        order: Spline order of the interpolation; 0 keeps labels and their type.

    Returns:
        Same shape; floating types and order 0 keep the type, everything else becomes float32.

    Raises:
        InputError: Not three axes, or an unusable affine.
    """
    source, matrix = np.asarray(array), _as_affine(affine)
    if source.ndim != 3:
        raise InputError(
            "Only a three-dimensional image can be mirrored.",
            f"Its shape is {source.shape}.",
            "Mirror one volume with the axes (x, y, z) at a time.",
        )
    normal = np.array(midplane.normal_ras)
    reflection = np.eye(4)
    reflection[:3, :3] -= 2.0 * np.outer(normal, normal)
    reflection[:3, 3] = 2.0 * midplane.offset_mm * normal
    voxels = np.linalg.inv(matrix) @ reflection @ matrix
    dtype = source.dtype if order == 0 or source.dtype.kind == "f" else np.dtype(np.float32)
    data = source.view(np.uint8) if source.dtype == np.bool_ else source
    # "grid-constant" also blends across the border: a position 1e-14 outside the last voxel is that voxel and not 0.
    mirrored = ndimage.affine_transform(
        data if order == 0 else data.astype(dtype, copy=False), voxels[:3, :3], voxels[:3, 3],
        order=order, mode="grid-constant", cval=0.0,
    )  # fmt: skip
    return mirrored.astype(dtype, copy=False)


class _Lattice:
    """Brain and image on a coarse world lattice around the brain's centroid, ready to be compared with their mirror."""

    def __init__(self, mask: NDArray[np.bool_], matrix: _Vector, image: NDArray[Any] | None) -> None:
        axes = matrix[:3, :3]
        profiles = [mask.sum(axis=tuple(b for b in range(3) if b != a)) for a in range(3)]
        voxels = int(profiles[0].sum())
        centre = np.array([float(np.arange(len(p)) @ p) / voxels for p in profiles])
        self.centroid = axes @ centre + matrix[:3, 3]
        volume_mm3 = voxels * abs(float(np.linalg.det(axes)))
        corners = np.array(np.meshgrid(*((-0.5, n - 0.5) for n in mask.shape))).reshape(3, -1)
        reach = np.abs(axes @ corners + (matrix[:3, 3] - self.centroid)[:, None]).max(axis=1)
        # The second bound keeps a mask of a few scattered voxels from asking for a huge lattice.
        self.cell_mm = max(min(LATTICE_MM, (volume_mm3 / _LATTICE_CELLS) ** (1 / 3)), float(reach.max()) / 40)
        self.half = np.ceil(reach / self.cell_mm).astype(int) + 1
        to_voxel = np.linalg.inv(axes)
        step = to_voxel * self.cell_mm
        origin = to_voxel @ (self.centroid - matrix[:3, 3]) - step @ self.half
        # Blurring to the lattice's resolution before sampling keeps the sub-voxel place of the surface.
        spacing = np.linalg.norm(axes, axis=0)
        sigma = 0.4 * np.sqrt(np.maximum(self.cell_mm**2 - spacing**2, 0.0)) / spacing

        def sample(volume: NDArray[Any]) -> NDArray[np.float32]:
            pad = [math.ceil(2 * s) for s in sigma]
            soft = ndimage.gaussian_filter(
                np.pad(volume.astype(np.float32), [(p, p) for p in pad]), sigma, truncate=2.0, mode="constant"
            )
            return ndimage.affine_transform(
                soft, step, origin + pad, output_shape=tuple(2 * self.half + 1), order=1, mode="grid-constant"
            )

        self.mask = sample(mask)
        self.image = None if image is None else self._standardised(mask, image, sample)

    def _standardised(
        self, mask: NDArray[np.bool_], image: NDArray[Any], sample: Callable[[NDArray[Any]], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """The image in the brain, 0 at its median, clipped to -1..1 at its percentiles so that lesions do not rule."""
        inside = mask & np.isfinite(image)
        low, middle, high = np.percentile(image[inside], [5, 50, 95]) if inside.any() else (0.0, 0.0, 0.0)
        half_range = max(float(high - middle), float(middle - low))
        if half_range <= 0.0:
            return np.zeros_like(self.mask)
        standard = np.clip(np.where(inside, (image - middle) / half_range, 0.0), -1.0, 1.0)
        return sample(standard)

    def mask_cost(self, every: int, depth: int | None = None) -> _Cost:
        """Share of the brain that its mirror image misses, as a function of (yaw, roll, shift).

        Every fourth or eighth lattice point is enough to compare places; `every` 1 is for the final figure. With
        `depth`, only points at most so many cells from the surface: what lies deeper falls onto brain as long as the
        plane moves little.
        """
        brain = self._chosen(every) & (self.mask > 1e-3)
        total = float(self.mask[brain].sum())
        if depth is not None:
            brain &= ndimage.minimum_filter(self.mask, 2 * depth + 1, mode="constant") < 0.999
        own, other = self._pairs(self.mask, brain)
        return lambda parameters: float(np.maximum(own - other(parameters), 0.0).sum()) / total

    def image_cost(self, every: int) -> _Cost:
        """Mean absolute difference between the image and its mirror image at points within the brain."""
        if self.image is None:
            return lambda _: 0.0
        own, other = self._pairs(self.image, self._chosen(every) & (self.mask > 0.5))
        return lambda parameters: float(np.abs(own - other(parameters)).mean())

    def _chosen(self, every: int) -> NDArray[np.bool_]:
        """Every point (1), a body-centred lattice (4) or every second one along each axis (8), from the centroid on."""
        x, y, z = np.ogrid[tuple(slice(-h, h + 1) for h in self.half)]
        odd = ((x + y) % 2) | ((y + z) % 2) if every == 4 else (x % 2) | (y % 2) | (z % 2)
        return np.broadcast_to(odd == 0 if every > 1 else np.True_, self.mask.shape)

    def _pairs(
        self, volume: NDArray[np.float32], chosen: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], Callable[[_Vector], NDArray[np.float32]]]:
        """Values at the chosen points, and a function that gives the values at their mirror places."""
        points = np.argwhere(chosen)
        centred = np.ascontiguousarray((points - self.half).T, dtype=np.float64)
        half = self.half[:, None].astype(np.float64)

        def other(parameters: _Vector) -> NDArray[np.float32]:
            normal = _normal(parameters)
            reflection = np.eye(3) - 2.0 * np.outer(normal, normal)
            place = reflection @ centred + (half + 2.0 * parameters[2] / self.cell_mm * normal[:, None])
            return ndimage.map_coordinates(volume, place, order=1, mode="constant")

        return volume[chosen], other


def _search(lattice: _Lattice) -> _Vector:
    """(yaw, roll, shift) in degrees, degrees and mm: best of a coarse grid, then two descents, coarse and fine."""
    coarse = lattice.mask_cost(every=8)
    tilts = np.linspace(-10.0, 10.0, 5)
    grid = [np.array([yaw, roll, 0.0]) for yaw in tilts for roll in tilts]
    # Between equal costs the smaller tilt: a sphere has no midplane of its own.
    start = min(grid, key=lambda x: (round(coarse(x), 6), float(np.abs(x).sum())))
    start = _descend(coarse, start, first_step=np.array([3.0, 3.0, 3.0]), tolerance=0.3)
    surface, inner = lattice.mask_cost(every=4, depth=3), lattice.image_cost(every=8)

    def cost(parameters: _Vector) -> float:
        return surface(parameters) + _IMAGE_WEIGHT * inner(parameters)

    return _descend(cost, start, first_step=np.array([1.0, 1.0, 1.0]), tolerance=0.05)


def _descend(cost: _Cost, start: _Vector, first_step: _Vector, tolerance: float) -> _Vector:
    bounds = [(-MAX_TILT_DEGREES, MAX_TILT_DEGREES)] * 2 + [(None, None)]
    simplex = np.vstack([start, start + np.diag(first_step)])
    result = scipy.optimize.minimize(
        cost, start, method="Nelder-Mead", bounds=bounds,
        options={"initial_simplex": simplex, "xatol": tolerance, "fatol": 1e-7, "maxiter": 120},
    )  # fmt: skip
    return np.asarray(result.x, dtype=np.float64)


def _normal(parameters: _Vector) -> _Vector:
    """The R axis turned by yaw about S and by roll about A, degrees."""
    yaw, roll = np.deg2rad(parameters[:2])
    return np.array([np.cos(yaw) * np.cos(roll), np.sin(yaw) * np.cos(roll), np.sin(roll)])


def _as_affine(affine: ArrayLike) -> _Vector:
    matrix = np.asarray(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or np.linalg.det(matrix[:3, :3]) == 0.0:
        raise InputError(
            "The affine is not usable.",
            f"A finite 4x4 matrix with voxels of non-zero volume is needed, this is {matrix.tolist()}.",
            "Repair the header of the volume (sform or qform).",
        )
    return matrix
