"""`fit`: a training run from a recipe to a folder with weights, logs and the fields of a model card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from strokeseg.errors import DependencyError, InputError
from strokeseg.events import Monitor
from strokeseg_training._export_graph import WEIGHTS
from strokeseg_training._export_weights import read_state
from strokeseg_training.fit.batches import TrainingBatches
from strokeseg_training.fit.beginning import Start, first_step, first_weights, open_data, refuse_other_data
from strokeseg_training.fit.card import card_fields
from strokeseg_training.fit.checkpoints import latest, load_checkpoint
from strokeseg_training.fit.course import Course, Limits
from strokeseg_training.fit.folder import refuse_other_recipe, refuse_used, write_recipe
from strokeseg_training.fit.loader import Loader
from strokeseg_training.fit.module import TrainingModule
from strokeseg_training.fit.scores import open_scores
from strokeseg_training.fit.sources import Sources
from strokeseg_training.fit.surroundings import choose_device, memory_in_words, quiet, threads
from strokeseg_training.fit.watch import Watch
from strokeseg_training.recipe import Recipe

__all__ = ["Fitted", "Limits", "Start", "fit"]

_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True)
class Fitted:
    """What a run came to.

    Attributes:
        folder: Of the run.
        checkpoint: The last one's folder.
        step: Steps of the recipe that are done.
        steps: Of the recipe.
        stopped_by: ``""``: it is complete; ``patience``: nothing got better; else ``minutes``, ``steps`` or
            ``cancelled``.
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
    asked, saved = recipe, None
    if start.resume:
        refuse_other_recipe(recipe, run)
        found = latest(run)
        if found is None:
            monitor.log("The run has no checkpoint yet: it begins at its first step.")
        else:
            saved = load_checkpoint(found[1])
    else:
        refuse_used(run)
    weights = None if saved else first_weights(start, recipe)
    about, data = open_data(recipe, sources)
    recipe = _in_steps(recipe, sources, where)
    first_batch = (
        int(saved.state["batch_number"]) if saved else first_step(start, weights, recipe) * recipe.accumulation
    )
    state = saved.state if saved else {}
    refuse_other_data(str(state.get("data", "")), data)
    step, patient = first_batch // recipe.accumulation, not Watch(recipe.validation, recipe.schedule, state).over
    if step >= recipe.steps or not patient:
        raise InputError(
            "There is nothing left to train.",
            f"The run is at step {step} of {recipe.steps}" + ("." if patient else ", and nothing got better for long."),
            "Export it, or start a longer run with --init-from.",
        )
    warm_up = recipe.schedule.warm_up_from_weights if weights else 0
    with threads(recipe.threads), quiet():
        module = TrainingModule(recipe, first_batch, warm_up)
        if saved:
            module.start_from(saved.weights, saved.averaged)
        elif weights:
            module.start_from(read_state(weights))
        validation = open_scores(recipe, sources, where)
        write_recipe(asked, run)
        made_here = where if recipe.data.workers == 0 else torch.device("cpu")
        loader = Loader(
            TrainingBatches(recipe, made_here, sources), first_batch, recipe.data, pinned=where.type == "cuda"
        )
        # A run from weights that is resumed says so still.
        # A run that goes on is still the run that began.
        began = {"command": command, "started_from": _name_of(weights)}
        began = dict(saved.state["began"]) if saved else began
        course = Course(
            recipe,
            run,
            loader,
            monitor,
            limits,
            lambda step: card_fields(asked, {**began, **_work(recipe, step), "training_data": _once(about)}),
            validation,
            state,
            began,
            data,
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
        best_dice=course.watch.dice if course.watch.step else None,
        seconds=course.seconds,
        waiting_share=course.waiting_share,
    )


def _trainer(recipe: Recipe, run: Path, where: torch.device, course: Course, step: int) -> pl.Trainer:
    loggers: list[Logger] = []
    if recipe.tensorboard:
        # What an interrupted run wrote beyond this step is hidden: the run comes there again.
        loggers.append(TensorBoardLogger(run, name="tensorboard", version="", purge_step=step + 1))
    if recipe.wandb:
        loggers.append(_wandb(recipe, run))
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


def _wandb(recipe: Recipe, run: Path) -> Logger:
    """The log of Weights & Biases, to which a run that goes on writes, too."""
    try:
        return WandbLogger(project="strokeseg", name=run.name, id=f"{run.name}-{recipe.sha256[:8]}", save_dir=run)
    except ImportError as error:
        raise DependencyError(
            "The run cannot be sent to Weights & Biases.",
            "The recipe says 'wandb: true', and the library 'wandb' is not installed.",
            "Install it with: pip install wandb; or train without: --set wandb=false.",
        ) from error


def _in_steps(recipe: Recipe, sources: Sources, device: torch.device) -> Recipe:
    """The recipe with every length in steps; what is not told in epochs is not counted."""
    if not recipe.validation.epochs and all(s.epochs is None for s in recipe.stages):
        return recipe
    return recipe.in_steps([sources.count(stage.data, recipe, device) for stage in recipe.stages])


def _name_of(weights: Path | None) -> str:
    """For the card: the name of a model's folder, or of a file."""
    if weights is None:
        return ""
    return weights.parent.name if weights.name == WEIGHTS else weights.name


def _work(recipe: Recipe, step: int) -> dict[str, Any]:
    # Slices of a patient are not patients.
    seen = "slices_seen" if recipe.datasets and recipe.datasets.slices else "patients_seen"
    return {"steps": step, seen: step * recipe.accumulation * recipe.batch}


def _once(about: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each stage is trained on; said once where it stays the same."""
    return [a for n, a in enumerate(about) if a not in about[:n]]
