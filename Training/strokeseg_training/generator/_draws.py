"""Single random numbers as plain Python values, which a scene can be printed and saved with."""

from __future__ import annotations

import numpy as np

Range = tuple[float, float]
Triple = tuple[float, float, float]


def uniform(rng: np.random.Generator, low_high: Range) -> float:
    """A number between two bounds, all equally likely."""
    return float(rng.uniform(*low_high))


def low_rather(rng: np.random.Generator, low_high: Range) -> float:
    """A number between two bounds whose density falls linearly from the lower one to zero at the upper one."""
    low, high = low_high
    return float(low + (high - low) * (1.0 - np.sqrt(rng.uniform())))


def normal(rng: np.random.Generator, sd: float, mean: float = 0.0) -> float:
    """A normally distributed number, cut at three standard deviations."""
    return float(mean + sd * np.clip(rng.normal(), -3.0, 3.0))


def chance(rng: np.random.Generator, share: float) -> bool:
    """Whether something that happens in `share` of all patients happens in this one."""
    return bool(rng.uniform() < share)


def field_seed(rng: np.random.Generator) -> int:
    """Names a random field."""
    return int(rng.integers(2**31 - 1))


def around(rng: np.random.Generator, centre: Triple, sd: float) -> Triple:
    """A place near `centre`, `sd` mm off along each axis."""
    x, y, z = (normal(rng, sd, c) for c in centre)
    return x, y, z
