"""Models as folders: the card that describes one, and the store that finds and checks them. Standard library only.

Also what all speak of models with: the roles of scans, how names tell them, and which model ``auto`` stands for.
"""

from __future__ import annotations

from strokeseg.models.automatic import automatic_model
from strokeseg.models.card import LesionClass, ModelCard, ModelInput, Preparation, parse_card, read_card
from strokeseg.models.decision import Decision
from strokeseg.models.places import user_data_folder, user_models_folder
from strokeseg.models.registry import Offer, fetch, offers
from strokeseg.models.roles import INPUT_ROLES, names_no_scan, roles_in_name
from strokeseg.models.store import ModelStore, StoredModel, list_models

__all__ = [
    "INPUT_ROLES",
    "Decision",
    "LesionClass",
    "ModelCard",
    "ModelInput",
    "ModelStore",
    "Offer",
    "Preparation",
    "StoredModel",
    "automatic_model",
    "fetch",
    "list_models",
    "names_no_scan",
    "offers",
    "parse_card",
    "read_card",
    "roles_in_name",
    "user_data_folder",
    "user_models_folder",
]
