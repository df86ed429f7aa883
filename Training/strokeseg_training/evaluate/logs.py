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

Columns = Mapping[str, Sequence[float]]
_TRAIN, _VALIDATION, _RECIPE = "train.csv", "validation.csv", "recipe.yaml"


@dataclass(frozen=True)
class Epoch:
    """From one validation to the next.

    Attributes:
        number: From 1 on.
        step: At its end.
        train: Column of the training's log to its mean over all rows of the epoch; NaN without any.
        validation: Column to its value.
    """

    number: int
    step: int
    train: Mapping[str, float]
    validation: Mapping[str, float]


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
    def epochs(self) -> list[Epoch]:
        """One a validation; a mean over all that was logged in it, never the last row's value."""
        found, begin = [], 0
        for number, end in enumerate(self.validation.get("step", ()), start=1):
            rows = [n for n, step in enumerate(self.train.get("step", ())) if begin < step <= end]
            train = {c: _mean([values[n] for n in rows]) for c, values in self.train.items() if c != "step"}
            scores = {c: values[number - 1] for c, values in self.validation.items() if c != "step"}
            found.append(Epoch(number, int(end), train, scores))
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
