"""From samples to what the network sees: channels, a crop around the brain, flips, and batches in their order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from strokeseg.errors import InputError
from strokeseg_training.augment import Augmenter, Example, augment_sample
from strokeseg_training.channels import make_channels
from strokeseg_training.fit.crops import close_up_box, crop_box, cropped, flipped, joined
from strokeseg_training.fit.prepared import LABELS, PreparedSource
from strokeseg_training.fit.sources import CountedSource, Source, Sources, turn
from strokeseg_training.losses import IGNORED, Target, component_weights
from strokeseg_training.losses.entropy import IGNORED_TISSUE
from strokeseg_training.recipe import Recipe
from strokeseg_training.recipe_parts import CloseUp
from strokeseg_training.sample import Sample

__all__ = ["Batch", "Labels", "Prepare", "TrainingBatches", "Variation", "crop_box", "drawn", "validation_batches"]

_AUGMENTATION = 42  # names the stream of random numbers that crops and flips
# What stands around the smaller volumes of a batch. Tissue and classes of a patient's own crop count out to its ends;
# what others' size adds to it does not.
_FILL_OF_TERMS = (0, 0, 0, 0, IGNORED_TISSUE)
_FILL_OF_LABELS = (0, IGNORED, 0)
_WEIGHTS = 3  # of the columns that terms are made of


class Labels(NamedTuple):
    """What a network should say where the loss is a recipe's `objective`.

    Args:
        label: (N, x, y, z) uint8, a class or `losses.IGNORED`; lesion outside the brain, where images are 0, does not
            count.
        inside: (N, x, y, z) boolean, the brain.
    """

    label: Tensor
    inside: Tensor


class Variation(NamedTuple):
    """How one sample may be shown in several ways; see `Data` of the same names."""

    flips: bool = False
    extra_voxels: int = 0
    close_up: CloseUp | None = None


class Batch(NamedTuple):
    """Network input (N, C, x, y, z) and what the network should say of it."""

    channels: Tensor
    target: Target | Labels


class Prepare:
    """Makes batches of samples as a recipe says.

    Args:
        recipe: Says channels, margin, multiple and loss.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._preparation = recipe.preparation
        self._smallest_ml = recipe.loss.small.smallest_ml
        self._drawn = recipe.drawn_from, recipe.drawn_within
        self._seed = recipe.seed
        self._labelled = recipe.objective is not None
        data = recipe.datasets
        # Slices and patches have their size.
        self._whole = data is None or (data.slices is None and data.patches is None)

    def __call__(self, sample: Sample, numbers: Sequence[int], variation: Variation | None = None) -> Batch:
        """A batch of the sample's patients, each cropped around its brain and padded to the largest.

        Args:
            sample: N patients.
            numbers: Of the patients in the run; name their random numbers.
            variation: None: each is shown as the engine would show it.

        Raises:
            InputError: A patient has no brain, or not the recipe's spacing.
        """
        return self.batch(self.made(sample, numbers, variation))

    def made(self, sample: Sample, numbers: Sequence[int], variation: Variation | None = None) -> list[list[Tensor]]:
        """The rows of a batch, of synthetic patients; see `__call__`."""
        self._refuse_unusable(sample)
        channels = make_channels(sample, self._preparation.channels)
        lesion = drawn(sample.lesion, *self._drawn)
        if self._labelled:
            columns = [channels, (lesion >= 0.5).to(torch.uint8), sample.brain]
        else:
            weights = component_weights(lesion, math.prod(sample.spacing_mm) / 1000.0, self._smallest_ml)
            columns = [channels, lesion, sample.brain, weights, sample.tissue]
        return [
            self._row([c[n] for c in columns], sample.brain[n], number, variation) for n, number in enumerate(numbers)
        ]

    def real(self, example: Example, number: int, variation: Variation | None = None) -> list[Tensor]:
        """A row of a batch, of a prepared patient, slice or patch; its tissue is not known.

        Args:
            example: With the maps ``labels`` and ``brain``.
            number: Of the sample in the run.
            variation: As in `__call__`.
        """
        brain = example.maps["brain"] if self._whole else None
        row = self._row(self._columns(example), brain, number, variation)
        # Where the crop leaves the grid, tissue is not known either.
        return row if self._labelled else [*row[:-1], torch.full_like(row[-1], IGNORED_TISSUE)]

    def target(self, example: Example) -> Target | Labels:
        """What the network should say of a prepared patient on the patient's whole grid (N = 1)."""
        return self.batch([self._columns(example)]).target

    def _columns(self, example: Example) -> list[Tensor]:
        labels, brain = example.maps[LABELS], example.maps["brain"]
        if self._labelled:
            outside = (labels > 0) & ~brain
            return [example.images, torch.where(outside, torch.full_like(labels, IGNORED), labels), brain]
        lesion = ((labels > 0) & brain).float()
        weights = component_weights(lesion[None], math.prod(example.spacing_mm) / 1000.0, self._smallest_ml)[0]
        return [example.images, lesion, brain, weights, torch.full_like(labels, IGNORED_TISSUE)]

    def batch(self, rows: Sequence[Sequence[Tensor]]) -> Batch:
        """One batch of rows."""
        if self._labelled:
            channels, label, inside = joined(rows, _FILL_OF_LABELS)
            return Batch(channels, Labels(label, inside))
        full = joined(rows, _FILL_OF_TERMS)
        return Batch(full[0], Target(lesion=full[1], inside=full[2], weights=full[3], tissue=full[4]))

    def _row(self, row: list[Tensor], brain: Tensor | None, number: int, variation: Variation | None) -> list[Tensor]:
        """Cropped around the brain, if one is given, and varied by the random numbers of the sample."""
        rng = np.random.default_rng([self._seed, _AUGMENTATION, number])
        flips, extra_voxels, close_up = variation or Variation()
        if brain is not None:
            box = crop_box(
                brain,
                margin=self._preparation.margin_voxels,
                multiple=self._preparation.multiple,
                extra=rng.integers(0, extra_voxels + 1, size=(3, 2)) if extra_voxels else None,
            )
            row = [cropped(v, box) for v in row]
            if close_up is not None:
                weights = None if self._labelled else row[_WEIGHTS]
                inner = close_up_box(row[1], row[2], close_up, rng, weights)
                row = [cropped(v, inner) for v in row]
        turned = flips and bool(rng.random() < 0.5)
        return [flipped(v, turned) for v in row]

    def _refuse_unusable(self, sample: Sample) -> None:
        wanted = self._preparation.spacing_mm
        if any(abs(a - b) > 1e-3 for a, b in zip(sample.spacing_mm, wanted, strict=True)):
            raise InputError(
                "The data do not fit the recipe.",
                f"Their spacing is {sample.spacing_mm} mm, the recipe's {wanted} mm.",
                "Correct 'preparation.spacing_mm', or take other data.",
            )
        empty = [s for s, brain in zip(sample.seeds, sample.brain, strict=True) if not bool(brain.any())]
        if empty:
            raise InputError(
                "A patient has no brain.",
                f"The brain mask of the seed {empty[0]} is empty.",
                "Leave this seed out, and look at what made it.",
            )


