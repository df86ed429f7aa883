"""Diffusion images in the engine's units: ADC in 1e-3 mm²/s, computed from b = 0 and DWI where it is missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from strokeseg.checks import AdcUnit, adc_unit
from strokeseg.errors import InputError
from strokeseg.volume import Volume, resample

# Free water at 37 degrees has 3.0; above 4 there is only noise.
LARGEST_ADC = 4.0


def adc_in_engine_unit(adc: Volume) -> tuple[Volume, AdcUnit]:
    """The ADC in 1e-3 mm²/s and what was recognised.

    Raises:
        InputError: The unit cannot be told; says the numbers that were seen.
    """
    unit = adc_unit(adc.array)
    if unit.factor is None:
        raise InputError("The unit of the ADC cannot be told.", unit.finding.message, unit.finding.next_step)
    if unit.factor == 1.0:
        return adc, unit
    return replace(adc, array=(adc.array * np.float32(unit.factor)).astype(np.float32)), unit


def adc_from_b0(dwi: Volume, b0: Volume, b_value: float | None) -> Volume:
    """ADC = ln(S0 / Sb) / b on the DWI's grid, in 1e-3 mm²/s; 0 where one of the two has no signal.

    Args:
        dwi: The diffusion-weighted image Sb.
        b0: The image S0 without diffusion weighting, on any grid.
        b_value: s/mm² of `dwi`; None: not known.

    Raises:
        InputError: The b-value is not known or is no diffusion weighting.
    """
    if b_value is None or not 100.0 <= b_value <= 5000.0:
        seen = "is not known" if b_value is None else f"is given as {b_value:g} s/mm², which weights no diffusion image"
        raise InputError(
            "The ADC is missing and cannot be computed.",
            f"DWI and b = 0 image are there, but the b-value of the DWI {seen}.",
            "Give the ADC with --adc, or the b-value with --b-value (usually 1000).",
        )
    s0 = resample(b0.array, b0.grid, dwi.grid)
    signal = (s0 > 0) & (dwi.array > 0)
    adc = np.zeros(dwi.array.shape, dtype=np.float32)
    adc[signal] = np.log(s0[signal] / dwi.array[signal]) * np.float32(1000.0 / b_value)
    note = f"The ADC was computed from the b = 0 image and the DWI with b = {b_value:g} s/mm²."
    return Volume(np.clip(adc, 0.0, LARGEST_ADC), dwi.affine, notes=(note,))
