"""The fields of a model card that a run can know: those of its recipe, and where the weights come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from strokeseg.errors import InputError, ModelError
from strokeseg.models import parse_card
from strokeseg_training.recipe import Recipe


def card_fields(recipe: Recipe, origin: Mapping[str, Any]) -> dict[str, Any]:
    """What ``strokeseg-train export --card`` takes.

    Args:
        recipe: Of the run.
        origin: What the run adds to the recipe's own ``origin``.

    Raises:
        InputError: A field of the recipe is not what a card wants.
    """
    card = recipe.card.model_dump(mode="json")
    fields = {
        "format": 1,
        "name": recipe.name,
        "title": recipe.title,
        "version": card["version"],
        "status": card["status"],
        "task": recipe.task,
        "inputs": card["inputs"],
        "reference_role": card["reference_role"],
        "preparation": recipe.preparation.model_dump(mode="json"),
        "network": recipe.network.name,
        "network_arguments": recipe.network.arguments,
        "strategy": card["strategy"],
        **{key: card[key] for key in ("window", "overlap", "input_shape") if card.get(key) is not None},
        **_one_size(recipe),
        "classes": card["classes"],
        "decision": card["decision"],
        "temperature": card["temperature"],
        "minimum_lesion_ml": card["minimum_lesion_ml"],
        "origin": {
            **card["origin"],
            "recipe": recipe.name,
            "recipe_sha256": recipe.sha256,
            "seed": recipe.seed,
            **origin,
        },
        "measured": [],
        "intended_use": card["intended_use"],
        "limits": card["limits"],
    }
    try:
        # What the export fills in must not keep a run of hours from being refused now.
        parse_card({**fields, "runtime": "openvino", "runtime_reason": "", "files": []})
    except ModelError as error:
        raise InputError(
            "The recipe's model card is not valid.",
            error.cause,
            "Correct the field in the recipe, mostly under 'card'.",
        ) from error
    return fields


def _one_size(recipe: Recipe) -> dict[str, Any]:
    """The only size that the engine gives a network on slices: that of the slices it was trained on."""
    slices = recipe.datasets.slices if recipe.datasets else None
    if recipe.card.strategy != "slices" or slices is None or slices.size is None:
        return {}
    return {"input_shape": [*slices.size, 1]}
