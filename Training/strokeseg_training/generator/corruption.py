"""What happens to images after the scanner's receiver, and what preparation makes of them: the last step to a `Sample`.

ADC as vendors compute it, scaling, rounding, clipping, thresholds, skull stripping, slabs; the brain mask and the
mid-sagittal plane with the errors of the programs that find them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from strokeseg_training.generator._brain_mask import MaskErrors, draw_mask_errors, found_brain
from strokeseg_training.generator._draws import Range, chance, normal, uniform
from strokeseg_training.generator._rows import through
from strokeseg_training.sample import Sample

if TYPE_CHECKING:
    from strokeseg_training.generator.acquisition import Acquired, Scan
    from strokeseg_training.generator.anatomy import Anatomy

# Where no signal is left, the logarithm is taken of this share of parenchyma's signal.
_LEAST_SIGNAL = 1e-4


@dataclass(frozen=True)
class CorruptionRanges:
    """What corruption is drawn from; (low, high) unless said otherwise."""

    # Stored brightness of parenchyma; below 100, rounding to whole numbers shows.
    stored_level: Range = (40.0, 1500.0)
    rounded_share: float = 0.8
    # Stated over true b: gradient calibration and imaging gradients, standard deviation.
    b_error: float = 0.06
    # Vendors' maps end at 3 or 4, or not at all; some keep what noise made negative.
    adc_clipped_share: float = 0.6
    adc_ends: tuple[float, ...] = (3.0, 4.0)
    adc_negative_share: float = 0.4
    adc_step: float = 1e-3
    # ADC set to 0 where b = 0 or DWI are weak, share of parenchyma's signal.
    adc_masked_share: float = 0.2
    adc_masked_b0: Range = (0.05, 0.5)
    adc_masked_dwi: Range = (0.02, 0.22)
    # Skull-stripped data are what is public; the rest shows the whole head.
    stripped_share: float = 0.65
    # Masks are ±1-4 voxels wrong.
    mask_bias_mm: Range = (-2.5, 3.0)
    mask_waves_mm: Range = (0.2, 2.0)
    mask_lost_share: float = 0.15
    mask_added_share: float = 0.2
    # Slabs: share of the brain's height that is not covered.
    slab_share: float = 0.05
    slab_missing: Range = (0.03, 0.3)
    midplane_degrees: float = 1.2
    midplane_mm: float = 1.0


@dataclass(frozen=True)
class CorruptionScene:
    """What happened to one patient's images.

    Args:
        stored_level: Stored value of parenchyma's signal in the DWI (T1).
        rounded: Images are whole numbers, the ADC multiples of `adc_step`.
        adc_step: Smallest difference in the ADC map, 1e-3 mm²/s.
        b_factor: Stated over true b-value.
        adc_low: Least value of the ADC map.
        adc_high: Largest.
        adc_masked: ADC is 0 where b = 0 or DWI lie below this share of parenchyma's signal; (0, 0) for nowhere.
        stripped: Everything outside the mask is 0; the mask is what remains.
        mask: Errors of the brain mask.
        missing: Share of the brain's height missing below and above.
        midplane_degrees: Error of the mid-sagittal plane about the vertical and about the front-back axis.
        midplane_mm: Error of its place.
    """

    stored_level: float
    rounded: bool
    adc_step: float
    b_factor: float
    adc_low: float
    adc_high: float
    adc_masked: tuple[float, float]
    stripped: bool
    mask: MaskErrors
    missing: tuple[float, float]
    midplane_degrees: tuple[float, float]
    midplane_mm: float


def draw_corruption(rng: np.random.Generator, ranges: CorruptionRanges) -> CorruptionScene:
    """Decides the corruption of one patient's images."""
    r = ranges
    clipped, masked = chance(rng, r.adc_clipped_share), chance(rng, r.adc_masked_share)
    slab, ends = chance(rng, r.slab_share), int(rng.integers(3))
    low, high = np.log(r.stored_level[0]), np.log(r.stored_level[1])
    thresholds = (uniform(rng, r.adc_masked_b0), uniform(rng, r.adc_masked_dwi))
    below, above = uniform(rng, r.slab_missing), uniform(rng, r.slab_missing)
    return CorruptionScene(
        stored_level=float(np.exp(rng.uniform(low, high))),
        rounded=chance(rng, r.rounded_share),
        adc_step=r.adc_step,
        b_factor=normal(rng, r.b_error, 1.0),
        adc_low=-1.0 if chance(rng, r.adc_negative_share) else 0.0,
        adc_high=float(r.adc_ends[int(rng.integers(len(r.adc_ends)))]) if clipped else 10.0,
        adc_masked=thresholds if masked else (0.0, 0.0),
        stripped=chance(rng, r.stripped_share),
        mask=draw_mask_errors(rng, r.mask_bias_mm, r.mask_waves_mm, r.mask_lost_share, r.mask_added_share),
        missing=(below if slab and ends != 0 else 0.0, above if slab and ends != 1 else 0.0),
        midplane_degrees=(normal(rng, r.midplane_degrees), normal(rng, r.midplane_degrees)),
        midplane_mm=normal(rng, r.midplane_mm),
    )


