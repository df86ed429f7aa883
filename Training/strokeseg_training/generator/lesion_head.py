"""`Head`: one patient of an `Anatomy`, whole or a box of it, and how a shape finds its place there.

Shapes are drawn in boxes: a lacune costs nothing next to a whole brain. Where to cut and where a random place lies is
found on a coarse lattice of about 4 mm, in numpy: the same on every device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strokeseg_training.generator.fields import smooth_field

if TYPE_CHECKING:
    from strokeseg_training.generator.anatomy import Anatomy

Box = tuple[slice, slice, slice]
Place = tuple[float, float, float]
Lattice = NDArray[np.float32]

COARSE_MM = 4.0
REGIONS = ("cerebellum", "brain_stem", "deep_grey", "ventricles")
"""The regions that lesions and what resembles them ask for."""


@dataclass(frozen=True, eq=False)
class Coarse:
    """Every n-th voxel of a head, as numpy arrays.

    Args:
        stride: n.
        grey: (a, b, c); `tissue` is grey and white together.
        tissue: (a, b, c), 0 outside the brain.
        mni_mm: (3, a, b, c).
        regions: Name to (a, b, c).
    """

    stride: int
    grey: Lattice
    tissue: Lattice
    mni_mm: Lattice
    regions: Mapping[str, Lattice]


@dataclass(frozen=True, eq=False)
class Head:
    """What a shape needs to know of one patient, all (x, y, z) of the whole grid or of a box of it.

    Args:
        grey: Share of grey matter.
        white: Share of white matter.
        csf: Share of fluid.
        mni_mm: (3, x, y, z), template coordinates.
        regions: Name to share.
        spacing_mm: Voxel size.
        corner: Index of the box's first voxel in the whole grid.
    """

    grey: Tensor
    white: Tensor
    csf: Tensor
    mni_mm: Tensor
    regions: Mapping[str, Tensor]
    spacing_mm: tuple[float, float, float]
    corner: tuple[int, int, int] = (0, 0, 0)

    @classmethod
    def of(cls, anatomy: Anatomy, patient: int) -> Head:
        """The whole head of one patient."""
        grey, white, csf = anatomy.fractions[patient]
        x, y, z = anatomy.spacing_mm
        return cls(
            grey,
            white,
            csf,
            anatomy.mni_mm[patient],
            {name: anatomy.regions[name][patient] for name in REGIONS},
            (float(x), float(y), float(z)),
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (x, y, z)."""
        x, y, z = self.grey.shape
        return x, y, z

    @property
    def device(self) -> torch.device:
        """Where the arrays lie."""
        return self.grey.device

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel."""
        return float(np.prod(self.spacing_mm)) / 1000.0

    @cached_property
    def tissue(self) -> Tensor:
        """Share of grey and white matter."""
        return self.grey + self.white

    @cached_property
    def coarse(self) -> Coarse:
        """The head on its coarse lattice."""
        n = max(1, round(COARSE_MM / self.spacing_mm[0]))
        thin = (slice(None, None, n),) * 3

        def lattice(volume: Tensor) -> Lattice:
            return np.asarray(volume[(..., *thin)].cpu().numpy(), dtype=np.float32)

        regions = {name: lattice(value) for name, value in self.regions.items()}
        return Coarse(n, lattice(self.grey), lattice(self.tissue), lattice(self.mni_mm), regions)

    def cut(self, box: Box) -> Head:
        """A box of the head."""
        x, y, z = (c + s.start for c, s in zip(self.corner, box, strict=True))
        return Head(
            self.grey[box],
            self.white[box],
            self.csf[box],
            self.mni_mm[(slice(None), *box)],
            {name: value[box] for name, value in self.regions.items()},
            self.spacing_mm,
            (x, y, z),
        )

    def box_of(self, chosen: NDArray[np.bool_]) -> Box | None:
        """The box around the chosen nodes of the coarse lattice, None where there is none."""
        ranges = []
        n = self.coarse.stride
        for axis, size in enumerate(self.shape):
            hit = np.flatnonzero(chosen.any(axis=tuple(a for a in range(3) if a != axis)))
            if not hit.size:
                return None
            ranges.append(slice(max(0, (int(hit[0]) - 1) * n), min(size, (int(hit[-1]) + 2) * n)))
        return ranges[0], ranges[1], ranges[2]

    def box_near(self, points_mni: Sequence[Sequence[float]], reach_mm: float) -> Box | None:
        """The box that holds all within `reach_mm` of the points' bounding box, in template mm."""
        points = np.asarray(points_mni, dtype=np.float32)
        low, high = points.min(0) - reach_mm, points.max(0) + reach_mm
        mni = self.coarse.mni_mm
        inside = self.coarse.tissue > 0.05
        for axis in range(3):
            inside &= (mni[axis] >= low[axis]) & (mni[axis] <= high[axis])
        return self.box_of(inside)

    def box_at(self, voxel: Sequence[float], reach_mm: float) -> Box:
        """The box within `reach_mm` of a voxel of the whole grid."""
        ranges = []
        for middle, spacing, size in zip(voxel, self.spacing_mm, self.shape, strict=True):
            half = reach_mm / spacing
            start = min(max(0, int(np.floor(middle - half))), size - 1)
            ranges.append(slice(start, max(start + 1, min(size, int(np.ceil(middle + half)) + 1))))
        return ranges[0], ranges[1], ranges[2]

    def voxel_at(self, weight: Lattice, place: Place) -> Place | None:
        """The place-th voxel of the whole grid when all are ordered by weight.

        Args:
            weight: (a, b, c) on the coarse lattice, not negative.
            place: Three numbers 0-1: quantiles along x, then along y there, then along z there.

        Returns:
            (x, y, z) in voxels, not rounded; None where all weights are 0.
        """
        index: list[int] = []
        found: list[float] = []
        for quantile, size in zip(place, self.shape, strict=True):
            rest = weight[tuple(index)]
            line = rest.reshape(rest.shape[0], -1).sum(1, dtype=np.float64)
            total = line.sum()
            if total <= 0:
                return None
            rising = np.cumsum(line)
            node = min(int(np.searchsorted(rising, quantile * total, side="right")), len(line) - 1)
            within = (quantile * total - (rising[node] - line[node])) / max(line[node], 1e-12)
            index.append(node)
            found.append(min(max((node + float(within) - 0.5) * self.coarse.stride, 0.0), size - 1.0))
        return found[0], found[1], found[2]

    def offsets_mm(self, voxel: Sequence[float]) -> tuple[Tensor, Tensor, Tensor]:
        """Distance from a voxel of the whole grid along (x, y, z), shapes (x, 1, 1), (1, y, 1) and (1, 1, z)."""
        lines = []
        for axis, size in enumerate(self.shape):
            line = torch.arange(size, dtype=torch.float32, device=self.device) + (self.corner[axis] - voxel[axis])
            lines.append((line * self.spacing_mm[axis]).view([-1 if a == axis else 1 for a in range(3)]))
        return lines[0], lines[1], lines[2]

    def field(self, seed: int, fwhm_mm: float, channels: int | None = None) -> Tensor:
        """A smooth random field (x, y, z), or (channels, x, y, z), of variance 1."""
        made = smooth_field([seed], [fwhm_mm], self.shape, self.spacing_mm, self.device, channels or 1)[0]
        return made if channels else made[0]
