"""What to do with less memory than was thought: one step down at a time, each said in words."""

from __future__ import annotations

from dataclasses import replace

from strokeseg.errors import MemoryLimitError
from strokeseg.models import ModelCard
from strokeseg.predict.plan import SMALLEST_SIDE, Plan, up_to_multiple
from strokeseg.predict.strategies import MapTooLargeError, Size, Tiling


def with_less(plan: Plan, card: ModelCard, shape: Size, device: str, error: MemoryLimitError) -> Plan | None:
    """The next plan that takes less memory on the same device.

    Windows are halved down to a side of `SMALLEST_SIDE`, then run one at a time, then added up in the computer's
    memory.

    Args:
        plan: What did not fit.
        card: The model.
        shape: Voxels (x, y, z) of the model grid.
        device: Of the runtime.
        error: What was too large.

    Returns:
        None where there is no further step.
    """
    tiling = plan.tiling
    if tiling is not None and tiling.on_device and device != "cpu" and isinstance(error, MapTooLargeError):
        return _less(plan, replace(tiling, on_device=False), "logits are added up in the computer's memory")
    smaller = _halved(plan, card, shape)
    if smaller is not None:
        words = f"it is run by windows of {'x'.join(map(str, smaller.window))} voxels"
        return _less(replace(plan, strategy="windows"), smaller, words)
    if tiling is None:
        return None
    if tiling.batch > 1:
        return _less(plan, replace(tiling, batch=1), f"{plan.strategy} are run one at a time")
    if tiling.on_device and device != "cpu":
        return _less(plan, replace(tiling, on_device=False), "logits are added up in the computer's memory")
    return None


def _halved(plan: Plan, card: ModelCard, shape: Size) -> Tiling | None:
    """Windows half as long along every axis; None where they cannot be smaller."""
    if card.runtime == "threshold" or plan.strategy == "slices" or card.input_shape is not None:
        return None
    multiple = card.preparation.multiple
    before = plan.tiling or Tiling(shape, card.overlap, multiple)
    x, y, z = (
        min(w, max(up_to_multiple(-(-w // 2), multiple), up_to_multiple(SMALLEST_SIDE, multiple)))
        for w in before.window
    )
    return None if (x, y, z) == before.window else replace(before, window=(x, y, z), batch=1)


def _less(plan: Plan, tiling: Tiling, words: str) -> Plan:
    return replace(plan, tiling=tiling, reason=words, short_of_memory=True)
