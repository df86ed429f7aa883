"""`fit`: a training run from a recipe to a folder with weights, logs and the fields of a model card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from strokeseg.errors import InputError
from strokeseg.events import Monitor
from strokeseg_training._export_weights import read_state
from strokeseg_training.fit.batches import Loader, TrainingBatches
from strokeseg_training.fit.card import card_fields
from strokeseg_training.fit.checkpoints import latest, load_checkpoint
from strokeseg_training.fit.course import Course, Limits
from strokeseg_training.fit.folder import refuse_other_recipe, refuse_used, write_recipe
from strokeseg_training.fit.module import TrainingModule
from strokeseg_training.fit.sources import Sources
from strokeseg_training.fit.surroundings import choose_device, memory_in_words, quiet, threads
from strokeseg_training.recipe import Recipe

_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True)
class Start:
    """Where a run begins.

    Attributes:
        resume: Go on with the run that lies in the folder.
        weights: A snapshot, or any file with the network's weights, for a run with a fresh optimiser.
        step: Of the recipe, where a run from `weights` takes up schedule and data.
    """

    resume: bool = False
    weights: Path | None = None
    step: int = 0


@dataclass(frozen=True)
class Fitted:
    """What a run came to.

    Attributes:
        folder: Of the run.
        checkpoint: The last one's folder.
        step: Steps of the recipe that are done.
        steps: Of the recipe.
        stopped_by: ``""``: it is complete; else ``minutes``, ``steps`` or ``cancelled``.
        loss: Mean over the last row of the log.
        best_dice: Of the best validation; None without one.
        seconds: From the first step to the last.
        waiting_share: Share of them spent waiting for data.
    """

    folder: Path
    checkpoint: Path
    step: int
    steps: int
    stopped_by: str
    loss: float
    best_dice: float | None
    seconds: float
    waiting_share: float


def fit(
    recipe: Recipe,
    out: str | Path,
    *,
    start: Start | None = None,
    limits: Limits | None = None,
    device: str = "auto",
    command: str = "",
    monitor: Monitor | None = None,
    sources: Sources | None = None,
) -> Fitted:
    """Train.

    The same recipe gives the same weights, bit for bit, on one machine's CPU, wherever the run was interrupted.

    Args:
        recipe: What to do.
        out: The run's folder: new or empty, or that of a run to resume.
        start: Default: at the beginning.
        limits: When to end early; the run is saved then as at its end.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        command: What the user typed, for the model card.
        monitor: Hears of progress; when it says so, the run ends after the step and is saved.
        sources: Open what the recipe names.

    Raises:
        InputError: Recipe, data or the folder are not usable.
        ModelError: Weights do not fit, or the training diverged.
        DependencyError: The device is not there.
        MemoryLimitError: The device's memory, or the machine's, is not enough.
    """
    run, start, limits = Path(out).expanduser(), start or Start(), limits or Limits()
    monitor, sources = monitor or Monitor(), sources or Sources()
    where = choose_device(device, recipe)
    card_fields(recipe, {})
    saved = None
    if start.resume:
        refuse_other_recipe(recipe, run)
        found = latest(run)
        if found is None:
            monitor.log("The run has no checkpoint yet: it begins at its first step.")
        else:
            saved = load_checkpoint(found[1])
    else:
        refuse_used(run)
    first_batch = int(saved.state["batch_number"]) if saved else _first_step(start, recipe) * recipe.accumulation
    if first_batch >= recipe.steps * recipe.accumulation:
        raise InputError(
            "There is nothing left to train.",
            f"The run is at step {first_batch // recipe.accumulation} of {recipe.steps}.",
            "Export it, or start a longer run with --init-from.",
        )
    warm_up = recipe.schedule.warm_up_from_weights if start.weights and not saved else 0
    with threads(recipe.threads), quiet():
        module = TrainingModule(recipe, first_batch, warm_up)
        if saved:
            module.start_from(saved.weights, saved.averaged)
        elif start.weights:
            module.start_from(read_state(start.weights))
        validation = sources.validation(recipe, where) if recipe.validation.every else None
        about = [sources.about(stage.data) for stage in recipe.stages]
        write_recipe(recipe, run)
        made_here = where if recipe.data.workers == 0 else torch.device("cpu")
        loader = Loader(
            TrainingBatches(recipe, made_here, sources), first_batch, recipe.data, pinned=where.type == "cuda"
        )
        # A run from weights that is resumed says so still.
        # A run that goes on is still the run that began.
        began = {"command": command, "started_from": start.weights.name if start.weights else ""}
        began = dict(saved.state["began"]) if saved else began
        course = Course(
            recipe,
            run,
            loader,
            monitor,
            limits,
            lambda step: card_fields(recipe, {**began, **_work(recipe, step), "training_data": _once(about)}),
            validation,
            saved.state if saved else {},
            began,
        )
        trainer = _trainer(recipe, run, where, course, module.step)
        with memory_in_words(recipe):
            trainer.fit(module, train_dataloaders=loader)
    assert course.checkpoint is not None
    return Fitted(
        folder=run,
        checkpoint=course.checkpoint,
        step=module.step,
        steps=recipe.steps,
        stopped_by=course.stopped_by,
        loss=course.last_loss,
        best_dice=course.best[0] if course.best[0] >= 0 else None,
        seconds=course.seconds,
        waiting_share=course.waiting_share,
    )


def _trainer(recipe: Recipe, run: Path, where: torch.device, course: Course, step: int) -> pl.Trainer:
    loggers: list[Logger] = []
    if recipe.tensorboard:
        # What an interrupted run wrote beyond this step is hidden: the run comes there again.
        loggers.append(TensorBoardLogger(run, name="tensorboard", version="", purge_step=step + 1))
    return pl.Trainer(
        accelerator={"cpu": "cpu", "mps": "mps"}.get(where.type, "gpu"),
        devices=1,
        precision=_PRECISION[recipe.precision],  # type: ignore[arg-type]  # a literal of Lightning's
        max_epochs=1,
        accumulate_grad_batches=recipe.accumulation,
        gradient_clip_val=recipe.gradient_clip or None,
        logger=loggers,
        callbacks=[course],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=run,
    )


def _first_step(start: Start, recipe: Recipe) -> int:
    if start.step and start.weights is None:
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


def _work(recipe: Recipe, step: int) -> dict[str, Any]:
    return {"steps": step, "patients_seen": step * recipe.accumulation * recipe.batch}


def _once(about: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each stage is trained on; said once where it stays the same."""
    return [a for n, a in enumerate(about) if a not in about[:n]]
