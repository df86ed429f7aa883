"""Where a run begins: at which step, with which weights, and on which data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strokeseg.errors import InputError, ModelError
from strokeseg.events import Monitor
from strokeseg.models import ModelStore
from strokeseg_training._export_graph import WEIGHTS
from strokeseg_training.fit.checkpoints import Saved, latest, load_checkpoint
from strokeseg_training.fit.folder import refuse_other_recipe, refuse_used
from strokeseg_training.fit.ranks import Ranks
from strokeseg_training.fit.sources import Sources
from strokeseg_training.fit.watch import Watch
from strokeseg_training.recipe import Recipe


@dataclass(frozen=True)
class Start:
    """Where a run begins.

    Attributes:
        resume: Go on with the run that lies in the folder.
        weights: A snapshot, any file with the network's weights, or a model's folder or name, for a run with a fresh
            optimiser; None: what the recipe says.
        step: Of the recipe, where a run from `weights` takes up schedule and data.
    """

    resume: bool = False
    weights: str | Path | None = None
    step: int = 0


def first_step(start: Start, weights: Path | None, recipe: Recipe) -> int:
    """The step of the recipe at which a new run begins.

    Raises:
        InputError: It cannot begin there.
    """
    if start.step and weights is None:
        raise InputError(
            "A run cannot begin at a later step without weights.",
            f"--at-step is {start.step}.",
            "Give --init-from, too, or leave --at-step out.",
        )
    if not 0 <= start.step < recipe.steps:
        raise InputError(
            "The run cannot begin there.",
            f"--at-step is {start.step}; the recipe has the steps 0 to {recipe.steps - 1}.",
            "Give one of these.",
        )
    return start.step


def first_weights(start: Start, recipe: Recipe) -> Path | None:
    """The file with the weights with which a new run begins; None: random ones.

    Raises:
        InputError: There is no such file or model.
    """
    named = start.weights if start.weights is not None else recipe.init_from
    if named is None:
        return None
    path = Path(named).expanduser()
    if path.is_dir():
        return path / WEIGHTS
    if path.suffix or path.is_file():
        return path
    try:
        return ModelStore().folder_of(str(named)) / WEIGHTS
    except ModelError as error:
        raise InputError(
            f"There are no weights of the name '{named}' to begin with.",
            f"It is no file and no folder, and of models: {error.cause}",
            "Give --init-from a model's name or folder or a file with weights, or begin with random ones: "
            "--set init_from=null.",
        ) from error


def open_data(recipe: Recipe, sources: Sources, *, look: bool = True) -> tuple[list[dict[str, Any]], str]:
    """Look at what a run is trained on, before it is.

    Args:
        recipe: The run.
        sources: Open what it names.
        look: Whether to read every file of the sets; another process of this machine may have done so.

    Returns:
        What a model card says of each stage's data, and a hash by which a run that goes on knows its prepared sets;
        ``""`` without any.

    Raises:
        InputError: A set is damaged, or does not fit the recipe.
    """
    about: list[dict[str, Any]] = []
    prepared: dict[str, dict[str, Any]] = {}
    for data in (stage.data for stage in recipe.stages):
        said = sources.about(data) if data.generator is not None or data.bank is not None else {}
        if data.least_lesion_ml:
            said = {**said, "least_lesion_ml": data.least_lesion_ml}
        if data.prepared is not None:
            if data.prepared not in prepared:
                source = sources.prepared(data.prepared, recipe)
                if look:
                    source.check()
                prepared[data.prepared] = source.about()
            said = {**prepared[data.prepared], "synthetic": said} if said else prepared[data.prepared]
        if data.real_share is not None:
            said = {**said, "real_share": data.real_share}
        about.append(said)
    return about, hash_of([a["prepared"] for a in prepared.values()]) if prepared else ""


def hash_of(about: list[dict[str, Any]]) -> str:
    """A hash of what a card says of data."""
    return hashlib.sha256(json.dumps(about, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def refuse_other_data(was: str, now: str) -> None:
    """Refuse to go on with another prepared set than the run's own.

    Raises:
        InputError: Their hashes differ.
    """
    if was and was != now:
        raise InputError(
            "The run cannot go on with other data.",
            f"The prepared set is not that with which it began: its hash was {was[:12]}, and is {now[:12] or 'none'}.",
            "Put the set back, or start a new run with --init-from.",
        )


def saved_run(recipe: Recipe, run: Path, start: Start, ranks: Ranks, monitor: Monitor) -> Saved | None:
    """What a run goes on from; None: it is a new one, or was not saved yet.

    Args:
        recipe: The run.
        run: Its folder.
        start: Whether it goes on.
        ranks: The first of these processes refuses a folder that is in use.
        monitor: Hears where there is nothing to go on from.

    Raises:
        InputError: The folder is not that of such a run.
        ModelError: A checkpoint is damaged.
    """
    if not start.resume:
        if ranks.first:
            refuse_used(run)
        return None
    refuse_other_recipe(recipe, run)
    found = latest(run)
    if found is None:
        monitor.log("The run has no checkpoint yet: it begins at its first step.")
        return None
    return load_checkpoint(found[1])


def refuse_complete(recipe: Recipe, first_batch: int, state: Mapping[str, Any]) -> None:
    """Refuse a run that is at its end.

    Args:
        recipe: The run, its lengths in steps.
        first_batch: Number of the batch that comes next.
        state: Of the checkpoint; empty for a new run.

    Raises:
        InputError: Nothing is left to train.
    """
    step, patient = first_batch // recipe.accumulation, not Watch(recipe.validation, recipe.schedule, state).over
    if step >= recipe.steps or not patient:
        raise InputError(
            "There is nothing left to train.",
            f"The run is at step {step} of {recipe.steps}" + ("." if patient else ", and nothing got better for long."),
            "Export it, or start a longer run with --init-from.",
        )
