"""The rule without weights: an infarct is bright on the DWI, dark on the ADC, and unlike the other side.

Every evidence is a number that is 0 where it just suffices and rises with it; the weakest one decides, so the score
never falls when an evidence rises. All numbers come from physics or the literature, none is fitted to a scan:

- *DWI*: median absolute deviations (scaled to a standard deviation) above the brain's median; 3 make a seed.
- *ADC*: below 0.62e-3 mm²/s (Purushotham 2015), or below three quarters of the brain's own normal ADC: absolute values
  shift with scanner, b-value and temperature. Infarcts have
  0.45-0.95 of it (PMC6399390).
- *Other side*: both signals against the mirrored side, averaged over some millimetres: cerebellum, cortex and tracts
  are bright on both. Bilateral disease passes when the first two evidences are strong by themselves.
- *Place*: near the edge and in the lower two fifths of the brain, where air bends the field, more is asked for.
- *b = 0*, where given: brightness that is in the b = 0 image beyond what any infarct's T2 gives is no infarct.

Seeds then grow, voxel by voxel, into what has half of an infarct's contrast: voxels that are half infarct by volume.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.errors import ModelError
from strokeseg.models import ModelCard
from strokeseg.runtime.base import Logits, NumpyRuntime

Array = NDArray[np.float32]

CHANNELS = (
    "dwi_ratio",
    "adc",
    "adc_ratio",
    "dwi_mirror_log_ratio",
    "adc_mirror_log_ratio",
    "edge_distance_mm",
    "height",
    "b0_ratio",
    "brain",
)
# Contrast of a voxel that is wholly infarct at the threshold, and of one that is half infarct.
_SEED_DEVIATIONS, _GROW_DEVIATIONS = 3.0, 1.5
_SEED_ADC, _SEED_ADC_RATIO, _GROW_ADC_RATIO = 0.62, 0.75, 0.88
# A tenth of the limit is one unit of ADC evidence: about the noise of one voxel's ADC at a signal-to-noise ratio of 25.
_ADC_UNIT_SHARE = 0.1
# The other side: DWI 10 % brighter and ADC 5 % lower just suffice; one unit is another 10 %.
_MIRROR_DWI, _MIRROR_ADC, _MIRROR_UNIT = 0.1, 0.05, 0.1
# Without any asymmetry the first two evidences must be this much stronger.
_BILATERAL_EXTRA = 3.0
_LOW_HEIGHT, _LOW_SOFTNESS, _LOW_EXTRA = 0.4, 0.1, 2.0
_EDGE_MM, _EDGE_EXTRA, _EDGE_SHARE_ABOVE = 6.0, 2.0, 0.25
# T2 raises an infarct's b = 0 signal to 1.6 of normal tissue at most (Eastwood 2003), grey is 1.2 of the brain's
# median.
_LARGEST_B0_RATIO, _B0_UNIT = 1.9, 0.1
_GROWTH_STEPS = 8
_NO_EVIDENCE = -12.0


class ThresholdRuntime(NumpyRuntime):
    """Runs the rule; the interface is that of a network's runtime.

    Args:
        card: A card with ``runtime: threshold`` and the channels `CHANNELS`.

    Raises:
        ModelError: The card asks for other channels, or for a rule that is not this one.
    """

    name = "threshold"
    precision = "fp32"

    def __init__(self, card: ModelCard) -> None:
        if card.preparation.channels != CHANNELS or card.network != "adc-threshold" or card.network_arguments:
            raise ModelError(
                f"The card of the model '{card.name}' does not fit its rule.",
                "The runtime 'threshold' has one rule, 'adc-threshold', without arguments, with the channels "
                + ", ".join(CHANNELS)
                + ".",
                "Restore the card, or choose another model.",
            )

    def run(self, batch: NDArray[np.float32]) -> Logits:
        """Evidence as logit: 0 where it just suffices.

        Args:
            batch: (N, C, x, y, z), channels `CHANNELS`.
        """
        return {"lesion": np.stack([_evidence(dict(zip(CHANNELS, case, strict=True))) for case in batch])[:, None]}


def _evidence(channel: dict[str, Array]) -> Array:
    """Evidence for infarct (x, y, z): seeds, grown into their surroundings."""
    brain = channel["brain"] > 0.5
    deviations = _deviations(channel["dwi_ratio"], brain)
    # ADC 0 is "no value" of scanners that mask their maps.
    measured = channel["adc"] > 0
    adc = np.where(measured, channel["adc"], np.float32(9.0))
    adc_ratio = np.where(measured, channel["adc_ratio"], np.float32(9.0))
    place = _place_extra(channel["edge_distance_mm"], channel["height"])
    mirror = np.minimum(
        channel["dwi_mirror_log_ratio"] - _MIRROR_DWI, -channel["adc_mirror_log_ratio"] - _MIRROR_ADC
    ) / np.float32(_MIRROR_UNIT)
    ceiling = _b0_evidence(channel["b0_ratio"])

    def combined(dwi_needed: float, dark: Array) -> Array:
        both = np.minimum(deviations - np.float32(dwi_needed), dark)
        both = np.minimum(both, np.maximum(mirror, both - np.float32(_BILATERAL_EXTRA)))
        return np.minimum(both, ceiling) - place

    seed_dark = np.maximum(_below(adc, _SEED_ADC), _below(adc_ratio, _SEED_ADC_RATIO))
    seed = combined(_SEED_DEVIATIONS, seed_dark)
    grow = np.maximum(combined(_GROW_DEVIATIONS, _below(adc_ratio, _GROW_ADC_RATIO)), seed)
    grown = _grown(seed, grow)
    return np.where(brain, np.clip(grown, _NO_EVIDENCE, -_NO_EVIDENCE), np.float32(_NO_EVIDENCE)).astype(np.float32)


def _deviations(dwi: Array, brain: NDArray[np.bool_]) -> Array:
    """DWI above the brain's median, in median absolute deviations scaled to a standard deviation."""
    values = dwi[brain]
    median = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - median)))
    return (dwi - np.float32(median)) / np.float32(max(spread, 1e-3))


