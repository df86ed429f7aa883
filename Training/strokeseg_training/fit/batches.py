"""From patients to what the network sees: channels, a crop around the brain, flips, and batches in their order."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from strokeseg.errors import InputError, StrokeSegError
from strokeseg_training.channels import make_channels
from strokeseg_training.fit.sources import CountedSource, Source, Sources
from strokeseg_training.losses import Target, component_weights
from strokeseg_training.losses.entropy import IGNORED_TISSUE
from strokeseg_training.recipe import Recipe
from strokeseg_training.recipe_parts import Data
from strokeseg_training.sample import Sample

_AUGMENTATION = 42  # names the stream of random numbers that crops and flips


class Batch(NamedTuple):
    """Network input (N, C, x, y, z) and what the network should say of it."""

    channels: Tensor
    target: Target


class Prepare:
    """Makes batches of patients as a recipe says.

    Args:
        recipe: Says channels, margin, multiple and loss.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._preparation = recipe.preparation
        self._smallest_ml = recipe.loss.small.smallest_ml
        self._seed = recipe.seed

    def __call__(self, sample: Sample, numbers: Sequence[int], *, flips: bool = False, extra_voxels: int = 0) -> Batch:
        """A batch of the sample's patients, each cropped around its brain and padded to the largest.

        Args:
            sample: N patients.
            numbers: Of the patients in the run; name their random numbers.
            flips: Exchange left and right of half of them.
            extra_voxels: The margin grows by up to so many voxels on each side.

        Raises:
            InputError: A patient has no brain, or not the recipe's spacing.
        """
        self._refuse_unusable(sample)
        channels = make_channels(sample, self._preparation.channels)
        voxel_ml = math.prod(sample.spacing_mm) / 1000.0
        weights = component_weights(sample.lesion, voxel_ml, self._smallest_ml)
        rows = []
        for n, number in enumerate(numbers):
            rng = np.random.default_rng([self._seed, _AUGMENTATION, number])
            box = crop_box(
                sample.brain[n],
                margin=self._preparation.margin_voxels,
                multiple=self._preparation.multiple,
                extra=rng.integers(0, extra_voxels + 1, size=(3, 2)) if extra_voxels else None,
            )
            row = (channels[n], sample.lesion[n], sample.brain[n], weights[n], sample.tissue[n])
            turned = flips and bool(rng.random() < 0.5)
            rows.append([_flipped(_cropped(v, box), turned) for v in row])
        largest = [max(r[1].shape[axis] for r in rows) for axis in range(3)]
        columns = zip(*rows, strict=True)
        # Tissue of a patient's own crop counts out to its ends; what others' size adds to it does not.
        fill = (0, 0, 0, 0, IGNORED_TISSUE)
        full = [torch.stack([_padded(v, largest, f) for v in column]) for column, f in zip(columns, fill, strict=True)]
        return Batch(full[0], Target(lesion=full[1], inside=full[2], weights=full[3], tissue=full[4]))

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


