"""The log of a training run as columns, and its epochs: what was trained between two validations, and how it scored."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strokeseg.errors import InputError
from strokeseg_training.recipe import Recipe, load_recipe
from strokeseg_training.recipe_losses import DiceFocal

Columns = Mapping[str, Sequence[float]]
SOFT_DICE = "soft Dice of the training batches"
"""Name of its curve: of slices or patches, and with the background where the loss counts it; no Dice of patients."""
_TRAIN, _VALIDATION, _RECIPE = "train.csv", "validation.csv", "recipe.yaml"


@dataclass(frozen=True)
class Epoch:
    """From one validation to the next.

    Attributes:
        number: From 1 on.
        step: At its end.
        train: Column of the training's log to its mean over all rows of the epoch; NaN without any.
        validation: Column to its value.
        soft_dice: Of the training batches, mean over all rows of the epoch; NaN without any.
    """

    number: int
    step: int
    train: Mapping[str, float]
    validation: Mapping[str, float]
    soft_dice: float


@dataclass(frozen=True)
class TrainingRun:
    """What a run wrote.

    Attributes:
        recipe: The whole one, as it was run.
        train: Columns of its log, ``step`` among them.
        validation: Likewise; empty columns where it was not validated.
    """

    recipe: Recipe
    train: Columns
    validation: Columns

    @property
    def soft_dice(self) -> Sequence[float]:
        """Soft Dice of the training batches, a row of the log each; empty where the loss has no such term.

        The log's column ``dice`` is a term of the loss, 1 - Dice.
        """
        objective = getattr(self.recipe, "objective", None)
        settings = None if objective is None else objective.settings
        # One logit tells two classes apart, the background's and its own.
        divided = isinstance(settings, DiceFocal) and settings.divided_twice
        times = len(self.recipe.card.classes) + 1 if divided else 1
        return [times * (1.0 - term) for term in self.train.get("dice", ())]

    def curves(self, column: str) -> dict[str, tuple[Sequence[float], Sequence[float]]]:
        """What there is to draw of a figure, and of it for each class: name of a line to steps and values.

        Args:
            column: ``loss``; ``dice``: of training the soft Dice of the batches, if the loss has a term for it.
        """
        found: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
        if column == "dice":
            if self.soft_dice:
                found[SOFT_DICE] = (self.train["step"], self.soft_dice)
        elif column in self.train:
            found[f"training {column}"] = (self.train["step"], self.train[column])
        for key, values in self.validation.items():
            if key == column or key.startswith(f"{column}_"):
                found[f"validation {key}"] = (self.validation["step"], values)
        return found

    @property
    def epochs(self) -> list[Epoch]:
        """One a validation; a mean over all that was logged in it, never the last row's value."""
        found, begin, soft = [], 0, self.soft_dice
        for number, end in enumerate(self.validation.get("step", ()), start=1):
            rows = [n for n, step in enumerate(self.train.get("step", ())) if begin < step <= end]
            train = {c: _mean([values[n] for n in rows]) for c, values in self.train.items() if c != "step"}
            scores = {c: values[number - 1] for c, values in self.validation.items() if c != "step"}
            dice = _mean([soft[n] for n in rows]) if soft else math.nan
            found.append(Epoch(number, int(end), train, scores, dice))
            begin = int(end)
        return found


def read_run(folder: Path) -> TrainingRun:
    """The folder of ``strokeseg-train fit``.

    Raises:
        InputError: It is no run, or its log is damaged.
    """
    if not (folder / _RECIPE).is_file() or not (folder / _TRAIN).is_file():
        raise InputError(
            f"'{folder.name}' is no training run.",
            f"It has no {_RECIPE} or no {_TRAIN}.",
            "Give --run the folder that 'strokeseg-train fit --out' made.",
        )
    recipe = load_recipe(folder / _RECIPE)
    validation = read_columns(folder / _VALIDATION) if (folder / _VALIDATION).is_file() else {}
    return TrainingRun(recipe, read_columns(folder / _TRAIN), validation)


def read_columns(path: Path) -> dict[str, list[float]]:
    """A log's columns, numbers all of them.

    Raises:
        InputError: It is damaged.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns: dict[str, list[float]] = {name: [] for name in reader.fieldnames or ()}
            for row in reader:
                # A kill may have left half a row at the end.
                if None in row or None in row.values():
                    continue
                for name, text in row.items():
                    columns[name].append(_number(text))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(
            f"The log '{path.name}' cannot be read.",
            f"The reason: {error}.",
            "Give the folder of a run as it was left.",
        ) from error
    return columns


def _number(text: Any) -> float:
    return float(text) if str(text).strip() else math.nan


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return math.fsum(known) / len(known) if known else math.nan
