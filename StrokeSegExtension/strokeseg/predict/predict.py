"""`predict`: run a model by a strategy, bring its logits back to the scan once, and make probabilities of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.errors import MemoryLimitError
from strokeseg.events import Monitor
from strokeseg.models import ModelCard
from strokeseg.predict.ladder import with_less
from strokeseg.predict.mirroring import entropy, flipped, mean_logits
from strokeseg.predict.native import class_probabilities, cut_logits, tissue_labels
from strokeseg.predict.plan import Asked, Plan, choose_plan
from strokeseg.predict.strategies import Told, slices, whole, windows
from strokeseg.prepare import Prepared
from strokeseg.runtime import Logits, Runtime
from strokeseg.volume.resampling import lattice_step

# Cubic splines know all voxels, those n voxels away by 0.27^n: what lies further than this changes no logit by 1e-5.
_SPLINE_REACH_VOXELS = 12


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says about every voxel of the scan.

    Attributes:
        classes: float32 (K, x, y, z) on the scan's own grid, background first; sums to 1; background 1 outside the
            brain.
        strategy: How the model was run.
        reason: Why so, in words.
        runtime: What ran it; not the one that was given where its memory was not enough.
        uncertainty: Where asked for: entropy of `classes`, the mean over mirrored passes, 0 (sure) to 1. It says where
            the passes are undecided or disagree, not how uncertain the model is.
        tissue: uint8 (x, y, z), 0 background, 1 grey, 2 white, 3 fluid, where the model has that output.
    """

    classes: NDArray[np.float32]
    strategy: str
    reason: str
    runtime: Runtime
    uncertainty: NDArray[np.float32] | None = None
    tissue: NDArray[np.uint8] | None = None

    @property
    def probability(self) -> NDArray[np.float32]:
        """Probability of any lesion (x, y, z): one minus that of the background."""
        return 1.0 - self.classes[0] if len(self.classes) > 2 else self.classes[1]


def predict(
    prepared: Prepared,
    card: ModelCard,
    runtime: Runtime,
    monitor: Monitor,
    asked: Asked | None = None,
    *,
    on_cpu: Callable[[], Runtime] | None = None,
) -> Prediction:
    """Run the model.

    Args:
        prepared: The case as the model wants it.
        card: The model.
        runtime: What runs it.
        monitor: Hears progress and what was done when memory ran out; asked for a cancellation before every batch.
        asked: How the model is to be run; None: as its card says.
        on_cpu: Opens the model on the CPU, for when the memory of its device is not enough.

    Raises:
        ModelError: The model cannot be run by this strategy, or its output has the wrong form.
        InputError: The options contradict each other.
        MemoryLimitError: The memory is not enough, whatever was tried.
    """
    asked = asked or Asked()
    run = _Run(prepared, card, monitor, asked)
    plan = choose_plan(card, runtime, run.shape, asked)
    if plan.short_of_memory:
        monitor.warn("memory_short", f"The model '{card.name}' is run in parts: {plan.reason}.")
    while True:
        lesion = run.attempt(plan, runtime)
        if not isinstance(lesion, MemoryLimitError):
            break
        plan, runtime = _step_down(plan, runtime, run, lesion, on_cpu)
    classes = class_probabilities(lesion["lesion"], prepared, card)
    return Prediction(
        classes,
        plan.strategy,
        plan.reason,
        runtime,
        entropy(classes) if asked.uncertainty else None,
        tissue_labels(lesion["tissue"], prepared) if "tissue" in lesion else None,
    )


class _Run:
    """One case, ready to be run by one plan after the other until one fits."""

    def __init__(self, prepared: Prepared, card: ModelCard, monitor: Monitor, asked: Asked) -> None:
        self.prepared, self.card, self.monitor, self.asked = prepared, card, monitor, asked
        self.shape = prepared.model_grid.grid.shape
        self._mirrored = (False, True) if asked.tta or asked.uncertainty else (False,)
        self._wanted: NDArray[np.bool_] | None = None

    def attempt(self, plan: Plan, runtime: Runtime) -> Logits | MemoryLimitError:
        """Mean logits (K, x, y, z) on the model grid by output, or what was too large."""
        try:
            passes = [self._one_pass(plan, runtime, number) for number in range(len(self._mirrored))]
        except MemoryLimitError as error:
            # The frames of the failed pass hold what it computed, and with it the memory that the next one needs.
            error.__cause__ = error.__context__ = None
            return error.with_traceback(None)
        return {name: mean_logits([p[name] for p in passes]) for name in self.card.outputs}

    def _one_pass(self, plan: Plan, runtime: Runtime, number: int) -> Logits:
        mirrored = self._mirrored[number]
        channels = flipped(self.prepared.channels) if mirrored else self.prepared.channels
        told = self._told(number, runtime)
        if plan.tiling is None:
            outputs = whole(runtime, channels, told)
        else:
            strategy = slices if plan.strategy == "slices" else windows
            wanted = self._needed_voxels()
            wanted = wanted[::-1] if mirrored else wanted
            outputs = strategy(runtime, channels, wanted, plan.tiling, told)
        cut = {name: cut_logits(outputs, name, self.prepared, self.card) for name in self.card.outputs}
        return {name: flipped(logits) for name, logits in cut.items()} if mirrored else cut

    def _told(self, number: int, runtime: Runtime) -> Told:
        words = f"{runtime.name} on {runtime.device}"

        def told(done: int, total: int) -> None:
            self.monitor.progress(number * total + done, len(self._mirrored) * total, words)

        return told

    def _needed_voxels(self) -> NDArray[np.bool_]:
        """Voxels of the model grid on which a probability in the brain depends."""
        if self._wanted is None:
            grid = self.prepared.model_grid
            brain = grid.forward(self.prepared.brain.mask, interpolation="linear") > 0
            if lattice_step(grid.grid, grid.native) is None:
                brain = ndimage.maximum_filter(brain, size=2 * _SPLINE_REACH_VOXELS + 1)
            self._wanted = brain
        return self._wanted


def _step_down(
    plan: Plan, runtime: Runtime, run: _Run, error: MemoryLimitError, on_cpu: Callable[[], Runtime] | None
) -> tuple[Plan, Runtime]:
    """The next thing to try, said in a warning."""
    less = with_less(plan, run.card, run.shape, runtime.device, error)
    title = f"The memory of the device '{runtime.device}' was not enough"
    if less is not None:
        run.monitor.warn("memory_short", f"{title}; {less.reason}.")
        return less, runtime
    if runtime.device == "cpu" or on_cpu is None:
        raise error
    run.monitor.warn("memory_short", f"{title}; the model is run on the CPU.")
    opened = on_cpu()
    plan = choose_plan(run.card, opened, run.shape, run.asked)
    return Plan(plan.strategy, f"{title}; {plan.reason}", plan.tiling, short_of_memory=True), opened
