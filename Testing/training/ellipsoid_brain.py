"""A SIMULATED patient for the programs that measure errors and looks: an ellipsoid of even tissue, axes (R, A, S).

Nothing in it is random and nothing is like a brain but the outline, so that every number can be worked out by hand.
"""

import numpy as np
from _scans import Scan

from strokeseg.symmetry import Midplane
from strokeseg.volume import Grid

RADII_MM = (66.0, 83.0, 70.0)
DWI, ADC = 200.0, 0.8


def grid(spacing_mm=4.0, margin_mm=8.0, shift_mm=0.0):
    """A grid whose middle is that of the ellipsoid, `shift_mm` to the right of the world's origin."""
    shape = tuple(2 * int((r + margin_mm) / spacing_mm) for r in RADII_MM)
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = -spacing_mm * (np.array(shape) - 1) / 2
    affine[0, 3] += shift_mm
    return Grid(shape, affine)


def places_mm(on):
    """RAS mm of every voxel: three arrays."""
    axes = (np.arange(n) * on.affine[a, a] + on.affine[a, 3] for a, n in enumerate(on.shape))
    return np.meshgrid(*axes, indexing="ij")


def patient(spacing_mm=4.0, *, slab_mm=None, lesion=None, shift_mm=0.0, name="phantom"):
    """An even brain.

    Args:
        spacing_mm: Voxel size.
        slab_mm: Only heights between these two numbers are in the scan.
        lesion: Reference mask; None: there is none.
        shift_mm: Place of the mid-sagittal plane in the world.
        name: Of the case.
    """
    on = grid(spacing_mm, shift_mm=shift_mm)
    x, y, z = places_mm(on)
    brain = ((x - shift_mm) / RADII_MM[0]) ** 2 + (y / RADII_MM[1]) ** 2 + (z / RADII_MM[2]) ** 2 <= 1.0
    if slab_mm is not None:
        inside = (np.abs(z[0, 0] - np.mean(slab_mm)) <= np.diff(slab_mm)[0] / 2).nonzero()[0]
        cut = slice(inside[0], inside[-1] + 1)
        affine = on.affine.copy()
        affine[2, 3] = z[0, 0, cut.start]
        brain = brain[:, :, cut]
        on = Grid(brain.shape, affine)
    images = {"dwi": np.where(brain, DWI, 0).astype(np.float32), "adc": np.where(brain, ADC, 0).astype(np.float32)}
    return Scan(name, on, images, brain, Midplane((1.0, 0.0, 0.0), shift_mm, 1.0, "given"), lesion)