def _below(values: Array, limit: float) -> Array:
    return (np.float32(limit) - values) / np.float32(limit * _ADC_UNIT_SHARE)


def _place_extra(edge_distance_mm: Array, height: Array) -> Array:
    """What is asked for beyond the usual, by place."""
    low = np.clip((_LOW_HEIGHT + _LOW_SOFTNESS / 2 - height) / _LOW_SOFTNESS, 0.0, 1.0)
    near_edge = np.clip(1.0 - edge_distance_mm / _EDGE_MM, 0.0, 1.0)
    extra = low * _LOW_EXTRA + near_edge * _EDGE_EXTRA * (_EDGE_SHARE_ABOVE + (1 - _EDGE_SHARE_ABOVE) * low)
    return extra.astype(np.float32)


def _b0_evidence(b0_ratio: Array) -> Array:
    """Falls below 0 where the b = 0 image is brighter than any infarct; no limit where there is none."""
    limit = (np.float32(_LARGEST_B0_RATIO) - b0_ratio) / np.float32(_B0_UNIT)
    return np.where(np.isnan(b0_ratio), np.float32(-_NO_EVIDENCE), limit)


def _grown(seed: Array, grow: Array) -> Array:
    """Seeds spread to neighbours as far as `grow` allows, by `_GROWTH_STEPS` voxels at most.

    Works on the box of voxels that could be reached; elsewhere growing changes nothing above 0.
    """
    box = ndimage.find_objects((np.maximum(seed, grow) > 0).astype(np.uint8))
    result = seed.copy()
    if not box:
        return result
    window = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box[0])
    inner, bound = seed[window], grow[window]
    for _ in range(_GROWTH_STEPS):
        spread = np.maximum(np.minimum(ndimage.maximum_filter(inner, size=3), bound), inner)
        if np.array_equal(spread, inner):
            break
        inner = spread
    result[window] = inner
    return result
