"""Who is scored on the way, and how: synthetic patients in one pass each, prepared ones as the engine runs them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from strokeseg.errors import InputError
from strokeseg.networks import named
from strokeseg.predict.strategies import Tiling, slice_window, slices, unheard, whole, windows
from strokeseg.runtime import Logits
from strokeseg.runtime.base import NumpyRuntime
from strokeseg_training.augment import Example
from strokeseg_training.fit.batches import Batch, Prepare, validation_batches
from strokeseg_training.fit.module import TrainingModule
from strokeseg_training.fit.prepared import ENGINES_OVERLAP, LABELS, PreparedSource
from strokeseg_training.fit.ranks import Ranks
from strokeseg_training.fit.scoring import Score, score, score_classes
from strokeseg_training.fit.sources import CountedSource, Sources
from strokeseg_training.recipe import Recipe


class Scores(Protocol):
    """Patients on whom a run is scored."""

    def ready(self) -> None:
        """Make the patients, in full precision; the first call takes time."""

    def of(self, module: TrainingModule, moved: Callable[[Any], Any]) -> list[Score]:
        """The score of each of this process's patients by the averaged weights.

        Args:
            module: With the weights.
            moved: Brings a batch to the module's device.
        """


def open_scores(recipe: Recipe, sources: Sources, device: torch.device, ranks: Ranks | None = None) -> Scores | None:
    """What the recipe says; None: nothing.

    Args:
        recipe: The run.
        sources: Open what it names.
        device: On which patients are made.
        ranks: Each patient is scored by one of these processes.

    Raises:
        InputError: It names what is not there.
    """
    validation = recipe.validation
    if not validation.wanted:
        return None
    if validation.side is not None:
        folder = next((s.data.prepared for s in recipe.stages if s.data.prepared is not None), None)
        if folder is None:
            raise InputError(
                "There is nothing to validate on.",
                "'validation.side' is a side of the prepared set with which the recipe trains, and it names none.",
                "Give 'data.prepared', or another source in 'validation'.",
            )
        return PreparedScores(sources.prepared(folder, recipe), recipe, ranks)
    source = sources.validation(recipe, device)
    if source is not None and recipe.objective is not None:
        raise InputError(
            "There is nothing to validate on.",
            "With an 'objective', runs are scored on prepared patients.",
            "Set 'validation.side=val', or 'validation.every=0'.",
        )
    return None if source is None else SyntheticScores(recipe, source, ranks)


class SyntheticScores:
    """Patients of a bank, a generator or an exam, in one pass each.

    Args:
        recipe: The run.
        source: Of the patients.
        ranks: See `open_scores`.
    """

    def __init__(self, recipe: Recipe, source: CountedSource, ranks: Ranks | None = None) -> None:
        self._recipe, self._source, self._ranks = recipe, source, ranks or Ranks()
        self._kept: list[Batch] = []

    def ready(self) -> None:
        """Make the patients, once; their channels as half floats, for room."""
        if not self._kept:
            mine = self._ranks.mine(len(self._source))
            # On the CPU: 64 patients would take a part of a GPU that the training needs.
            self._kept = [_on_cpu(batch) for batch in validation_batches(self._recipe, self._source, mine)]

    def of(self, module: TrainingModule, moved: Callable[[Any], Any]) -> list[Score]:
        """The score of each patient."""
        voxel_ml = math.prod(self._recipe.preparation.spacing_mm) / 1000.0
        scores = []
        for kept in self._kept:
            batch = moved(kept)
            batch = batch._replace(channels=batch.channels.float())
            loss = float(module.terms(module.averaged, batch, module.step - 1)["loss"])
            scores.append(score(module.lesion_logits(batch), batch.target, loss, voxel_ml))
        return scores


class PreparedScores:
    """All patients of a side of a prepared set, each volume run by the strategy of the card and put together again.

    Args:
        source: Of the set.
        recipe: The run.
        ranks: See `open_scores`.

    Raises:
        InputError: Nobody is on the side.
    """

    def __init__(self, source: PreparedSource, recipe: Recipe, ranks: Ranks | None = None) -> None:
        side = recipe.validation.side or "val"
        self._set, self._recipe = source.set, recipe
        self._patients, self._ranks = self._set.side(side), ranks or Ranks()
        self._prepare = Prepare(recipe)
        if not self._patients:
            raise InputError(
                "There is nothing to validate on.",
                f"The prepared set '{self._set.folder.name}' has no patient on the side '{side}'.",
                "Prepare more patients, change 'datasets.split', or set 'validation.every=0'.",
            )

    def ready(self) -> None:
        """Nothing: patients are read when they are scored."""

    def of(self, module: TrainingModule, moved: Callable[[Any], Any]) -> list[Score]:
        """The score of each patient."""
        network = _Averaged(module, self._recipe.precision)
        mine = self._ranks.mine(len(self._patients))
        return [self._score(self._patients[n], network, moved) for n in mine]

    def _score(self, number: int, network: _Averaged, moved: Callable[[Any], Any]) -> Score:
        volume, patient = self._set.volume(number), self._set.patients[number]
        channels, brain = np.asarray(volume.channels, dtype=np.float32), np.asarray(volume.brain) > 0
        found = self._run(network, channels, brain)
        logits = {name: moved(torch.from_numpy(np.ascontiguousarray(values))) for name, values in found.items()}
        x, y, z = (float(s) for s in patient.grid.spacing_mm)
        maps = {LABELS: torch.from_numpy(np.array(volume.labels)), "brain": torch.from_numpy(brain)}
        example = Example(patient.id, self._set.channels, torch.from_numpy(channels), maps, (x, y, z))
        target = moved(self._prepare.target(example))
        module = network.module
        loss = float(module.loss(logits, target, module.step - 1, auxiliary=False)["loss"])
        return score_classes(logits["lesion"], moved(maps[LABELS]), moved(maps["brain"]), loss, x * y * z / 1000.0)

    def _run(self, network: _Averaged, channels: np.ndarray[Any, Any], brain: np.ndarray[Any, Any]) -> Logits:
        card, strategy = self._recipe.card, self._recipe.card.strategy
        x, y, z = (int(n) for n in channels.shape[1:])
        if strategy == "slices":
            said = self._recipe.datasets.slices if self._recipe.datasets else None
            size = None if said is None or said.size is None else (*said.size, 1)
            tiling = Tiling(slice_window((x, y, z), size), _overlap(card.overlap), batch=self._recipe.batch)
            return slices(network, channels, brain, tiling, unheard)
        if strategy == "windows" and card.window is not None:
            tiling = Tiling(card.window, _overlap(card.overlap), self._recipe.preparation.multiple)
            return windows(network, channels, brain, tiling, unheard)
        return whole(network, channels, unheard)


class _Averaged(NumpyRuntime):
    """The averaged weights of a run in training, as the engine's strategies want a network."""

    def __init__(self, module: TrainingModule, precision: str) -> None:
        self.module, self.name, self.precision = module, "training", precision

    def run(self, batch: np.ndarray[Any, np.dtype[np.float32]]) -> Logits:
        """Logits by output name."""
        device = next(self.module.parameters()).device
        outputs = named(self.module.averaged, torch.from_numpy(batch).to(device))
        return {name: logits.float().cpu().numpy() for name, logits in outputs.items()}


def _overlap(said: float | None) -> float:
    return ENGINES_OVERLAP if said is None else said


def _on_cpu(batch: Batch) -> Batch:
    target: Sequence[Tensor] = [v.cpu() for v in batch.target]
    return Batch(batch.channels.half().cpu(), type(batch.target)(*target))
