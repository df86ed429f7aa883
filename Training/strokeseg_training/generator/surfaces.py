"""Sharp maps of the template at 1 mm: how far every point is from the brain's surface, sulci, cisterns and ventricles.

The template averages 152 heads: its tissue probabilities are too blurred to show gyri at the vertex. Its T1 image still
has every large sulcus as a valley. The valley lines are found as sheets of greatest curvature; distances to them let a
patient's sulci be as wide as wished, which no sharpening of probabilities does. Arrays are (x, y, z) on the template's
lattice, distances in template millimetres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

# T1 of the template: fluid 0.25-0.41 (10th-90th percentile), cortex 0.64, white matter 0.87 (medians).
T1_FLUID = 0.35
T1_NO_VALLEY = 0.85
# Curvature of T1 across a sulcus (per mm²) at this width; below the first figure valleys are noise of the average.
VALLEY_SIGMA_MM = 1.2
VALLEY_WEAK, VALLEY_STRONG = 0.012, 0.03
# Basal cisterns are no wider than twice this: a ball of this radius does not fall into them from outside.
CISTERN_RADIUS_MM = 8.0
FAR_MM = 12.0


@dataclass(frozen=True, eq=False)
class TemplateImages:
    """The template's T1, grey and white probability, brain mask (x, y, z) and each voxel's mm along the three axes."""

    t1: Map
    grey: Map
    white: Map
    brain: Mask
    mm: tuple[Map, Map, Map]


def sharp_maps(images: TemplateImages) -> dict[str, Map]:
    """Maps that tissue is made from.

    Returns:
        depth: mm below the dura, negative outside. The dura is the brain mask with the basal cisterns closed.
        whiteness: Log odds of white against grey matter, sharpened, -5 to 5.
        sulcus: mm to the closest sulcal sheet.
        prominence: 0-1, how deep that sulcus is cut into the average brain.
        cistern: Signed mm to open fluid that is not ventricle, negative inside.
        ventricle: Signed mm to the ventricles, negative inside.
        cerebellum, stem: 0-1 with an edge of about one voxel.
    """
    inside = _close(images.brain)
    fluid = np.where(images.brain, np.clip(1.0 - images.grey - images.white, 0, 1), inside).astype(np.float32)
    ventricles = find_ventricles(fluid, images.mm)
    hind = hind_brain(images, inside)
    sulcus, prominence = _sulci(images, inside, ventricles)
    cisterns = (fluid > 0.5) & inside & ~ndimage.binary_dilation(ventricles, iterations=2)
    cisterns = _larger_than(cisterns, 200)
    return {
        "depth": signed_distance(~inside),
        "whiteness": _whiteness(images),
        "sulcus": sulcus,
        "prominence": prominence,
        "cistern": signed_distance(cisterns),
        "ventricle": signed_distance(ventricles),
        **hind,
    }


def signed_distance(mask: Mask) -> Map:
    """Distance in voxels to the border of a mask, negative inside, limited to `FAR_MM`."""
    outer = ndimage.distance_transform_edt(~mask) - 0.5
    inner = ndimage.distance_transform_edt(mask) - 0.5
    return np.clip(np.where(mask, -inner, outer), -FAR_MM, FAR_MM).astype(np.float32)


def find_ventricles(fluid: Map, mm: tuple[Map, Map, Map]) -> Mask:
    """Lateral, third and fourth ventricle; the cisterns behind the third ventricle are left out by place."""
    x, y, z = mm
    side = np.abs(x)
    wet = fluid > 0.45
    cistern = (side < 13) & (y < -26) & (z < 19)
    lateral = (((side - 16) / 24) ** 2 + ((y + 12) / 50) ** 2 + ((z - 12) / 20) ** 2 < 1) & ~cistern & (z > -4)
    lateral = _larger_than(wet & lateral, 1500)
    # The plexus lies in the atria and looks like grey matter.
    lateral = ndimage.binary_closing(lateral, iterations=3)
    third = wet & (side < 5) & (y > -27) & (y < 6) & (z > -12) & (z < 12)
    fourth = wet & (side < 9) & (y > -52) & (y < -34) & (z > -46) & (z < -20)
    return np.asarray(lateral | third | _larger_than(fourth, 100))


def hind_brain(images: TemplateImages, inside: Mask) -> dict[str, Map]:
    """Cerebellum and brain stem, parted from the cerebrum along the tentorium and from each other at the peduncles."""
    x, y, z = images.mm
    side = np.abs(x)
    # The tentorium is a tent: its ridge over the vermis, steep in front, flat behind, its hem on the petrous bone.
    ridge = np.where(y > -58, -7.0, -7.0 - 0.52 * (-58 - y))
    slope = np.interp(y, (-80, -75, -58, -45, -38), (0.15, 0.18, 0.6, 1.1, 1.8))
    roof = ridge - slope * np.maximum(side - 4, 0)
    roof = np.where(y > -70, np.maximum(roof, -27.0), roof)
    front = -26 - 0.35 * np.clip(side - 12, 0, 30)
    below = inside & (z < roof) & (y < front)
    axis = _stem_axis(z)
    stem = (side / np.where(z > -20, 17.0, 20.0)) ** 2 + ((y - axis) / 17) ** 2 < 1
    stem &= inside & (z < -6) & (y > axis - 13) & (y < np.where(z > -20, -13.0, -8.0))
    cerebellum = below & ~stem
    return {"cerebellum": _soft(cerebellum), "stem": _soft(stem)}


def _stem_axis(z: Map) -> Map:
    """Front-back place of the brain stem's middle at a height: it leans backwards below the pons."""
    return np.where(z > -30, -25.0 - 0.05 * (z + 6), -24.0 + 0.55 * (z + 30)).astype(np.float32)


