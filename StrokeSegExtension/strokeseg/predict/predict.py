"""`predict`: run a model by a strategy, bring its logits back to the scan once, and make probabilities of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from strokeseg.errors import ModelError
from strokeseg.events import Monitor
from strokeseg.models import ModelCard
from strokeseg.prepare import Prepared
from strokeseg.runtime import Runtime

STRATEGIES = ("whole",)
"""The strategies that this version can carry out."""
# Logits are cut here before they are interpolated: expit(12) is 1 - 6e-6, and steeper edges would only ring.
_LARGEST_LOGIT = 12.0


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says about every voxel of the scan.

    Attributes:
        classes: float32 (K, x, y, z) on the scan's own grid, background first; sums to 1; background 1 outside the
            brain.
        strategy: How the model was run.
        reason: Why so, in words.
    """

    classes: NDArray[np.float32]
    strategy: str
    reason: str

    @property
    def probability(self) -> NDArray[np.float32]:
        """Probability of any lesion (x, y, z): one minus that of the background."""
        return 1.0 - self.classes[0] if len(self.classes) > 2 else self.classes[1]


def predict(
    prepared: Prepared, card: ModelCard, runtime: Runtime, monitor: Monitor, *, strategy: str = "auto"
) -> Prediction:
    """Run the model.

    Args:
        prepared: The case as the model wants it.
        card: The model.
        runtime: What runs it.
        monitor: Hears progress.
        strategy: ``auto`` takes the card's.

    Raises:
        ModelError: The strategy is none that this model or version has, or the model's output has the wrong form.
    """
    chosen, reason = (card.strategy, "the model's own") if strategy == "auto" else (strategy, "as asked for")
    if chosen not in STRATEGIES:
        raise ModelError(
            f"The strategy '{chosen}' cannot be used.",
            f"This version runs models by: {', '.join(STRATEGIES)}.",
            "Leave --strategy out, or choose another model.",
        )
    monitor.progress(0, 1, f"{runtime.name} on {runtime.device}")
    output = runtime.run(prepared.channels[None])["lesion"][0]
    monitor.progress(1, 1)
    return Prediction(_probabilities(output, prepared, card), chosen, reason)


def _probabilities(logits: NDArray[np.float32], prepared: Prepared, card: ModelCard) -> NDArray[np.float32]:
    """Logits on the model grid to probabilities on the scan's grid: one interpolation, then the sigmoid or softmax."""
    lesion_classes = len(card.classes)
    expected = 1 if lesion_classes == 1 else lesion_classes + 1
    if logits.shape != (expected, *prepared.model_grid.grid.shape) or not np.isfinite(logits).all():
        raise ModelError(
            f"The model '{card.name}' gave a result that cannot be used.",
            f"Expected {expected} finite maps of {prepared.model_grid.grid.shape}, got {logits.shape}"
            + ("." if np.isfinite(logits).all() else " with values that are not numbers."),
            "The model does not fit its card; install it again or report it to its author.",
        )
    scaled = np.clip(logits / np.float32(card.temperature), -_LARGEST_LOGIT, _LARGEST_LOGIT)
    native = np.stack([prepared.model_grid.back(m, outside=-_LARGEST_LOGIT) for m in scaled])
    classes = np.empty((lesion_classes + 1, *prepared.reference.grid.shape), dtype=np.float32)
    if lesion_classes == 1:
        classes[1] = expit(native[0])
        classes[0] = 1.0 - classes[1]
    else:
        classes[:] = softmax(native, axis=0)
    outside = ~prepared.brain.mask
    classes[1:, outside] = 0.0
    classes[0, outside] = 1.0
    return classes
