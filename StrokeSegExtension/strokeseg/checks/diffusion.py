"""Checks by the physics of diffusion: unit of the ADC, DWI and ADC swapped, b-value.

Tissue and fluid differ by far more than scanners do. Diffusion coefficients at body temperature, 1e-3 mm²/s: white
matter 0.70 ± 0.03, deep grey 0.75 ± 0.03, cortex 0.89 ± 0.04 (Helenius et al., AJNR 2002), cerebrospinal fluid 2.6-3.4
(free water at 37 °C). Imports numpy and `finding` only: it runs inside 3D Slicer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.checks.finding import Finding, thinned, typical_level

# Factor to 1e-3 mm²/s. Other powers of ten cannot be told from grey values (0-255): they are refused.
_UNITS = {"1e-3 mm²/s": 1.0, "1e-6 mm²/s": 1e-3, "mm²/s": 1e3}
# The median of a brain is that of tissue, 0.64-1.00; a brain half of fluid moves it up to the mean of 0.8 and 3, one
# that is all infarct (about half the healthy value) down to 0.4.
_PLAUSIBLE_MEDIAN = (0.4, 2.0)
# The contrast of fluid between ADC and DWI, see `_not_a_pair`: none is 1.
_WRONG_CONTRAST, _DOUBTFUL_CONTRAST = 0.8, 1.3
_FEWEST_VOXELS = 200
# b of clinical diffusion imaging is 800-1200 s/mm²; below 500 an infarct hardly shows, above 3000 tissue is lost in
# noise.
_PLAUSIBLE_B = (500.0, 3000.0)
_B_TOLERANCE = 0.25


@dataclass(frozen=True)
class AdcUnit:
    """In which unit an ADC image is.

    Args:
        factor: Multiply by this to get 1e-3 mm²/s; None when the unit cannot be told.
        name: The unit, or "unknown".
        median_seen: Median of the foreground, in the image's own unit.
        finding: What was assumed (info), or why nothing can be assumed (error).
    """

    factor: float | None
    name: str
    median_seen: float
    finding: Finding


def adc_unit(adc: NDArray[Any], brain_hint: NDArray[Any] | None = None) -> AdcUnit:
    """The unit of an ADC image, from the level of its foreground.

    Args:
        adc: (x, y, z). Zeros, negative values, NaN and a background of noise do no harm.
        brain_hint: Same shape, above 0 where the brain is.

    Returns:
        One of the three units that scanners and data sets use, or `factor` None.
    """
    values = thinned(adc)
    values = values[thinned(brain_hint) > 0] if brain_hint is not None else values.ravel()
    values = values[np.isfinite(values)]
    values = values[values > 0]
    level = typical_level(values)
    median = float(np.median(values[values > 0.1 * level])) if level > 0 else 0.0
    if median == 0.0:
        finding = Finding(
            "adc_unit_unknown",
            "error",
            "adc",
            "The ADC image has no positive value, so that its unit cannot be told.",
            "Check that the file is an ADC map and that it was exported with its real values.",
        )
        return AdcUnit(None, "unknown", 0.0, finding)
    low, high = _PLAUSIBLE_MEDIAN
    for name, factor in _UNITS.items():
        if low <= median * factor <= high:
            finding = Finding(
                "adc_unit",
                "info",
                "adc",
                f"The ADC image is taken to be in {name}: its median is {_plain(median)}, that of a brain lies between "
                f"{low / factor:g} and {high / factor:g} in this unit.",
                numbers={"median": median, "factor": factor},
            )
            return AdcUnit(factor, name, median, finding)
    finding = Finding(
        "adc_unit_unknown",
        "error",
        "adc",
        f"The unit of the ADC image cannot be told: its median is {_plain(median)}. That of a brain lies between "
        "0.4 and 2 in 1e-3 mm²/s, between 400 and 2000 in 1e-6 mm²/s, and between 0.0004 and 0.002 in mm²/s.",
        "Export the ADC map with its real values (no screenshot, no grey values 0-255), or check that the file is an "
        "ADC map.",
        {"median": median},
    )
    return AdcUnit(None, "unknown", median, finding)


def _plain(value: float) -> str:
    """With three digits that count, or all before the point, and never with an exponent: 0.000789, 0.789, 1023."""
    if value >= 100:
        return f"{value:.0f}"
    return np.format_float_positional(value, precision=3, fractional=False, trim="-")


def check_swapped(dwi: NDArray[Any], adc: NDArray[Any]) -> Finding | None:
    """Whether DWI and ADC are the same image, or each in the other's place.

    Fluid decides: its ADC is three to four times that of tissue, and its DWI keeps exp(-b·D), less than a tenth, of a
    signal two to three times that of tissue. So the DWI is dark where the ADC is brightest, and the ADC is bright where
    the DWI is darkest. Exchanged, neither holds: where the DWI is brightest lie cortex and coil, where the ADC is
    lowest, white matter. Only a large infarct does the like, and by less: half the ADC, twice the DWI.

    Args:
        dwi: (x, y, z), the image in the place of the DWI.
        adc: Same shape, same grid, in any unit.

    Returns:
        An error only when both the anatomy and the unit say so; None when all is well or nothing can be said.
    """
    if dwi.shape != adc.shape:
        raise ValueError(f"DWI and ADC must be on one grid to be compared, got the shapes {dwi.shape} and {adc.shape}")
    a, b = _inner_brain(thinned(dwi).astype(np.float64), thinned(adc).astype(np.float64))
    if a.size < _FEWEST_VOXELS:
        return None
    if _proportional(a, b):
        return Finding(
            "dwi_equals_adc",
            "error",
            "",
            "DWI and ADC are the same image: their values agree or differ by a constant factor only.",
            "Give the ADC map that belongs to the DWI; both usually come from the scanner as separate series.",
        )
    dark_given, bright_given = _share_at_brightest(a, b), _share_at_darkest(b, a)
    dark_swapped, bright_swapped = _share_at_brightest(b, a), _share_at_darkest(a, b)
    as_given, as_swapped = bright_given / dark_given, bright_swapped / dark_swapped
    # Fluid makes this ratio 3 to 15, diluted with tissue too; without fluid it is 1, for a large infarct 2 to 4.
    anatomy_says_swapped = as_swapped > 2.0 and as_swapped > 1.5 * as_given
    unit_given, unit_swapped = adc_unit(b), adc_unit(a)
    only_swapped_has_unit = unit_given.factor is None and as_swapped > as_given
    if unit_swapped.factor is None or not (anatomy_says_swapped or only_swapped_has_unit) or _mostly_fluid(b):
        return _not_a_pair(as_given, dark_given, bright_given)
    return Finding(
        "dwi_adc_swapped",
        "error",
        "",
        "DWI and ADC seem to be swapped. Fluid is brightest in an ADC map and dark in DWI; here, the image given as "
        f"ADC is at {dark_swapped:.0%} of its median where the image given as DWI is brightest, and the one given as "
        f"DWI at {bright_swapped:.0%} where the other is darkest. The median of the image given as DWI, "
        f"{_plain(unit_swapped.median_seen)}, fits an ADC map in {unit_swapped.name}.",
        "Give the two files in each other's place.",
        {"contrast_as_given": as_given, "contrast_as_swapped": as_swapped, "median_dwi": unit_swapped.median_seen},
    )


def _not_a_pair(contrast: float, dwi_in_fluid: float, adc_in_dark: float) -> Finding | None:
    """An error where fluid is the wrong way round in the two images, a warning where it hardly shows.

    A T1 in the place of the ADC is dark in fluid, a b = 0 or inverted image in the place of the DWI is bright there:
    both turn the contrast around. A b = 0 image in the place of the ADC is bright in fluid like an ADC and cannot be
    told.

    Args:
        contrast: 3 to 15 for DWI and ADC, 1 for images that do not show fluid, below 1 for others.
        dwi_in_fluid: DWI where the ADC is brightest, share of its median.
        adc_in_dark: ADC where the DWI is darkest, share of its median.
    """
    if contrast >= _DOUBTFUL_CONTRAST:
        return None
    seen = (
        "Fluid is dark in DWI and brightest in an ADC map; here the image given as DWI is at "
        f"{dwi_in_fluid:.0%} of its median where the one given as ADC is brightest, and the one given as ADC at "
        f"{adc_in_dark:.0%} of its median where the other is darkest."
    )
    wrong = contrast < _WRONG_CONTRAST
    return Finding(
        "not_dwi_and_adc",
        "error" if wrong else "warning",
        "",
        f"These images do not {'fit' if wrong else 'clearly fit'} each other as DWI and ADC. {seen}",
        "Check that the DWI is a trace image of b = 800 to 1200 s/mm² and the ADC the map made from it, not a b = 0 or "
        "T1 image.",
        {"contrast_as_given": contrast},
    )


def _inner_brain(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The voxels of two images that most likely are brain, whichever is DWI and whichever ADC.

    Both have signal there, and they lie within 1.5 standard deviations of the common centre, two thirds of a ball's
    radius: that leaves out scalp and the noise of air around a whole head.
    """
    a, b = (np.where(np.isfinite(v) & (v > 0), v, 0.0) for v in (a, b))
    level_a, level_b = typical_level(a), typical_level(b)
    weight = np.minimum(a, 2 * level_a) * np.minimum(b, 2 * level_b)
    total = float(weight.sum())
    if total == 0.0:
        return np.empty(0), np.empty(0)
    distance = np.zeros(a.shape)
    for axis, length in enumerate(a.shape):
        others = tuple(k for k in range(a.ndim) if k != axis)
        along = weight.sum(axis=others) / total
        offset = np.arange(length) - float(along @ np.arange(length))
        spread = max(float(along @ offset**2), 1e-6)
        distance += np.expand_dims(offset**2 / spread, others)
    inner = (distance < 1.5**2) & (a > 0.05 * level_a) & (b > 0.05 * level_b)
    return a[inner], b[inner]


