"""`DataRecipe`: a recipe that says where real patients come from, and what of it decides about the prepared arrays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator

import strokeseg
from strokeseg.errors import InputError
from strokeseg.models import ModelCard, parse_card
from strokeseg_training.fit.card import card_fields
from strokeseg_training.recipe import Recipe
from strokeseg_training.recipe_data import Datasets
from strokeseg_training.recipe_errors import not_valid
from strokeseg_training.recipe_reading import read_recipe


class DataRecipe(Recipe):
    """A recipe with the part `datasets`."""

    datasets: Datasets

    @model_validator(mode="after")
    def _same_classes(self) -> Self:
        """What the masks tell apart is what the model tells apart."""
        own, card = len(self.datasets.classes), len(self.card.classes)
        if own != card:
            raise ValueError(f"'datasets.classes' has {own} classes, 'card.classes' has {card}: they must be the same")
        return self

    @property
    def model_card(self) -> ModelCard:
        """The card with which the engine prepares a patient for this model.

        Raises:
            InputError: A field of the recipe is not what a card wants.
        """
        return parse_card({**card_fields(self, {}), "runtime": "openvino", "runtime_reason": "", "files": []})

    @property
    def preparation_facts(self) -> dict[str, Any]:
        """Everything that decides about a patient's arrays; a set whose facts differ was prepared in another way."""
        own = {"layout", "images", "classes", "not_numbers", "dtype", "registration", "frame"}
        data = self.datasets.model_dump(mode="json", include=own)
        facts = {
            "strokeseg": strokeseg.__version__,
            "preparation": self.preparation.model_dump(mode="json"),
            "inputs": [i.model_dump(mode="json") for i in self.card.inputs],
            "reference_role": self.card.reference_role,
            **data,
        }
        return dict(json.loads(json.dumps(facts)))

    @property
    def preparation_sha256(self) -> str:
        """Of `preparation_facts`."""
        return hashlib.sha256(json.dumps(self.preparation_facts, sort_keys=True).encode()).hexdigest()


def load_data_recipe(name_or_file: str | Path, settings: Sequence[str] = ()) -> DataRecipe:
    """As `load_recipe`, for a recipe that has the part `datasets`.

    Args:
        name_or_file: Name of a recipe, or a path ending in ``.yaml``.
        settings: Changes as ``key=value``.

    Raises:
        InputError: There is no such recipe, it has no `datasets`, or a key or value is wrong.
    """
    data, where = read_recipe(name_or_file, settings)
    if data.get("datasets") is None:
        raise InputError(
            f"The recipe '{where}' uses no data set.",
            "It has no part 'datasets', which says where patients come from and what their masks mean.",
            "Give a recipe that has one, or add it.",
        )
    return data_recipe_of(data, where)


def data_recipe_of(data: Mapping[str, Any], where: str) -> DataRecipe:
    """A recipe from plain data; `where` names it in messages.

    Raises:
        InputError: A key is unknown or missing, or its value is wrong.
    """
    try:
        return DataRecipe.model_validate(data)
    except ValidationError as error:
        raise not_valid(error, DataRecipe, where) from error
