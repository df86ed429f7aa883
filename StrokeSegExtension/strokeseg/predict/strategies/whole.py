"""`whole`: the model sees all of the brain in one pass; the fastest, and the most it can know of its surroundings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from strokeseg.runtime import Logits, Runtime

Told = Callable[[int, int], None]
"""Hears steps done and their number; raises `Cancelled` when the user asked to stop."""


def unheard(done: int, total: int) -> None:
    """A `Told` for runs that nobody follows and nobody stops."""
    del done, total


def whole(runtime: Runtime, channels: NDArray[np.float32], told: Told) -> Logits:
    """Run a model in one pass. The model grid's axes are multiples of what the card asks for: nothing is padded here.

    Args:
        runtime: What runs the model.
        channels: (C, x, y, z).
        told: Hears the one step.

    Returns:
        Name to logits (1, K, x, y, z).
    """
    told(0, 1)
    outputs = runtime.run(channels[None])
    told(1, 1)
    return outputs
