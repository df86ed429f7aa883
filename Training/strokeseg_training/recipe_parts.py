"""The parts of a recipe and what each may hold; unknown keys are refused. `Recipe` puts them together.

Lengths are in mm, volumes in ml, steps are optimiser steps.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

Voxels = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]


class Part(BaseModel):
    """A group of keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Network(Part):
    """What is trained: a name of `strokeseg.networks.names` and its arguments, as in a model card."""

    name: str
    arguments: dict[str, Any] = {}


class Preparation(Part):
    """How images become the network's input, 1:1 in the model card.

    Attributes:
        spacing_mm: Of the model's grid along (right, front, top).
        margin_voxels: Kept free around the brain's box.
        multiple: Crops are padded to a multiple of this.
        channels: See `strokeseg_training.channels.CHANNELS`.
    """

    spacing_mm: tuple[float, float, float]
    margin_voxels: int = Field(default=4, ge=0, le=64)
    multiple: int = Field(default=16, ge=1, le=128)
    channels: tuple[str, ...] = Field(min_length=1)


class Seeds(Part):
    """Whole numbers from `first` (key ``from``) up to, and without, `end` (key ``to``)."""

    first: int = Field(alias="from", ge=0)
    end: int = Field(alias="to", ge=1)

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.end <= self.first:
            raise ValueError(f"'to' ({self.end}) must be above 'from' ({self.first})")
        return self

    def __len__(self) -> int:
        return self.end - self.first


class GeneratorData(Part):
    """Patients made while training.

    Attributes:
        task: Whose grid and physics.
        ranges: Room to field to value, what to draw from where it is not the default.
        lesion_masks: Folder of real lesion shapes; none: procedural lesions.
        seeds: One a patient; after the last one the first one follows.
    """

    task: Literal["dwi-adc", "t1"]
    ranges: dict[str, dict[str, Any]] = {}
    lesion_masks: str | None = None
    seeds: Seeds


class CloseUp(Part):
    """A part of the brain that is shown in place of the whole: more lesions an hour, and less of what surrounds them.

    A network that is run on whole brains should end its training on them: what it takes for usual depends on how much
    of a brain it sees.

    Attributes:
        size: Voxels along (right, front, top); a crop that is smaller stays whole along that axis.
        lesion_share: How many of those of a patient with lesions lie around a voxel of lesion, each lesion as often as
            any other; the rest lie around any voxel of the brain.
    """

    size: Voxels
    lesion_share: float = Field(default=0.7, ge=0, le=1)


