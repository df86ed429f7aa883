"""SIMULATED brains and whole heads for tests: a brain drawn by formula, and a head grown around any stripped brain.

Nothing here is a scan. The head tissue follows distance bands around the brain, so it is kinder than a real head: no
motion, no distortion, no metal. What is tested on it is said to be tested on simulated heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

# Intensities relative to white matter.
_LEVELS = {
    "dwi": {
        "gray": 1.15,
        "white": 1.0,
        "csf": 0.12,
        "scalp": 0.2,
        "muscle": 0.2,
        "bone": 0.03,
        "eye": 0.5,
        "orbit": 0.15,
    },
    "b0": {"gray": 1.3, "white": 1.0, "csf": 2.8, "scalp": 0.35, "muscle": 0.4, "bone": 0.05, "eye": 2.8, "orbit": 0.3},
    "t1": {
        "gray": 0.68,
        "white": 1.0,
        "csf": 0.28,
        "scalp": 1.25,
        "muscle": 0.6,
        "bone": 0.08,
        "eye": 0.25,
        "orbit": 1.3,
    },
}


@dataclass(frozen=True, eq=False)
class Head:
    """A simulated head: image (x, y, z), the true brain mask on the same grid, the affine (voxel to RAS mm)."""

    image: Array
    brain: Mask
    affine: NDArray[np.float64]


def ras_affine(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Axis-aligned RAS affine whose origin is the centre of the volume."""
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = -(np.array(shape) - 1) / 2 * spacing_mm
    return affine


def world(shape: tuple[int, int, int], affine: NDArray[np.float64]) -> NDArray[np.float32]:
    """RAS mm of every voxel centre, shape (3, x, y, z)."""
    index = np.indices(shape, dtype=np.float32)
    rotation = affine[:3, :3].astype(np.float32)
    return np.tensordot(rotation, index, axes=1) + affine[:3, 3].astype(np.float32)[:, None, None, None]


def _ellipsoid(p: NDArray[np.float32], centre: tuple[float, ...], radii: tuple[float, ...]) -> NDArray[np.float32]:
    """Below 1 inside, 1 on the surface."""
    terms = (((p[i] - centre[i]) / radii[i]) ** 2 for i in range(3))
    return np.sqrt(sum(terms, np.zeros(p.shape[1:], np.float32)))


def brain_phantom(shape: tuple[int, int, int], affine: NDArray[np.float64], role: str) -> Head:
    """A SIMULATED skull-stripped brain, about 1300 ml: hemispheres with gyri, ventricles, cerebellum, brain stem.

    Args:
        shape: Voxels along (x, y, z).
        affine: Voxel to RAS mm; the brain lies around the world's origin, so an oblique affine cuts it obliquely.
        role: ``dwi``, ``b0`` or ``t1``.
    """
    level = _LEVELS[role]
    p = world(shape, affine)
    x, y, z = p
    cerebrum = _ellipsoid(p, (0, 0, 12), (66, 84, 58))
    temporal = np.minimum(_ellipsoid(p, (38, 8, -22), (22, 40, 22)), _ellipsoid(p, (-38, 8, -22), (22, 40, 22)))
    cerebellum = _ellipsoid(p, (0, -48, -42), (48, 30, 24))
    stem = _ellipsoid(p, (0, -24, -46), (14, 14, 34))
    upper = (cerebrum < 1) & (z > -22)
    brain = upper | (temporal < 1) | (cerebellum < 1) | (stem < 1)
    # Dark sulci: a wavy pattern, deep only near the surface.
    waves = np.sin(x / 4.2 + 1.5 * np.sin(y / 9)) * np.sin(y / 4.6 + 1.5 * np.sin(z / 8)) * np.sin(z / 4.4 + x / 11)
    near_surface = np.minimum(cerebrum, temporal) > 0.80
    image = np.where(near_surface | (cerebellum < 1), level["gray"], level["white"]).astype(np.float32)
    sulci = upper & near_surface & (waves > 0.45)
    fissure = upper & (np.abs(x) < 1.6) & (cerebrum > 0.55)
    horns = np.minimum(_ellipsoid(p, (10, 0, 20), (7, 34, 11)), _ellipsoid(p, (-10, 0, 20), (7, 34, 11)))
    image[brain & (sulci | fissure | (horns < 1))] = level["csf"]
    image[~brain] = 0.0
    return Head(image, brain, np.asarray(affine, dtype=np.float64))


def ventricles(shape: tuple[int, int, int], affine: NDArray[np.float64]) -> Mask:
    """The lateral ventricles of `brain_phantom`."""
    p = world(shape, affine)
    return np.minimum(_ellipsoid(p, (10, 0, 20), (7, 34, 11)), _ellipsoid(p, (-10, 0, 20), (7, 34, 11))) < 1


def pad(head: Head, margin_mm: float, below_mm: float | None = None) -> Head:
    """The same brain with zeros around it, so that a head finds room; for axes that run along RAS."""
    spacing = np.sqrt((head.affine[:3, :3] ** 2).sum(axis=0))
    before = [int(np.ceil(margin_mm / s)) for s in spacing]
    after = list(before)
    if below_mm is not None:
        down = before if head.affine[2, 2] > 0 else after
        down[2] = int(np.ceil(below_mm / spacing[2]))
    widths = list(zip(before, after, strict=True))
    affine = head.affine.copy()
    affine[:3, 3] = head.affine[:3, 3] - head.affine[:3, :3] @ np.array(before, dtype=np.float64)
    return Head(np.pad(head.image, widths), np.pad(head.brain, widths), affine)


