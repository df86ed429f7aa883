"""`NamedLoss`: a published loss that a recipe names, and the arguments of each; unknown ones are refused in words.

What they compute is said in `strokeseg_training.losses`. Weights are those of terms in the sum; 0 leaves a term out.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError, model_validator

from strokeseg_training.recipe_parts import Part


class LossArguments(Part):
    """What a named loss takes; the keys named in `TERMS` are weights."""

    TERMS: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.weights:
            raise ValueError("every term has the weight 0: " + ", ".join(self.TERMS))
        return self

    @property
    def weights(self) -> dict[str, float]:
        """Term to weight, of those that are not left out."""
        given = {name: float(getattr(self, name)) for name in self.TERMS}
        return {name: weight for name, weight in given.items() if weight > 0}


class DiceEntropy(LossArguments):
    """Dice and cross entropy; the defaults are Lesion-Net's.

    Attributes:
        dice: Weight.
        entropy: Weight.
        background: The background's Dice is one of those averaged.
        pooled: Over the batch, as one large patient; else each patient's, averaged: then two batches of half the size
            give the same gradient.
        squared: Probability and label squared in Dice's denominator.
        smooth: Voxels, added to both sides of Dice's ratio.
        double_sigmoid: The sigmoid taken twice, as Lesion-Net's own training did: probabilities stay between 0.5 and
            0.731, and a perfect answer costs 1.4 to 1.7. Only to repeat that training; one logit only.
    """

    TERMS = ("dice", "entropy")
    dice: float = Field(default=1.0, ge=0)
    entropy: float = Field(default=1.0, ge=0)
    background: bool = False
    pooled: bool = True
    squared: bool = False
    smooth: float = Field(default=1e-5, gt=0)
    double_sigmoid: bool = False


class Entropy(DiceEntropy):
    """Cross entropy alone."""

    dice: float = Field(default=0.0, ge=0)


class Dice(DiceEntropy):
    """The ATLAS trio's Dice: mean of all classes, the background's included."""

    entropy: float = Field(default=0.0, ge=0)
    background: bool = True
    smooth: float = Field(default=1e-6, gt=0)


class EntropyDice(Dice):
    """The ATLAS trio's sum of both."""

    entropy: float = Field(default=1.0, ge=0)


class DiceCE(DiceEntropy):
    """StrokeFormer's: each patient's Dice of the lesion with squared denominators, and cross entropy."""

    pooled: bool = False
    squared: bool = True


class FocalTverskyBoundary(LossArguments):
    """The attention U-Net's.

    Attributes:
        focal_tversky: Weight.
        boundary: Weight.
        false_positives: What a voxel too much weighs in Tversky's index.
        false_negatives: What a voxel too little weighs.
        gamma: Of the exponent.
        exponent: ``gamma``: (1 - index) to the power gamma, which lets patients that are nearly right rest, as the
            system has it; ``inverse``: to the power 1 / gamma, as focal Tversky was published (there gamma = 4/3).
        smooth: Voxels, added to both sides of the index. The system's 1e-6 leaves patches without lesion a gradient
            of 1e-8, which is none.
    """

    TERMS = ("focal_tversky", "boundary")
    focal_tversky: float = Field(default=0.7, ge=0)
    boundary: float = Field(default=0.3, ge=0)
    false_positives: float = Field(default=0.25, gt=0)
    false_negatives: float = Field(default=0.85, gt=0)
    gamma: float = Field(default=2.0, gt=0)
    exponent: Literal["gamma", "inverse"] = "gamma"
    smooth: float = Field(default=1.0, gt=0)


