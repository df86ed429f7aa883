"""The vessels' territories as lines in the template, and how far a voxel is from one.

Simplified after the arterial maps of Tatu 1998 and 2012: good enough for where infarcts lie, not for naming a vessel.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strokeseg_training.generator.lesion_head import Coarse, Head, Lattice

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Territory:
    """One territory, described on the right side.

    Args:
        vessel: "mca", "aca", "pca", "watershed", "cerebellum" or "stem".
        line_mm: Template coordinates along the vessel's bed.
        radius_mm: Half width of the bed.
        within: "cerebrum", "cerebellum" or "brain_stem": infarcts do not cross from one to the other.
        share: Frequency among the vessel's infarcts.
    """

    vessel: str
    line_mm: tuple[Point, ...]
    radius_mm: float
    within: str
    share: float


TERRITORIES = {
    "mca_trunk": Territory("mca", ((20, 2, -12), (38, 2, -4), (44, -6, 14), (48, -24, 26)), 26.0, "cerebrum", 0.18),
    "mca_insula": Territory("mca", ((28, 4, -14), (38, 4, -4), (40, -8, 8), (42, -18, 14)), 13.0, "cerebrum", 0.16),
    "mca_superior": Territory("mca", ((40, 8, 6), (48, 10, 20), (48, 0, 34), (40, -12, 50)), 17.0, "cerebrum", 0.22),
    "mca_inferior": Territory("mca", ((42, -14, 2), (54, -30, 4), (54, -46, 18), (44, -62, 28)), 17.0, "cerebrum", 0.2),
    "mca_lenticulostriate": Territory("mca", ((14, 6, -8), (24, 2, 4), (25, -4, 20)), 8.0, "cerebrum", 0.16),
    "choroidal_anterior": Territory("mca", ((20, -8, -12), (20, -18, 2), (23, -22, 16)), 5.0, "cerebrum", 0.08),
    "aca": Territory("aca", ((5, 28, -8), (6, 46, 10), (6, 34, 30), (7, 10, 50), (8, -22, 58)), 12.0, "cerebrum", 1.0),
    "pca_calcarine": Territory("pca", ((16, -44, -2), (16, -66, 4), (12, -88, 4)), 13.0, "cerebrum", 0.5),
    "pca_temporal": Territory("pca", ((20, -24, -14), (32, -40, -16), (36, -58, -14)), 10.0, "cerebrum", 0.2),
    "pca_thalamus": Territory("pca", ((6, -10, 0), (10, -18, 6), (15, -24, 8)), 7.0, "cerebrum", 0.3),
    "watershed_anterior": Territory(
        "watershed", ((22, 42, 24), (24, 24, 42), (24, 0, 54), (24, -24, 58), (24, -46, 54)), 7.0, "cerebrum", 0.35
    ),
    "watershed_posterior": Territory(
        "watershed", ((24, -50, 52), (34, -70, 36), (36, -84, 16), (42, -72, 0)), 8.0, "cerebrum", 0.3
    ),
    "watershed_internal": Territory(
        "watershed", ((22, 28, 20), (24, 6, 26), (26, -16, 30), (26, -40, 28)), 5.0, "cerebrum", 0.35
    ),
    "pica": Territory("cerebellum", ((12, -46, -48), (18, -62, -52), (24, -76, -44)), 14.0, "cerebellum", 0.45),
    "sca": Territory("cerebellum", ((8, -46, -18), (20, -58, -20), (34, -62, -28)), 11.0, "cerebellum", 0.4),
    "aica": Territory("cerebellum", ((22, -44, -38), (36, -52, -40)), 8.0, "cerebellum", 0.15),
    "pons": Territory("stem", ((3, -16, -34), (4, -28, -32)), 5.0, "brain_stem", 0.6),
    "midbrain": Territory("stem", ((4, -17, -14), (5, -28, -10)), 4.0, "brain_stem", 0.15),
    "medulla": Territory("stem", ((3, -36, -54), (6, -42, -56)), 4.0, "brain_stem", 0.25),
}


def territory_line(name: str, side: int, span: tuple[float, float] = (0.0, 1.0)) -> NDArray[np.float64]:
    """A piece of a territory's line.

    Args:
        name: Key of `TERRITORIES`.
        side: 1 right, -1 left.
        span: Where the piece begins and ends, as shares of the length.

    Returns:
        (points, 3) template mm.
    """
    line = np.array(TERRITORIES[name].line_mm, dtype=np.float64) * (side, 1, 1)
    passed = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    passed /= passed[-1]
    low, high = min(span), max(span)
    inner = passed[(passed > low) & (passed < high)]
    at = np.concatenate([[low], inner, [high]])
    return np.stack([np.interp(at, passed, line[:, axis]) for axis in range(3)], axis=1)


def line_distance(mni_mm: Tensor, line_mm: NDArray[np.float64]) -> Tensor:
    """Distance (x, y, z) in template mm from a line of points to every voxel of `mni_mm` (3, x, y, z)."""
    nearest: Tensor | None = None
    for start, end in itertools.pairwise(line_mm):
        step = end - start
        x, y, z = (mni_mm[axis] - float(start[axis]) for axis in range(3))
        along = (x * float(step[0]) + y * float(step[1]) + z * float(step[2])) / max(float(step @ step), 1e-6)
        along = along.clamp(0.0, 1.0)
        away = (x - along * float(step[0])) ** 2 + (y - along * float(step[1])) ** 2 + (z - along * float(step[2])) ** 2
        nearest = away if nearest is None else torch.minimum(nearest, away)
    assert nearest is not None
    return nearest.sqrt()


def belonging(head: Head, within: str, side: int) -> Tensor:
    """0-1 (x, y, z): how much a voxel belongs to a part of the brain and to a side (1 right, -1 left, 0 both)."""
    hind, stem = head.regions["cerebellum"], head.regions["brain_stem"]
    share = {"cerebellum": hind, "brain_stem": stem, "cerebrum": (1.0 - hind - stem).clamp_min(0.0)}[within]
    return share if side == 0 else share * torch.sigmoid(side * head.mni_mm[0] + 1.0)


def belonging_coarse(coarse: Coarse, within: str, side: int) -> Lattice:
    """The same on the coarse lattice, the side's border sharp."""
    hind, stem = coarse.regions["cerebellum"], coarse.regions["brain_stem"]
    share = {"cerebellum": hind, "brain_stem": stem, "cerebrum": np.clip(1.0 - hind - stem, 0.0, 1.0)}[within]
    if side:
        share = share * (side * coarse.mni_mm[0] > 0)
    return np.asarray(share, dtype=np.float32)
