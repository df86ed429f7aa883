"""`PreparedSource`: prepared patients, whole, by slices or by patches, by number; and whether a set fits a recipe."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from strokeseg.errors import InputError
from strokeseg.predict.strategies import Tiling
from strokeseg_training.augment import Example
from strokeseg_training.fit.sources import Order
from strokeseg_training.prepare import PreparedSet, storage
from strokeseg_training.prepare.batches import SliceItems, VolumeItems
from strokeseg_training.prepare.patches import PatchItems
from strokeseg_training.prepare.recipe import data_recipe_of
from strokeseg_training.recipe import Recipe

LABELS = "labels"
ENGINES_OVERLAP = Tiling.overlap
"""Of windows, where a card says nothing."""


class PreparedSource:
    """The training side of a prepared set, passed through again and again in a new order each time.

    Args:
        folder: That ``strokeseg-train prepare`` wrote.
        recipe: Says what a sample is: a slice where it has `datasets.slices`, a patch where it has `datasets.patches`,
            else a patient.

    Raises:
        InputError: There is no such set.
    """

    def __init__(self, folder: str, recipe: Recipe) -> None:
        self.set = PreparedSet(folder)
        self._recipe = recipe

    def __len__(self) -> int:
        return len(self._items)

    @cached_property
    def _items(self) -> SliceItems | PatchItems | VolumeItems:
        data, card = self._recipe.datasets, self._recipe.card
        if data is not None and data.slices is not None:
            return SliceItems(self.set, "train", data.slices)
        if data is not None and data.patches is not None:
            overlap = ENGINES_OVERLAP if card.overlap is None else card.overlap
            multiple = self._recipe.preparation.multiple
            return PatchItems(self.set, "train", data.patches, self._recipe.seed, overlap=overlap, multiple=multiple)
        return VolumeItems(self.set, "train")

    @cached_property
    def _order(self) -> Order:
        return Order(len(self), self._recipe.seed)

    def example(self, number: int) -> Example:
        """The sample with this number, from 0 on without end.

        Raises:
            InputError: A file of its patient is missing or damaged.
        """
        items, place = self._items, self._order.place(number)
        item = items.at(place, number) if isinstance(items, PatchItems) else items[place]
        patient = self.set.patients[item.patient]
        x, y, z = (float(s) for s in patient.grid.spacing_mm)
        part = f", slice {item.plane}" if item.plane >= 0 else ""
        part = f", patch of sample {number}" if isinstance(items, PatchItems) else part
        maps = {LABELS: item.labels, "brain": item.brain}
        return Example(patient.id + part, self.set.channels, item.channels, maps, (x, y, z))

    def about(self) -> dict[str, Any]:
        """What a model card says: hashes and marks of images, no paths and no names."""
        from strokeseg_training.evaluate.seen import training_marks  # noqa: PLC0415  brings what evaluations draw with

        marks = training_marks(self.set, self._recipe.card.reference_role)
        return {"prepared": {**self.set.about, **marks}, "patients": len(self.set.side("train"))}

    def check(self) -> None:
        """See that the set is whole, fits the recipe, and has somebody to train with.

        Raises:
            InputError: Says what does not fit.
        """
        prepared, recipe = self.set, self._recipe
        classes = [c.name for c in recipe.datasets.classes] if recipe.datasets else [""] * len(recipe.card.classes)
        seen = {
            "channels": (list(prepared.channels), list(recipe.preparation.channels)),
            "spacing_mm": (list(prepared.manifest["spacing_mm"]), list(recipe.preparation.spacing_mm)),
            "classes": (list(prepared.classes) if recipe.datasets else [""] * len(prepared.classes), classes),
        }
        differs = [f"its '{k}' are {a}, the recipe's {b}" for k, (a, b) in seen.items() if a != b]
        differs = differs or self._other_preparation()
        if differs:
            raise InputError(
                f"The prepared set '{prepared.folder.name}' does not fit the recipe.",
                "; ".join(differs[:4]) + ".",
                "Prepare the data with this recipe and the same --set, or train with the recipe that they were "
                "prepared with.",
            )
        prepared.verify()
        if not len(self):
            raise InputError(
                f"The prepared set '{prepared.folder.name}' has nothing to train with.",
                f"It has {len(prepared)} patients, {len(prepared.side('train'))} of them for training, and none of "
                "these has what a sample is made of.",
                "Prepare more patients, or correct 'datasets.slices.which'.",
            )

    def _other_preparation(self) -> list[str]:
        """In what the set was prepared or split otherwise than the recipe says."""
        if self._recipe.datasets is None:
            return []
        wanted = data_recipe_of(self._recipe.as_data(), self._recipe.name)
        there, now = {"split": dict(self.set.split.rule)}, {"split": wanted.datasets.split.model_dump(mode="json")}
        if self.set.manifest["preparation_sha256"] != wanted.preparation_sha256:
            there |= storage.read_json(self.set.folder / storage.PREPARATION)
            now |= wanted.preparation_facts
        return [
            f"'{k}' was {there.get(k)!r:.80}, is {now.get(k)!r:.80}"
            for k in sorted({*there, *now})
            if there.get(k) != now.get(k)
        ]
