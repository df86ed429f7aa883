"""The healthy but ageing brain of the synthetic patient: tissue fractions made from the MNI template.

The template is an average of 152 young heads: larger than one brain, mirror-symmetric, its cortex blurred and its fluid
spaces narrow. Here it is shrunk, bent, sharpened and aged, so that gyri, sulci and ventricles look like those of one
older person. Arrays are (x, y, z) on the template's 1 mm lattice, cropped to the brain; the affine carries the size and
pose of the patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.errors import DependencyError

Field = NDArray[np.float32]

# The template holds 1883 ml against 1150-1450 ml of an adult brain.
HEAD_SCALE = 0.90
MARGIN_VOXELS = 6


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Tissue of one head on one lattice.

    Args:
        grey, white, csf: Fractions 0-1 (x, y, z); they sum to 1 in the brain and to 0 outside.
        brain: Boolean, inside of the skull's inner table.
        mni_mm: Three broadcastable arrays, the template's coordinates (x to the right, y to the front, z up) of every
            voxel, before the bending, hence true to a few millimetres.
        affine: 4x4, voxel index to the patient's RAS mm.
    """

    grey: Field
    white: Field
    csf: Field
    brain: NDArray[np.bool_]
    mni_mm: tuple[Field, Field, Field]
    affine: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (x, y, z)."""
        x, y, z = self.grey.shape
        return x, y, z

    def spot(
        self,
        centre_mm: tuple[float, float, float],
        radii_mm: tuple[float, float, float],
        edge: float = 0.0,
        ragged: Field | float = 0.0,
    ) -> Field:
        """A place of the brain as weights 0-1 around a point of the template.

        Args:
            centre_mm: Template coordinates (x, y, z).
            radii_mm: Half axes along (x, y, z).
            edge: 0 gives a Gaussian whose standard deviation is the radius; otherwise an ellipsoid with a soft rim, the
                larger the softer.
            ragged: Field (x, y, z) that pushes the ellipsoid's border out or in, as a fraction of its radius.

        Returns:
            (x, y, z) weights.
        """
        squares = [((m - c) / r) ** 2 for m, c, r in zip(self.mni_mm, centre_mm, radii_mm, strict=True)]
        distance2 = squares[0] + squares[1] + squares[2]
        if edge == 0.0:
            return np.exp(-0.5 * distance2)
        return logistic((1.0 - np.sqrt(distance2) + ragged) / edge)


def logistic(value: Any) -> Field:
    """1 / (1 + exp(-value)), safe for large values."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.asarray(value, dtype=np.float32))), dtype=np.float32)


def smooth_field(rng: np.random.Generator, shape: tuple[int, int, int], scale_voxels: float) -> Field:
    """A random field of mean 0 and standard deviation 1, smooth over `scale_voxels` (x, y, z).

    Cubic B-splines over a coarse lattice of normal numbers: smooth in its derivatives, and made by three small matrix
    products.
    """
    step = max(scale_voxels / 2.0, 1.0)
    bases = [_spline_basis(n, step) for n in shape]
    coarse = rng.standard_normal(tuple(b.shape[1] for b in bases)).astype(np.float32)
    field = np.einsum("xa,yb,zc,abc->xyz", *bases, coarse, optimize=True)
    return np.asarray((field - field.mean()) / field.std(), dtype=np.float32)


def _spline_basis(count: int, step: float) -> Field:
    """(count, nodes) weights of cubic B-splines with nodes `step` voxels apart."""
    position = np.arange(count) / step
    distance = np.abs(position[:, None] - (np.arange(int(position[-1]) + 4) - 1))
    inner = 2 / 3 - distance**2 + distance**3 / 2
    outer = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, inner, outer).astype(np.float32)


def blur(field: Field, sigma_voxels: float) -> Field:
    """Gaussian blur of (x, y, z)."""
    return ndimage.gaussian_filter(field, sigma_voxels, truncate=3.0, mode="nearest")


def make_anatomy(rng: np.random.Generator) -> Anatomy:
    """One older person's tissue, asymmetric and individual.

    Args:
        rng: Source of every random number used.

    Returns:
        Tissue fractions of about 4 million voxels of 0.9 mm.

    Raises:
        DependencyError: nilearn, which brings the template, is not installed.
    """
    t1, grey, white, brain, affine = _load_template()
    csf = np.clip(brain - grey - white, 0, 1)
    shape = (t1.shape[0], t1.shape[1], t1.shape[2])
    mni_mm = _coordinates(shape, affine)
    position = _bend(rng, shape)
    t1, grey, white, csf, brain = (
        ndimage.map_coordinates(a, position, order=1, mode="nearest") for a in (t1, grey, white, csf, brain)
    )
    inside = brain > 0.5
    fractions = _sharpen_and_age(rng, (t1, grey, white, csf), inside, find_ventricles(csf, mni_mm))
    return Anatomy(fractions[0], fractions[1], fractions[2], inside, mni_mm, _pose(rng) @ affine)


