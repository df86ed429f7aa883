"""A SIMULATED skull-stripped stroke patient, drawn by formula: DWI, b = 0 and ADC that obey the physics of diffusion.

Nothing here is a scan and nothing is random. The head lies turned and off the world's origin, the slices are oblique
and the voxels anisotropic, so that a mistake in any axis, sign or offset moves the lesions. The large infarct is on the
patient's right, the small one on the left.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Affine = NDArray[np.float64]
Orientation = tuple[tuple[int, ...], tuple[bool, ...]]

ALL_48: tuple[Orientation, ...] = tuple(product(permutations(range(3)), product((False, True), repeat=3)))
"""Every way to store a volume: which old axis each new one is, and whether it is flipped. The first changes nothing."""

B_VALUE = 1000.0
SHAPE = (58, 58, 36)
SPACING_MM = (3.0, 3.5, 5.0)
SLICE_TURN_DEGREES = (9.0, -5.0, 7.0)
HEAD_TURN_DEGREES = (0.0, 3.0, -4.0)
HEAD_CENTRE_MM = (6.0, -14.0, 21.0)

# In the head's own frame: x to the right of its mid-sagittal plane, y to the front, z up; centre and half axes in mm.
RIGHT_INFARCT = ((36.0, -8.0, 20.0), (15.0, 17.0, 13.0))
LEFT_INFARCT = ((-32.0, 22.0, 28.0), (7.0, 6.5, 7.5))

# ADC in 1e-3 mm²/s (Helenius et al., AJNR 2002; infarct about half) and b = 0 signal relative to white matter.
_ADC = {"white": 0.72, "gray": 0.86, "fluid": 2.9, "infarct": 0.42}
_B0 = {"white": 1.0, "gray": 1.2, "fluid": 2.6, "infarct": 1.25}
_SCALE = 600.0
_SOFT_EDGE_MM = 0.8


@dataclass(frozen=True, eq=False)
class StrokePhantom:
    """The images (x, y, z) of the simulated patient, all on one grid.

    Attributes:
        dwi: float32, arbitrary unit, b = 1000 s/mm².
        b0: float32, same unit, b = 0.
        adc: float32, 1e-3 mm²/s.
        brain: Where the images are not 0.
        right: The large infarct.
        left: The small infarct.
        affine: 4x4, voxel index to RAS mm.
    """

    dwi: Array
    b0: Array
    adc: Array
    brain: Mask
    right: Mask
    left: Mask
    affine: Affine


def stroke_phantom(
    shape: tuple[int, int, int] = SHAPE,
    spacing_mm: tuple[float, float, float] = SPACING_MM,
    slice_turn_degrees: tuple[float, float, float] = SLICE_TURN_DEGREES,
) -> StrokePhantom:
    """The patient, always the same, sampled on any grid whose middle is the middle of the head.

    Args:
        shape: Voxels along (x, y, z).
        spacing_mm: Their size.
        slice_turn_degrees: How the voxel axes are turned against R, A and S.
    """
    affine = np.eye(4)
    affine[:3, :3] = turned(slice_turn_degrees) * np.asarray(spacing_mm)
    affine[:3, 3] = np.asarray(HEAD_CENTRE_MM) - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    # As a NIfTI header holds it, so that what comes back can be compared bit for bit.
    affine = affine.astype(np.float32).astype(np.float64)
    index = np.indices(shape, dtype=np.float64)
    world = np.tensordot(affine[:3, :3], index, axes=1) + affine[:3, 3][:, None, None, None]
    head = np.tensordot(turned(HEAD_TURN_DEGREES).T, world - np.asarray(HEAD_CENTRE_MM)[:, None, None, None], axes=1)

    cerebrum = _depth_mm(head, (0, 0, 10), (66, 84, 57))
    below = np.maximum(_depth_mm(head, (0, -46, -36), (46, 30, 24)), _depth_mm(head, (0, -22, -38), (14, 14, 34)))
    temporal = np.maximum(*(_depth_mm(head, (side * 37, 10, -20), (22, 38, 22)) for side in (-1, 1)))
    outer = np.maximum(np.where(head[2] > -22, cerebrum, -np.inf), np.maximum(below, temporal))
    brain = outer > 0
    horns = np.maximum(*(_depth_mm(head, (side * 10, 0, 18), (6, 32, 10)) for side in (-1, 1)))
    # Dark sulci near the surface; both sides alike, as far as folds of two hemispheres are.
    x, y, z = np.abs(head[0]), head[1], head[2]
    folds = np.sin(x / 4.2 + 1.5 * np.sin(y / 9)) * np.sin(y / 4.6 + 1.5 * np.sin(z / 8)) * np.sin(z / 4.4 + x / 11)
    sulci = np.minimum(6.0 - cerebrum, 8.0 * (folds - 0.45))

    infarcts = {name: _depth_mm(head, *where) for name, where in (("right", RIGHT_INFARCT), ("left", LEFT_INFARCT))}
    share = {"infarct": _inside(np.maximum(infarcts["right"], infarcts["left"]))}
    share["fluid"] = _inside(np.maximum(horns, sulci)) * (1 - share["infarct"])
    share["gray"] = _inside(7.0 - cerebrum) * (1 - share["infarct"] - share["fluid"])
    share["white"] = 1 - share["infarct"] - share["fluid"] - share["gray"]
    # Tissue is not of one value: waves of 5 %, the same on both sides and in every voxel of every grid.
    texture = 1 + 0.05 * np.sin(x / 6 + 1) * np.sin(y / 7) + 0.03 * np.sin(z / 5 + x / 9)
    b0 = texture * sum(_B0[t] * share[t] for t in _B0)
    dwi = texture * sum(_B0[t] * np.exp(-B_VALUE * _ADC[t] / 1000.0) * share[t] for t in _B0)
    adc = np.log(b0 / dwi) / B_VALUE * 1000.0
    masked = {n: np.where(brain, v, 0).astype(np.float32) for n, v in {"dwi": _SCALE * dwi, "b0": _SCALE * b0}.items()}
    return StrokePhantom(
        **masked,
        adc=np.where(brain, adc, 0).astype(np.float32),
        brain=brain,
        right=infarcts["right"] > 0,
        left=infarcts["left"] > 0,
        affine=affine,
    )


def to_world(head_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """RAS mm of a point in the head's own frame."""
    return np.asarray(turned(HEAD_TURN_DEGREES) @ np.asarray(head_mm) + np.asarray(HEAD_CENTRE_MM))