def _soft(mask: Mask) -> Map:
    largest = ndimage.binary_opening(mask, iterations=1)
    return ndimage.gaussian_filter(largest.astype(np.float32), 0.8)


def _close(brain: Mask) -> Mask:
    """The brain with its basal cisterns: dilated and eroded by a ball, borders outside."""
    pad = int(CISTERN_RADIUS_MM) + 2
    padded = np.pad(brain, pad)
    grown = ndimage.distance_transform_edt(~padded) <= CISTERN_RADIUS_MM
    closed = ndimage.distance_transform_edt(grown) > CISTERN_RADIUS_MM
    centre = slice(pad, -pad)
    return np.asarray(closed[centre, centre, centre] | brain)


def _larger_than(mask: Mask, voxels: int) -> Mask:
    labels, _ = ndimage.label(mask)
    keep = np.bincount(labels.ravel()) >= voxels
    keep[0] = False
    return np.asarray(keep[labels])


def _whiteness(images: TemplateImages) -> Map:
    """White against grey matter with the blur of the average partly undone."""
    sharp = []
    for tissue in (images.white, images.grey):
        fine, coarse = ndimage.gaussian_filter(tissue, 1.5), ndimage.gaussian_filter(tissue, 4.0)
        sharp.append(np.clip(tissue + 1.2 * (tissue - fine) + 0.6 * (tissue - coarse), 0, 1) + 0.02)
    return np.clip(np.log(sharp[0] / sharp[1]), -5, 5).astype(np.float32)


