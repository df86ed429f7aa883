"""Soft maps of the template at 2 mm: deep grey matter, insula, tracts, air-filled bone, vascular territories.

Everything is geometry on the template's coordinates, cut by its tissue; the places are numbers in places.py. Arrays are
(x, y, z), values 0-1. Maps with a side carry the patient's side in their name.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg_training.generator.places import AIR, ARTERIES, BRIGHT_CORTEX, DEEP_GREY, TRACTS, Point

Map = NDArray[np.float32]
Axes = tuple[Map, Map, Map]

# Borders of territories differ between people by one to two centimetres (van der Zwan 1993): soft by half of that.
TERRITORY_SOFT_MM = 7.0
# How much farther than the others an artery supplies: the middle cerebral artery has about half of the hemisphere.
TERRITORY_REACH_MM = {"aca": 0.0, "mca": 5.0, "pca": 2.0}
# The field of an air cavity falls with the third power of the distance; this is the size of a typical cavity.
AIR_REACH_MM = 16.0


def soft_maps(mm: Axes, sharp: dict[str, Map], white: Map) -> dict[str, Map]:
    """Region maps on the lattice of `mm`.

    Args:
        mm: Template mm of every voxel along the three axes, broadcastable.
        sharp: Maps of surfaces.sharp_maps on this lattice.
        white: Probability of white matter.

    Returns:
        Name to (x, y, z); `Template.regions` lists them.
    """
    inside = np.clip(sharp["depth"] / 2.0 + 0.5, 0, 1).astype(np.float32)
    cerebrum = inside * (1 - np.clip(sharp["cerebellum"] + sharp["stem"], 0, 1))
    deep = deep_grey(mm, white) * cerebrum * (sharp["ventricle"] > 0.5)
    maps = {
        "cortex": cerebrum * (1 - _core(mm)),
        "deep_grey": deep,
        "insula": _insula(mm) * cerebrum,
        "sylvian": _sylvian(mm) * cerebrum,
        "cortex_bright": bright_cortex(mm) * cerebrum,
    }
    # White matter only: a tract that passes the thalamus is not brighter there.
    maps["tracts"] = np.clip(tracts(mm) * (0.25 + 0.75 * white), 0, 1) * inside
    maps |= air(mm, sharp["depth"])
    maps |= territories(mm, cerebrum, sharp)
    return {name: ndimage.gaussian_filter(m, 0.6).astype(np.float32) for name, m in maps.items()}


def territories(mm: Axes, cerebrum: Map, sharp: dict[str, Map]) -> dict[str, Map]:
    """Arterial territories per side, their border zones, and the cerebellum's three."""
    near = {}
    for name, courses in ARTERIES.items():
        distance = np.min([polyline_distance(mm, c) for c in courses], axis=0)
        near[name] = -(distance - TERRITORY_REACH_MM[name]) / TERRITORY_SOFT_MM
    total = np.logaddexp.reduce(list(near.values()), axis=0)
    share = {name: np.exp(v - total) for name, v in near.items()}
    left = _left(mm[0])
    maps: dict[str, Map] = {}
    for name, part in share.items():
        maps[f"{name}_left"], maps[f"{name}_right"] = part * cerebrum * left, part * cerebrum * (1 - left)
    # Least certain where two arteries are equally near; beside the ventricles every supply ends.
    between = 4 * share["mca"] * (share["aca"] + share["pca"])
    side, z = np.abs(mm[0]), mm[2]
    inner = np.exp(-0.5 * (((side - 27) / 5) ** 2 + ((z - 26) / 9) ** 2)) * (np.abs(mm[1] + 8) < 42)
    outer = np.clip((between - 0.6) / 0.4, 0, 1) * (z > 8) * (1 - _core(mm)) * np.clip((side - 12) / 6, 0, 1)
    maps["watershed"] = np.maximum(outer, inner).astype(np.float32) * cerebrum
    cerebellum = sharp["cerebellum"]
    superior = 1 / (1 + np.exp(-(z + 34 + 0.25 * (mm[1] + 60)) / 2.5))
    lateral = np.exp(-0.5 * (((side - 40) / 10) ** 2 + ((mm[1] + 46) / 8) ** 2 + ((z + 40) / 8) ** 2))
    maps["aica"] = cerebellum * lateral
    maps["sca"] = cerebellum * (1 - lateral) * superior
    maps["pica"] = cerebellum * (1 - lateral) * (1 - superior)
    return maps


def deep_grey(mm: Axes, white: Map) -> Map:
    """Lentiform and caudate nuclei and thalami."""
    mass = np.max([_ellipsoid(mm, centre, radii, 0.08) for centre, radii in DEEP_GREY], axis=0)
    return np.asarray(mass * np.clip((0.95 - white) / 0.25, 0, 1), dtype=np.float32)