class Data(Part):
    """Where samples come from: `generator`, `bank` or `prepared`, or real ones of `prepared` among those of the others.

    A sample is a patient, or a slice where the recipe has ``datasets.slices``.

    Attributes:
        bank: Folder that ``strokeseg-train bank`` wrote; passes through it in a new order each time.
        prepared: Folder that ``strokeseg-train prepare`` wrote; passes through its training side in a new order each
            time.
        least_lesion_ml: Synthetic patients with a smaller infarct, and those without any, are left out; larger infarcts
            first is a stage of its own, and a later one must see the others.
        real_share: Of `prepared`'s samples where a second source is given, too; they come in even turns.
        flips: Left and right exchanged in half of the samples.
        extra_voxels: The crop's margin grows by up to this many voxels on each side, at random; not with slices.
        close_up: Parts of the crop around the brain in place of all of it; not with slices or patches, which are parts
            already.
        workers: Processes that prepare samples; 0: the training process, on the training device.
        prefetch: Batches that each worker keeps ready.
    """

    generator: GeneratorData | None = None
    bank: str | None = None
    prepared: str | None = None
    least_lesion_ml: float = Field(default=0.0, ge=0)
    real_share: float | None = Field(default=None, gt=0, lt=1)
    flips: bool = True
    extra_voxels: int = Field(default=0, ge=0, le=64)
    close_up: CloseUp | None = None
    workers: int = Field(default=1, ge=0, le=64)
    prefetch: int = Field(default=4, ge=1, le=64)

    @model_validator(mode="after")
    def _one(self) -> Self:
        synthetic = sum(v is not None for v in (self.generator, self.bank))
        if synthetic > 1 or (synthetic == 0 and self.prepared is None):
            raise ValueError(
                "exactly one of 'generator' and 'bank' must be given, or 'prepared', or 'prepared' and one of them"
            )
        if self.least_lesion_ml and not synthetic:
            raise ValueError(
                "'least_lesion_ml' chooses among synthetic patients: give 'generator' or 'bank', or set it to 0, in "
                "every stage that names it"
            )
        mixed = synthetic == 1 and self.prepared is not None
        if mixed and self.real_share is None:
            raise ValueError("'real_share' must say how many samples are those of 'prepared', or one source be null")
        if self.real_share is not None and not mixed:
            raise ValueError("'real_share' needs 'prepared' and one of 'generator' and 'bank'")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_used(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Data that choose no part and no size say nothing of it: hashes of recipes stay what they were."""
        data: dict[str, Any] = plain(self)
        return {k: v for k, v in data.items() if k not in ("close_up", "least_lesion_ml") or v}


class Optimiser(Part):
    """AdamW or Adam, which adds the weight decay to the gradient.

    Attributes:
        eps: Added to the root of the mean squared gradient.
    """

    name: Literal["adamw", "adam"] = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)


class Schedule(Part):
    """Learning rate over the steps: linear warm-up, and then as `rule` says.

    Attributes:
        rule: ``polynomial``: (1 - step / steps) to the power; ``constant``; ``plateau``: multiplied by `factor` when
            more than `patience` validations in a row brought nothing better of ``validation.watch``.
        warm_up: Steps.
        power: Of the polynomial; 0 keeps the rate.
        factor: See `rule`.
        patience: See `rule`.
        least: Of the rate, by ``plateau``.
        warm_up_from_weights: Steps of warm-up where a run starts from other weights with a fresh optimiser.
    """

    rule: Literal["polynomial", "constant", "plateau"] = "polynomial"
    warm_up: int = Field(default=300, ge=0)
    power: float = Field(default=0.9, ge=0)
    factor: float = Field(default=0.5, gt=0, lt=1)
    patience: int = Field(default=10, ge=0)
    least: float = Field(default=0.0, ge=0)
    warm_up_from_weights: int = Field(default=100, ge=0)


class Term(Part):
    """A term of the loss; a bare number is its weight, 0 leaves it out."""

    weight: float = Field(default=0.0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        number = isinstance(value, int | float | str) and not isinstance(value, bool)
        return {"weight": value} if number else value


class TverskyTerm(Term):
    """What false positives and false negatives weigh; above 0.5 for the first: fewer false alarms."""

    false_positives: float = Field(default=0.7, gt=0)
    false_negatives: float = Field(default=0.3, gt=0)


class SmallTerm(Term):
    """Every lesion counts the same, down to `smallest_ml`; smaller ones in proportion to their volume."""

    smallest_ml: float = Field(default=0.05, gt=0)


class Loss(Part):
    """The terms, see `strokeseg_training.losses`; `smooth_ml` is added to both sides of Dice's and Tversky's ratio."""

    dice: Term = Term(weight=1.0)
    bce: Term = Term(weight=1.0)
    tversky: TverskyTerm = TverskyTerm()
    small: SmallTerm = SmallTerm()
    tissue: Term = Term()
    smooth_ml: float = Field(default=0.1, gt=0)

    @property
    def weights(self) -> dict[str, float]:
        """Weights of the terms that are not left out."""
        terms = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: term.weight for name, term in terms.items() if isinstance(term, Term) and term.weight > 0}


class Validation(Part):
    """What is looked at on the way; the averaged weights are scored.

    Attributes:
        every: Steps; 0: never.
        epochs: Passes through the training data, in place of `every`; 0: `every` counts.
        seeds: Patients of the training data's generator, with these seeds.
        bank: A folder of synthetic patients.
        exam: A file of scenes, one in JSON a line.
        side: Of the prepared set with which the recipe trains: its patients are run whole, as the engine does, slice
            by slice where the network works on slices. ``train`` tells only whether a network can learn by heart.
        watch: What decides which weights are the best, and when nothing gets better; Dice is the mean over patients,
            of each class that is there, and then over the classes.
        patience: The run ends when more than so many validations in a row brought nothing better; 0: never.
    """

    every: int = Field(default=500, ge=0)
    epochs: float = Field(default=0.0, ge=0)
    seeds: Seeds | None = None
    bank: str | None = None
    exam: str | None = None
    side: Literal["val", "train"] | None = None
    watch: Literal["dice", "loss"] = "dice"
    patience: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = sum(v is not None for v in (self.seeds, self.bank, self.exam, self.side))
        if given > 1 or (self.wanted and not given):
            raise ValueError("one of 'seeds', 'bank' and 'exam', or a 'side', must be given, or 'every: 0'")
        if self.patience and not self.wanted:
            raise ValueError("'patience' needs validations: 'every' is 0")
        return self

    @property
    def wanted(self) -> bool:
        """Whether anything is scored at all."""
        return self.every > 0 or self.epochs > 0


class Checkpoints(Part):
    """When the run is saved, beside its end: `every` so many steps; the newest `keep` stay."""

    every: int = Field(default=500, ge=1)
    keep: int = Field(default=2, ge=1)


class Stage(Part):
    """A part of the run; `loss` and `data` may change single keys of the recipe's own.

    Attributes:
        steps: How long it is; or
        epochs: how many passes through its data.
    """

    steps: int | None = Field(default=None, ge=1)
    epochs: float | None = Field(default=None, gt=0)
    loss: Loss
    data: Data

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("exactly one of 'steps' and 'epochs' must be given")
        return self
