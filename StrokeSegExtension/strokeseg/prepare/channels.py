"""Input channels: what a model sees of the volumes, by name, computed on the model grid.

A card lists the names; networks and the threshold rule are fed by the same functions. Outside the brain every
channel is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.errors import ModelError
from strokeseg.symmetry import Midplane, mirror
from strokeseg.volume.grid import Grid

Array = NDArray[np.float32]

# ADC of brain tissue without fluid and without infarct, 1e-3 mm²/s: grey U(0.78, 1.00), white U(0.64, 0.85) (Helenius
# 2002), widened for noise. Medians over it are those of normal tissue even where much of the brain is fluid or infarct.
NORMAL_ADC = (0.5, 1.2)
# The other side never coincides to the voxel: it is compared after averaging over about this width.
_MIRROR_FWHM_MM = 6.0
_FWHM_TO_SIGMA = 1.0 / 2.3548
# Infarcts on DWI, and fluid on ADC, are several standard deviations away from the brain's mean: these are not cut, only
# what is broken.
_BRIGHT_LIMIT = 10.0


@dataclass(frozen=True, eq=False)
class ModelSpace:
    """The case as it lies on the model grid.

    Args:
        grid: The model grid, axes close to (R, A, S).
        images: Role to image (x, y, z) on `grid`; ADC in 1e-3 mm²/s.
        brain: Boolean (x, y, z).
        midplane: The brain's own mid-sagittal plane.
    """

    grid: Grid
    images: Mapping[str, Array]
    brain: NDArray[np.bool_]
    midplane: Midplane
    _cache: dict[str, Array] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def channel(self, name: str) -> Array:
        """A channel by name, float32 (x, y, z), 0 outside the brain; computed once.

        Raises:
            ModelError: There is no channel of this name, or the role that it is made of is not there.
        """
        if name not in self._cache:
            if name not in CHANNELS:
                raise ModelError(
                    "The model asks for an input that this version cannot make.",
                    f"Its card names the channel '{name}'; known are " + ", ".join(sorted(CHANNELS)) + ".",
                    "Update StrokeSeg, or correct 'preparation.channels' in the card.",
                )
            values = CHANNELS[name](self).astype(np.float32, copy=False)
            self._cache[name] = np.where(self.brain, values, np.float32(0.0))
        return self._cache[name]

    def image(self, role: str) -> Array:
        """The image of a role on the model grid."""
        if role not in self.images:
            raise ModelError(
                "The model asks for an image that was not given.",
                f"A channel of its card is made of '{role}', which its inputs do not require.",
                "Mark the role as required in the card.",
            )
        return self.images[role]

    def both_sides(self, sigma: list[float]) -> tuple[Array, NDArray[np.bool_]]:
        """The brain smoothed by `sigma` voxels, and the brain voxels whose other side is brain, too; computed once."""
        with self._lock:
            if "_share" not in self._cache:
                brain = self.brain.astype(np.float32)
                self._cache["_share"] = ndimage.gaussian_filter(brain, sigma, mode="constant", truncate=3.0)
                self._cache["_other"] = mirror(brain, self.grid.affine, self.midplane)
        return self._cache["_share"], self.brain & (self._cache["_other"] > 0.5)

    def normal_tissue(self) -> NDArray[np.bool_]:
        """Brain voxels whose ADC is that of normal tissue; the whole brain where there are none, or no ADC."""
        if "adc" not in self.images:
            return self.brain
        adc = self.images["adc"]
        tissue = self.brain & (adc > NORMAL_ADC[0]) & (adc < NORMAL_ADC[1])
        return tissue if tissue.any() else self.brain


def _ratio(space: ModelSpace, role: str) -> Array:
    """Image divided by its median in normal tissue: free of the scanner's scale."""
    image = space.image(role)
    level = float(np.median(image[space.normal_tissue()]))
    # In double precision: single voxels of broken maps reach the end of the single range.
    return np.clip(image / np.float64(level) if level > 0 else image, 0.0, 8.0)


def _mirror_log_ratio(space: ModelSpace, role: str) -> Array:
    """Logarithm of the image over its own other side, both averaged within the brain over some millimetres."""
    sigma = [_MIRROR_FWHM_MM * _FWHM_TO_SIGMA / s for s in space.grid.spacing_mm]
    share, both = space.both_sides(sigma)
    floor = 0.05 * max(float(np.median(space.image(role)[space.normal_tissue()])), 1e-6)
    mean = ndimage.gaussian_filter(np.where(space.brain, space.image(role), 0.0), sigma, mode="constant", truncate=3.0)
    mean = np.maximum(np.divide(mean, share, out=np.zeros_like(mean), where=share > 0.05), floor)
    other = mirror(mean.astype(np.float32), space.grid.affine, space.midplane)
    return np.where(both, np.log(mean / np.maximum(other, floor)), 0.0)