def drawn(share: Tensor, start: float, within: float) -> Tensor:
    """What an expert draws of voxels of which a share 0-1 is lesion, see `Recipe.drawn_from`; same shape, 0-1."""
    return ((share - (start - within)) / (2.0 * within)).clamp(0.0, 1.0)


class TrainingBatches(Dataset[Batch]):
    """The batches of a run by their number: stage after stage, each a function of its number alone.

    Args:
        recipe: The run, every length in steps.
        device: On which patients are made.
        sources: Open a stage's, in the process that asks for its first batch.
        share: Number of the process and how many train together: one batch of all of them is what a process alone
            would see as one larger batch, each sample with its own number.
    """

    def __init__(self, recipe: Recipe, device: torch.device, sources: Sources, share: tuple[int, int] = (0, 1)) -> None:
        self._recipe, self._device, self._opener, self._share = recipe, device, sources, share
        self._prepare = Prepare(recipe)
        self._augment = Augmenter(recipe.augmentation, recipe.seed) if recipe.augmentation else None
        self._sources: dict[int, tuple[Source | None, PreparedSource | None]] = {}

    def __len__(self) -> int:
        return self._recipe.steps * self._recipe.accumulation

    def __getitem__(self, number: int) -> Batch:
        stage = self._recipe.stage_at(number // self._recipe.accumulation)
        data = self._recipe.stages[stage].data
        synthetic, real = self._opened(stage)
        mine, together = self._share
        first = (number * together + mine) * self._recipe.batch
        numbers = range(first, first + self._recipe.batch)
        turns = {n: turn(n, data.real_share) if real and synthetic else (real is not None, n) for n in numbers}
        varied = Variation(data.flips, data.extra_voxels, data.close_up)
        rows: dict[int, list[Tensor]] = {}
        made = [n for n in numbers if not turns[n][0]]
        if made and synthetic is not None:
            sample = synthetic.samples([turns[n][1] for n in made])
            if self._augment is not None:
                sample = augment_sample(self._augment, sample, made)
            found = self._prepare.made(sample, made, varied)
            rows |= zip(made, found, strict=True)
        for n in numbers:
            if real is not None and turns[n][0]:
                example = real.example(turns[n][1])
                example = example if self._augment is None else self._augment(example, n)
                rows[n] = self._prepare.real(example, n, varied)
        return self._prepare.batch([rows[n] for n in numbers])

    def _opened(self, stage: int) -> tuple[Source | None, PreparedSource | None]:
        data = self._recipe.stages[stage].data
        if stage not in self._sources:
            # Stages come one after the other; two of them with the same data share them.
            same = (s for k, s in self._sources.items() if self._recipe.stages[k].data == data)
            self._sources = {stage: next(same, None) or self._open(stage)}
        return self._sources[stage]

    def _open(self, stage: int) -> tuple[Source | None, PreparedSource | None]:
        data = self._recipe.stages[stage].data
        synthetic = data.generator is not None or data.bank is not None
        return (
            self._opener.training(data, self._recipe.seed, self._device) if synthetic else None,
            self._opener.prepared(data.prepared, self._recipe) if data.prepared is not None else None,
        )


def validation_batches(recipe: Recipe, source: CountedSource, numbers: Sequence[int]) -> Iterator[Batch]:
    """Patients of a source, each as a batch of its own."""
    prepare = Prepare(recipe)
    for number in numbers:
        yield prepare(source.samples([number]), [number])
