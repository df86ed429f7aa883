"""Where synthetic patients come from: made by the generator, read from a bank, or replayed from scenes.

A source gives patients by number, always the same for the same number: what a run sees does not depend on where it was
interrupted, or in which process a batch is made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from strokeseg.errors import InputError
from strokeseg_training.bank import Bank
from strokeseg_training.recipe import Recipe
from strokeseg_training.recipe_parts import Data, GeneratorData
from strokeseg_training.sample import Sample

if TYPE_CHECKING:
    from strokeseg_training.fit.prepared import PreparedSource

_ORDER = 41  # names the stream of random numbers that orders a bank
_TRIES = 5000  # patients made in search of a large infarct, at most
_FAR = 0.382  # of the seeds; the golden section comes near no earlier place for long


class Source(Protocol):
    """Patients by number, from 0 on without end."""

    def samples(self, numbers: Sequence[int]) -> Sample:
        """The patients with these numbers in one sample."""


class CountedSource(Source, Protocol):
    """A source with an end."""

    def __len__(self) -> int: ...


class Order:
    """Passes through a number of things, each in an order of its own.

    Args:
        length: How many they are.
        seed: Of the orders.
    """

    def __init__(self, length: int, seed: int) -> None:
        self._length, self._seed = length, seed
        self._orders: dict[int, np.ndarray[Any, Any]] = {}

    def place(self, number: int) -> int:
        """What comes as this number, counted over all passes."""
        turn, place = divmod(number, self._length)
        if turn not in self._orders:
            order = np.random.default_rng([self._seed, _ORDER, turn]).permutation(self._length)
            self._orders = {turn: order}
        return int(self._orders[turn][place])


def turn(number: int, share: float | None) -> tuple[bool, int]:
    """Whether a sample of a mixed run is a real one, and which of its kind; they take turns as evenly as can be."""
    if share is None:
        return False, number
    before, after = (math.floor(n * share + 1e-9) for n in (number, number + 1))
    return (True, before) if after > before else (False, number - before)


class BankSource:
    """A bank, passed through again and again in a new order each time; without `seed` in its own order, once.

    Args:
        folder: Of the bank.
        seed: Of the orders.
        least_lesion_ml: Patients with less, and those without any, are left out.
    """

    def __init__(self, folder: str, seed: int | None = None, least_lesion_ml: float = 0.0) -> None:
        self._folder, self._seed, self._least_ml = folder, seed, least_lesion_ml

    @cached_property
    def bank(self) -> Bank:
        """Opened when something of it is asked for."""
        return Bank(self._folder)

    def __len__(self) -> int:
        return len(self._chosen)

    def samples(self, numbers: Sequence[int]) -> Sample:
        """The patients with these numbers in one sample."""
        return self.bank.samples([self._chosen[self._index(n)] for n in numbers])

    def _index(self, number: int) -> int:
        return number if self._order is None else self._order.place(number)

    @cached_property
    def _chosen(self) -> Sequence[int]:
        if not self._least_ml:
            return range(len(self.bank))
        volumes = self.bank.lesion_ml()
        chosen = [int(n) for n in np.flatnonzero(volumes >= self._least_ml)]
        if not chosen:
            raise _too_small(self._least_ml, f"The largest infarct of the bank has {volumes.max():.3g} ml.")
        return chosen

    @cached_property
    def _order(self) -> Order | None:
        return None if self._seed is None else Order(len(self), self._seed)


class GeneratorSource:
    """Patients made when they are asked for; number n has the n-th seed, and after the last comes the first.

    Args:
        data: Of the recipe.
        device: On which they are made.
        least_lesion_ml: In place of a patient with less, or without any, comes one from elsewhere among the seeds.
    """

    def __init__(self, data: GeneratorData, device: torch.device, least_lesion_ml: float = 0.0) -> None:
        self._data, self._device, self._least_ml = data, device, least_lesion_ml

    def __len__(self) -> int:
        return len(self._data.seeds)

    def samples(self, numbers: Sequence[int]) -> Sample:
        """The patients with these numbers in one sample.

        Raises:
            InputError: None of the seeds, or of thousands of them, gave an infarct that is large enough.
        """
        places = [n % len(self) for n in numbers]
        if self._least_ml:
            return Sample.together([self._large(p) for p in places])
        return self._made(places)

    def _large(self, place: int) -> Sample:
        largest, tries = 0.0, min(len(self), _TRIES)
        for _ in range(tries):
            sample = self._made([place])
            volume = float(sample.lesion.sum()) * math.prod(sample.spacing_mm) / 1000.0
            if volume >= self._least_ml:
                return sample
            largest, place = max(largest, volume), (place + self._stride) % len(self)
        raise _too_small(self._least_ml, f"The largest of {tries} that were made has {largest:.3g} ml.")

    def _made(self, places: Sequence[int]) -> Sample:
        from strokeseg_training.generator.scene import draw_scene  # noqa: PLC0415  loads the template's arithmetic

        seeds = [self._data.seeds.first + p for p in places]
        made: Sample = self._generator.make(
            [draw_scene(s, self._data.task, self._ranges, self._library) for s in seeds]
        )
        return made

    @cached_property
    def _stride(self) -> int:
        """From a seed to the one in its place: far, and through all of them before one comes again."""
        stride = max(1, round(len(self) * _FAR))
        while math.gcd(stride, len(self)) > 1:
            stride += 1
        return stride

    # The template and the shapes of lesions are loaded in the process that makes patients, when it makes the first.
    @cached_property
    def _ranges(self) -> Any:
        from strokeseg_training.generator.scene import GeneratorRanges  # noqa: PLC0415

        return GeneratorRanges.with_changes(self._data.ranges)

    @cached_property
    def _library(self) -> Any:
        from strokeseg_training.generator.lesion_library import LesionLibrary  # noqa: PLC0415

        return None if self._data.lesion_masks is None else LesionLibrary.open(Path(self._data.lesion_masks))

    @cached_property
    def _generator(self) -> Any:
        return _generator(self._library, self._device)


class SceneSource:
    """Patients replayed from a file of scenes, one in JSON a line; their lesions are procedural.

    Args:
        path: Of the file.
        device: On which they are made.
    """

    def __init__(self, path: str, device: torch.device) -> None:
        from strokeseg_training.generator.scene import Scene  # noqa: PLC0415

        try:
            lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise InputError(
                f"The scenes '{Path(path).name}' cannot be read.",
                f"The reason: {error.strerror}.",
                "Correct 'validation.exam' in the recipe.",
            ) from error
        self._scenes = [Scene.from_json(line) for line in lines if line.strip()]
        self._generator = _generator(None, device)

    def __len__(self) -> int:
        return len(self._scenes)

    def samples(self, numbers: Sequence[int]) -> Sample:
        """The patients with these numbers in one sample."""
        made: Sample = self._generator.make([self._scenes[n] for n in numbers])
        return made


def _generator(library: Any, device: torch.device) -> Any:
    from strokeseg_training.generator.generator import Generator  # noqa: PLC0415

    return Generator(library=library, device=device)


def _too_small(least_ml: float, cause: str) -> InputError:
    return InputError(
        f"There is no patient with an infarct of {least_ml:g} ml or more.", cause, "Lower 'data.least_lesion_ml'."
    )


class Sources:
    """Opens what recipes name."""

    def training(self, data: Data, seed: int, device: torch.device) -> Source:
        """The synthetic patients that a stage is trained on.

        Args:
            data: Of the stage.
            seed: Of the recipe.
            device: On which patients are made, where they are made.
        """
        if data.generator is not None:
            return GeneratorSource(data.generator, device, data.least_lesion_ml)
        assert data.bank is not None
        return BankSource(data.bank, seed, data.least_lesion_ml)

    def prepared(self, folder: str, recipe: Recipe) -> PreparedSource:
        """The prepared patients that a stage is trained on.

        Args:
            folder: Of the set.
            recipe: Says what a sample is.

        Raises:
            InputError: There is no such set.
        """
        from strokeseg_training.fit.prepared import PreparedSource  # noqa: PLC0415  it imports this file

        return PreparedSource(folder, recipe)

    def count(self, data: Data, recipe: Recipe, device: torch.device) -> int:
        """How many samples a pass through the data of a stage has; in a mixed run, until every real one was there.

        Args:
            data: Of the stage.
            recipe: Of the run.
            device: As in `training`.
        """
        if data.prepared is not None:
            return math.ceil(len(self.prepared(data.prepared, recipe)) / (data.real_share or 1.0))
        source: Any = self.training(data, recipe.seed, device)
        return len(source)

    def validation(self, recipe: Recipe, device: torch.device) -> CountedSource | None:
        """What a run is scored on; None where the recipe names nothing.

        Raises:
            InputError: It names seeds, but trains on a bank; or a file cannot be read.
        """
        validation = recipe.validation
        if validation.bank is not None:
            return BankSource(validation.bank)
        if validation.exam is not None:
            return SceneSource(validation.exam, device)
        if validation.seeds is None:
            return None
        generator = recipe.data.generator
        if generator is None:
            raise InputError(
                "There is nothing to validate on.",
                "'validation.seeds' are seeds of the generator, which is not among the recipe's data.",
                "Give 'validation.bank' or 'validation.side', or 'validation.every=0'.",
            )
        return GeneratorSource(generator.model_copy(update={"seeds": validation.seeds}), device)

    def about(self, data: Data) -> dict[str, Any]:
        """What a model card says about where synthetic patients came from: versions, hashes and seeds, no paths."""
        if data.bank is not None:
            source = BankSource(data.bank, least_lesion_ml=data.least_lesion_ml)
            return {"bank": dict(source.bank.manifest.about), "patients": len(source)}
        from strokeseg_training.generator.scene import GENERATOR_VERSION  # noqa: PLC0415

        assert data.generator is not None
        return {
            "generator_version": GENERATOR_VERSION,
            "changed_ranges": data.generator.ranges,
            "seeds": [data.generator.seeds.first, data.generator.seeds.end],
            "lesion_shapes": "procedural" if data.generator.lesion_masks is None else "drawn and from masks",
        }
