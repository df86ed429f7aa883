"""What Lightning trains: the network, its averaged weights, the loss, and the learning rate of each step."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn

from strokeseg.errors import InputError
from strokeseg.networks import build, form_of, load_state, named
from strokeseg_training.fit.batches import Batch, Labels
from strokeseg_training.fit.misfits import refuse_misfit
from strokeseg_training.losses import LabelLoss, LossTerms, Target
from strokeseg_training.recipe import Recipe

_STEP = 43  # names the stream of random numbers of a step


class TrainingModule(pl.LightningModule):
    """A network in training.

    Args:
        recipe: The run.
        first_batch: Number of the first batch that it will see.
        warm_up: Steps of warm-up counted from that batch, for weights with a fresh optimiser; 0: none beside the
            schedule's own.

    Attributes:
        network: What is optimised.
        averaged: The network with averaged weights, in evaluation mode.
        batch_number: Of the batch that comes next.
        averagings: How often the average was made in this run.
        drops: How often the learning rate was lowered because nothing got better.
        within_step: Whether a step is begun with the weights and not yet scored.
        columns: Names of the terms of the loss, in order.

    Raises:
        InputError: Recipe and network do not fit.
        ModelError: The network cannot be built.
    """

    def __init__(self, recipe: Recipe, first_batch: int = 0, warm_up: int = 0) -> None:
        super().__init__()
        self.recipe = recipe
        self.batch_number = first_batch
        self.averagings = self.drops = 0
        self.within_step = False
        self._first_step, self._warm_up = first_batch // recipe.accumulation, warm_up
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.network: nn.Module = build(recipe.network.name, **recipe.network.arguments)
        refuse_misfit(self.network, recipe)
        self._slices = form_of(self.network).slices
        if recipe.channels_last:
            order = torch.channels_last if self._slices else torch.channels_last_3d
            self.network = self.network.to(memory_format=order)  # type: ignore[call-overload]  # torch's stubs know four axes only
        self.averaged = copy.deepcopy(self.network).eval().requires_grad_(requires_grad=False)
        spacing = recipe.preparation.spacing_mm
        self._terms = [] if recipe.objective else [LossTerms(stage.loss, spacing) for stage in recipe.stages]
        self._objective = LabelLoss(recipe.objective) if recipe.objective else None
        terms = sorted({name for stage in recipe.stages for name in stage.loss.weights})
        self.columns = tuple(terms) if self._objective is None else self._objective.columns[1:]

    @property
    def step(self) -> int:
        """Steps of the recipe that are done."""
        return self.batch_number // self.recipe.accumulation

    def learning_rate(self, step: int) -> float:
        """Of a step, from 0."""
        schedule, rate = self.recipe.schedule, self.recipe.optimiser.lr
        if schedule.rule == "polynomial":
            rate *= (1.0 - step / self.recipe.steps) ** schedule.power
        elif schedule.rule == "plateau":
            rate = max(rate * schedule.factor**self.drops, min(rate, schedule.least))
        if schedule.warm_up:
            rate *= min(1.0, (step + 1) / schedule.warm_up)
        if self._warm_up:
            rate *= min(1.0, (step + 1 - self._first_step) / self._warm_up)
        return rate

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The recipe's; its rate is set before each batch."""
        o = self.recipe.optimiser
        kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[o.name]
        trained = [p for p in self.network.parameters() if p.requires_grad]
        return kind(trained, lr=self.learning_rate(self.step), betas=o.betas, eps=o.eps, weight_decay=o.weight_decay)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:  # noqa: ARG002
        """From here on, weights are neither those of one step nor of the next."""
        self.within_step = True

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """The learning rate and the random numbers of the step, functions of its number alone."""
        rate = self.learning_rate(self.step)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate
        seed = np.random.SeedSequence([self.recipe.seed, _STEP, self.batch_number, self.global_rank])
        torch.manual_seed(int(seed.generate_state(1, np.uint32)[0]))

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:  # noqa: ARG002
        """The terms of the loss; ``loss`` is what is minimised."""
        return self.terms(self.network, batch, self.step)

    def terms(self, network: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        """The terms of the loss of a step, the network's arithmetic as it is set, the loss in fp32."""
        found = network(self._input(batch))
        # In training, networks with deep supervision give more than their form names.
        logits = found if isinstance(found, Mapping) else {"lesion": found}
        return self.loss(logits, batch.target, step, auxiliary=network.training)

    def loss(
        self, logits: Mapping[str, Tensor], target: Target | Labels, step: int, *, auxiliary: bool
    ) -> dict[str, Tensor]:
        """The terms of the loss of a step, of logits that are there.

        Args:
            logits: Output's name to (N, K, x, y, z).
            target: On the same voxels.
            step: Whose stage counts.
            auxiliary: Whether the network was in training and gives further outputs.
        """
        with torch.autocast(logits["lesion"].device.type, enabled=False):
            if self._objective is None:
                assert isinstance(target, Target)
                return self._terms[self.recipe.stage_at(step)](logits, target)
            assert isinstance(target, Labels)
            self._refuse_outputs(int(logits["lesion"].shape[1]))
            return self._objective(logits, target.label, auxiliary=auxiliary)

    def _refuse_outputs(self, maps: int) -> None:
        classes = len(self.recipe.card.classes)
        expected = 1 if classes == 1 else classes + 1
        if maps != expected:
            raise InputError(
                "The recipe's network does not fit the rest of it.",
                f"It gives {maps} logits a voxel; 'card.classes' names {classes}, for which {expected} are needed"
                + (" (the background's first)." if classes > 1 else "."),
                f"Set 'network.arguments.out_channels={expected}', or correct 'card.classes'.",
            )

    def lesion_logits(self, batch: Batch) -> Tensor:
        """(N, x, y, z) float32, of the averaged weights."""
        return named(self.averaged, self._input(batch))["lesion"].float().squeeze(1)

    def average(self) -> None:
        """Let the averaged weights follow the network's by a step, faster at first."""
        decay = min(self.recipe.ema_decay, (1 + self.averagings) / (10 + self.averagings))
        with torch.no_grad():
            for mine, theirs in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
                mine.lerp_(theirs, 1.0 - decay)
            for kept, now in zip(self.averaged.buffers(), self.network.buffers(), strict=True):
                kept.copy_(now)
        self.averagings += 1

    def forget_batches(self) -> None:
        """Take back what batches since the last whole step left in the normalisation."""
        with torch.no_grad():
            for now, kept in zip(self.network.buffers(), self.averaged.buffers(), strict=True):
                now.copy_(kept)

    def start_from(self, weights: Mapping[str, Tensor], averaged: Mapping[str, Tensor] | None = None) -> None:
        """Take weights, strictly: every name and shape must be the network's.

        Raises:
            ModelError: They do not fit.
        """
        load_state(self.network, weights)
        load_state(self.averaged, weights if averaged is None else averaged)

    def _input(self, batch: Batch) -> Tensor:
        if not self.recipe.channels_last or self._slices:
            return batch.channels
        return batch.channels.contiguous(memory_format=torch.channels_last_3d)