def bright_cortex(mm: Axes) -> Map:
    """Gaussian places on both sides."""
    spots = []
    for centre, sd in BRIGHT_CORTEX:
        r2 = (np.abs(mm[0]) - centre[0]) ** 2 + (mm[1] - centre[1]) ** 2 + (mm[2] - centre[2]) ** 2
        spots.append(np.exp(-0.5 * r2 / sd**2))
    return np.max(spots, axis=0).astype(np.float32)


def air(mm: Axes, depth: Map) -> dict[str, Map]:
    """Nearness to air-filled bone, 1 at the cavity, and to any of them as `near_air`."""
    maps: dict[str, Map] = {}
    for name, cavities in AIR.items():
        distance = np.min([_ellipsoid_distance(mm, c, r) for c, r in cavities], axis=0)
        cavity = (distance <= 0) & (depth < -1.0)
        distance = ndimage.distance_transform_edt(~cavity, sampling=_steps(mm))
        maps[f"near_air_{name}"] = ((AIR_REACH_MM / (AIR_REACH_MM + distance)) ** 3).astype(np.float32)
    maps["near_air"] = np.max(list(maps.values()), axis=0)
    return maps


def tracts(mm: Axes) -> Map:
    """Corticospinal tracts, splenium, middle cerebellar peduncles and pontine fibres."""
    bundles = []
    for courses in TRACTS.values():
        for points, radius in courses:
            bundles.append(np.exp(-0.5 * (polyline_distance(mm, points) / radius) ** 2))
    pons = _ellipsoid(mm, (0, -25, -33), (16, 9, 11), 0.2)
    return np.max([*bundles, 0.7 * pons], axis=0).astype(np.float32)


def polyline_distance(mm: Axes, points: Sequence[Point]) -> Map:
    """Millimetres from every voxel to a course on its own side of the head."""
    place = np.stack(np.broadcast_arrays(np.abs(mm[0]), mm[1], mm[2])).astype(np.float32)
    best = np.full(place.shape[1:], np.inf, np.float32)
    for start, end in pairwise(points):
        a, along = np.asarray(start, np.float32), np.subtract(end, start).astype(np.float32)
        offset = place - a[:, None, None, None]
        t = np.clip(np.tensordot(along, offset, 1) / max(float(along @ along), 1e-6), 0, 1)
        best = np.minimum(best, ((offset - t * along[:, None, None, None]) ** 2).sum(0))
    return np.sqrt(best)


def _ellipsoid(mm: Axes, centre: Point, radii: Point, edge: float) -> Map:
    """1 inside an ellipsoid and its mirror image, with an edge that is this fraction of its radius wide."""
    q = sum(((m - c) / r) ** 2 for m, c, r in zip((np.abs(mm[0]), mm[1], mm[2]), centre, radii, strict=True))
    return np.asarray(1 / (1 + np.exp(np.clip((np.sqrt(q) - 1) / edge, -30, 30))), dtype=np.float32)


def _ellipsoid_distance(mm: Axes, centre: Point, radii: Point) -> Map:
    """About the mm to an ellipsoid and its mirror image, 0 or less inside."""
    q = sum(((m - c) / r) ** 2 for m, c, r in zip((np.abs(mm[0]), mm[1], mm[2]), centre, radii, strict=True))
    return np.asarray((np.sqrt(q) - 1) * min(radii), dtype=np.float32)


def _core(mm: Axes) -> Map:
    """Deep grey matter and the white matter around the third ventricle: no cortex covers them."""
    return _ellipsoid(mm, (0, -6, 4), (33, 30, 18), 0.06)


def _insula(mm: Axes) -> Map:
    return _ellipsoid(mm, (38, 2, 0), (6.5, 23, 17), 0.15)


def _sylvian(mm: Axes) -> Map:
    """The lateral fissure: from the insula outwards between temporal lobe and opercula, rising backwards."""
    side = np.abs(mm[0])
    floor = 0.45 * (-mm[1] - 5)
    return np.asarray(
        np.exp(-0.5 * ((mm[2] - np.clip(floor, -8, 14)) / 8) ** 2)
        * np.clip((side - 32) / 6, 0, 1)
        * np.clip((mm[1] + 40) / 10, 0, 1)
        * np.clip((32 - mm[1]) / 8, 0, 1),
        dtype=np.float32,
    )


def _left(x: Map) -> Map:
    return np.asarray(1 / (1 + np.exp(np.clip(x / 0.8, -30, 30))), dtype=np.float32)


def _steps(mm: Axes) -> tuple[float, float, float]:
    x, y, z = (float(np.ravel(m)[1] - np.ravel(m)[0]) for m in mm)
    return x, y, z
