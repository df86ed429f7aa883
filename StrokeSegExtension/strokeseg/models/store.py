"""`ModelStore`: the models by name, those that come with StrokeSeg and the user's own. Standard library only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from strokeseg.errors import InputError, ModelError
from strokeseg.models.archive import unpack
from strokeseg.models.card import ModelCard, read_card
from strokeseg.models.contents import CARD, check_folder, compare_files, copy_in, is_leftover, most_bytes
from strokeseg.models.places import user_models_folder
from strokeseg.models.writing import move_in, prepared, rename, told
from strokeseg.resources import resource_path


@dataclass(frozen=True)
class StoredModel:
    """A model folder of the store, usable or not.

    Attributes:
        name: Name of the folder, which must be the model's.
        folder: Where it is.
        bundled: Whether it came with StrokeSeg; else it is the user's.
        card: Its card; None where it cannot be used.
        problem: Why it cannot be used; None where it can.
    """

    name: str
    folder: Path
    bundled: bool
    card: ModelCard | None
    problem: ModelError | None


class ModelStore:
    """Models, each a folder named as the model: those that come with StrokeSeg, and the user's own.

    No two have one name. Should a user's folder all the same have the name of a model that comes with StrokeSeg (an
    update brought it), that one is used, and the user's is listed as not usable.

    Args:
        folder: The models that come with StrokeSeg; None: where they are installed.
        user_folder: The user's models, need not exist; None: the user's own where `folder` is None too, else none.
    """

    def __init__(self, folder: Path | None = None, user_folder: Path | None = None) -> None:
        self.folder = folder if folder is not None else resource_path("Models")
        self.user_folder = user_models_folder() if folder is None and user_folder is None else user_folder

    def names(self) -> list[str]:
        """Names of all models, sorted; also of those whose card is wrong."""
        return sorted(self._bundled() | self._own())

    def card(self, name: str) -> ModelCard:
        """The card of a model.

        Raises:
            ModelError: There is no such model, or its card is wrong.
        """
        folder = self.folder_of(name)
        card = read_card(folder)
        if card.name != name:
            raise ModelError(
                f"The model folder '{name}' holds another model.",
                f"Its card says '{card.name}'.",
                "Rename the folder to the name in its card.",
            )
        return card

    def folder_of(self, name: str) -> Path:
        """The folder of a model.

        Raises:
            ModelError: There is no such model.
        """
        if name in self._bundled():
            return self.folder / name
        if self.user_folder is not None and name in self._own():
            return self.user_folder / name
        names = self.names()
        near = get_close_matches(name, names, n=1)
        raise ModelError(
            f"There is no model '{name}'.",
            f"These models are at hand: {', '.join(names) or 'none'}.",
            f"Did you mean '{near[0]}'?" if near else "Choose one of them; 'strokeseg models list' describes them.",
        )

    def models(self) -> list[StoredModel]:
        """All model folders in order of their names, with what is wrong with those that cannot be used."""
        return [self._stored(name, bundled=b) for name in self.names() for b in (True, False) if self._has(name, b)]

    def cards(self) -> list[ModelCard]:
        """The cards of all models that can be used, in order of their names; one wrong card hides no other model."""
        return [m.card for m in self.models() if m.card is not None]

    def verify(self, card: ModelCard) -> None:
        """Compare the files of a model with the sizes and hashes in its card.

        Raises:
            ModelError: A file is missing or was changed.
        """
        folder = self.folder_of(card.name)
        with told(folder):
            compare_files(card, folder)

    def check(self, name: str) -> ModelCard:
        """Check everything about a model that can be checked without running it; gives its card.

        Raises:
            ModelError: There is no such model, or `check_folder` refuses it.
        """
        card = self.card(name)
        folder = self.folder_of(name)
        with told(folder):
            check_folder(folder)
        return card

    def add(self, source: Path, name: str | None = None) -> ModelCard:
        """Take a model in: copied, checked, and there wholly or not at all.

        Args:
            source: A model folder, or a zip of one.
            name: The name that it must have; None: any that is free.

        Returns:
            The card of the new model.

        Raises:
            InputError: There is nothing at `source`.
            ModelError: It is no model, is not whole or not safe, a model of its name is there already, or the user's
                folder cannot be written; then nothing was changed.
        """
        if not source.exists():
            raise InputError(
                f"There is no model at '{source}'.", "No folder and no file is there.", "Give a model folder or a zip."
            )
        place = self.writable_folder()
        with told(place), prepared(place) as partial:
            # Named as the source, for the messages about it.
            folder = partial / (source.resolve().name if source.is_dir() else source.stem)
            folder.mkdir()
            if not source.is_dir():
                unpack(source, folder)
            elif (source / CARD).exists():
                copy_in(source, folder)
            card = check_folder(folder)
            if name is not None and card.name != name:
                raise ModelError(
                    f"'{source.name}' is not the model '{name}'.",
                    f"Its card says '{card.name}'.",
                    "Tell those who published it.",
                )
            self._refuse_second(card.name)
            move_in(folder, place / card.name)
        return self.card(card.name)

    def remove(self, name: str) -> None:
        """Delete one of the user's models.

        Raises:
            ModelError: There is no such model, it comes with StrokeSeg, or its folder holds what is no file of a model.
        """
        if name not in self._own():
            self.folder_of(name)  # says which names there are
            raise ModelError(
                f"The model '{name}' was not removed.",
                "It comes with StrokeSeg.",
                "Only models that you added can be removed; 'strokeseg models list' marks them as yours.",
            )
        place = self.writable_folder()
        folder = place / name
        with told(place), prepared(place) as partial:
            if folder.is_symlink():
                folder.unlink()
                return
            others = sorted(
                p.name for p in folder.iterdir() if not is_leftover(p.name) and (p.is_dir() or not most_bytes(p.name))
            )
            if others:
                raise ModelError(
                    f"The model '{name}' was not removed.",
                    f"Its folder also holds {others[0]!r}, which is no file of a model.",
                    f"Move it out of '{folder}' first.",
                )
            rename(folder, partial / name)

    def _refuse_second(self, name: str) -> None:
        title = f"There is a model '{name}' already."
        if name in self._bundled():
            raise ModelError(
                title,
                "It comes with StrokeSeg, and no other may take its name.",
                "Give yours another name in its card.",
            )
        place = self.writable_folder() / name
        if not os.path.lexists(place):
            return
        if name in self._own():
            raise ModelError(
                title,
                "You added it earlier.",
                f"Remove it first with 'strokeseg models remove {name}', or give the new one another name in its card.",
            )
        raise ModelError(
            f"The place of the model '{name}' is taken.",
            f"'{place}' is there, but has no {CARD}.",
            "Move it away, then add the model again.",
        )

    def _stored(self, name: str, *, bundled: bool) -> StoredModel:
        folder = (self.folder if bundled else self.writable_folder()) / name
        if not bundled and name in self._bundled():
            problem = ModelError(
                f"The model '{name}' in your folder is not used.",
                "A model of the same name comes with StrokeSeg.",
                f"Remove yours with 'strokeseg models remove {name}', or give it another name in its card and folder.",
            )
            return StoredModel(name, folder, bundled, None, problem)
        try:
            return StoredModel(name, folder, bundled, self.card(name), None)
        except ModelError as error:
            return StoredModel(name, folder, bundled, None, error)

    def _has(self, name: str, bundled: bool) -> bool:
        return name in (self._bundled() if bundled else self._own())

    def _bundled(self) -> set[str]:
        return _folders_with_cards(self.folder)

    def _own(self) -> set[str]:
        return _folders_with_cards(self.user_folder) if self.user_folder is not None else set()

    def writable_folder(self) -> Path:
        """The folder of the user's models; it need not exist yet.

        Raises:
            ModelError: The store has none.
        """
        if self.user_folder is None:
            raise ModelError(
                "This store cannot be changed.",
                f"It shows the models in '{self.folder}' only.",
                "Use ModelStore() without a folder: it has the user's own models too.",
            )
        return self.user_folder


def list_models() -> list[ModelCard]:
    """The cards of all models at hand, in order of their names."""
    return ModelStore().cards()


def _folders_with_cards(folder: Path) -> set[str]:
    return {p.parent.name for p in folder.glob(f"*/{CARD}") if not p.parent.name.startswith(".")}
