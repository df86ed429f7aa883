"""`ModelStore`: the models at hand, by name. Standard library only."""

from __future__ import annotations

import hashlib
from difflib import get_close_matches
from pathlib import Path

from strokeseg.errors import ModelError
from strokeseg.models.card import ModelCard, read_card
from strokeseg.resources import resource_path


class ModelStore:
    """Models in one folder, each a folder of its own named as the model.

    Args:
        folder: Where to look; None takes the models that come with StrokeSeg.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder if folder is not None else resource_path("Models")

    def names(self) -> list[str]:
        """Names of all models, sorted."""
        return sorted(p.parent.name for p in self.folder.glob("*/card.json"))

    def card(self, name: str) -> ModelCard:
        """The card of a model.

        Raises:
            ModelError: There is no such model, or its card is wrong.
        """
        names = self.names()
        if name not in names:
            near = get_close_matches(name, names, n=1)
            raise ModelError(
                f"There is no model '{name}'.",
                "These models are at hand: " + ", ".join(names) + ".",
                f"Did you mean '{near[0]}'?" if near else "Choose one of them; 'strokeseg models list' describes them.",
            )
        card = read_card(self.folder / name)
        if card.name != name:
            raise ModelError(
                f"The model folder '{name}' holds another model.",
                f"Its card says '{card.name}'.",
                "Rename the folder to the name in its card.",
            )
        return card

    def cards(self) -> list[ModelCard]:
        """The cards of all models, in order of their names."""
        return [self.card(name) for name in self.names()]

    def verify(self, card: ModelCard) -> None:
        """Compare the files of a model with the sizes and hashes in its card.

        Raises:
            ModelError: A file is missing or was changed.
        """
        for file in card.files:
            path = self.folder / card.name / file.name
            size = path.stat().st_size if path.is_file() else -1
            if size != file.size_bytes:
                seen = f"has {size} bytes" if size >= 0 else "is missing"
                raise _damaged(card, f"'{file.name}' {seen}; the card says {file.size_bytes} bytes.")
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if digest != file.sha256:
                raise _damaged(card, f"'{file.name}' has the SHA-256 {digest[:12]}..., not {file.sha256[:12]}...")


def list_models() -> list[ModelCard]:
    """The cards of all models at hand, in order of their names."""
    return ModelStore().cards()


def _damaged(card: ModelCard, cause: str) -> ModelError:
    return ModelError(
        f"The model '{card.name}' is damaged.", cause, "Remove it and install it again from where it came from."
    )
