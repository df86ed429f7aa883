"""Checks of the input: arrays and affines in, findings in words out; for the engine and for the panel inside Slicer.

`check_inputs` runs them all. No check changes an image, none raises for what it sees in one. Imports the standard
library, numpy and scipy only; the single checks live in this folder, by subject.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from strokeseg.checks.diffusion import AdcUnit, adc_unit, check_b_value, check_swapped
from strokeseg.checks.finding import Finding, Severity, thinning, title_of
from strokeseg.checks.geometry import check_geometry, check_overlap, overlap_fraction
from strokeseg.checks.image import check_mask, check_plausible, check_reference_mask

__all__ = [
    "AdcUnit",
    "Finding",
    "Severity",
    "adc_unit",
    "check_b_value",
    "check_geometry",
    "check_inputs",
    "check_mask",
    "check_overlap",
    "check_plausible",
    "check_reference_mask",
    "check_swapped",
    "overlap_fraction",
]

_MASKS = ("brain_mask", "reference")

Sampled = dict[str, NDArray[Any]]
Placed = dict[str, tuple[NDArray[Any], NDArray[np.float64]]]


def check_inputs(
    roles: Mapping[str, tuple[NDArray[Any], ArrayLike]], *, stated_b: float | None = None
) -> list[Finding]:
    """All checks on all images, in one place.

    Args:
        roles: Role to (array, affine); ``brain_mask`` and ``reference`` may be among them.
        stated_b: b-value of the DWI, s/mm², where known.

    Returns:
        Findings image by image, then those on pairs. Images that fail alone are not compared with others.
    """
    findings: list[Finding] = []
    sound: Placed = {}
    for role, (array, affine) in roles.items():
        alone = check_geometry(array.shape, affine, role)
        alone += check_mask(array, role) if role in _MASKS else check_plausible(array, role)
        findings += alone
        if not any(f.severity == "error" for f in alone):
            sound[role] = (array, np.asarray(affine, dtype=np.float64))
    images = [r for r in sound if r not in _MASKS]
    if not images:
        return findings
    first = next((r for r in ("dwi", "adc", "t1", "flair", "b0") if r in sound), images[0])
    array, affine = sound[first]
    apart = set()
    for role, (other, other_affine) in sound.items():
        overlap = None if role == first else check_overlap(array.shape, affine, other.shape, other_affine, role)
        if overlap is not None:
            findings.append(overlap)
            if overlap.severity == "error":
                apart.add(role)
    findings += _same_images({r: sound[r][0] for r in images})
    together: Sampled = {
        r: _sampled_on(sound[first], sound[r]) for r in ("dwi", "adc", "b0") if r in sound and r not in apart
    }
    return findings + _diffusion_findings(together, sound, stated_b)


def _diffusion_findings(together: Sampled, sound: Placed, stated_b: float | None) -> list[Finding]:
    """Swap, unit and b-value; `together` holds the diffusion images sampled at the same places."""
    dwi, adc = together.get("dwi"), together.get("adc")
    swapped = check_swapped(dwi, adc) if dwi is not None and adc is not None else None
    if swapped is not None and swapped.severity == "error":
        return [swapped]
    findings: list[Finding] = [] if swapped is None else [swapped]
    factor = None
    if "adc" in sound:
        unit = adc_unit(sound["adc"][0])
        factor = unit.factor
        findings.append(unit.finding)
    b_value = None
    if dwi is not None and adc is not None and factor is not None:
        b_value = check_b_value(dwi, adc * factor, together.get("b0"), stated_b)
    elif dwi is not None:  # without an ADC in known units only the stated value can be looked at
        b_value = check_b_value(dwi, np.zeros_like(dwi), None, stated_b)
    return findings if b_value is None else [*findings, b_value]


def _same_images(arrays: Mapping[str, NDArray[Any]]) -> list[Finding]:
    """An error for every two roles that hold the same image; DWI and ADC are compared elsewhere."""
    return [
        Finding(
            "same_image",
            "error",
            b,
            f"The {title_of(a)} and the {title_of(b)} image are the same.",
            "Give each role its own image, or leave one out.",
        )
        for a, b in combinations(arrays, 2)
        if {a, b} != {"dwi", "adc"} and arrays[a].shape == arrays[b].shape and np.array_equal(arrays[a], arrays[b])
    ]


def _sampled_on(
    target: tuple[NDArray[Any], NDArray[np.float64]], image: tuple[NDArray[Any], NDArray[np.float64]]
) -> NDArray[Any]:
    """`image` at a sample of the voxels of `target`, by the nearest voxel; NaN outside. Enough for distributions."""
    (like, like_affine), (array, affine) = target, image
    where = thinning(like.shape)
    if like.shape == array.shape and np.allclose(like_affine, affine, atol=1e-3):
        return array[where]
    between = np.linalg.solve(affine, like_affine)
    axes = [np.arange(n)[s].astype(np.float64) for n, s in zip(like.shape, where, strict=True)]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) @ between[:3, :3].T + between[:3, 3]
    nearest = np.rint(index).astype(np.intp)
    inside = ((nearest >= 0) & (nearest < np.asarray(array.shape))).all(axis=-1)
    sampled = np.full(inside.shape, np.nan)
    sampled[inside] = array[tuple(nearest[inside].T)]
    return sampled
