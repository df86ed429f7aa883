"""Input channels from a `Sample`: the engine's definitions (`strokeseg.prepare.channels`), batched, on any device.

A network must see in training what the engine shows it later: names, ranges and constants are the engine's, and a test
holds both against each other. Outside the brain every channel is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from strokeseg.errors import InputError
from strokeseg.prepare.channels import NORMAL_ADC
from strokeseg_training.generator.fields import FWHM_TO_SIGMA, along
from strokeseg_training.sample import Sample

# As in the engine: the sides are compared after averaging over about this width, out to three sigma.
_MIRROR_FWHM_MM = 6.0
_TRUNCATE = 3.0
_BRIGHT_LIMIT = 10.0


def make_channels(sample: Sample, names: Sequence[str]) -> Tensor:
    """The network's input.

    Args:
        sample: N patients.
        names: Channels in order, see `CHANNELS`.

    Returns:
        (N, C, x, y, z) float32 on the sample's device.

    Raises:
        InputError: A channel is unknown, or the sample lacks the image that it is made of.
    """
    for name in names:
        if name not in CHANNELS:
            near = get_close_matches(name, CHANNELS, n=1)
            raise InputError(
                "A channel cannot be made.",
                f"'{name}' is not known; known are " + ", ".join(sorted(CHANNELS)) + ".",
                f"Did you mean '{near[0]}'?" if near else "Correct 'preparation.channels' in the recipe.",
            )
    space = _Space(sample)
    return torch.stack([CHANNELS[name](space) * space.inside for name in names], dim=1)


class _Space:
    """A sample, and what several channels need of it, computed once."""

    def __init__(self, sample: Sample) -> None:
        self.sample = sample
        self.brain = sample.brain
        self.inside = sample.brain.float()
        self._levels: dict[str, Tensor] = {}

    def image(self, role: str) -> Tensor:
        """(N, x, y, z) float32."""
        if role not in self.sample.images:
            raise InputError(
                f"A channel is made of '{role}', which these patients do not have.",
                "They have " + ", ".join(sorted(self.sample.images)) + ".",
                "Correct 'preparation.channels' in the recipe, or take other data.",
            )
        return self.sample.images[role].float()

    def level(self, role: str) -> Tensor:
        """(N, 1, 1, 1): the median in normal tissue; in the whole brain where there is none, or no ADC."""
        if role not in self._levels:
            pairs = zip(self.image(role), self._normal_tissue, strict=True)
            self._levels[role] = torch.stack([_median(i[t]) for i, t in pairs]).view(-1, 1, 1, 1)
        return self._levels[role]

    def smooth_brain(self, image: Tensor) -> Tensor:
        """An image averaged within the brain over the width at which sides are compared; 0 where little brain is."""
        total = self._smooth(image * self.inside)
        return torch.where(self._share > 0.05, total / self._share.clamp_min(0.05), torch.zeros_like(total))

    @cached_property
    def both(self) -> Tensor:
        """(N, x, y, z) boolean: brain whose other side is brain, too."""
        return self.brain & (self.mirrored(self.inside) > 0.5)

    def mirrored(self, volume: Tensor) -> Tensor:
        """(N, x, y, z): for brain voxels, the values at the other side of the midplane, 0 from outside the grid."""
        result = torch.zeros_like(volume)
        for row, (grid, index) in enumerate(self._other_side):
            values = functional.grid_sample(volume[row][None, None], grid, align_corners=True)
            result[row].view(-1)[index] = values.flatten()
        return result

    @cached_property
    def _other_side(self) -> list[tuple[Tensor, Tensor]]:
        """Of each patient's brain voxels: where their mirror images lie, for `grid_sample`, and their flat indices."""
        sample, device = self.sample, self.brain.device
        spacing = torch.tensor(sample.spacing_mm, device=device)
        middle = (torch.tensor(sample.shape, device=device) - 1) / 2
        found = []
        for brain, plane in zip(self.brain, sample.midplane.float(), strict=True):
            voxels = brain.nonzero()
            place = (voxels - middle) * spacing
            normal, offset = plane[:3], plane[3]
            other = place - 2.0 * (place @ normal - offset)[:, None] * normal
            # From -1 at the first voxel's middle to 1 at the last one's, in the order z, y, x.
            scaled = other / spacing / middle.clamp_min(0.5)
            strides = torch.tensor([brain.shape[1] * brain.shape[2], brain.shape[2], 1], device=device)
            found.append((scaled.flip(1)[None, :, None, None], (voxels * strides).sum(1)))
        return found

    @cached_property
    def _share(self) -> Tensor:
        return self._smooth(self.inside)

    @cached_property
    def _normal_tissue(self) -> Tensor:
        if "adc" not in self.sample.images:
            return self.brain
        adc = self.image("adc")
        tissue = self.brain & (adc > NORMAL_ADC[0]) & (adc < NORMAL_ADC[1])
        some = tissue.flatten(1).any(1).view(-1, 1, 1, 1)
        return torch.where(some, tissue, self.brain)

    def _smooth(self, volume: Tensor) -> Tensor:
        """Gaussian with nothing beyond the grid."""
        result = volume[:, None]
        for axis, spacing in enumerate(self.sample.spacing_mm):
            sigma = _MIRROR_FWHM_MM * FWHM_TO_SIGMA / spacing
            result = along(result, _gauss_rows(volume.shape[1 + axis], sigma, volume.device), axis)
        return result[:, 0]


