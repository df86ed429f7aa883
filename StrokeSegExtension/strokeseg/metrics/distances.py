"""Distances between the surfaces of two masks, in millimetres of the world.

Boundary convention: the surface of a mask is the set of its voxels that have a face neighbour outside the mask
(outside the grid counts as outside), each placed at its centre. One-voxel structures therefore have a surface, and
two equal masks have distance 0. Distances are Euclidean between world positions, hence right for anisotropic, oblique
and sheared grids.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from strokeseg.metrics.inputs import Affine, Mask

NSD_TOLERANCE_MM = 2.0


@dataclass(frozen=True)
class SurfaceDistances:
    """Summary of the distances from each surface voxel of one mask to the nearest surface voxel of the other.

    Attributes:
        hd95_mm: The larger of the two directed 95th percentiles (linear interpolation between ranks).
        assd_mm: Mean over the surface voxels of both masks together.
        ahd_mm: Mean of the two directed means; it weighs both surfaces alike however many voxels they have.
        nsd_2mm: Share of the surface voxels of both masks that lie within 2 mm (included) of the other surface.
    """

    hd95_mm: float
    assd_mm: float
    ahd_mm: float
    nsd_2mm: float


def surface_voxels(mask: Mask) -> NDArray[np.int64]:
    """Indices (n, 3) of the voxels of `mask` with a face neighbour outside it."""
    return np.argwhere(mask & ~ndimage.binary_erosion(mask))


def surface_distances(prediction: Mask, reference: Mask, affine: Affine) -> SurfaceDistances:
    """Compare the surfaces of two boolean (x, y, z) arrays of one shape; all NaN when one of them is empty.

    Args:
        prediction: Boolean array.
        reference: Boolean array of the same shape.
        affine: 4x4, voxel index to mm. Only differences of positions matter, so a crop needs no other affine.
    """
    axes = affine[:3, :3].T
    p, g = (surface_voxels(mask).astype(np.float64) @ axes for mask in (prediction, reference))
    if not len(p) or not len(g):
        return SurfaceDistances(*[float("nan")] * 4)
    from_p = np.asarray(cKDTree(g).query(p)[0])
    from_g = np.asarray(cKDTree(p).query(g)[0])
    both = np.concatenate([from_p, from_g])
    # Rotated axes leave 2 mm as 2.0000000000000004 mm.
    near = np.count_nonzero(both <= NSD_TOLERANCE_MM + 1e-6)
    return SurfaceDistances(
        hd95_mm=float(max(np.percentile(from_p, 95), np.percentile(from_g, 95))),
        assd_mm=float(both.mean()),
        ahd_mm=float((from_p.mean() + from_g.mean()) / 2),
        nsd_2mm=float(near / both.size),
    )
