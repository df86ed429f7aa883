"""`Course`: what happens after each step: averaging, rows of the log, validation, checkpoints, and when to stop."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from strokeseg.errors import Cancelled, ModelError
from strokeseg.events import Monitor, Progress
from strokeseg_training.fit.batches import Batch, Loader, validation_batches
from strokeseg_training.fit.checkpoints import Saved, save_best, save_checkpoint
from strokeseg_training.fit.logs import Rows
from strokeseg_training.fit.module import TrainingModule
from strokeseg_training.fit.scoring import COLUMNS, means, score
from strokeseg_training.fit.sources import CountedSource
from strokeseg_training.recipe import Recipe

_LINE_EVERY_SECONDS = 60.0


@dataclass(frozen=True)
class Limits:
    """When a run ends before its recipe does.

    Attributes:
        minutes: From the first step on; None: any.
        steps: Of the recipe, counted from its beginning; None: all.
    """

    minutes: float | None = None
    steps: int | None = None


class Course(pl.Callback):
    """The course of a run.

    Args:
        recipe: The run.
        run: Its folder.
        loader: Its batches.
        monitor: Hears of progress; is asked after each step whether to stop.
        limits: When to end early.
        card: Makes the card's fields for a number of steps that are done.
        validation: What it is scored on; None: nothing.
        state: Of the checkpoint from which it goes on; empty for a new run.
        began: How the run began, for the card; kept with the checkpoints.

    Attributes:
        stopped_by: ``""`` for the end of the recipe, else ``minutes``, ``steps`` or ``cancelled``.
        checkpoint: The newest that was written.
        best: Dice and step of the best validation so far.
    """

    def __init__(
        self,
        recipe: Recipe,
        run: Path,
        loader: Loader,
        monitor: Monitor,
        limits: Limits,
        card: Callable[[int], Mapping[str, Any]],
        validation: CountedSource | None,
        state: Mapping[str, Any],
        began: Mapping[str, str],
    ) -> None:
        self._recipe, self._run, self._loader = recipe, run, loader
        self._monitor, self._limits, self._card, self._validation = monitor, limits, card, validation
        self._state, self._began = state, began
        self.stopped_by = ""
        self.checkpoint: Path | None = None
        best = state.get("best", (-1.0, 0))
        self.best: tuple[float, int] = (float(best[0]), int(best[1]))
        self.last_loss = math.nan
        # Since the last row; a checkpoint between two rows keeps them.
        self._sums: dict[str, Tensor | float] = dict(state.get("sums", {}))
        self._terms = sorted({name for stage in recipe.stages for name in stage.loss.weights})
        self._kept: list[Batch] = []
        self._sigterm = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take up the optimiser's state, open the logs, start the clock."""
        module = _ours(pl_module)
        if threading.current_thread() is threading.main_thread():
            # Lightning's own handler ends a run within a step; ours ends it after one, saved.
            signal.signal(signal.SIGTERM, self._sigterm)
        if self._state:
            trainer.optimizers[0].load_state_dict(self._state["optimiser"])
            trainer.precision_plugin.load_state_dict(self._state["scaler"])
            module.averagings = int(self._state["averagings"])
        self._first_step = module.step
        columns = ["loss", *self._terms, "learning_rate", "seconds_per_step", "waiting_share"]
        self._rows = Rows(self._run / "train.csv", columns, module.step)
        self._scores = Rows(self._run / "validation.csv", COLUMNS, module.step)
        self._start = self._row_start = self._line_start = time.perf_counter()
        self._row_waited = self._loader.waited

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After a batch; what counts by steps happens after the last batch of a step."""
        del batch, batch_idx
        module = _ours(pl_module)
        module.batch_number += 1
        self._add(outputs)
        if module.batch_number % self._recipe.accumulation:
            return
        module.average()
        step = module.step
        if step % self._recipe.log_every == 0:
            self._log(trainer, module)
        every = self._recipe.validation.every
        last = step == self._recipe.steps
        if self._validation is not None and every and (step % every == 0 or last):
            self._validate(trainer, module)
        self._tell(step)
        self.stopped_by = self._why_stop(step)
        if self.stopped_by or last or step % self._recipe.checkpoint.every == 0:
            self._save(trainer, module)
        if self.stopped_by:
            trainer.should_stop = True

    @property
    def seconds(self) -> float:
        """Since the first step."""
        return time.perf_counter() - self._start

    @property
    def waiting_share(self) -> float:
        """Share of the time that was spent waiting for data."""
        return self._loader.waited / max(self.seconds, 1e-9)

    def _add(self, outputs: Mapping[str, Tensor]) -> None:
        """Sum up the terms of a batch, on the device: a GPU need not be waited for."""
        for name, value in outputs.items():
            self._sums[name] = value.detach().float() + self._sums.get(name, 0.0)
        self._sums["batches"] = self._sums.get("batches", 0.0) + 1.0

    def _log(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        """A row: means since the last one."""
        now, steps = time.perf_counter(), self._recipe.log_every
        number = self._sums.pop("batches")
        found = {name: float(total) / float(number) for name, total in self._sums.items()}
        self.last_loss, self._sums = found["loss"], {}
        if not math.isfinite(self.last_loss):
            raise ModelError(
                "The training has diverged.",
                f"Between the steps {module.step - steps} and {module.step} the loss became no finite number; terms: "
                + ", ".join(f"{k} {v:.4g}" for k, v in found.items())
                + ".",
                "Go on from an earlier snapshot with --init-from and a smaller 'optimiser.lr', or with precision fp32.",
            )
        elapsed = max(now - self._row_start, 1e-9)
        row = {
            **dict.fromkeys(self._terms, math.nan),
            **found,
            "learning_rate": module.learning_rate(module.step - 1),
            "seconds_per_step": elapsed / steps,
            "waiting_share": min(1.0, (self._loader.waited - self._row_waited) / elapsed),
        }
        self._rows.add(module.step, row)
        _to_loggers(trainer, "train", row, module.step)
        self._row_start, self._row_waited = now, self._loader.waited

    def _validate(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        """Score the averaged weights; keep them where they are the best so far."""
        start = time.perf_counter()
        voxel_ml = math.prod(self._recipe.preparation.spacing_mm) / 1000.0
        scores = []
        # Patients are made in full precision: the context is the network's.
        patients = self._patients()
        with torch.inference_mode(), trainer.precision_plugin.val_step_context():
            for kept in patients:
                batch = trainer.strategy.batch_to_device(kept)
                batch = batch._replace(channels=batch.channels.float())
                loss = float(module.terms(module.averaged, batch, module.step - 1)["loss"])
                scores.append(score(module.lesion_logits(batch), batch, loss, voxel_ml))
        found = means(scores)
        self._scores.add(module.step, found)
        _to_loggers(trainer, "validation", found, module.step)
        if found["dice"] > self.best[0]:
            self.best = (found["dice"], module.step)
            save_best(self._run, module.averaged.state_dict(), self._card(module.step))
        self._monitor.log(
            f"step {module.step}, {len(scores)} validation patients: loss {found['loss']:.3f}, Dice {found['dice']:.3f}"
            f" (best {self.best[0]:.3f} at {self.best[1]}), sensitivity {found['sensitivity']:.3f}, false "
            f"{found['false_ml']:.2f} ml, without lesion {found['false_ml_without_lesion']:.2f} ml"
        )
        # The time of a step is that of training alone.
        self._row_start += time.perf_counter() - start

    def _patients(self) -> list[Batch]:
        """The validation's patients, made once; their channels as half floats, for room."""
        if not self._kept:
            source = self._validation
            assert source is not None
            # On the CPU: 64 patients would take a part of a GPU that the training needs.
            self._kept = [_on_cpu(batch) for batch in validation_batches(self._recipe, source)]
        return self._kept

    def _tell(self, step: int) -> None:
        """Progress, with the time that is left."""
        done = max(step - self._first_step, 1)
        end = min(self._recipe.steps, self._limits.steps or self._recipe.steps)
        left = (end - step) * self.seconds / done
        if self._limits.minutes is not None:
            left = min(left, self._limits.minutes * 60 - self.seconds)
        # The loss is known from the first line of the log on.
        loss = "" if math.isnan(self.last_loss) else f"loss {self.last_loss:.3f}, "
        text = (
            f"{loss}{self.seconds / done:.2f} s a step, {self.waiting_share:.0%} of it waiting "
            f"for data, {_duration(left)} left"
        )
        self._monitor.send(Progress("fit", step, self._recipe.steps, text))
        if time.perf_counter() - self._line_start >= _LINE_EVERY_SECONDS:
            self._line_start = time.perf_counter()
            self._monitor.log(f"step {step} of {self._recipe.steps}: {text}")

    def _why_stop(self, step: int) -> str:
        if step == self._recipe.steps:
            return ""
        try:
            self._monitor.check()
        except Cancelled:
            return "cancelled"
        if self._limits.steps is not None and step >= self._limits.steps:
            return "steps"
        if self._limits.minutes is not None and self.seconds >= self._limits.minutes * 60:
            return "minutes"
        return ""

    def _save(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        state = {
            "step": module.step,
            "began": dict(self._began),
            "batch_number": module.batch_number,
            "averagings": module.averagings,
            "optimiser": trainer.optimizers[0].state_dict(),
            "scaler": trainer.precision_plugin.state_dict(),
            "best": self.best,
            "sums": {name: float(total) for name, total in self._sums.items()},
        }
        saved = Saved(module.network.state_dict(), module.averaged.state_dict(), state)
        keep = self._recipe.checkpoint.keep
        self.checkpoint = save_checkpoint(self._run, module.step, saved, self._card(module.step), keep)


def _ours(module: pl.LightningModule) -> TrainingModule:
    assert isinstance(module, TrainingModule)
    return module


def _to_loggers(trainer: pl.Trainer, group: str, values: Mapping[str, float], step: int) -> None:
    for logger in trainer.loggers:
        logger.log_metrics({f"{group}/{k}": v for k, v in values.items() if math.isfinite(v)}, step)


def _on_cpu(batch: Batch) -> Batch:
    target = type(batch.target)(*(v.cpu() for v in batch.target))
    return Batch(batch.channels.half().cpu(), target)


def _duration(seconds: float) -> str:
    minutes = max(0, round(seconds / 60))
    if minutes < 1:
        return f"{max(0, round(seconds))} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
