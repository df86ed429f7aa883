"""`Recipe`: everything that a training run needs to be made again, and how it is read from a YAML file.

Folders in a recipe are relative to the current folder.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml  # type: ignore[import-untyped]  # PyYAML brings no types
from pydantic import Field, ValidationError, model_validator

from strokeseg_training.recipe_augment import Augmentation
from strokeseg_training.recipe_card import CardPart
from strokeseg_training.recipe_data import Datasets
from strokeseg_training.recipe_errors import not_valid
from strokeseg_training.recipe_losses import NamedLoss
from strokeseg_training.recipe_parts import (
    Checkpoints,
    Data,
    Loss,
    Network,
    Optimiser,
    Part,
    Preparation,
    Schedule,
    Stage,
    Validation,
)
from strokeseg_training.recipe_reading import read_recipe, recipe_names

__all__ = ["Recipe", "load_recipe", "recipe_names", "recipe_of"]


class Recipe(Part):
    """A training run.

    Attributes:
        name: Of the model: lower-case letters, digits, ``-``, ``_``, ``.``.
        task: For people, as in the card.
        seed: Of everything random in the training; the data have their own.
        init_from: Weights with which a new run begins where ``--init-from`` names none: a model's name or folder, or a
            file.
        datasets: Real patients, for ``strokeseg-train prepare``; `data.prepared` is what it makes of them.
        loss: Terms on shares of lesion, for synthetic patients; or
        objective: a published loss on class labels.
        augmentation: How samples are varied beside the flips and margins of `data`.
        batch: Samples a batch; smaller crops are padded to the largest.
        accumulation: Batches a step.
        drawn_from: Share of a voxel from which an expert draws it as lesion; below a half where experts draw
            generously.
        drawn_within: The target rises from 0 to 1 between `drawn_from` less and `drawn_from` more this much; one half
            about one half: the target is the share itself.
        ema_decay: Of the averaged weights, which are what is exported; 0: the last weights.
        gradient_clip: Largest norm of the gradient; 0: any.
        precision: Of the network's arithmetic; weights and loss are fp32.
        threads: Of PyTorch in the training process.
        channels_last: Another order of the network's numbers in memory: faster on some devices, same results up to
            rounding.
        log_every: Steps a row of the log, which holds means over them.
        wandb: Send the log's rows to Weights & Biases, too; needs that library and an account there.
    """

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$")
    title: str
    task: str
    seed: int = Field(default=0, ge=0)
    network: Network
    init_from: str | None = None
    preparation: Preparation
    datasets: Datasets | None = None
    data: Data
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    loss: Loss = Loss()
    objective: NamedLoss | None = None
    augmentation: Augmentation | None = None
    batch: int = Field(default=1, ge=1)
    accumulation: int = Field(default=1, ge=1)
    drawn_from: float = Field(default=0.5, gt=0, lt=1)
    drawn_within: float = Field(default=0.5, gt=0, le=0.5)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    gradient_clip: float = Field(default=5.0, ge=0)
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    threads: int = Field(default=2, ge=1)
    channels_last: bool = False
    log_every: int = Field(default=10, ge=1)
    tensorboard: bool = True
    wandb: bool = False
    validation: Validation
    checkpoint: Checkpoints = Checkpoints()
    stages: tuple[Stage, ...] = Field(min_length=1)
    card: CardPart

    @model_validator(mode="before")
    @classmethod
    def _complete_stages(cls, data: Any) -> Any:
        """Each stage with the recipe's own loss and data where it does not change them."""
        if not isinstance(data, Mapping) or not isinstance(data.get("stages"), list | tuple):
            return data
        stages = data["stages"]
        if data.get("objective") is not None:
            named = ["loss"] if data.get("loss") is not None else []
            named += [f"stages.{n}.loss" for n, s in enumerate(stages) if isinstance(s, Mapping) and s.get("loss")]
            if named:
                raise ValueError(
                    f"'{named[0]}' weighs terms on shares of lesion, 'objective' names a published loss on class "
                    "labels: leave out one of the two"
                )
            data = {k: v for k, v in data.items() if k != "loss"}
        stages = [
            {**s, **{k: _changed(data.get(k) or {}, s.get(k) or {}) for k in ("loss", "data")}}
            if isinstance(s, Mapping)
            else s
            for s in stages
        ]
        return {**data, "stages": stages}

    @model_validator(mode="after")
    def _patches_of_prepared_patients(self) -> Self:
        patches = self.datasets.patches if self.datasets else None
        if patches is None:
            return self
        if any(s.data.generator is not None or s.data.bank is not None for s in self.stages):
            raise ValueError(
                "'datasets.patches' are those of prepared patients, and a stage names a generator or a bank: give "
                "'data.prepared' alone; synthetic patients can be written as a data set by 'strokeseg-train "
                "synthesize' and prepared like real ones"
            )
        if any(s.data.extra_voxels for s in self.stages):
            raise ValueError("patches have no margin that could grow: set 'data.extra_voxels=0'")
        multiple = self.preparation.multiple
        if any(n % multiple for n in patches.size):
            raise ValueError(
                f"'datasets.patches.size' is {list(patches.size)}: it must be multiples of 'preparation.multiple', "
                f"which is {multiple}"
            )
        return self

    @model_validator(mode="after")
    def _close_ups_of_whole_brains(self) -> Self:
        sizes = [s.data.close_up.size for s in self.stages if s.data.close_up]
        if sizes and self.datasets and (self.datasets.slices or self.datasets.patches):
            raise ValueError("slices and patches are parts already: leave out 'data.close_up'")
        multiple = self.preparation.multiple
        wrong = [list(size) for size in sizes if any(n % multiple for n in size)]
        if wrong:
            raise ValueError(
                f"'data.close_up.size' is {wrong[0]}: it must be multiples of 'preparation.multiple', which is "
                f"{multiple}"
            )
        return self

    @property
    def steps(self) -> int:
        """Of all stages, those that are told in epochs left aside; see `in_steps`."""
        return sum(s.steps or 0 for s in self.stages)

    def in_steps(self, samples: Sequence[int]) -> Recipe:
        """The recipe with every length told in steps.

        Args:
            samples: How many samples a pass through each stage's data has.
        """
        a_step = self.batch * self.accumulation
        stages = tuple(
            s if s.epochs is None else s.model_copy(update={"steps": math.ceil(s.epochs * n / a_step), "epochs": None})
            for s, n in zip(self.stages, samples, strict=True)
        )
        validation = self.validation
        if validation.epochs:
            every = max(1, round(validation.epochs * samples[0] / a_step))
            validation = validation.model_copy(update={"every": every, "epochs": 0.0})
        return self.model_copy(update={"stages": stages, "validation": validation})

    def stage_at(self, step: int) -> int:
        """Index of the stage to which a step (from 0) belongs; steps beyond the end belong to the last."""
        end = 0
        for index, stage in enumerate(self.stages):
            end += stage.steps or 0
            if step < end:
                return index
        return len(self.stages) - 1

    def as_data(self) -> dict[str, Any]:
        """Plain data that `Recipe.model_validate` takes back."""
        unused: Any = {"loss": True, "stages": {"__all__": {"loss"}}} if self.objective else None
        return self.model_dump(mode="json", by_alias=True, exclude=unused)

    def to_yaml(self) -> str:
        """The whole recipe, every default said."""
        return yaml.safe_dump(self.as_data(), sort_keys=False, allow_unicode=True, width=120)

    @property
    def sha256(self) -> str:
        """Of everything that the recipe says."""
        text = json.dumps(self.as_data(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def load_recipe(name_or_file: str | Path, settings: Sequence[str] = ()) -> Recipe:
    """A recipe by its name or from a YAML file.

    Args:
        name_or_file: One of `recipe_names`, or a path ending in ``.yaml``.
        settings: Changes as ``key=value``: dotted keys (``optimiser.lr=3e-4``, ``stages.0.steps=10``), values in YAML.

    Raises:
        InputError: There is no such recipe, it cannot be read, or a key or value is wrong.
    """
    return recipe_of(*read_recipe(name_or_file, settings))


def recipe_of(data: Mapping[str, Any], where: str) -> Recipe:
    """A recipe from plain data; `where` names it in messages.

    Raises:
        InputError: A key is unknown or missing, or its value is wrong.
    """
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise not_valid(error, Recipe, where) from error


def _changed(base: Any, changes: Any) -> Any:
    """`base` with single keys replaced, at any depth.

    One source of data replaces the other, and a bare number changes only the weight of a term.
    """
    if isinstance(base, Mapping) and isinstance(changes, int | float):
        return {**base, "weight": changes}
    if not isinstance(base, Mapping) or not isinstance(changes, Mapping):
        return changes
    sources = {"generator", "bank"}
    if sources & {k for k, v in changes.items() if v is not None}:
        base = {k: v for k, v in base.items() if k not in sources - set(changes)}
    return {**base, **{k: _changed(base[k], v) if k in base else v for k, v in changes.items()}}
