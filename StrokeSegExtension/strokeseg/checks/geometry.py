"""Checks of where images lie: spacing, slices, field of view, and how far two images overlap.

Imports numpy and scipy only: it runs inside 3D Slicer.
"""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import ConvexHull, QhullError

from strokeseg.checks.finding import Finding, title_of

_SPACING_MM = (0.1, 20.0)
_THICKEST_SLICE_MM = 8.0
_FEWEST_SLICES = 5
_FIELD_OF_VIEW_MM = (60.0, 400.0)
# Scanners write direction cosines with six digits or so; more than this is a grid that was sheared on purpose.
_LARGEST_SHEAR = 1e-3
_LEAST_OVERLAP = 0.8


def check_geometry(shape: tuple[int, ...], affine: ArrayLike, role: str = "") -> list[Finding]:
    """Whether a grid can be that of a brain scan: spacing, thickness and number of slices, field of view, right angles.

    Args:
        shape: Voxels along (x, y, z).
        affine: 4x4, voxel index to RAS mm.
        role: For the wording.
    """
    matrix = np.asarray(affine, dtype=np.float64)
    title = title_of(role)
    usable = matrix.shape == (4, 4) and bool(np.isfinite(matrix).all())
    spacing = np.sqrt((matrix[:3, :3] ** 2).sum(axis=0)) if usable else np.zeros(3)
    shown = " x ".join(f"{s:.3g}" for s in spacing)
    if not usable or abs(np.linalg.det(matrix[:3, :3])) < 1e-9 or not ((spacing >= 0.1) & (spacing <= 20)).all():
        return [
            Finding(
                "spacing_absurd",
                "error",
                role,
                f"The voxels of the {title} image measure {shown} mm; between {_SPACING_MM[0]:g} and "
                f"{_SPACING_MM[1]:g} mm "
                "are possible in a brain scan."
                if usable
                else f"The {title} image does not say where it lies in the patient.",
                "Convert the original DICOM series again; the header of this file is damaged.",
                {"spacing_x_mm": spacing[0], "spacing_y_mm": spacing[1], "spacing_z_mm": spacing[2]} if usable else {},
            )
        ]
    findings: list[Finding] = []

    def warn(code: str, message: str, next_step: str, **numbers: float) -> None:
        findings.append(Finding(code, "warning", role, message, next_step, numbers))

    through = int(np.argmax(spacing)) if spacing.max() > 1.2 * spacing.min() else int(np.argmin(shape))
    if spacing[through] > _THICKEST_SLICE_MM:
        warn(
            "slices_thick",
            f"The slices of the {title} image are {spacing[through]:.3g} mm apart.",
            "Expect that small lesions are missed and that volumes are rough.",
            spacing_mm=float(spacing[through]),
        )
    if shape[through] < _FEWEST_SLICES:
        warn(
            "slices_few",
            f"The {title} image has {shape[through]} slices only.",
            "Check that the whole series was exported; a part of the brain can be segmented, with less certainty.",
            slices=float(shape[through]),
        )
    extent = spacing * np.asarray(shape)
    low, high = _FIELD_OF_VIEW_MM
    if extent.min() < low or extent.max() > high:
        warn(
            "field_of_view",
            f"The {title} image covers {' x '.join(f'{e:.0f}' for e in extent)} mm; a scan of the whole brain covers "
            "between "
            f"{low:.0f} and {high:.0f} mm along each axis.",
            "Check that the image is a brain and that its spacing is right; volumes depend on it.",
            smallest_mm=float(extent.min()),
            largest_mm=float(extent.max()),
        )
    directions = matrix[:3, :3] / spacing
    shear = float(np.abs(directions.T @ directions - np.eye(3)).max())
    if shear > _LARGEST_SHEAR:
        warn(
            "axes_sheared",
            f"The axes of the {title} image are not perpendicular (off by "
            f"{np.degrees(np.arcsin(min(1.0, shear))):.2g} degrees).",
            "Nothing needs doing; if it was not tilted on purpose, convert the original series again.",
            cosine=shear,
        )
    return findings