def _gauss_rows(size: int, sigma: float, device: torch.device) -> Tensor:
    """(size, size): normalised weights within three sigma, what lies beyond the grid counting as 0."""
    reach = math.floor(_TRUNCATE * sigma + 0.5)
    index = torch.arange(size, dtype=torch.float32, device=device)
    distance = (index[:, None] - index[None]).abs()
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32, device=device)
    total = torch.exp(-0.5 * (offsets / sigma) ** 2).sum()
    return torch.where(distance <= reach, torch.exp(-0.5 * (distance / sigma) ** 2) / total, torch.zeros_like(distance))


def _median(values: Tensor) -> Tensor:
    """The middle value, the mean of both where there are two; 0 of nothing."""
    if not len(values):
        return torch.zeros((), device=values.device)
    half = (len(values) + 1) // 2
    lower = values.kthvalue(half).values
    if len(values) % 2 or int((values <= lower).sum()) > half:
        return lower
    return (lower + values[values > lower].min()) / 2


def _ratio(space: _Space, role: str) -> Tensor:
    level = space.level(role)
    return (space.image(role) / torch.where(level > 0, level, torch.ones_like(level))).clamp(0.0, 8.0)


def _mirror_log_ratio(space: _Space, role: str) -> Tensor:
    floor = 0.05 * space.level(role).clamp_min(1e-6)
    mean = torch.maximum(space.smooth_brain(space.image(role)), floor)
    other = torch.maximum(space.mirrored(mean), floor)
    return torch.where(space.both, torch.log(mean / other), torch.zeros_like(mean))


def _height(space: _Space) -> Tensor:
    slices = space.brain.flatten(1, 2).any(1)
    index = torch.arange(slices.shape[1], dtype=torch.float32, device=slices.device)
    low = torch.where(slices, index, torch.full_like(index, torch.inf)).amin(1, keepdim=True)
    high = torch.where(slices, index, torch.full_like(index, -torch.inf)).amax(1, keepdim=True)
    height = (index - low) / (high - low).clamp_min(1e-6)
    # A patient without brain has no height; the brain's zeros must meet numbers.
    return torch.nan_to_num(height, nan=0.0, posinf=0.0, neginf=0.0)[:, None, None, :].expand(space.brain.shape)


def _z_score(space: _Space, role: str, limit: float) -> Tensor:
    """Image less its mean in the brain, over its standard deviation there; cut at `limit`."""
    image, number = space.image(role), space.inside.flatten(1).sum(1).clamp_min(1).view(-1, 1, 1, 1)
    mean = (image * space.inside).sum((1, 2, 3), keepdim=True) / number
    spread = (((image - mean) * space.inside) ** 2).sum((1, 2, 3), keepdim=True).div(number).sqrt()
    return ((image - mean) / torch.where(spread > 0, spread, torch.ones_like(spread))).clamp(-limit, limit)


def _robust(space: _Space, role: str) -> Tensor:
    """Image from its 1st (0) to its 99th (1) percentile in the brain."""
    image, result = space.image(role), []
    for row, brain in zip(image, space.brain, strict=True):
        # numpy's, for PyTorch's quantile takes at most 16 million values.
        inside = row[brain].double().cpu().numpy()
        low, high = (float(v) for v in np.percentile(inside, [1.0, 99.0])) if len(inside) else (0.0, 0.0)
        result.append(((row - low) / (high - low)).clamp(0.0, 4.0) if high > low else torch.zeros_like(row))
    return torch.stack(result)


def _minmax8(space: _Space, role: str) -> Tensor:
    """Image from its lowest (0) to its highest value (1) in 256 steps."""
    image = space.image(role).double()
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    width = torch.where(high > low, high - low, torch.ones_like(high))
    return (((image - low) / width * 255.0).floor() / 255.0).float()


def _slice_minmax(space: _Space, role: str) -> Tensor:
    """Every axial slice from its lowest (0) to its highest value (1) in the brain."""
    image, brain = space.image(role), space.brain
    low = torch.where(brain, image, torch.inf).amin((1, 2), keepdim=True)
    width = torch.where(brain, image, -torch.inf).amax((1, 2), keepdim=True) - low
    usable = width.isfinite() & (width > 0)
    scaled = (image - torch.where(usable, low, 0.0)) / torch.where(usable, width, 1.0)
    return torch.where(usable & brain, scaled, 0.0)


CHANNELS: dict[str, Callable[[_Space], Tensor]] = {
    "dwi_ratio": lambda s: _ratio(s, "dwi"),
    "adc": lambda s: s.image("adc").clamp(0.0, 4.0),
    "adc_ratio": lambda s: _ratio(s, "adc"),
    "dwi_mirror_log_ratio": lambda s: _mirror_log_ratio(s, "dwi"),
    "adc_mirror_log_ratio": lambda s: _mirror_log_ratio(s, "adc"),
    "t1_mirror_log_ratio": lambda s: _mirror_log_ratio(s, "t1"),
    "b0_ratio": lambda s: _ratio(s, "b0"),
    "dwi_robust": lambda s: _robust(s, "dwi"),
    "adc_robust": lambda s: _robust(s, "adc"),
    "t1_robust": lambda s: _robust(s, "t1"),
    "dwi_minmax8": lambda s: _minmax8(s, "dwi"),
    "dwi_slice_minmax": lambda s: _slice_minmax(s, "dwi"),
    "adc_slice_minmax": lambda s: _slice_minmax(s, "adc"),
    "dwi_zscore": lambda s: _z_score(s, "dwi", _BRIGHT_LIMIT),
    "adc_zscore": lambda s: _z_score(s, "adc", _BRIGHT_LIMIT),
    "t1_zscore": lambda s: _z_score(s, "t1", 4.0),
    "height": _height,
    "brain": lambda s: s.inside,
}
"""Channel name to what computes it, (N, x, y, z) before it is set to 0 outside the brain."""
