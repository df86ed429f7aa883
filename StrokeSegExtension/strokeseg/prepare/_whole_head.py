"""The brain inside a whole head, by intensity and shape alone.

The deepest tissue of a head is brain and tells how bright brain is; of what is as bright and hangs together after an
opening, the highest large piece is the brain; its dark parts (ventricles, sulci) are closed. The search runs on a
coarse isotropic grid, only the edge is decided on the image's own voxels. All lengths are mm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.prepare._brain_grid import Window, isotropic_shape, resample

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]

WORK_MM = 3.0
DEEP_MM = 25.0  # below scalp and skull, which are 10-20 mm thick together
BIAS_MM = 25.0  # coil sensitivity and slice-to-slice brightness change over centimetres
# Least brightness of tissue relative to the brain's own level. T1: half way between CSF (0.3) and cortex (0.65).
# Diffusion: above bone, fat-suppressed scalp and CSF (below 0.4), below deep nuclei with iron (0.6).
TISSUE_FRACTION = {"t1": 0.48}
TISSUE_FRACTION_ELSE = 0.45
OPEN_MM = (4.5, 6.0, 7.5, 9.0)  # half the width of the bridges cut: optic nerve, sinuses, dura, muscle at a thin skull
STABLE = 0.9  # of the piece remains when no bridge was cut
LARGEST_BRAIN_ML = 2200.0
_NEAR = ndimage.generate_binary_structure(3, 1)
CLOSE_MM = 7.5  # half the width of the widest sulcus or fissure that is filled
EDGE_MM = 2.0  # the width of the CSF between brain and skull: bright voxels that near to the coarse shape belong to it


def find_in_head(array: Float, spacing_mm: tuple[float, float, float], role: str) -> Mask:
    """The brain's voxels in a head with scalp and skull.

    Args:
        array: (x, y, z), finite, brain brighter than bone; axes right, front, up.
        spacing_mm: Spacing along the axes.
        role: What the image is; ``t1`` has its own contrast, everything else is taken for diffusion-weighted.

    Returns:
        bool (x, y, z), empty where nothing like a brain is found.
    """
    work = resample(array, isotropic_shape(array.shape, spacing_mm, WORK_MM))
    head = _head(work)
    if not head.any():
        return np.zeros(array.shape, dtype=bool)
    box = bounding_box(head)
    bound = TISSUE_FRACTION.get(role, TISSUE_FRACTION_ELSE) * _level(work[box], head[box])
    brain = _close(_separate(work[box] > bound))
    around = [(s.start, n - s.stop) for s, n in zip(box, work.shape, strict=True)]
    return _refine(array, np.pad(brain, around), np.pad(bound, around, mode="edge"))


def _head(work: Float) -> Mask:
    """Everything that is not air, in one piece, without holes: brighter than a tenth of the robust range."""
    low, high = np.percentile(work, [2, 98])
    if high - low <= 1e-4 * abs(high):  # one value everywhere, up to rounding
        return np.zeros(work.shape, dtype=bool)
    return fill_holes(largest(work > low + 0.1 * (high - low)))


def _level(work: Float, head: Mask) -> Float:
    """The brain's own brightness at every place, from the tissue in the depth of the head, continued outwards."""
    depth = distance_inside(head)
    deep = depth >= min(DEEP_MM, 0.6 * float(depth.max()))
    central = float(np.median(work[deep]))
    trusted = deep & (work > 0.6 * central) & (work < 1.8 * central)
    if not trusted.any():
        return np.full(work.shape, central, dtype=np.float32)
    weight = trusted.astype(np.float32)
    sigma = BIAS_MM / WORK_MM
    # The small constant pulls towards the central level where no trusted voxel is near.
    total = ndimage.gaussian_filter(weight, sigma, mode="nearest", truncate=2.5) + 1e-3
    return (ndimage.gaussian_filter(weight * work, sigma, mode="nearest", truncate=2.5) + 1e-3 * central) / total


def _separate(tissue: Mask) -> Mask:
    """The brain's piece of `tissue`: opened by the smallest radius beyond which opening more changes little."""
    depth = distance_inside(tissue)
    previous = np.zeros_like(tissue)
    for radius in OPEN_MM:
        core = _upper_piece(depth > radius)
        steps = round(radius / WORK_MM + 0.5)
        brain = ndimage.binary_dilation(core, _NEAR, iterations=steps, mask=tissue) if core.any() else core
        volume, before = int(brain.sum()), int(previous.sum())
        if before and volume >= STABLE * before and before * WORK_MM**3 / 1000 <= LARGEST_BRAIN_ML:
            return previous
        previous = brain
    return previous


