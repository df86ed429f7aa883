"""What a scanner makes of a head: distortion, motion, slices, blur, ghosts, noise; images on the scanner's own grid.

The label, the tissue and the brain are carried along: distorted like the image, seen through the same slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from strokeseg_training.generator._coarse import coarse
from strokeseg_training.generator._motion import moved
from strokeseg_training.generator._noise import ghosted, magnitude, slice_gains
from strokeseg_training.generator._rows import matrix, through
from strokeseg_training.generator._slicing import ScannerGrid, SlicingScene, label_rows, scanner_grid, stretched_rows
from strokeseg_training.generator.acquisition_scene import AcquisitionRanges, AcquisitionScene, draw_acquisition
from strokeseg_training.generator.fields import along
from strokeseg_training.generator.susceptibility import (
    SusceptibilityScene,
    distorted,
    fine_sources,
    pile_up,
    sources,
)

if TYPE_CHECKING:
    from strokeseg_training.generator.anatomy import Anatomy

__all__ = [
    "Acquired",
    "AcquisitionRanges",
    "AcquisitionScene",
    "Scan",
    "acquire",
    "draw_acquisition",
    "parenchyma_level",
]

# Displacements below this are left out: they would cost time and change nothing.
_SMALLEST_SHIFT_VOXELS = 0.1


@dataclass(frozen=True, eq=False)
class Scan:
    """Images of one patient on the scanner's grid.

    Args:
        images: Role ("b0", "dwi" or "t1") to noisy magnitudes (x, y, z) of the scanner's grid.
        grid: The scanner's grid; `grid.back` brings an image to the working grid.
        level: Typical noise-free signal of parenchyma in the DWI or T1.
    """

    images: dict[str, Tensor]
    grid: ScannerGrid
    level: float

    def on_working_grid(self, image: Tensor) -> Tensor:
        """An image (x, y, z) of the scanner's grid, brought to the working grid by cubic splines."""
        return through(image[None], self.grid.back)[0]


@dataclass(frozen=True, eq=False)
class Acquired:
    """N scans, and what they show, through the same distortion and slices.

    Args:
        scans: Images before any mask, each on its own grid.
        label: (N, x, y, z) on the working grid, fraction of the voxel that is lesion.
        fractions: (N, 3, x, y, z), grey, white, fluid.
        brain: (N, x, y, z), 0-1.
        spacing_mm: Of the working grid.
    """

    scans: tuple[Scan, ...]
    label: Tensor
    fractions: Tensor
    brain: Tensor
    spacing_mm: tuple[float, float, float]


def acquire(
    scenes: Sequence[AcquisitionScene],
    signals: dict[str, Tensor],
    anatomy: Anatomy,
    label: Tensor,
    fractions: Tensor,
    b_values: Sequence[float],
) -> Acquired:
    """Scans N heads.

    Args:
        scenes: One a patient.
        signals: Role ("b0" and "dwi", or "t1") to noise-free signal (N, x, y, z) on the working grid.
        anatomy: The heads; `mni_mm`, `surface_mm` and `brain` are used; `brain` is the sum of the fractions.
        label: (N, x, y, z), fraction of the voxel that is lesion.
        fractions: (N, 3, x, y, z), grey, white and fluid.
        b_values: 1e3 s/mm², for what susceptibility does to the ADC.

    Returns:
        Noisy magnitudes on the scanners' grids and what they show on the working grid.
    """
    signals = _with_pile_up(scenes, signals, anatomy, b_values)
    seen = torch.cat([label[:, None], fractions], 1)
    scans, shown = [], []
    for i, scene in enumerate(scenes):
        images, carried = {role: s[i] for role, s in signals.items()}, seen[i]
        if scene.susceptibility is not None:
            images, carried = _distorted(scene.susceptibility, images, carried, anatomy, i)
        scans.append(_scan(scene, images, carried, anatomy))
        shown.append(_through_slices(scene.slicing, carried, anatomy.spacing_mm))
    together = torch.stack(shown).clamp(0.0, 1.0)
    return Acquired(
        tuple(scans), together[:, 0], together[:, 1:], together[:, 1:].sum(1).clamp_max_(1.0), anatomy.spacing_mm
    )


def _with_pile_up(
    scenes: Sequence[AcquisitionScene], signals: dict[str, Tensor], anatomy: Anatomy, b_values: Sequence[float]
) -> dict[str, Tensor]:
    near_air = [s.susceptibility for s in scenes if s.susceptibility is not None]
    if len(near_air) < len(scenes):
        return signals
    on_s0, on_sb = pile_up(near_air, anatomy, b_values)
    return {"b0": signals["b0"] * on_s0, "dwi": signals["dwi"] * on_sb}