def _smooth_noise(shape: tuple[int, ...], spacing: NDArray[np.float64], mm: float, rng: np.random.Generator) -> Array:
    """Smooth random field of unit variance, correlated over about `mm`."""
    coarse = [max(2, int(np.ceil(n * s / mm)) + 1) for n, s in zip(shape, spacing, strict=True)]
    field = rng.standard_normal(coarse).astype(np.float32)
    for axis, (n, c) in enumerate(zip(shape, coarse, strict=True)):
        at = np.linspace(0, c - 1, n)
        low = np.minimum(at.astype(int), c - 2)
        t = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        field = np.take(field, low, axis) * (1 - t) + np.take(field, low + 1, axis) * t
    return (field / field.std()).astype(np.float32)


def grow_head(
    head: Head,
    role: str,
    *,
    seed: int = 0,
    csf_mm: float = 2.0,
    skull_mm: float = 6.0,
    scalp_mm: float = 7.0,
    scalp: float | None = None,
    noise: float = 0.02,
    bias: float = 0.15,
) -> Head:
    """A SIMULATED whole head around a skull-stripped brain: CSF, skull, scalp, eyes, face, neck, air with Rician noise.

    Args:
        head: Image that is 0 outside of `brain`; axes roughly along RAS in any order and direction.
        role: ``dwi``, ``b0`` or ``t1``; sets the contrasts relative to the brain's own 70th percentile.
        seed: Everything random comes from it.
        csf_mm: Mean thickness of CSF between brain and skull.
        skull_mm: Mean thickness of the skull, varied smoothly by a quarter of it.
        scalp_mm: Mean thickness of the scalp, varied likewise.
        scalp: Brightness of the scalp relative to the brain; None: the role's own.
        noise: Standard deviation of the noise of both channels, relative to the brain.
        bias: Amplitude of a smooth multiplicative field.

    Returns:
        The head on the same grid; `brain` is unchanged and is the truth.
    """
    rng = np.random.default_rng(seed)
    level = dict(_LEVELS[role])
    level["scalp"] = level["scalp"] if scalp is None else scalp
    white = float(np.percentile(head.image[head.brain], 70))
    spacing = np.sqrt((head.affine[:3, :3] ** 2).sum(axis=0))
    shape = head.brain.shape
    p = world((shape[0], shape[1], shape[2]), head.affine)
    inside = p[:, head.brain]
    low, high, middle = inside.min(axis=1), inside.max(axis=1), inside.mean(axis=1)

    # The skull follows a smooth envelope of the brain, not its sulci.
    far = ndimage.distance_transform_edt(~head.brain, sampling=spacing)
    envelope = far <= 10.0
    envelope = ndimage.distance_transform_edt(envelope, sampling=spacing) > 10.0
    out = ndimage.distance_transform_edt(~(envelope | head.brain), sampling=spacing).astype(np.float32)
    skull_from = csf_mm * np.exp(0.3 * _smooth_noise(shape, spacing, 40, rng))
    skull_to = skull_from + skull_mm * np.exp(0.25 * _smooth_noise(shape, spacing, 50, rng))
    scalp_to = skull_to + scalp_mm * np.exp(0.25 * _smooth_noise(shape, spacing, 50, rng))

    texture = _smooth_noise(shape, spacing, 12, rng)
    tissue = np.zeros(shape, np.float32)
    # Face and neck first; the bands around the brain lie over them.
    x, y, z = (p[i] - c for i, c in enumerate((middle[0], high[1], low[2])))
    face = _ellipsoid(np.stack([x, y + 25, z - 10]), (0, 0, 0), (62, 45, 75)) < 1
    neck_radius = np.hypot(x / 58, (p[1] - middle[1] + 15) / 62)
    neck = (neck_radius < 1) & (z < 15)
    tissue[face] = (level["muscle"] * np.clip(0.7 + 0.6 * texture, 0, 2))[face]
    tissue[neck] = (level["muscle"] * (1 + 0.2 * texture))[neck]
    tissue[neck & (neck_radius > 0.85)] = level["scalp"]
    stem = inside[:, inside[2] < low[2] + 6].mean(axis=1)
    cord = np.hypot(p[0] - stem[0], p[1] - stem[1])
    below = neck & (p[2] < low[2])
    tissue[below & (cord < 18)] = level["bone"]
    tissue[below & (cord < 8)] = level["csf"]
    tissue[below & (cord < 6)] = 1.0
    tissue[(out > skull_to) & (out <= scalp_to) & (p[2] > low[2] + 10)] = level["scalp"]
    tissue[(out > skull_from) & (out <= skull_to)] = level["bone"]
    for side in (-1, 1):
        eye = np.linalg.norm(
            p - np.array([middle[0] + 32 * side, high[1] - 6, low[2] + 32])[:, None, None, None], axis=0
        )
        tissue[(eye < 19) & (out > skull_from + 3)] = level["orbit"]
        tissue[(eye < 12) & (out > 3)] = level["eye"]
    tissue[out <= skull_from] = level["csf"]
    # The dura, a thin sheet that is brighter than bone and CSF.
    tissue[(np.abs(out - skull_from) < 0.6)] = 0.45 if role == "t1" else level["bone"]
    clean = np.where(head.brain, head.image / white, tissue) * np.exp(bias * _smooth_noise(shape, spacing, 90, rng))
    real = clean + noise * rng.standard_normal(shape)
    image = np.hypot(real, noise * rng.standard_normal(shape)) * white
    return Head(image.astype(np.float32), head.brain, head.affine)
