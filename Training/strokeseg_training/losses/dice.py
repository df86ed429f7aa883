"""Dice with cross entropy (Lesion-Net, the ATLAS trio, StrokeFormer) and Dice with focal loss (MSCS-Net)."""

from __future__ import annotations

import torch
from torch import Tensor

from strokeseg.errors import InputError
from strokeseg_training.losses.labelled import Labelled
from strokeseg_training.recipe_losses import DiceEntropy, DiceFocal


def dice_of_classes(given: Labelled, *, background: bool, pooled: bool, squared: bool, smooth: float) -> Tensor:
    """1 - (2 * shared + smooth) / (probability + label + smooth) of each class.

    Returns:
        (1, classes) of the batch as one patient, or (N, classes).
    """
    # MONAI takes seconds to load: not in processes that make samples.
    from monai.losses.dice import DiceLoss  # noqa: PLC0415

    loss = DiceLoss(batch=pooled, squared_pred=squared, smooth_nr=smooth, smooth_dr=smooth, reduction="none")
    # MONAI's own masking of logits would leave probabilities of one half where nothing counts.
    probability, label = given.counting(background=background)
    each: Tensor = loss(probability, label)
    return each.reshape(1 if pooled else len(label), label.shape[1])


def dice_entropy(given: Labelled, arguments: DiceEntropy) -> dict[str, Tensor]:
    """The terms ``dice`` and ``entropy`` that have a weight.

    Raises:
        InputError: The sigmoid shall be taken twice of several logits.
    """
    if arguments.double_sigmoid:
        if given.logits.shape[1] != 1:
            raise InputError(
                "The sigmoid cannot be taken twice.",
                f"The network gives {given.logits.shape[1]} logits a voxel, of which the softmax is taken.",
                "Set 'double_sigmoid' to false.",
            )
        given = Labelled(torch.sigmoid(given.logits), given.label)
    a, terms = arguments, {}
    if a.dice:
        each = dice_of_classes(given, background=a.background, pooled=a.pooled, squared=a.squared, smooth=a.smooth)
        terms["dice"] = each.mean()
    if a.entropy:
        terms["entropy"] = given.mean(given.entropy(), pooled=a.pooled)
    return terms


def dice_focal(given: Labelled, arguments: DiceFocal) -> dict[str, Tensor]:
    """The terms ``dice``, a weighted mean over all classes, and ``focal`` that have a weight.

    Raises:
        InputError: There are not as many class weights as classes.
    """
    a, terms = arguments, {}
    if a.dice:
        each = dice_of_classes(given, background=True, pooled=a.pooled, squared=False, smooth=a.smooth).mean(0)
        weights = torch.tensor(_class_weights(a, given.classes), device=each.device)
        dice = (each * weights).sum() / weights.sum()
        terms["dice"] = 1.0 - (1.0 - dice) / given.classes if a.divided_twice else dice
    if a.focal:
        terms["focal"] = categorical_focal(given, gamma=a.gamma, alpha=a.alpha, pooled=a.pooled)
    return terms


def categorical_focal(given: Labelled, *, gamma: float, alpha: float, pooled: bool) -> Tensor:
    """Mean over voxels and classes of -alpha * label * (1 - p)^gamma * log p; all but the voxel's own class are 0."""
    from monai.losses.focal_loss import FocalLoss  # noqa: PLC0415  as above

    each = FocalLoss(gamma=gamma, use_softmax=True, reduction="none")(given.class_logits, given.one_hot)
    return alpha * given.mean(each.mean(1), pooled=pooled)


def _class_weights(arguments: DiceFocal, classes: int) -> tuple[float, ...]:
    weights = arguments.class_weights
    if weights is not None and len(weights) != classes:
        raise InputError(
            "The class weights of the loss do not fit the network.",
            f"There are {len(weights)} of them, and {classes} classes with the background.",
            "Give one for each class, or none: then classes count alike.",
        )
    return (1.0,) * classes if weights is None else weights
