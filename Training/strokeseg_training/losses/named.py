"""`LabelLoss`: a loss by the name and arguments that a recipe gives, its terms by their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from strokeseg.errors import InputError
from strokeseg_training.losses.boundary import focal_tversky_boundary
from strokeseg_training.losses.dice import dice_entropy, dice_focal
from strokeseg_training.losses.instances import ici
from strokeseg_training.losses.labelled import Labelled
from strokeseg_training.recipe_losses import (
    ICI,
    Dice,
    DiceCE,
    DiceEntropy,
    DiceFocal,
    Entropy,
    EntropyDice,
    FocalTverskyBoundary,
    LossArguments,
    NamedLoss,
)

_OUTPUT = "lesion"

# Kind of arguments to what computes the terms.
_TERMS: dict[type[LossArguments], Callable[[Labelled, Any], dict[str, Tensor]]] = {
    **dict.fromkeys((DiceEntropy, Entropy, Dice, EntropyDice, DiceCE), dice_entropy),
    FocalTverskyBoundary: focal_tversky_boundary,
    DiceFocal: dice_focal,
    ICI: ici,
}


class LabelLoss:
    """Computes a named loss and, with deep supervision, the same loss of further outputs.

    Args:
        loss: Of the recipe.

    Attributes:
        columns: Names of what a call returns, in order.
    """

    def __init__(self, loss: NamedLoss) -> None:
        self._arguments = loss.settings
        self._terms = _TERMS[type(self._arguments)]
        self._auxiliary = {name: weight for name, weight in loss.auxiliary.items() if weight > 0}
        self.columns = ("loss", *self._arguments.weights, *self._auxiliary)

    def __call__(self, logits: Mapping[str, Tensor], label: Tensor, *, auxiliary: bool = True) -> dict[str, Tensor]:
        """The terms of the output ``lesion``, unweighted, the sums of further outputs, and the weighted sum of all.

        Args:
            logits: Output's name to (N, K, *S), once and without sigmoid or softmax: one logit is the lesion's, several
                are those of exclusive classes, the background first. Further outputs may be coarser.
            label: (N, *S), on the voxels of ``lesion``; see `Labelled`.
            auxiliary: Ask for the further outputs; networks give them in training only.

        Returns:
            Name to a number; ``loss`` is what is minimised.

        Raises:
            InputError: Logits and labels do not fit, or an output is missing.
        """
        terms = self._of_one(logits[_OUTPUT], label)
        total = self._sum(terms)
        for name, weight in self._auxiliary.items() if auxiliary else ():
            if name not in logits:
                raise InputError(
                    "The loss looks at an output that the network does not have.",
                    f"'{name}' is not among its outputs: " + ", ".join(logits) + ".",
                    "Correct 'auxiliary' of the loss in the recipe, or let the network have deep supervision.",
                )
            terms[name] = self._sum(self._of_one(_at_size(logits[name], label.shape[1:]), label))
            total = total + weight * terms[name]
        return {"loss": total, **terms}

    def _of_one(self, logits: Tensor, label: Tensor) -> dict[str, Tensor]:
        return self._terms(Labelled(logits.float(), label), self._arguments)

    def _sum(self, terms: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([weight * terms[name] for name, weight in self._arguments.weights.items()]).sum()


def _at_size(logits: Tensor, size: torch.Size) -> Tensor:
    """Logits on the labels' voxels, interpolated linearly."""
    if logits.shape[2:] == size:
        return logits
    mode = "trilinear" if len(size) == 3 else "bilinear"
    return functional.interpolate(logits.float(), size=list(size), mode=mode, align_corners=False)
