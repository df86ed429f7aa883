"""Models as folders: the card that describes one, and the store that finds and checks them. Standard library only."""

from __future__ import annotations

from strokeseg.models.card import Decision, LesionClass, ModelCard, ModelInput, Preparation, parse_card, read_card
from strokeseg.models.places import user_data_folder, user_models_folder
from strokeseg.models.registry import Offer, fetch, offers
from strokeseg.models.store import ModelStore, StoredModel, list_models

__all__ = [
    "Decision",
    "LesionClass",
    "ModelCard",
    "ModelInput",
    "ModelStore",
    "Offer",
    "Preparation",
    "StoredModel",
    "fetch",
    "list_models",
    "offers",
    "parse_card",
    "read_card",
    "user_data_folder",
    "user_models_folder",
]