def crop_box(
    brain: Tensor, *, margin: int, multiple: int, extra: np.ndarray[tuple[int, int], np.dtype[np.int64]] | None = None
) -> list[tuple[int, int]]:
    """First voxel and size of a crop along each axis: the brain's box in its middle, as the engine lays it.

    Args:
        brain: (x, y, z) boolean, not empty.
        margin: Voxels around the box.
        multiple: The size is rounded up to a multiple of this.
        extra: (3, 2), further voxels before and behind the box.

    Returns:
        The first voxel may lie before the grid, and the crop may end behind it.
    """
    box = []
    for axis in range(3):
        hit = brain.movedim(axis, 0).flatten(1).any(1).nonzero().flatten()
        before, behind = (int(e) for e in extra[axis]) if extra is not None else (0, 0)
        low, high = int(hit[0]) - before, int(hit[-1]) + behind
        size = -(-(high - low + 1 + 2 * margin) // multiple) * multiple
        box.append((low - (size - (high - low + 1)) // 2, size))
    return box


def _cropped(volume: Tensor, box: list[tuple[int, int]]) -> Tensor:
    """The crop of (..., x, y, z), 0 where it leaves the grid."""
    pads: list[int] = []
    for axis, (first, size) in enumerate(box):
        dim, length = volume.dim() - 3 + axis, volume.shape[volume.dim() - 3 + axis]
        start, stop = max(first, 0), min(first + size, length)
        volume = volume.narrow(dim, start, stop - start)
        pads = [start - first, first + size - stop, *pads]
    return functional.pad(volume, pads)


def _flipped(volume: Tensor, turned: bool) -> Tensor:
    """Left and right exchanged: the first spatial axis runs to the right, and every channel goes with its voxel."""
    return volume.flip(volume.dim() - 3) if turned else volume


def _padded(volume: Tensor, size: Sequence[int], value: int) -> Tensor:
    missing = [s - n for s, n in zip(size, volume.shape[-3:], strict=True)]
    pads = [p for m in reversed(missing) for p in (m // 2, m - m // 2)]
    return functional.pad(volume, pads, value=value)


class TrainingBatches(Dataset[Batch]):
    """The batches of a run by their number: stage after stage, each a function of its number alone.

    Args:
        recipe: The run.
        device: On which patients are made.
        sources: Open a stage's, in the process that asks for its first batch.
    """

    def __init__(self, recipe: Recipe, device: torch.device, sources: Sources) -> None:
        self._recipe, self._device, self._opener = recipe, device, sources
        self._prepare = Prepare(recipe)
        self._sources: dict[int, Source] = {}

    def __len__(self) -> int:
        return self._recipe.steps * self._recipe.accumulation

    def __getitem__(self, number: int) -> Batch:
        stage = self._recipe.stage_at(number // self._recipe.accumulation)
        data = self._recipe.stages[stage].data
        if stage not in self._sources:
            # Stages come one after the other; two of them with the same data share them.
            same = (s for k, s in self._sources.items() if self._recipe.stages[k].data == data)
            self._sources = {stage: next(same, None) or self._opener.training(data, self._recipe.seed, self._device)}
        patients = range(number * self._recipe.batch, (number + 1) * self._recipe.batch)
        sample = self._sources[stage].samples(patients)
        return self._prepare(sample, patients, flips=data.flips, extra_voxels=data.extra_voxels)


class Loader:
    """Batches from one number on, made ahead by worker processes; measures how long the training waits for them.

    Args:
        batches: All batches of the run.
        first: Number of the first.
        data: Says workers and prefetch.
        pinned: Keep them where a GPU fetches them fastest.

    Attributes:
        waited: Seconds so far.
    """

    def __init__(self, batches: TrainingBatches, first: int, data: Data, *, pinned: bool) -> None:
        self.waited = 0.0
        self._length = len(batches) - first
        self._loader = DataLoader(
            _Outspoken(batches),
            batch_size=None,
            sampler=range(first, len(batches)),
            num_workers=data.workers,
            prefetch_factor=data.prefetch if data.workers else None,
            worker_init_fn=_start_worker,
            pin_memory=pinned and data.workers > 0,
            # Else the loader would draw from the random numbers of the training.
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Batch]:
        iterator = iter(self._loader)
        while True:
            start = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            finally:
                self.waited += time.perf_counter() - start
            if isinstance(batch, StrokeSegError):
                raise batch
            yield batch


class _Outspoken(Dataset[Batch | StrokeSegError]):
    """The batches, or the error in words: between processes only its text would be left of an exception."""

    def __init__(self, batches: TrainingBatches) -> None:
        self._batches = batches

    def __getitem__(self, number: int) -> Batch | StrokeSegError:
        try:
            return self._batches[number]
        except StrokeSegError as error:
            return error


def _start_worker(_: int) -> None:
    """A signal to stop goes to all processes of a terminal: the training answers it, and ends its workers."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def validation_batches(recipe: Recipe, source: CountedSource) -> Iterator[Batch]:
    """Every patient of a source as a batch of its own."""
    prepare = Prepare(recipe)
    for number in range(len(source)):
        yield prepare(source.samples([number]), [number])
