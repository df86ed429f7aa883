"""Checks of values: whether an image can be what its role says, and whether a mask is one.

Imports numpy only: it runs inside 3D Slicer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.checks.finding import Finding, Severity, thinned, title_of

_TOO_NEGATIVE = 0.2
_FEWEST_LEVELS = 16


def check_plausible(array: NDArray[Any], role: str) -> list[Finding]:
    """Whether an image can be what its role says: numbers at all, contrast, sign, many grey levels, no clipping.

    Args:
        array: (x, y, z).
        role: One of the input roles.
    """
    title = title_of(role)
    findings: list[Finding] = []

    def say(severity: Severity, code: str, message: str, next_step: str, **numbers: float) -> None:
        findings.append(Finding(code, severity, role, message, next_step, numbers))

    finite = np.isfinite(array)
    bad = 1.0 - float(finite.mean()) if array.size else 1.0
    values = array[finite] if bad else array.ravel()
    export_again = "Export or convert the image again."
    if values.size == 0:
        say("error", "not_finite", f"The {title} image holds no numbers (NaN or infinite everywhere).", export_again)
        return findings
    if bad:
        say(
            "warning",
            "not_finite",
            f"{bad:.2%} of the {title} image's voxels are not numbers (NaN or infinite).",
            "They count as background.",
            fraction=bad,
        )
    low, high = float(values.min()), float(values.max())
    if low == high:
        say("error", "constant", f"All voxels of the {title} image have the value {low:g}.", export_again, value=low)
        return findings
    sample = thinned(array)
    levels = np.unique(sample[np.isfinite(sample) & (sample != 0)])
    if levels.size < _FEWEST_LEVELS and np.unique(values[values != 0]).size < _FEWEST_LEVELS:
        say(
            "error",
            "few_values",
            f"The {title} image has {levels.size} different values besides 0; it looks like a mask or a label map.",
            f"Give the {title} image itself.",
            values=float(levels.size),
        )
        return findings
    negative = float(np.count_nonzero(values < 0)) / max(1, int(np.count_nonzero(values)))
    # Noise makes an ADC negative in up to half of the background; a magnitude image has nothing below 0 but ringing.
    if negative > (0.6 if role == "adc" else 0.05):
        say(
            # Ratios to the median of a magnitude image mean nothing once a good part of it lies below 0.
            "error" if role in ("dwi", "b0") and negative > _TOO_NEGATIVE else "warning",
            "negative",
            f"{negative:.0%} of the {title} image's voxels are negative; the lowest is {low:.3g}.",
            "Give the image as it left the scanner, not one that was normalised.",
            fraction=negative,
        )
    top = float(np.count_nonzero(values == high)) / max(1, int(np.count_nonzero(values > 0)))
    if top > 0.01:
        say(
            "info" if role == "adc" else "warning",
            "saturated",
            f"{top:.0%} of the {title} image's foreground has its highest value, {high:.4g}: brighter voxels were cut "
            "off.",
            "" if role == "adc" else "Export the image with its full range of values.",
            fraction=top,
            value=high,
        )
    return findings


def check_reference_mask(array: NDArray[Any]) -> list[Finding]:
    """Whether a reference is a mask; see `check_mask`."""
    return check_mask(array, "reference")


def check_mask(array: NDArray[Any], role: str) -> list[Finding]:
    """Whether an array is a mask of 0 and one value above.

    Fractions, negative numbers and a mask of everything are errors; several labels are a warning, for all above 0 is
    counted. A reference without lesion is a fact worth saying, a brain mask without brain an error. Values within 1e-3
    of whole numbers are whole: scaling factors in headers leave 254.99999.

    Args:
        array: (x, y, z).
        role: ``reference`` or ``brain_mask``.
    """
    title = "reference mask" if role == "reference" else title_of(role)
    give_mask = "Give a mask that is 0 outside and 1 inside."

    def one(severity: Severity, code: str, message: str, next_step: str = "", **numbers: float) -> list[Finding]:
        return [Finding(code, severity, role, message, next_step, numbers)]

    inside = array[array != 0]
    if inside.size == 0 and role == "reference":
        return one("info", "mask_empty", "The reference mask is empty: it says that there is no lesion.")
    if inside.size in (0, array.size):
        what, code = ("is empty", "mask_empty") if inside.size == 0 else ("covers the whole image", "mask_full")
        return one("error", code, f"The {title} {what}.", give_mask)
    if not bool(np.isfinite(inside).all()):
        return one("error", "mask_not_binary", f"The {title} holds values that are not numbers (NaN).", give_mask)
    low, high = float(inside.min()), float(inside.max())
    fractions = int(np.count_nonzero(np.abs(inside - np.rint(inside)) > 1e-3)) if inside.dtype.kind == "f" else 0
    if fractions or low < 0:
        seen = f"{fractions} voxels with fractions, " if fractions else ""
        return one(
            "error",
            "mask_not_binary",
            f"The {title} is not a mask: it has {seen}values from {low:.4g} to {high:.4g}.",
            f"{give_mask} A probability map becomes one by a threshold.",
            fractions=float(fractions),
            lowest=low,
            highest=high,
        )
    labels = np.unique(np.rint(inside))
    if labels.size > 1:
        return one(
            "warning",
            "mask_labels",
            f"The {title} has {labels.size} labels ({', '.join(f'{v:g}' for v in labels[:6])}"
            f"{', …' if labels.size > 6 else ''}).",
            "All of them are counted; give one of them alone if that is wrong.",
            labels=float(labels.size),
        )
    return []
