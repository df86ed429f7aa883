"""Patients of a few thousand voxels for tests and trials: an ellipsoid of brain with ellipsoids of lesion, in no time.

They show that data go the whole way; nothing about strokes can be learned from them. A patient is made of his seed
alone; every fifth has no lesion.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from strokeseg_training.layouts import TASK_ROLES
from strokeseg_training.sample import Sample

VERSION = "phantom-1"
STATEMENT = "synthetic: ellipsoids drawn by formula, without anatomy; for tests and trials only"
SHAPE = (26, 30, 22)
SPACING_MM = (6.0, 6.0, 6.0)

# ADC in 1e-3 mm²/s, and signals in arbitrary units; b = 0 follows from both at b = 1000 s/mm².
_ADC, _ADC_LESION = 0.8, 0.42
_DWI, _DWI_LESION = 300.0, 620.0
_T1, _T1_LESION = 500.0, 180.0
_STREAM = 61


@dataclass(frozen=True)
class PhantomScene:
    """Names a patient.

    Args:
        seed: From 0.
    """

    seed: int

    def to_json(self) -> str:
        """The scene as JSON text."""
        return json.dumps({"version": VERSION, **asdict(self)})


@dataclass(frozen=True)
class Phantoms:
    """Makes patients; takes the place of the generator in `synthesize.write_data_set`.

    Args:
        task: ``"dwi-adc"`` or ``"t1"``.
        shape: Voxels along (right, front, top).
        spacing_mm: Of the voxels.
        lesions: Most lesions of a patient, none larger than about a sixth of the brain's width.
    """

    task: str
    shape: tuple[int, int, int] = SHAPE
    spacing_mm: tuple[float, float, float] = SPACING_MM
    lesions: int = 3

    def make(self, scenes: Sequence[Any]) -> Sample:
        """The patients of `scenes`, of which only the seeds count."""
        made = [self._patient(int(scene.seed)) for scene in scenes]
        brain = np.stack([m["brain"] for m in made]) > 0
        return Sample(
            images={role: _tensor([m[role] for m in made]) for role in TASK_ROLES[self.task]},
            brain=torch.from_numpy(brain),
            lesion=_tensor([m["lesion"] for m in made]),
            tissue=torch.from_numpy(brain.astype(np.uint8)),
            midplane=torch.tensor([[1.0, 0.0, 0.0, 0.0]] * len(made)),
            spacing_mm=self.spacing_mm,
            seeds=tuple(int(scene.seed) for scene in scenes),
        )

    def _patient(self, seed: int) -> dict[str, NDArray[np.float64]]:
        rng = np.random.default_rng([_STREAM, seed])
        axes = [np.linspace(-1, 1, n) for n in self.shape]
        x, y, z = np.meshgrid(*axes, indexing="ij")
        brain = (x / 0.85) ** 2 + (y / 0.88) ** 2 + (z / 0.85) ** 2 < 1
        lesion = np.zeros(self.shape, dtype=bool)
        for number in range(0 if seed % 5 == 4 else int(rng.integers(1, self.lesions + 1))):
            # One in each octant, so that two never touch.
            side = np.array([1 - 2 * (number % 2), 1 - 2 * (number // 2 % 2), 1 - 2 * (number // 4 % 2)])
            centre = side * rng.uniform(0.33, 0.38, 3)
            radii = rng.uniform(0.16, 0.28, 3)
            lesion |= sum(((a - c) / r) ** 2 for a, c, r in zip((x, y, z), centre, radii, strict=True)) < 1
        texture = 1 + 0.04 * rng.standard_normal(self.shape)
        adc = np.where(lesion, _ADC_LESION, _ADC) * texture
        dwi = np.where(lesion, _DWI_LESION, _DWI) * (1 + 0.04 * rng.standard_normal(self.shape))
        images = {
            "dwi": dwi,
            "adc": adc,
            "b0": dwi * np.exp(adc),
            "t1": np.where(lesion, _T1_LESION, _T1) * texture,
            "lesion": lesion.astype(np.float64),
        }
        return {"brain": brain.astype(np.float64), **{name: image * brain for name, image in images.items()}}


def _tensor(volumes: Sequence[NDArray[np.float64]]) -> torch.Tensor:
    return torch.from_numpy(np.stack(volumes).astype(np.float32))
