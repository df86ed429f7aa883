"""`Augmentation`: how samples are varied while a network is trained; `strokeseg_training.augment` does it.

A kind of variation that is not named is not done. Where one is named without numbers (``rotation: {}``), its range is
the one given here. `p` is the probability that a sample is varied; each number is drawn evenly between the two given.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from strokeseg_training.recipe_parts import Part


def _rising(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise ValueError(f"the first number ({values[0]:g}) must not be above the second ({values[1]:g})")
    return values


def _positive(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] <= 0:
        raise ValueError(f"both numbers must be above 0, the first is {values[0]:g}")
    return values


def _not_negative(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] < 0:
        raise ValueError(f"no number must be below 0, the first is {values[0]:g}")
    return values


Between = Annotated[tuple[float, float], AfterValidator(_rising)]
Above = Annotated[Between, AfterValidator(_positive)]
NotBelow = Annotated[Between, AfterValidator(_not_negative)]
Axis = Literal["x", "y", "z"]


class Step(Part):
    """A kind of variation."""

    p: float = Field(default=1.0, ge=0, le=1)


class Flips(Part):
    """Probability with which each axis of the sample is turned around.

    Attributes:
        x: Left and right.
        y: Front and back, which no brain allows without harm.
        z: Top and bottom, likewise.
    """

    x: float = Field(default=0.0, ge=0, le=1)
    y: float = Field(default=0.0, ge=0, le=1)
    z: float = Field(default=0.0, ge=0, le=1)


class Rotation(Step):
    """About the grid's middle.

    Attributes:
        degrees: Of each angle; from the first of the other two axes towards the second is positive.
        about: Axes, in the order in which they are turned about. A slice is turned about the axis across it.
    """

    degrees: Between = (-15.0, 15.0)
    about: tuple[Axis, ...] = Field(default=("z",), min_length=1)


class Scale(Step):
    """One factor for all axes, about the grid's middle; above 1: larger."""

    factor: Above = (0.9, 1.1)


class Elastic(Step):
    """A smooth field of displacements: random numbers from -1 to 1, blurred and multiplied.

    A pixel is the grid's smallest spacing. Typical displacements are alpha / (6.1 sigma) pixels along each axis, in
    volumes as in slices.

    Attributes:
        sigma: Of the blur, pixels.
        alpha: The factor, pixels.
    """

    sigma: Above = (8.0, 12.0)
    alpha: NotBelow = (50.0, 100.0)


class ChannelStep(Step):
    """A change of intensities; channels draw for themselves where `per_channel` is set."""

    per_channel: bool = False


class Gain(ChannelStep):
    """Intensities multiplied."""

    factor: Above = (0.9, 1.1)


class Gamma(ChannelStep):
    """Intensities between a channel's smallest and largest value to a power, both of which stay."""

    power: Above = (0.8, 1.2)


class Brightness(ChannelStep):
    """Added, in parts of the channel's own span from its smallest to its largest value."""

    shift: Between = (-0.1, 0.1)


class Blur(ChannelStep):
    """Gaussian; pixels of the smallest spacing."""

    sigma: NotBelow = (0.3, 0.7)


class Noise(ChannelStep):
    """Gaussian, independent in every voxel and channel, in the channel's own unit."""

    sd: NotBelow = (0.0, 0.05)


class Augmentation(Part):
    """How samples are varied, in this order.

    All that moves voxels is one transform, with one interpolation. Intensities change inside the brain only where the
    images are 0 outside it.

    Attributes:
        clip: Smallest and largest value after each change of intensities.
        labels: How labels are interpolated: ``linear`` gives a voxel to the class with the largest share, which has at
            least one half if there is but one; ``nearest``.
        outside: What images are where the transform looks beyond their grid: ``zero``, or the value at the ``edge``;
            labels are background there.
    """

    flips: Flips = Flips()
    rotation: Rotation | None = None
    scale: Scale | None = None
    elastic: Elastic | None = None
    gain: Gain | None = None
    gamma: Gamma | None = None
    brightness: Brightness | None = None
    blur: Blur | None = None
    noise: Noise | None = None
    clip: Between | None = None
    labels: Literal["linear", "nearest"] = "linear"
    outside: Literal["zero", "edge"] = "zero"

    @model_validator(mode="after")
    def _axes_once(self) -> Self:
        about = self.rotation.about if self.rotation else ()
        if len(set(about)) < len(about):
            raise ValueError("'rotation.about' names an axis twice")
        return self
