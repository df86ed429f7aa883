"""`Sample`: a batch of prepared patients on one model grid, before the input channels are made.

The generator makes them, a bank keeps them, the trainer turns them into network input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TISSUES = ("background", "grey", "white", "csf")
"""Label to tissue, in the order of the networks' second head."""


@dataclass(frozen=True, eq=False)
class Sample:
    """N patients on one grid whose axes run to the right, the front and the top of the head.

    Args:
        images: Role ("dwi", "adc", "b0", "t1") to (N, x, y, z) float32: signals in the scanner's arbitrary units, ADC
            in 1e-3 mm²/s. Not restricted to the brain.
        brain: (N, x, y, z) bool, the brain mask as preparation would find it, its errors included.
        lesion: (N, x, y, z) float32, fraction 0-1 of the voxel that is lesion; 0 outside `brain`.
        tissue: (N, x, y, z) uint8, index into `TISSUES`; 0 outside `brain`.
        midplane: (N, 4) float32, the mid-sagittal plane as preparation would find it: unit normal towards the right and
            signed distance in mm, in millimetres from the middle of the grid.
        spacing_mm: Voxel size along (x, y, z).
        seeds: The N scenes' seeds.
    """

    images: Mapping[str, Tensor]
    brain: Tensor
    lesion: Tensor
    tissue: Tensor
    midplane: Tensor
    spacing_mm: tuple[float, float, float]
    seeds: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (x, y, z)."""
        x, y, z = self.brain.shape[1:]
        return x, y, z

    @classmethod
    def together(cls, samples: Sequence[Sample]) -> Sample:
        """The patients of several samples, of one grid and with the same roles, in one."""
        return cls(
            images={role: torch.cat([s.images[role] for s in samples]) for role in samples[0].images},
            brain=torch.cat([s.brain for s in samples]),
            lesion=torch.cat([s.lesion for s in samples]),
            tissue=torch.cat([s.tissue for s in samples]),
            midplane=torch.cat([s.midplane for s in samples]),
            spacing_mm=samples[0].spacing_mm,
            seeds=tuple(seed for s in samples for seed in s.seeds),
        )