def _upper_piece(mask: Mask) -> Mask:
    """The highest of the large components (faces touch): neck and jaw may be as large as the brain, but lie below."""
    labels, count = ndimage.label(mask)
    if count <= 1:
        return np.asarray(mask, dtype=bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    large = np.flatnonzero(sizes >= 0.4 * sizes.max())
    heights = [centre[2] for centre in ndimage.center_of_mass(mask, labels, large)]
    return np.asarray(labels == large[int(np.argmax(heights))], dtype=bool)


def _close(brain: Mask) -> Mask:
    """`brain` with sulci, fissures and ventricles; continued beyond the volume, so that a slab keeps its cut faces."""
    if not brain.any():
        return brain
    margin = int(np.ceil(CLOSE_MM / WORK_MM)) + 1
    padded = np.pad(brain, margin, mode="edge")
    dilated = fill_holes(distance_inside(~padded) <= CLOSE_MM)
    closed = (distance_inside(dilated) > CLOSE_MM) | padded
    inner = slice(margin, -margin)
    return fill_holes(closed[inner, inner, inner])


def _refine(array: Float, brain: Mask, bound: Float) -> Mask:
    """Native voxels: those inside the smoothed coarse shape, and those that are bright within `EDGE_MM` of its edge."""
    if not brain.any():
        return np.zeros(array.shape, dtype=bool)
    shape = (array.shape[0], array.shape[1], array.shape[2])
    reach = int(np.ceil(3 * EDGE_MM / WORK_MM))
    window = _scaled(bounding_box(brain), brain.shape, shape, reach)
    # A straight edge blurred with this width falls to 0.159 at one width outside of it.
    soft = ndimage.gaussian_filter(brain.astype(np.float32), EDGE_MM / WORK_MM, mode="nearest", truncate=2.5)
    fine = resample(soft, shape, window)
    found = np.zeros(shape, dtype=bool)
    found[window] = (fine > 0.5) | ((fine > 0.159) & (array[window] > resample(bound, shape, window)))
    return found


def _scaled(box: Window, old: tuple[int, ...], new: tuple[int, ...], reach: int) -> Window:
    """The part of a grid of `new` voxels that holds `box`, widened by `reach` voxels, of a grid of `old` voxels."""
    x, y, z = (
        slice(max(0, (b.start - reach) * n // o), min(n, -(-(b.stop + reach) * n // o)))
        for b, o, n in zip(box, old, new, strict=True)
    )
    return x, y, z


def bounding_box(mask: Mask) -> Window:
    """The smallest window that holds `mask`, which must not be empty."""
    found = ndimage.find_objects(mask.astype(np.uint8))[0]
    return found[0], found[1], found[2]


def distance_inside(mask: Mask) -> Float:
    """Distance in mm from the voxels of `mask` on the coarse grid to the nearest one outside; the border is none."""
    if mask.all():
        return np.full(mask.shape, 1e3, dtype=np.float32)
    return np.asarray(ndimage.distance_transform_edt(mask, sampling=WORK_MM), dtype=np.float32)


def largest(mask: Mask) -> Mask:
    """The largest component of `mask` (faces touch); the first one of several equal ones."""
    labels, count = ndimage.label(mask)
    if count <= 1:
        return np.asarray(mask, dtype=bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax(), dtype=bool)


def fill_holes(mask: Mask) -> Mask:
    """`mask` with its holes filled; one that the volume's border cuts open, too, if it is a hole in that border."""
    filled = mask.copy()
    for axis in range(3):
        for end in (0, -1):
            face = np.moveaxis(filled, axis, 0)[end]
            face[...] = ndimage.binary_fill_holes(face)
    labels, count = ndimage.label(~filled)
    outside = np.zeros(count + 1, dtype=bool)
    for axis in range(3):
        for end in (0, -1):
            outside[np.moveaxis(labels, axis, 0)[end]] = True
    outside[0] = False  # label 0 is the mask itself
    return ~outside[labels]
