"""What a recipe says for the model card alone: inputs, classes, decision, limits.

Volumes are in ml, sizes in voxels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from strokeseg_training.recipe_parts import Part

PUBLISHED_CASCADE = {
    "steps": [
        {"maximum": 0.8, "threshold": 0.6, "volume_ml": 0.2},
        {"maximum": 0.6, "threshold": 0.5, "volume_ml": 0.1},
        {"maximum": 0.4, "threshold": 0.35, "volume_ml": 0.05},
        {"maximum": 0.25, "threshold": 0.2, "volume_ml": 0.02},
    ],
    "threshold": 0.15,
}
"""Thresholds of the published 3D attention U-Net, volumes from its voxels of 1 mm³."""


class CardInput(Part):
    """A volume that the model takes."""

    role: str
    required: bool = True


class CardClass(Part):
    """A label and its coded meaning."""

    value: int
    name: str
    coding_scheme: str
    code: str
    meaning: str
    colour: tuple[int, int, int]


class CardStep(Part):
    """A step of a cascade."""

    maximum: float = Field(ge=0, le=1)
    threshold: float = Field(ge=0, le=1)
    volume_ml: float = Field(ge=0)


class CardDecision(Part):
    """How probability becomes mask; a cascade of which nothing else is said is the published one.

    Attributes:
        peak: Of ``threshold``: what a lesion must reach in one voxel at least; 0: nothing.
    """

    rule: Literal["threshold", "argmax", "cascade"] = "threshold"
    threshold: float = Field(default=0.5, ge=0, le=1)
    steps: tuple[CardStep, ...] = ()
    peak: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: Any) -> Any:
        """With the published steps, of the 3D attention U-Net, where a cascade has none."""
        if not isinstance(data, Mapping) or data.get("rule") != "cascade" or {"steps", "threshold"} & data.keys():
            return data
        return {**data, **PUBLISHED_CASCADE}

    @model_validator(mode="after")
    def _steps_of_a_cascade(self) -> Self:
        if (self.rule == "cascade") != bool(self.steps):
            raise ValueError("'steps' and 'threshold' belong to the rule 'cascade', which needs both or none of them")
        if self.peak and (self.rule != "threshold" or self.peak < self.threshold):
            raise ValueError("'peak' belongs to the rule 'threshold', and is at least as high as its threshold")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_used(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Other rules say nothing of steps or peak: cards and hashes of recipes stay what they were."""
        data: dict[str, Any] = plain(self)
        return {k: v for k, v in data.items() if k not in ("steps", "peak") or v}


class CardPart(Part):
    """What only the model card says; `docs/models.md` explains each field.

    Attributes:
        input_shape: The only size that the engine shall give the network, for networks whose graph holds for one size;
            that of slices is known without it.
    """

    version: str
    status: Literal["default", "experimental", "baseline"] = "experimental"
    inputs: tuple[CardInput, ...] = Field(min_length=1)
    reference_role: str
    strategy: Literal["whole", "windows", "slices", "proposals"] = "whole"
    window: tuple[int, int, int] | None = None
    overlap: float | None = Field(default=None, ge=0, le=0.9)
    input_shape: tuple[int, int, int] | None = None
    classes: tuple[CardClass, ...] = Field(min_length=1)
    decision: CardDecision = CardDecision()
    temperature: float = Field(default=1.0, ge=0.05, le=20)
    minimum_lesion_ml: float = Field(default=0.0, ge=0, le=100)
    origin: dict[str, Any] = Field(default_factory=dict)
    intended_use: str
    limits: tuple[str, ...]

    @model_serializer(mode="wrap")
    def _without_no_size(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A network of any size says nothing: hashes of recipes stay what they were."""
        data: dict[str, Any] = plain(self)
        return {k: v for k, v in data.items() if k != "input_shape" or v is not None}