def _mostly_fluid(adc: NDArray[np.float64]) -> bool:
    """Whether the values can be the ADC of a brain with more fluid than tissue, whose medians mislead."""
    low, middle, high = np.quantile(adc, [0.1, 0.5, 0.9])
    return any(0.4 <= low * f <= 1.3 <= middle * f <= 3.6 and 2.4 <= high * f <= 4.5 for f in _UNITS.values())


def _proportional(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    ratio = float(a @ b) / float(b @ b)
    return float(np.abs(a - ratio * b).max()) <= 1e-3 * float(np.abs(a).max())


def _share_at_brightest(values: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Median of `values` in the tenth of voxels that is brightest in `other`, as a share of its median everywhere."""
    return float(np.median(values[other >= np.quantile(other, 0.9)]) / np.median(values))


def _share_at_darkest(values: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The same for the tenth that is darkest in `other`."""
    return float(np.median(values[other <= np.quantile(other, 0.1)]) / np.median(values))


def check_b_value(
    dwi: NDArray[Any], adc: NDArray[Any], b0: NDArray[Any] | None = None, stated_b: float | None = None
) -> Finding | None:
    """Whether the b-value that was stated is the one that the images were made with.

    Args:
        dwi: (x, y, z).
        adc: Same grid, in 1e-3 mm²/s.
        b0: Same grid, the image without diffusion weighting. Without it only the stated value is looked at.
        stated_b: s/mm², from the file or from the user.

    Returns:
        None when there is nothing to look at. ``numbers`` has ``b_estimated`` when there was a b = 0 image: the median
        of ln(b0 / dwi) / adc in tissue, s/mm².
    """
    low, high = _PLAUSIBLE_B
    estimated = None if b0 is None else _estimated_b(*(thinned(v).astype(np.float64) for v in (dwi, adc, b0)))
    numbers = {name: value for name, value in (("b_estimated", estimated), ("b_stated", stated_b)) if value is not None}
    if stated_b is not None and not low <= stated_b <= high:
        return Finding(
            "b_value_implausible",
            "warning",
            "dwi",
            f"The b-value of the DWI is stated as {stated_b:g} s/mm²; stroke imaging uses 800 to 1200, and outside "
            f"{low:g} to {high:g} infarcts look different from what models know.",
            "Check the b-value, and choose the volume with b near 1000 s/mm² where there are several.",
            numbers,
        )
    if estimated is None:
        return None
    if not low <= estimated <= high:
        return Finding(
            "b_value_implausible",
            "warning",
            "dwi",
            f"DWI, ADC and b = 0 image fit together with b = {estimated:.0f} s/mm² only, which no stroke protocol "
            "uses.",
            "Check that the three images belong to the same examination and that each is what its role says.",
            numbers,
        )
    if stated_b is not None and abs(estimated / stated_b - 1) > _B_TOLERANCE:
        return Finding(
            "b_value_differs",
            "warning",
            "dwi",
            f"The b-value is stated as {stated_b:g} s/mm², but DWI, ADC and b = 0 image fit together with "
            f"{estimated:.0f}.",
            "Check the b-value and that the three images belong to the same examination.",
            numbers,
        )
    return Finding(
        "b_value",
        "info",
        "dwi",
        f"DWI, ADC and b = 0 image fit together with b = {estimated:.0f} s/mm².",
        numbers=numbers,
    )


def _estimated_b(dwi: NDArray[np.float64], adc: NDArray[np.float64], b0: NDArray[np.float64]) -> float | None:
    """Median of ln(b0 / dwi) / adc over tissue, s/mm²; None with too few voxels.

    Only voxels with the ADC of tissue count: in fluid, the noise floor of the DWI hides the loss of signal.
    """
    finite = np.isfinite(dwi) & np.isfinite(adc) & np.isfinite(b0)
    tissue = finite & (adc > 0.4) & (adc < 1.3) & (dwi > 0) & (b0 > 0.2 * typical_level(b0[finite]))
    if int(tissue.sum()) < _FEWEST_VOXELS:
        return None
    b = float(np.median(np.log(b0[tissue] / dwi[tissue]) / adc[tissue])) * 1000.0
    return b if math.isfinite(b) else None
