"""What a check says: `Finding`; and the sample of a large array on which it may look.

Imports the standard library and numpy only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

_TITLES = {"dwi": "DWI", "adc": "ADC", "t1": "T1", "flair": "FLAIR", "b0": "b = 0", "brain_mask": "brain mask"}

Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing that was noticed about the input.

    Args:
        code: Stable name of the kind of finding.
        severity: ``info``: worth saying; ``warning``: the result may suffer; ``error``: there must be no result.
        role: The role it is about, "" for several.
        message: What was seen, in full sentences.
        next_step: What to do; "" when nothing needs doing.
        numbers: The numbers behind the message.
    """

    code: str
    severity: Severity
    role: str
    message: str
    next_step: str = ""
    numbers: dict[str, float] = field(default_factory=dict)


def title_of(role: str) -> str:
    """What `role` is called in a sentence."""
    return _TITLES.get(role, role or "other")


def thinned(array: NDArray[Any], most_voxels: int = 150_000) -> NDArray[Any]:
    """A view of every n-th voxel along each axis, with about `most_voxels` voxels at most.

    The steps are odd and the sample lies in the middle, so that a flipped array gives the same voxels: no finding
    depends on how a file is stored.
    """
    return array[thinning(array.shape, most_voxels)]


def thinning(shape: tuple[int, ...], most_voxels: int = 150_000) -> tuple[slice, ...]:
    """The slices that `thinned` takes of an array of this shape."""
    steps = [1] * len(shape)
    counts = list(shape)
    while math.prod(counts) > most_voxels:
        axis = counts.index(max(counts))
        steps[axis] += 2
        counts[axis] = -(-shape[axis] // steps[axis])
    # (n - 1) * (s + 1) / 2 modulo s is the start whose distance from the first voxel is that of the last sample from
    # the last voxel; it exists for odd steps only.
    return tuple(slice((n - 1) * ((s + 1) // 2) % s, None, s) for n, s in zip(shape, steps, strict=True))


def typical_level(values: NDArray[Any]) -> float:
    """The value below which half of the total signal lies; 0 when nothing is positive.

    Voxels count by their value: a background of tiny positive numbers, left by interpolation, has no say, however large
    it is. The highest twentieth is left out, divisions by almost nothing included.
    """
    positive = values[values > 0]
    if positive.size == 0:
        return 0.0
    ordered = np.sort(positive.astype(np.float64, copy=False))
    ordered = ordered[: max(1, math.ceil(0.95 * ordered.size))]
    weight = np.cumsum(ordered)
    return float(ordered[np.searchsorted(weight, weight[-1] / 2)])