def _zscore(space: ModelSpace, role: str, limit: float) -> Array:
    """Image less its mean in the brain, in standard deviations; cut at `limit` of them."""
    image = space.image(role)
    # In double precision, as in `_ratio`.
    inside = image[space.brain].astype(np.float64)
    sd = float(inside.std())
    return np.clip((image - inside.mean()) / sd if sd > 0 else np.zeros_like(image), -limit, limit)


def _robust(space: ModelSpace, role: str) -> Array:
    """Image from its 1st (0) to its 99th (1) percentile in the brain; bright lesions reach beyond, cut at 4."""
    image = space.image(role)
    low, high = (float(v) for v in np.percentile(image[space.brain].astype(np.float64), [1.0, 99.0]))
    return np.clip((image - low) / (high - low) if high > low else np.zeros_like(image), 0.0, 4.0)


def _minmax8(space: ModelSpace, role: str) -> Array:
    """Image from its lowest (0) to its highest value (1) in 256 steps, whatever is bright or dark outside the brain.

    As Lesion-Net was trained by its authors; one bright voxel takes the contrast from all others.
    """
    image = space.image(role)
    low, high = float(image.min()), float(image.max())
    steps = np.floor((image.astype(np.float64) - low) / max(high - low, 1e-30) * 255.0)
    return (steps / 255.0).astype(np.float32)


def _slice_minmax(space: ModelSpace, role: str) -> Array:
    """Every axial slice of the model grid from its lowest (0) to its highest value (1) in the brain.

    As MSCS-Net was trained by its authors, there with what lies outside the brain. What is bright in one slice may be
    dark in the next: a slice without lesion shows its noise as strongly as another one its lesion.
    """
    image, brain = space.image(role), space.brain
    low = np.where(brain, image, np.inf).min(axis=(0, 1))
    width = np.where(brain, image, -np.inf).max(axis=(0, 1)) - low
    usable = np.isfinite(width) & (width > 0)
    scaled = (image - np.where(usable, low, 0.0)) / np.where(usable, width, 1.0)
    return np.where(usable & brain, scaled, 0.0)


def _edge_distance_mm(space: ModelSpace) -> Array:
    """Distance to the nearest voxel outside the brain, mm."""
    return ndimage.distance_transform_edt(np.pad(space.brain, 1), sampling=space.grid.spacing_mm)[1:-1, 1:-1, 1:-1]


def _height(space: ModelSpace) -> Array:
    """Height in the brain along the patient's S axis: 0 at its lowest, 1 at its highest voxel."""
    x, y, z = (np.arange(s) for s in space.grid.shape)
    a = space.grid.affine[2]
    height = (a[0] * x)[:, None, None] + (a[1] * y)[None, :, None] + (a[2] * z + a[3])[None, None, :]
    inside = height[space.brain]
    low, high = float(inside.min()), float(inside.max())
    return (height - low) / max(high - low, 1e-6)


CHANNELS: dict[str, Callable[[ModelSpace], Array]] = {
    "dwi_ratio": lambda s: _ratio(s, "dwi"),
    "adc": lambda s: np.clip(s.image("adc"), 0.0, 4.0),
    "adc_ratio": lambda s: _ratio(s, "adc"),
    "dwi_mirror_log_ratio": lambda s: _mirror_log_ratio(s, "dwi"),
    "adc_mirror_log_ratio": lambda s: _mirror_log_ratio(s, "adc"),
    "t1_mirror_log_ratio": lambda s: _mirror_log_ratio(s, "t1"),
    "b0_ratio": lambda s: _ratio(s, "b0") if "b0" in s.images else np.full(s.grid.shape, np.nan, np.float32),
    "dwi_robust": lambda s: _robust(s, "dwi"),
    "adc_robust": lambda s: _robust(s, "adc"),
    "t1_robust": lambda s: _robust(s, "t1"),
    "dwi_minmax8": lambda s: _minmax8(s, "dwi"),
    "dwi_slice_minmax": lambda s: _slice_minmax(s, "dwi"),
    "adc_slice_minmax": lambda s: _slice_minmax(s, "adc"),
    "dwi_zscore": lambda s: _zscore(s, "dwi", _BRIGHT_LIMIT),
    "adc_zscore": lambda s: _zscore(s, "adc", _BRIGHT_LIMIT),
    "t1_zscore": lambda s: _zscore(s, "t1", 4.0),
    "edge_distance_mm": _edge_distance_mm,
    "height": _height,
    "brain": lambda s: s.brain.astype(np.float32),
}
"""Channel name to the function that computes it; in a channel of an optional role that is absent, the brain is NaN."""
