"""Models as folders: the card that describes one, and the store that finds them. Standard library only."""

from __future__ import annotations

from strokeseg.models.card import Decision, LesionClass, ModelCard, ModelInput, Preparation, parse_card, read_card
from strokeseg.models.store import ModelStore, list_models

__all__ = [
    "Decision",
    "LesionClass",
    "ModelCard",
    "ModelInput",
    "ModelStore",
    "Preparation",
    "list_models",
    "parse_card",
    "read_card",
]
