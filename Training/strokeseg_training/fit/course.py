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

from strokeseg.errors import Cancelled, InputError, ModelError
from strokeseg.events import Monitor, Progress
from strokeseg_training.fit.checkpoints import Saved, folder_of, save_best, save_checkpoint
from strokeseg_training.fit.loader import Loader
from strokeseg_training.fit.logs import Rows
from strokeseg_training.fit.module import TrainingModule
from strokeseg_training.fit.ranks import Ranks
from strokeseg_training.fit.scores import Scores
from strokeseg_training.fit.scoring import columns, means
from strokeseg_training.fit.watch import Watch
from strokeseg_training.recipe import Recipe

_LINE_EVERY_SECONDS = 60.0
# Of several processes' reasons to stop, the last of these counts.
_REASONS = ("", "steps", "minutes", "cancelled")


@dataclass(frozen=True)
class Limits:
    """When a run ends before its recipe does.

    Attributes:
        minutes: From the first step on; None: any.
        steps: Of the recipe, counted from its beginning; None: all.
        memory_gb: The run is refused where it is expected to need more; None: than what is free.
    """

    minutes: float | None = None
    steps: int | None = None
    memory_gb: float | None = None


class Course(pl.Callback):
    """The course of a run.

    Args:
        recipe: The run.
        run: Its folder.
        loader: Its batches.
        monitor: Hears of progress; is asked after each step whether to stop.
        limits: When to end early.
        card: Makes the card's fields for a number of steps that are done.
        validation: Who it is scored on; None: nobody.
        state: Of the checkpoint from which it goes on; empty for a new run.
        began: How the run began, for the card; kept with the checkpoints.
        data: Hash of what is trained on, kept with the checkpoints.
        ranks: The processes that train together; the first alone writes.

    Attributes:
        stopped_by: ``""`` for the end of the recipe, else ``patience``, ``minutes``, ``steps`` or ``cancelled``.
        checkpoint: The newest that was written.
        watch: The best validation so far.
    """

    def __init__(
        self,
        recipe: Recipe,
        run: Path,
        loader: Loader,
        monitor: Monitor,
        limits: Limits,
        card: Callable[[int], Mapping[str, Any]],
        validation: Scores | None,
        state: Mapping[str, Any],
        began: Mapping[str, str],
        data: str,
        ranks: Ranks | None = None,
    ) -> None:
        self._ranks = ranks or Ranks()
        self._recipe, self._run, self._loader = recipe, run, loader
        self._monitor, self._limits, self._card, self._validation = monitor, limits, card, validation
        self._state, self._began, self._data = state, began, data
        self.stopped_by = ""
        self.checkpoint: Path | None = None
        self.watch = Watch(recipe.validation, recipe.schedule, state)
        self.last_loss = math.nan
        # Since the last row; a checkpoint between two rows keeps them.
        self._sums: dict[str, Tensor | float] = dict(self._own_sums(state))
        # As they were after the last whole step.
        self._whole_sums = dict(self._sums)
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
        module.drops = self.watch.drops
        self._first_step = module.step
        terms = ["loss", *module.columns, "learning_rate", "seconds_per_step", "waiting_share"]
        written = self._run if self._ranks.first else None
        self._rows = Rows(written and written / "train.csv", terms, module.step)
        classes = len(self._recipe.card.classes)
        self._scores = Rows(written and written / "validation.csv", columns(classes), module.step)
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
        self._whole_sums, module.within_step = dict(self._sums), False
        self._tell(step)
        self.stopped_by = self._why_stop(step)
        if self.stopped_by or last or step % self._recipe.checkpoint.every == 0:
            self._save(trainer, module)
        if self.stopped_by:
            trainer.should_stop = True

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Save the last whole step of a run that fails; one that has diverged has its last checkpoint."""
        module = _ours(pl_module)
        started = hasattr(self, "_first_step")
        if not isinstance(exception, Exception) or isinstance(exception, ModelError) or not started:
            return
        if self._ranks.world > 1:
            # What the others summed up since the last row is not to be had any more.
            return
        module.batch_number -= module.batch_number % self._recipe.accumulation
        saved = self._state.get("batch_number", 0)
        if module.within_step or module.batch_number <= max(saved, self._first_step * self._recipe.accumulation):
            return
        self._sums = self._whole_sums
        module.forget_batches()
        try:
            self._save(trainer, module)
        except (InputError, ModelError) as error:
            self._monitor.log(f"The run could not be saved after step {module.step}: {error.cause}")
        else:
            self._monitor.log(f"The run was saved after step {module.step}.")

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
            # Lightning hands back the loss as a share of its step.
            whole = value.detach().float() * (self._recipe.accumulation if name == "loss" else 1)
            self._sums[name] = whole + self._sums.get(name, 0.0)
        self._sums["batches"] = self._sums.get("batches", 0.0) + 1.0

    def _log(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        """A row: means since the last one."""
        now, steps = time.perf_counter(), self._recipe.log_every
        number = self._sums.pop("batches")
        found = self._ranks.mean({name: float(total) / float(number) for name, total in self._sums.items()})
        self.last_loss, self._sums = found["loss"], {}
        if not math.isfinite(self.last_loss):
            diverged = ModelError(
                "The training has diverged.",
                f"Between the steps {module.step - steps} and {module.step} the loss became no finite number; terms: "
                + ", ".join(f"{k} {v:.4g}" for k, v in found.items())
                + ".",
                "Go on from an earlier snapshot with --init-from and a smaller 'optimiser.lr', or with precision fp32.",
            )
            raise self._ranks.said_once(diverged)
        elapsed = max(now - self._row_start, 1e-9)
        row = {
            **dict.fromkeys(module.columns, math.nan),
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
        assert self._validation is not None
        # Patients are made in full precision: the context is the network's.
        self._validation.ready()
        with torch.inference_mode(), trainer.precision_plugin.val_step_context():
            mine = self._validation.of(module, trainer.strategy.batch_to_device)
        scores = self._ranks.joined(mine)
        found = means(scores)
        self._scores.add(module.step, found)
        _to_loggers(trainer, "validation", found, module.step)
        if self.watch.see(found, module.step) and self._ranks.first:
            save_best(self._run, module.averaged.state_dict(), self._card(module.step))
        module.drops = self.watch.drops
        self._monitor.log(
            f"step {module.step}, {len(scores)} validation patients: loss {found['loss']:.3f}, Dice {found['dice']:.3f}"
            f" (best {self.watch.dice:.3f} at {self.watch.step}), sensitivity {found['sensitivity']:.3f}, false "
            f"{found['false_ml']:.2f} ml, without lesion {found['false_ml_without_lesion']:.2f} ml"
        )
        # The time of a step is that of training alone.
        self._row_start += time.perf_counter() - start

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
        if self.watch.over:
            return "patience"
        # All processes stop after the same step.
        return _REASONS[self._ranks.largest(_REASONS.index(self._own_reason(step)))]

    def _own_reason(self, step: int) -> str:
        try:
            self._monitor.check()
        except Cancelled:
            return "cancelled"
        if self._limits.minutes is not None and self.seconds >= self._limits.minutes * 60:
            return "minutes"
        return "steps" if self._limits.steps is not None and step >= self._limits.steps else ""

    def _save(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        sums = self._ranks.gather({name: float(total) for name, total in self._sums.items()})
        self.checkpoint = folder_of(self._run, module.step)
        if not self._ranks.first:
            return
        state = {
            "step": module.step,
            "began": dict(self._began),
            "batch_number": module.batch_number,
            "averagings": module.averagings,
            "optimiser": trainer.optimizers[0].state_dict(),
            "scaler": trainer.precision_plugin.state_dict(),
            "data": self._data,
            **self.watch.state(),
            "sums": sums[0],
        }
        if self._ranks.world > 1:
            state["sums_of_all"] = sums
        saved = Saved(module.network.state_dict(), module.averaged.state_dict(), state)
        keep = self._recipe.checkpoint.keep
        save_checkpoint(self._run, module.step, saved, self._card(module.step), keep)

    def _own_sums(self, state: Mapping[str, Any]) -> Mapping[str, float]:
        """Of this process, as they were saved.

        Raises:
            InputError: The run was saved by another number of processes.
        """
        saved: list[Mapping[str, float]] = state.get("sums_of_all", [state.get("sums", {})])
        if state and len(saved) != self._ranks.world:
            raise InputError(
                "The run cannot go on with another number of processes.",
                f"It was saved by {len(saved)}, this is one of {self._ranks.world}: a step would see other samples.",
                f"Go on with as many processes (--devices times --num-nodes is {len(saved)}), or start a new run with "
                "--init-from and --at-step.",
            )
        return saved[self._ranks.number] if state else {}


def _ours(module: pl.LightningModule) -> TrainingModule:
    assert isinstance(module, TrainingModule)
    return module


def _to_loggers(trainer: pl.Trainer, group: str, values: Mapping[str, float], step: int) -> None:
    for logger in trainer.loggers:
        logger.log_metrics({f"{group}/{k}": v for k, v in values.items() if math.isfinite(v)}, step)


def _duration(seconds: float) -> str:
    minutes = max(0, round(seconds / 60))
    if minutes < 1:
        return f"{max(0, round(seconds))} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