def _load_template() -> tuple[Field, Field, Field, Field, NDArray[np.float64]]:
    """T1 and the probabilities of grey, white and brain at 1 mm, cropped, with the cropped affine."""
    try:
        # Imported here: nilearn takes seconds to load and only this function needs it.
        from nilearn import datasets  # noqa: PLC0415
    except ImportError as error:
        raise DependencyError(
            "The brain template is not available.",
            f"It comes with the library nilearn, which could not be loaded: {error}.",
            "Install the training packages with 'pip install strokeseg[train]' and try again.",
        ) from error

    images = [
        load(resolution=1)
        for load in (
            datasets.load_mni152_template,
            datasets.load_mni152_gm_template,
            datasets.load_mni152_wm_template,
            datasets.load_mni152_brain_mask,
        )
    ]
    arrays = [np.asarray(image.dataobj, dtype=np.float32) for image in images]
    box = ndimage.find_objects((arrays[3] > 0).astype(np.int8))[0]
    start = [max(0, s.start - MARGIN_VOXELS) for s in box]
    crop = tuple(slice(a, s.stop + MARGIN_VOXELS) for a, s in zip(start, box, strict=True))
    affine = np.array(images[0].affine, dtype=np.float64)
    affine[:3, 3] += affine[:3, :3] @ start
    t1, grey, white, brain = (a[crop] for a in arrays)
    return t1, grey, white, brain, affine


def _coordinates(shape: tuple[int, int, int], affine: NDArray[np.float64]) -> tuple[Field, Field, Field]:
    """Template coordinates as three broadcastable arrays; the template's axes run along the world's."""
    x, y, z = ((np.arange(n) * affine[k, k] + affine[k, 3]).astype(np.float32) for k, n in enumerate(shape))
    return x[:, None, None], y[None, :, None], z[None, None, :]


def _pose(rng: np.random.Generator) -> NDArray[np.float64]:
    """4x4: the head's size and the few degrees by which nobody lies straight in a scanner."""
    turn_deg = rng.normal(0.0, (2.0, 1.5, 2.0))
    pose = np.eye(4)
    pose[:3, :3] = rotation(turn_deg) * HEAD_SCALE
    pose[:3, 3] = rng.normal(0.0, 3.0, 3)
    return pose


def rotation(degrees: Any) -> NDArray[np.float64]:
    """3x3 rotation about x, then y, then z, in degrees."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x, dtype=np.float64)


def _bend(rng: np.random.Generator, shape: tuple[int, int, int]) -> Field:
    """(3, x, y, z) voxel positions at which the template is read.

    A long wave gives the head its own shape and asymmetry, a short one its own gyri.
    """
    position = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij"))
    for axis in range(3):
        position[axis] += 1.7 * smooth_field(rng, shape, 60.0) + 0.9 * smooth_field(rng, shape, 17.0)
    return position


def find_ventricles(csf: Field, mni_mm: tuple[Field, Field, Field]) -> NDArray[np.bool_]:
    """The fluid in the middle of the brain (x, y, z): third and lateral ventricles."""
    x, y, z = mni_mm
    central = ((x / 40) ** 2 + ((y + 16) / 60) ** 2 + ((z - 12) / 26) ** 2) < 1
    labels, _ = ndimage.label((csf > 0.4) & central)
    sizes = np.bincount(labels.ravel())
    large = sizes > 300
    large[0] = False
    return np.asarray(large[labels])


def _sharpen_and_age(
    rng: np.random.Generator,
    maps: tuple[Field, Field, Field, Field],
    inside: NDArray[np.bool_],
    ventricles: NDArray[np.bool_],
) -> Field:
    """(3, x, y, z) fractions of grey, white and fluid, with the cortex as crisp as in one person.

    The average head still shows where its sulci are, as valleys of T1 and ridges of fluid; both are raised relative to
    their surroundings before the three tissues compete again. `maps` are T1, grey, white and fluid.
    """
    t1, grey, white, csf = maps
    shape = (t1.shape[0], t1.shape[1], t1.shape[2])
    depth = ndimage.distance_transform_edt(inside).astype(np.float32)
    surroundings = blur(t1, 4.0) / np.maximum(blur(inside.astype(np.float32), 4.0), 0.05)
    valley = np.clip((surroundings - t1) / 0.12, 0, 2) * (depth < 25)
    ridge = np.clip((csf - blur(csf, 3.0)) / (blur(csf, 3.0) + 0.03), 0, 3)
    crisp = [a + 1.5 * (a - blur(a, 1.5)) + 0.8 * (a - blur(a, 4.0)) for a in (grey, white)]
    fluid = csf + 0.9 * (csf - blur(csf, 2.0)) + 0.25 * ridge + 0.6 * valley
    # With age the brain shrinks away from the skull and the ventricles grow into the tissue around them.
    fluid += 0.6 * np.exp(-((depth / 2.6) ** 2))
    beyond = ndimage.distance_transform_edt(~ventricles).astype(np.float32)
    widened = logistic((2.2 + 0.7 * smooth_field(rng, shape, 25.0) - beyond) / 0.5)
    logits = np.log(np.clip(np.stack([*crisp, fluid]), 0, 1) + 0.03) * 1.9
    for tissue, strength in enumerate((0.35, 0.35, 0.6)):
        logits[tissue] += strength * smooth_field(rng, shape, 7.0)
    logits[2] += 0.55
    weights = np.exp(logits - logits.max(axis=0))
    fractions = weights / weights.sum(axis=0) * (1 - widened)
    fractions[2] += widened
    return np.asarray(fractions * inside, dtype=np.float32)