def _sulci(images: TemplateImages, inside: Mask, ventricles: Mask) -> tuple[Map, Map]:
    """Distance to the closest valley sheet of T1, and that valley's prominence."""
    t1 = np.where(images.brain, images.t1, np.float32(T1_FLUID))
    curvature, step, direction, where = _valleys(t1, inside)
    on_sheet = (np.abs(step) < 0.71) & (curvature > VALLEY_WEAK)
    places = tuple(w[on_sheet] for w in where)
    weak = np.zeros(t1.shape, bool)
    weak[places] = True
    weak &= ~_without_sulci(images, ventricles)
    strong = np.zeros(t1.shape, np.float32)
    strong[places] = curvature[on_sheet]
    sheets = _anchored(weak, strong > VALLEY_STRONG)
    shift = np.zeros((*t1.shape, 3), np.float32)
    shift[places] = (step[:, None] * direction)[on_sheet]
    nearest = ndimage.distance_transform_edt(~sheets, return_distances=False, return_indices=True)
    grid = np.indices(t1.shape, dtype=np.float32)
    exact = nearest + np.moveaxis(shift[tuple(nearest)], -1, 0)
    distance = np.sqrt(((grid - exact) ** 2).sum(0))
    # The sheet goes on between its voxels: one voxel away, the distance along the sheet must not count.
    offset = grid - nearest
    normal = np.zeros((*t1.shape, 3), np.float32)
    normal[places] = direction[on_sheet]
    across = np.abs(((grid - exact) * np.moveaxis(normal[tuple(nearest)], -1, 0)).sum(0))
    distance = np.where((offset**2).sum(0) < 2.1, np.minimum(distance, across), distance)
    prominence = np.clip((strong[tuple(nearest)] - VALLEY_WEAK) / (2 * VALLEY_STRONG - VALLEY_WEAK), 0, 1)
    return np.minimum(distance, FAR_MM).astype(np.float32), ndimage.gaussian_filter(prominence, 1.5).astype(np.float32)


def _without_sulci(images: TemplateImages, ventricles: Mask) -> Mask:
    """Deep grey matter, stem and the ventricles' walls: their borders curve like valleys and are none."""
    x, y, z = images.mm
    side = np.abs(x)
    core = ((side / 33) ** 2 + ((y + 6) / 30) ** 2 + ((z - 4) / 19) ** 2 < 1) & (z > -13)
    core |= (side < 17) & (y > -32) & (y < -10) & (z < -4)
    core |= (side < 14) & (y > -48) & (y < -28) & (z < -24)
    return np.asarray(core | (ndimage.distance_transform_edt(~ventricles) < 4.0))


def _valleys(t1: Map, inside: Mask) -> tuple[Map, Map, Map, tuple[NDArray[np.intp], ...]]:
    """Curvature across the steepest direction, signed way to the valley's bottom, and that direction, at candidates."""
    orders = ((2, 0, 0), (1, 1, 0), (1, 0, 1), (0, 2, 0), (0, 1, 1), (0, 0, 2))
    second = [ndimage.gaussian_filter(t1, VALLEY_SIGMA_MM, order=o) for o in orders]
    candidates = inside & (t1 < T1_NO_VALLEY) & (second[0] + second[3] + second[5] > VALLEY_WEAK)
    where = np.nonzero(candidates)
    hessian = np.zeros((len(where[0]), 3, 3), np.float32)
    for (i, j), part in zip(((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)), second, strict=True):
        hessian[:, i, j] = hessian[:, j, i] = part[where]
    values, vectors = np.linalg.eigh(hessian)
    slope = np.stack([ndimage.gaussian_filter(t1, VALLEY_SIGMA_MM, order=o)[where] for o in np.eye(3, dtype=int)], -1)
    direction = vectors[:, :, 2]
    curvature = values[:, 2]
    step = -(slope * direction).sum(-1) / np.maximum(curvature, 1e-4)
    return curvature, step, direction, where


def _anchored(weak: Mask, strong: Mask) -> Mask:
    """Pieces of `weak` (26-connected) that are large and hold enough of `strong`."""
    labels, count = ndimage.label(weak, np.ones((3, 3, 3)))
    size = np.bincount(labels.ravel(), minlength=count + 1)
    anchors = np.bincount(labels[strong & weak], minlength=count + 1)
    keep = (size >= 60) & (anchors >= 15)
    keep[0] = False
    return np.asarray(keep[labels])