def overlap_fraction(
    shape_a: tuple[int, ...], affine_a: ArrayLike, shape_b: tuple[int, ...], affine_b: ArrayLike
) -> float:
    """Which part of the voxel block of `a` lies within that of `b`, 0-1; exact for any two blocks.

    The common part of two convex bodies has as corners the corners of each inside the other and the points where an
    edge of one passes a face of the other; its volume is measured in coordinates in which block `a` is the unit cube.
    """
    to_world_a, to_world_b = _unit_cube_to_world(shape_a, affine_a), _unit_cube_to_world(shape_b, affine_b)
    b_in_a: NDArray[np.float64] = np.linalg.inv(to_world_a) @ to_world_b
    a_in_b: NDArray[np.float64] = np.linalg.inv(to_world_b) @ to_world_a
    corners = np.array(list(product((0.0, 1.0), repeat=3)))
    points = np.vstack(
        [_inside_unit_cube(corners, a_in_b, corners), _edges_through_faces(b_in_a)]
        + [_moved(p, b_in_a) for p in (_inside_unit_cube(corners, b_in_a, corners), _edges_through_faces(a_in_b))]
    )
    if len(points) < 4:
        return 0.0
    try:
        return float(min(1.0, ConvexHull(points).volume))
    except QhullError:  # the blocks touch in a face, an edge or a corner
        return 0.0


def _unit_cube_to_world(shape: tuple[int, ...], affine: ArrayLike) -> NDArray[np.float64]:
    to_voxel = np.diag([*(float(s) for s in shape), 1.0])
    to_voxel[:3, 3] = -0.5
    return np.asarray(affine, dtype=np.float64) @ to_voxel


def _moved(points: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _inside_unit_cube(
    points: NDArray[np.float64], to_cube: NDArray[np.float64], result: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Those of `result` whose `points`, moved by `to_cube`, lie in the unit cube."""
    moved = _moved(points, to_cube)
    return result[((moved > -1e-9) & (moved < 1 + 1e-9)).all(axis=1)]


def _edges_through_faces(to_cube: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points in the unit cube where edges of another unit cube, moved by `to_cube`, pass the planes of its faces."""
    corners = np.array(list(product((0.0, 1.0), repeat=3)))
    pairs = [(i, j) for i, j in combinations(range(8), 2) if np.abs(corners[i] - corners[j]).sum() == 1]
    start, end = (_moved(corners[list(side)], to_cube) for side in zip(*pairs, strict=True))
    found = [np.empty((0, 3))]
    for axis, plane in product(range(3), (0.0, 1.0)):
        run = end[:, axis] - start[:, axis]
        crossing = np.abs(run) > 1e-12
        part = (plane - start[crossing, axis]) / run[crossing]
        points = start[crossing] + part[:, None] * (end - start)[crossing]
        points = points[(part >= 0) & (part <= 1)]
        found.append(_inside_unit_cube(points, np.eye(4), points))
    return np.vstack(found)


def check_overlap(
    shape_a: tuple[int, ...], affine_a: ArrayLike, shape_b: tuple[int, ...], affine_b: ArrayLike, role_b: str = ""
) -> Finding | None:
    """How much of the reference grid `a` the image `b` covers: nothing is an error, less than 80 % a warning.

    Returns:
        None when `b` covers enough. ``numbers`` has ``fraction``, 0-1.
    """
    fraction = overlap_fraction(shape_a, affine_a, shape_b, affine_b)
    if fraction < 1e-6:
        return Finding(
            "overlap_none",
            "error",
            role_b,
            f"The {title_of(role_b)} image lies nowhere in the field of view of the reference image.",
            "Check that both images belong to the same patient and examination, and that neither was moved or "
            "re-centred.",
            {"fraction": 0.0},
        )
    if fraction < _LEAST_OVERLAP - 1e-9:
        return Finding(
            "overlap_partial",
            "warning",
            role_b,
            f"The {title_of(role_b)} image covers {fraction:.0%} of the reference image's field of view.",
            "Look whether the brain is covered; outside, the image counts as missing.",
            {"fraction": fraction},
        )
    return None