def turned(degrees: tuple[float, float, float]) -> NDArray[np.float64]:
    """Rotation (3, 3) about the x, then the y, then the z axis."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        i, j = (k for k in range(3) if k != axis)
        step = np.eye(3)
        step[i, i] = step[j, j] = np.cos(angle)
        step[i, j], step[j, i] = -np.sin(angle), np.sin(angle)
        matrix = step @ matrix
    return matrix


def stored_as(array: NDArray[Any], affine: Affine, orientation: Orientation) -> tuple[NDArray[Any], Affine]:
    """The same volume (x, y, z) with permuted and flipped axes, and the affine that leaves every voxel in its place."""
    order, flips = orientation
    step = np.zeros((4, 4))
    step[3, 3] = 1
    for new, old in enumerate(order):
        step[old, new] = -1 if flips[new] else 1
        step[old, 3] = array.shape[old] - 1 if flips[new] else 0
    return np.flip(array.transpose(order), tuple(a for a in range(3) if flips[a])), affine @ step


def save_nifti(path: Path, array: NDArray[Any], affine: Affine, orientation: Orientation = ALL_48[0]) -> Path:
    """Write a volume in an orientation, its place in the sform alone; returns `path`."""
    stored, where = stored_as(array, affine, orientation)
    image = nib.Nifti1Image(np.ascontiguousarray(stored), where, dtype=array.dtype)
    image.set_sform(where, 1)
    image.set_qform(None, 0)
    nib.save(image, path)
    return path


def _depth_mm(p: NDArray[np.float64], centre: tuple[float, ...], radii: tuple[float, ...]) -> NDArray[np.float64]:
    """About how deep a point lies in an ellipsoid, mm; negative outside."""
    terms = [((p[i] - centre[i]) / radii[i]) ** 2 for i in range(3)]
    return np.asarray((1 - np.sqrt(terms[0] + terms[1] + terms[2])) * min(radii))


def _inside(depth_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of a voxel inside, with the soft edge that any scanner gives."""
    return np.asarray(1 / (1 + np.exp(-np.clip(depth_mm / _SOFT_EDGE_MM, -40, 40))))
