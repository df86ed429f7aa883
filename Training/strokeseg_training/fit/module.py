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
from strokeseg_training.fit.batches import Batch
from strokeseg_training.losses import LossTerms
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

    Raises:
        InputError: Recipe and network do not fit.
        ModelError: The network cannot be built.
    """

    def __init__(self, recipe: Recipe, first_batch: int = 0, warm_up: int = 0) -> None:
        super().__init__()
        self.recipe = recipe
        self.batch_number = first_batch
        self.averagings = 0
        self._first_step, self._warm_up = first_batch // recipe.accumulation, warm_up
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.network: nn.Module = build(recipe.network.name, **recipe.network.arguments)
        _refuse_misfit(self.network, recipe)
        if recipe.channels_last:
            self.network = self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # torch's stubs know four axes only
        self.averaged = copy.deepcopy(self.network).eval().requires_grad_(requires_grad=False)
        spacing = recipe.preparation.spacing_mm
        self._terms = [LossTerms(stage.loss, spacing) for stage in recipe.stages]

    @property
    def step(self) -> int:
        """Steps of the recipe that are done."""
        return self.batch_number // self.recipe.accumulation

    def learning_rate(self, step: int) -> float:
        """Of a step, from 0."""
        schedule = self.recipe.schedule
        rate = self.recipe.optimiser.lr * (1.0 - step / self.recipe.steps) ** schedule.power
        if schedule.warm_up:
            rate *= min(1.0, (step + 1) / schedule.warm_up)
        if self._warm_up:
            rate *= min(1.0, (step + 1 - self._first_step) / self._warm_up)
        return rate

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; its rate is set before each batch."""
        o = self.recipe.optimiser
        return torch.optim.AdamW(
            self.network.parameters(), lr=self.learning_rate(self.step), betas=o.betas, weight_decay=o.weight_decay
        )

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
        logits = named(network, self._input(batch))
        with torch.autocast(batch.channels.device.type, enabled=False):
            return self._terms[self.recipe.stage_at(step)](logits, batch.target)

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

    def start_from(self, weights: Mapping[str, Tensor], averaged: Mapping[str, Tensor] | None = None) -> None:
        """Take weights, strictly: every name and shape must be the network's.

        Raises:
            ModelError: They do not fit.
        """
        load_state(self.network, weights)
        load_state(self.averaged, weights if averaged is None else averaged)

    def _input(self, batch: Batch) -> Tensor:
        if not self.recipe.channels_last:
            return batch.channels
        return batch.channels.contiguous(memory_format=torch.channels_last_3d)


def _refuse_misfit(network: nn.Module, recipe: Recipe) -> None:
    form, preparation = form_of(network), recipe.preparation
    title = "The recipe's network does not fit the rest of it."
    if form.in_channels != len(preparation.channels):
        raise InputError(
            title,
            f"It takes {form.in_channels} channels, 'preparation.channels' names {len(preparation.channels)}.",
            f"Set 'network.arguments.in_channels={len(preparation.channels)}', or correct the channels.",
        )
    if preparation.multiple % form.multiple:
        raise InputError(
            title,
            f"Its input must be a multiple of {form.multiple} along each axis; crops are padded to multiples of "
            f"{preparation.multiple}.",
            f"Set 'preparation.multiple={form.multiple}'.",
        )
    if any(stage.loss.tissue.weight for stage in recipe.stages) and "tissue" not in form.outputs:
        raise InputError(
            title,
            "'loss.tissue' has a weight, and the network has no output 'tissue'.",
            "Set 'network.arguments.tissue=true' or 'loss.tissue=0'.",
        )
    if any(not stage.loss.weights for stage in recipe.stages):
        raise InputError(
            "The recipe has no loss.", "Every term has the weight 0.", "Give one a weight, e.g. 'loss.dice=1'."
        )
