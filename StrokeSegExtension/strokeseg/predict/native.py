"""The way back: logits on the model grid to probabilities and labels on the scan's own grid, by one interpolation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from strokeseg.errors import ModelError
from strokeseg.models import ModelCard
from strokeseg.prepare import Prepared
from strokeseg.runtime import Logits

# Logits are cut here before they are interpolated: expit(8) is 0.9997, and steeper edges ring: on 5-6.5 mm slices a cut
# at 12 enlarges lesions under 0.3 ml by 3-22 %, one at 8 changes them by -4 to +9 % (Testing/phantoms/emboli.py).
LARGEST_LOGIT = 8.0
# Of the output ``tissue``: background, grey, white, csf.
_TISSUE_MAPS = 4


def cut_logits(outputs: Logits, name: str, prepared: Prepared, card: ModelCard) -> NDArray[np.float32]:
    """One output (1, K, x, y, z) as logits (K, x, y, z) that can be interpolated, divided by the temperature.

    Raises:
        ModelError: The output is missing, has the wrong shape, or holds values that are no numbers.
    """
    if name not in outputs:
        raise unusable(card, f"It has the outputs {', '.join(sorted(outputs)) or '(none)'}, but not '{name}'.")
    logits = outputs[name]
    several = len(card.classes) > 1
    expected = _TISSUE_MAPS if name == "tissue" else len(card.classes) + 1 if several else 1
    shape = (1, expected, *prepared.model_grid.grid.shape)
    if logits.shape != shape or not np.isfinite(logits).all():
        finite = "." if np.isfinite(logits).all() else " with values that are not numbers."
        raise unusable(card, f"Expected finite logits of the shape {shape}, got {logits.shape}{finite}")
    scaled = logits[0] / np.float32(card.temperature) if name == "lesion" else logits[0]
    if expected > 1:
        # Only differences between classes count; cut without a common zero, two large logits would become equal.
        scaled = scaled - scaled.max(axis=0)
    return np.clip(scaled, -LARGEST_LOGIT, LARGEST_LOGIT)


def class_probabilities(logits: NDArray[np.float32], prepared: Prepared, card: ModelCard) -> NDArray[np.float32]:
    """Lesion logits (K, x, y, z) on the model grid to probabilities (classes + 1, x, y, z) on the scan's grid.

    One interpolation, of the logits; the sigmoid or softmax comes after it.
    """
    native = _back(logits, prepared)
    classes = np.empty((len(card.classes) + 1, *prepared.reference.grid.shape), dtype=np.float32)
    if len(native) == 1:
        classes[1] = expit(native[0])
        classes[0] = 1.0 - classes[1]
    else:
        classes[:] = softmax(native, axis=0)
    outside = ~prepared.brain.mask
    classes[1:, outside] = 0.0
    classes[0, outside] = 1.0
    return classes


def tissue_labels(logits: NDArray[np.float32], prepared: Prepared) -> NDArray[np.uint8]:
    """Tissue logits (4, x, y, z) on the model grid to labels (x, y, z) on the scan's grid.

    Labels are 0 background, 1 grey, 2 white, 3 fluid; 0 outside the brain.
    """
    labels = _back(logits, prepared).argmax(axis=0).astype(np.uint8)
    labels[~prepared.brain.mask] = 0
    return labels


def _back(logits: NDArray[np.float32], prepared: Prepared) -> NDArray[np.float32]:
    """Logits on the scan's grid; "background" where the model grid does not reach."""
    maps = len(logits)
    beyond = [-LARGEST_LOGIT] if maps == 1 else [0.0] + [-LARGEST_LOGIT] * (maps - 1)
    return np.stack([prepared.model_grid.back(m, outside=b) for m, b in zip(logits, beyond, strict=True)])


def unusable(card: ModelCard, cause: str) -> ModelError:
    """The model is at fault."""
    return ModelError(
        f"The model '{card.name}' gave a result that cannot be used.",
        cause,
        "The model does not fit its card; install it again or report it to its author.",
    )
