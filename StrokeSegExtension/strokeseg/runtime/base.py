"""The one interface of all runtimes, and the choice between them."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import DependencyError, ModelError
from strokeseg.models import ModelCard

Logits = dict[str, NDArray[np.float32]]


class Runtime(Protocol):
    """Runs one model on one device.

    Attributes:
        name: Which runtime this is, for reports.
        device: The device it runs on, for reports.
    """

    name: str
    device: str

    def run(self, batch: NDArray[np.float32]) -> Logits:
        """Logits by output name.

        Args:
            batch: (N, C, x, y, z), channels in the card's order.

        Returns:
            At least ``lesion``: float32 (N, K, x, y, z), K = 1 for one class, else background first.
        """
        ...


def open_runtime(card: ModelCard, device: str = "auto") -> Runtime:
    """The runtime that a card asks for, on a device.

    Args:
        card: The model.
        device: ``auto``, ``cpu``, ``cuda:N`` or ``mps``.

    Raises:
        DependencyError: The device was asked for and is not there, or the model cannot use it.
        ModelError: This version has no such runtime.
    """
    if card.runtime == "threshold":
        from strokeseg.runtime.threshold import ThresholdRuntime  # noqa: PLC0415  each runtime is loaded when asked for

        if device not in ("auto", "cpu"):
            raise DependencyError(
                f"The device '{device}' cannot be used.",
                f"The model '{card.name}' is a rule without network; it runs on the CPU.",
                "Leave --device out, or choose a model with a network.",
            )
        return ThresholdRuntime(card)
    raise ModelError(
        f"The model '{card.name}' cannot be run.",
        f"It asks for the runtime '{card.runtime}', which this version does not have.",
        "Update StrokeSeg, or choose another model ('strokeseg models list').",
    )