def assemble(
    scenes: Sequence[CorruptionScene],
    acquired: Acquired,
    anatomy: Anatomy,
    b_values: Sequence[float],
    seeds: Sequence[int],
) -> Sample:
    """From N scans to what preparation would hand to a network.

    Args:
        scenes: One a patient.
        acquired: Scans and what they show.
        anatomy: The heads; template coordinates and mid-sagittal planes are used.
        b_values: True b, 1e3 s/mm².
        seeds: Of the whole scenes, for the record.

    Returns:
        Images "b0", "dwi" and "adc", or "t1", with everything that belongs to them.
    """
    found = _within_slab(scenes, found_brain([s.mask for s in scenes], acquired.brain, anatomy))
    brains, images = [], []
    for scene, scan, mask, b_value in zip(scenes, acquired.scans, found, b_values, strict=True):
        stored = stored_images(scene, scan, b_value)
        if scene.stripped:
            inside = through(mask.float()[None], scan.grid.place)[0] >= 0.5
            stored = {role: image * inside for role, image in stored.items()}
            mask = scan.on_working_grid(inside.float()) >= 0.5  # noqa: PLW2901 - what is stripped is what is found
        covered = mask.any(0).any(0) if any(scene.missing) else None
        placed = {role: scan.on_working_grid(image) for role, image in stored.items()}
        if covered is not None:
            placed = {role: image * covered for role, image in placed.items()}
        brains.append(mask)
        images.append(placed)
    brain = torch.stack(brains)
    return Sample(
        images={role: torch.stack([i[role] for i in images]) for role in images[0]},
        brain=brain,
        lesion=acquired.label * brain,
        tissue=_tissue(acquired.fractions) * brain,
        midplane=_estimated_midplane(scenes, anatomy.midplane),
        spacing_mm=acquired.spacing_mm,
        seeds=tuple(int(s) for s in seeds),
    )


def stored_images(scene: CorruptionScene, scan: Scan, b_value: float) -> Mapping[str, Tensor]:
    """Images as files hold them, on the scanner's grid; with b = 0 and DWI also their ADC in 1e-3 mm²/s.

    Args:
        scene: What happens.
        scan: The scan.
        b_value: True b, 1e3 s/mm².
    """
    scale = scene.stored_level / scan.level
    stored = {role: image * scale for role, image in scan.images.items()}
    if scene.rounded:
        stored = {role: image.round() for role, image in stored.items()}
    if "dwi" in scan.images and "b0" in scan.images:
        adc = adc_map(scan.images["b0"], scan.images["dwi"], b_value * scene.b_factor, scan.level)
        if scene.rounded:
            adc = (adc / scene.adc_step).round() * scene.adc_step
        adc = adc.clamp(scene.adc_low, scene.adc_high)
        weak_b0, weak_dwi = (share * scan.level for share in scene.adc_masked)
        if weak_b0 > 0.0 or weak_dwi > 0.0:
            adc = adc * ((scan.images["b0"] >= weak_b0) & (scan.images["dwi"] >= weak_dwi))
        stored["adc"] = adc
    return stored


def adc_map(s0: Tensor, sb: Tensor, b_value: float, level: float) -> Tensor:
    """ln(S0 / Sb) / b in 1e-3 mm²/s.

    Args:
        s0: Image without diffusion weighting.
        sb: Image with it.
        b_value: 1e3 s/mm².
        level: Parenchyma's signal; voxels without any signal are given a small share of it.
    """
    least = _LEAST_SIGNAL * level
    return (s0.clamp_min(least) / sb.clamp_min(least)).log() / b_value


def _within_slab(scenes: Sequence[CorruptionScene], masks: Tensor) -> Tensor:
    """Masks (N, x, y, z) without what lies below or above the slab that was scanned."""
    cut = []
    for scene, mask in zip(scenes, masks, strict=True):
        heights = mask.any(0).any(0).nonzero()
        if any(scene.missing) and len(heights):
            low, high = int(heights.min()), int(heights.max()) + 1
            first = low + round(scene.missing[0] * (high - low))
            last = high - round(scene.missing[1] * (high - low))
            z = torch.arange(mask.shape[2], device=mask.device)
            mask = mask & (z >= first) & (z < last)  # noqa: PLW2901 - the same mask, cut
        cut.append(mask)
    return torch.stack(cut)


def _tissue(fractions: Tensor) -> Tensor:
    """Index into `TISSUES` (N, x, y, z), uint8: the largest share, background counting as one."""
    grey, white, fluid = fractions[:, 0], fractions[:, 1], fractions[:, 2]
    # Three comparisons take a tenth of the time of `argmax` over a dimension of four.
    most = torch.maximum(grey, white)
    tissue = 1 + (white > grey).to(torch.uint8)
    tissue = torch.where(fluid > most, torch.full_like(tissue, 3), tissue)
    total = grey + white + fluid
    return torch.where(1.0 - total > torch.maximum(most, fluid), torch.zeros_like(tissue), tissue)


def _estimated_midplane(scenes: Sequence[CorruptionScene], true: Tensor) -> Tensor:
    """Planes (N, 4) as a program estimates them: turned and moved a little."""
    turn = torch.tensor([(0.0, *s.midplane_degrees) for s in scenes], dtype=true.dtype, device=true.device)
    normal_vector = true[:, :3] + turn.deg2rad()
    normal_vector = normal_vector / normal_vector.norm(dim=1, keepdim=True)
    offset = true[:, 3:] + torch.tensor([[s.midplane_mm] for s in scenes], dtype=true.dtype, device=true.device)
    return torch.cat([normal_vector, offset], 1)
