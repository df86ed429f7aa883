"""`fit`: a training run from a recipe to a folder with weights, logs and the fields of a model card."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.strategies import DDPStrategy

from strokeseg import __version__
from strokeseg.errors import Cancelled, DependencyError
from strokeseg.events import Monitor
from strokeseg_training._export_graph import WEIGHTS
from strokeseg_training._export_weights import read_state
from strokeseg_training.fit.batches import TrainingBatches
from strokeseg_training.fit.beginning import (
    Start,
    first_step,
    first_weights,
    hash_of,
    open_data,
    refuse_complete,
    refuse_other_data,
    saved_run,
)
from strokeseg_training.fit.card import card_fields
from strokeseg_training.fit.course import Course, Limits
from strokeseg_training.fit.folder import write_recipe
from strokeseg_training.fit.launch import together
from strokeseg_training.fit.loader import Loader
from strokeseg_training.fit.memory import free_bytes, refuse_too_much
from strokeseg_training.fit.module import TrainingModule
from strokeseg_training.fit.ranks import Meeting, Ranks, find_environment
from strokeseg_training.fit.scores import open_scores
from strokeseg_training.fit.sources import Sources
from strokeseg_training.fit.surroundings import choose_device, memory_in_words, quiet, threads
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
        process: Number of this process among those that trained together; only the first, 0, has anything to say.
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
    process: int = 0


def fit(
    recipe: Recipe,
    out: str | Path,
    *,
    start: Start | None = None,
    limits: Limits | None = None,
    device: str = "auto",
    devices: int = 1,
    machines: int = 1,
    command: str = "",
    monitor: Monitor | None = None,
    sources: Sources | None = None,
) -> Fitted:
    """Train.

    The same recipe gives the same weights, bit for bit, on one machine's CPU, wherever the run was interrupted. Several
    processes train as one with a batch that is as many times as large, if the network looks at each sample alone.

    Args:
        recipe: What to do.
        out: The run's folder: new or empty, or that of a run to resume.
        start: Default: at the beginning.
        limits: When to end early; the run is saved then as at its end.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        devices: Processes on each machine that train together, one a device. Where neither torchrun nor SLURM has
            started them, the program that calls this is started once more for each further one.
        machines: How many there are.
        command: What the user typed, for the model card.
        monitor: Hears of progress; when it says so, the run ends after the step and is saved.
        sources: Open what the recipe names; handed over to worker processes where the recipe has them.

    Raises:
        InputError: Recipe, data or the folder are not usable.
        ModelError: Weights do not fit, or the training diverged.
        DependencyError: The device is not there.
        MemoryLimitError: The device's memory, or the machine's, is not enough.
        StrokeSegError: Another process of the run was lost.
    """
    run, start, limits = Path(out).expanduser(), start or Start(), limits or Limits()
    monitor, sources = monitor or Monitor(), sources or Sources()
    with quiet():
        ranks = Ranks(devices, machines, find_environment(devices, machines))
    where = choose_device(device, recipe, devices, ranks.local)
    if not ranks.first:
        monitor = Monitor(None, partial(_asked_to_stop, monitor))
    card_fields(recipe, {})
    asked, saved = recipe, saved_run(recipe, run, start, ranks, monitor)
    weights = None if saved else first_weights(start, recipe)
    about, data = open_data(recipe, sources, look=ranks.local == 0)
    recipe = _in_steps(recipe, sources, where, ranks.world)
    first_batch = (
        int(saved.state["batch_number"]) if saved else first_step(start, weights, recipe) * recipe.accumulation
    )
    state = saved.state if saved else {}
    refuse_other_data(str(state.get("data", "")), data)
    refuse_complete(recipe, first_batch, state)
    warm_up = recipe.schedule.warm_up_from_weights if weights else 0
    with threads(recipe.threads), quiet():
        module = TrainingModule(recipe, first_batch, warm_up)
        if saved:
            module.start_from(saved.weights, saved.averaged)
        elif weights:
            module.start_from(read_state(weights))
        validation = open_scores(recipe, sources, where, ranks)
        made_here = where if recipe.data.workers == 0 else torch.device("cpu")
        batches = TrainingBatches(recipe, made_here, sources, (ranks.number, ranks.world))
        loader = Loader(batches, first_batch, recipe.data, pinned=where.type == "cuda")
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
            lambda step: card_fields(
                asked, {**began, **_work(recipe, step, ranks.world), "training_data": _once(about)}
            ),
            validation,
            state,
            began,
            data,
            ranks,
        )
        facts = _facts(asked, about, first_batch)
        trainer = _trainer(recipe, run, where, ranks, [Meeting(ranks, facts, recipe.threads), course], module.step)
        with memory_in_words(recipe, run):
            if ranks.first:
                try:
                    _look_at_memory(recipe, loader.first().channels.shape, where, limits, monitor, devices)
                    write_recipe(asked, run)
                except BaseException:
                    loader.close()
                    raise
                _tell_of_others(recipe, ranks, monitor)
            with together(ranks):
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
        process=ranks.number,
    )


def _facts(recipe: Recipe, about: list[dict[str, Any]], first_batch: int) -> dict[str, str]:
    """What must be the same in all processes."""
    return {
        "recipe": recipe.sha256,
        "training data": hash_of(about),
        "first batch": str(first_batch),
        "version of StrokeSeg": __version__,
        "version of PyTorch": str(torch.__version__),
    }


def _trainer(
    recipe: Recipe, run: Path, where: torch.device, ranks: Ranks, callbacks: list[pl.Callback], step: int
) -> pl.Trainer:
    loggers: list[Logger] = []
    if recipe.tensorboard:
        # What an interrupted run wrote beyond this step is hidden: the run comes there again.
        loggers.append(TensorBoardLogger(run, name="tensorboard", version="", purge_step=step + 1))
    if recipe.wandb:
        loggers.append(_wandb(recipe, run))
    # Stages and dropped paths leave out other parameters in other steps.
    strategy = DDPStrategy(find_unused_parameters=True, gradient_as_bucket_view=True)
    return pl.Trainer(
        accelerator={"cpu": "cpu", "mps": "mps"}.get(where.type, "gpu"),
        devices=ranks.here,
        num_nodes=ranks.world // ranks.here,
        strategy=strategy if ranks.world > 1 else "auto",
        plugins=[ranks.environment],
        precision=_PRECISION[recipe.precision],  # type: ignore[arg-type]  # a literal of Lightning's
        max_epochs=1,
        accumulate_grad_batches=recipe.accumulation,
        gradient_clip_val=recipe.gradient_clip or None,
        logger=loggers,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=run,
    )


def _asked_to_stop(monitor: Monitor) -> bool:
    """For a process that says nothing itself, and yet hears a signal."""
    try:
        monitor.check()
    except Cancelled:
        return True
    return False


def _look_at_memory(
    recipe: Recipe, shape: torch.Size, where: torch.device, limits: Limits, monitor: Monitor, here: int
) -> None:
    # Each GPU has its own memory, processes on the processor share the machine's.
    sharing = 1 if where.type == "cuda" else here
    limit = free_bytes(where) if limits.memory_gb is None else int(limits.memory_gb * 1e9)
    said = refuse_too_much(recipe, shape, limit, sharing)
    if said:
        monitor.log(said)


def _tell_of_others(recipe: Recipe, ranks: Ranks, monitor: Monitor) -> None:
    if ranks.world > 1:
        a_step = recipe.batch * recipe.accumulation
        monitor.log(
            f"{ranks.world} processes train together: a step averages over {ranks.world * a_step} samples, {a_step} of "
            "each. With fewer a step, take a smaller 'accumulation' or 'batch'; the learning rate stays as it is."
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


def _in_steps(recipe: Recipe, sources: Sources, device: torch.device, processes: int) -> Recipe:
    """The recipe with every length in steps; what is not told in epochs is not counted."""
    if not recipe.validation.epochs and all(s.epochs is None for s in recipe.stages):
        return recipe
    counts = [sources.count(stage.data, recipe, device) for stage in recipe.stages]
    # All processes together pass through the data.
    told = recipe.model_copy(update={"batch": recipe.batch * processes}).in_steps(counts)
    return told.model_copy(update={"batch": recipe.batch})


def _name_of(weights: Path | None) -> str:
    """For the card: the name of a model's folder, or of a file."""
    if weights is None:
        return ""
    return weights.parent.name if weights.name == WEIGHTS else weights.name


def _work(recipe: Recipe, step: int, processes: int) -> dict[str, Any]:
    together = {"processes": processes} if processes > 1 else {}
    # Slices and patches of a patient are not patients.
    data = recipe.datasets
    seen = "slices_seen" if data and data.slices else "patches_seen" if data and data.patches else "patients_seen"
    return {"steps": step, seen: step * recipe.accumulation * recipe.batch * processes, **together}


def _once(about: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each stage is trained on; said once where it stays the same."""
    return [a for n, a in enumerate(about) if a not in about[:n]]