class DiceFocal(LossArguments):
    """MSCS-Net's, its class weights repaired.

    Attributes:
        dice: Weight.
        focal: Weight.
        class_weights: Of each class in the mean of Dice, background first; made to sum to 1; none: alike.
        gamma: Focal exponent.
        alpha: Factor of the focal term.
        pooled: Over the batch; else each patient's, averaged.
        smooth: Voxels, added to both sides of Dice's ratio.
        divided_twice: The weighted Dice divided by the number of classes once more, as MSCS-Net's training did: a
            perfect answer then costs 0.5 with two classes. Only to repeat its curves.
    """

    TERMS = ("dice", "focal")
    dice: float = Field(default=1.0, ge=0)
    focal: float = Field(default=1.0, ge=0)
    class_weights: tuple[float, ...] | None = None
    gamma: float = Field(default=2.0, ge=0)
    alpha: float = Field(default=0.25, gt=0)
    pooled: bool = True
    smooth: float = Field(default=1e-5, gt=0)
    divided_twice: bool = False

    @model_validator(mode="after")
    def _usable(self) -> Self:
        weights = self.class_weights
        if weights is not None and (min(weights, default=0.0) < 0 or sum(weights) <= 0):
            raise ValueError("'class_weights' must not be negative, and one must be above 0")
        return self


class ICI(LossArguments):
    """StrokeFormer's instances and centres, on probabilities, with gradients.

    Attributes:
        overall: Weight of Dice of the whole volume.
        instance: Weight of the mean over lesions of each one's Dice.
        centre: Weight of Dice of cubes around the lesions' centres.
        half_width: Of these cubes, voxels.
        most: At most so many predicted lesions, the largest, have a cube.
        smooth: Voxels, added to both sides of every ratio.
    """

    TERMS = ("overall", "instance", "centre")
    overall: float = Field(default=0.25, ge=0)
    instance: float = Field(default=0.5, ge=0)
    centre: float = Field(default=0.25, ge=0)
    half_width: int = Field(default=5, ge=0, le=50)
    most: int = Field(default=50, ge=1)
    smooth: float = Field(default=1.0, gt=0)


LOSSES: dict[str, type[LossArguments]] = {
    "dice-bce": DiceEntropy,
    "cce": Entropy,
    "dice": Dice,
    "cce-dice": EntropyDice,
    "focal-tversky-boundary": FocalTverskyBoundary,
    "dice-focal": DiceFocal,
    "dice-ce": DiceCE,
    "ici": ICI,
}
"""Name of a loss to its arguments."""


class NamedLoss(Part):
    """One of the published losses.

    Attributes:
        name: Of `LOSSES`.
        arguments: Of that loss; what is not given is filled in.
        auxiliary: Further outputs of the network to the weight with which the same loss of them, against the labels in
            full resolution, is added: deep supervision.
    """

    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    auxiliary: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: Any) -> Any:
        """With every argument said."""
        if not isinstance(data, Mapping) or not isinstance(data.get("name"), str):
            return data
        name, given = data["name"], data.get("arguments", {})
        if name not in LOSSES:
            raise ValueError(f"there is no loss '{name}'; known are " + ", ".join(LOSSES) + "." + _near(name, LOSSES))
        if not isinstance(given, Mapping):
            return data
        try:
            arguments = LOSSES[name].model_validate(given)
        except ValidationError as error:
            raise ValueError(_in_words(error, name)) from error
        return {**data, "arguments": arguments.model_dump(mode="json")}

    @model_validator(mode="after")
    def _positive(self) -> Self:
        wrong = [name for name, weight in self.auxiliary.items() if weight < 0]
        if wrong:
            raise ValueError(f"'auxiliary.{wrong[0]}' must not be below 0, it is {self.auxiliary[wrong[0]]:g}")
        return self

    @property
    def settings(self) -> LossArguments:
        """The arguments, typed."""
        return LOSSES[self.name].model_validate(self.arguments)


def _in_words(error: ValidationError, name: str) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        known = list(LOSSES[name].model_fields)
        return f"the loss '{name}' has no argument '{key}'; it takes " + ", ".join(known) + "." + _near(key, known)
    message = first["msg"].removeprefix("Value error, ")
    seen = f"; found is {first['input']!r:.80}" if key else ""
    return f"the loss '{name}' cannot be used: " + (f"'{key}': " if key else "") + message + seen


def _near(wrong: str, known: Any) -> str:
    near = get_close_matches(wrong, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""