def _distorted(
    scene: SusceptibilityScene, images: dict[str, Tensor], carried: Tensor, anatomy: Anatomy, i: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Images and what they show, with lines along the phase axis moved; only where anything moves."""
    axis, shape = scene.phase_axis, anatomy.shape
    faces = sources(scene, coarse(anatomy.mni_mm[i]), coarse(anatomy.brain[i]), shape[axis], anatomy.spacing_mm[axis])
    view = [1, 1, 1]
    view[axis] = -1
    still = torch.arange(faces.shape[axis], device=faces.device).view(view)
    moving = (faces - still).abs().amax(axis, keepdim=True) > _SMALLEST_SHIFT_VOXELS
    if not bool(moving.any()):
        return images, carried
    box = [slice(None)] * 3
    for other in (a for a in range(3) if a != axis):
        hit = moving.movedim(other, 0).flatten(1).any(1).nonzero()
        box[other] = slice(max(0, 2 * int(hit.min()) - 2), min(shape[other], 2 * int(hit.max()) + 3))
    faces = fine_sources(faces, shape, axis)[box[0], box[1], box[2]]
    everything = torch.cat([torch.stack([*images.values()]), carried])
    part = everything[:, box[0], box[1], box[2]]
    part.copy_(distorted(part, faces, axis, fractions_from=len(images)))
    return dict(zip(images, everything[: len(images)], strict=True)), everything[len(images) :]


def _scan(scene: AcquisitionScene, images: dict[str, Tensor], carried: Tensor, anatomy: Anatomy) -> Scan:
    """Samples, ghosts, slice drops and noise."""
    shape, spacing, device = anatomy.shape, anatomy.spacing_mm, carried.device
    phase = 1 if scene.susceptibility is None else scene.susceptibility.phase_axis
    grid = scanner_grid(scene.slicing, shape, spacing, phase, device)
    main = "dwi" if "dwi" in images else "t1"
    level = parenchyma_level(images[main], carried)
    measured = {}
    for k, (role, image) in enumerate(images.items()):
        rows = grid.sample
        if role == "dwi" and (scene.eddy_scale != 1.0 or scene.eddy_shift_mm != 0.0):
            own = stretched_rows(
                scene.slicing, shape[phase], spacing[phase], phase, scene.eddy_scale, scene.eddy_shift_mm, device
            )
            rows = (own, rows[1], rows[2]) if phase == 0 else (rows[0], own, rows[2])
        head = moved(image, scene.motion, spacing) if role == "b0" and scene.motion is not None else image
        sampled = through(head[None], rows)[0].clamp_min(0.0)
        if scene.ghost[k % 2] != 0.0:
            half = round(0.5 * scene.field_of_view_mm / scene.slicing.acquired_mm)
            sampled = ghosted(sampled, scene.ghost[k % 2], half, phase)
        if not scene.slicing.volume:
            drops = scene.slice_drops if role == "dwi" else ()
            gains = slice_gains(sampled.shape[scene.slicing.slice_axis], scene.interleave, drops, device)
            view = [1, 1, 1]
            view[scene.slicing.slice_axis] = -1
            sampled = sampled * gains.view(view)
        sd = level / scene.noise.snr * (scene.b0_noise if role == "b0" else 1.0)
        measured[role] = magnitude(sampled, scene.noise, sd, k)
    return Scan(measured, grid, level)


def parenchyma_level(image: Tensor, carried: Tensor) -> float:
    """Median signal of brain that is hardly fluid; the whole brain's where there is no such voxel.

    Args:
        image: (x, y, z).
        carried: (4, x, y, z): label, grey, white, fluid.
    """
    few = (slice(None, None, 2), slice(None, None, 2), slice(None, None, 2))
    tissue, fluid, values = carried[1][few] + carried[2][few], carried[3][few], image[few]
    inside, brain = (tissue > 0.7) & (fluid < 0.2), tissue + fluid
    chosen = values[inside if bool(inside.any()) else brain > 0.5]
    return max(float(chosen.median()), 1e-6) if chosen.numel() else max(float(values.max()), 1e-6)


def _through_slices(scene: SlicingScene, carried: Tensor, spacing_mm: Sequence[float]) -> Tensor:
    """Fractions (C, x, y, z) as slices show them; the first one's (the label's) integral is kept exactly."""
    if scene.volume:
        return carried
    axis = scene.slice_axis
    there, back = label_rows(scene, carried.shape[1 + axis], spacing_mm[axis])
    shown = along(carried[None], matrix(back @ there, carried.device), axis)[0]
    kept = carried[0].sum() / shown[0].sum().clamp_min(1e-6)
    shown[0] *= kept.clamp(0.8, 1.25)
    return shown
