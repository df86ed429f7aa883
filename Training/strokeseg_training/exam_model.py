"""A model folder as a predictor for the exam: the engine's own runtime on the channels of a sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import ModelError
from strokeseg.models import ModelCard, read_card
from strokeseg.predict.strategies import Tiling, slice_window, slices, unheard
from strokeseg.runtime import open_runtime
from strokeseg_training.channels import make_channels
from strokeseg_training.exam import Predictor, Settings
from strokeseg_training.sample import Sample


def open_predictor(folder: Path, device: str = "cpu") -> tuple[ModelCard, Predictor]:
    """A model's card, and what it says about a sample.

    Args:
        folder: The model folder.
        device: ``cpu``, ``cuda:N`` or ``mps``; results are compared on the CPU.

    Raises:
        ModelError: It is no model, or cannot be graded: it has several classes, or several thresholds.
        DependencyError: The device or the runtime is not there.
    """
    card = read_card(folder)
    if len(card.classes) != 1:
        raise ModelError(
            f"The model '{card.name}' cannot take the exam.",
            f"It has {len(card.classes)} classes, the exam asks for lesion or no lesion.",
            "Evaluate it on labelled cases instead.",
        )
    if card.decision.rule == "cascade":
        raise ModelError(
            f"The model '{card.name}' cannot take the exam.",
            f"Its cascade has {len(card.decision.steps) + 1} thresholds, the exam grades and sets a single one.",
            "Choose its thresholds with 'strokeseg-train cascade', and judge it with 'strokeseg-train evaluate'.",
        )
    runtime = open_runtime(card, device)

    def predict(sample: Sample) -> NDArray[np.float32]:
        refuse_other_spacing(card, sample.spacing_mm)
        batch = np.ascontiguousarray(make_channels(sample, card.preparation.channels).float().cpu().numpy())
        if card.strategy != "slices":
            return runtime.run(batch)["lesion"][:, 0]
        x, y, z = (int(n) for n in batch.shape[2:])
        tiling = Tiling(slice_window((x, y, z), card.input_shape), card.overlap)
        pairs = zip(batch, sample.brain.cpu().numpy() > 0, strict=True)
        return np.concatenate(
            [slices(runtime, image, brain, tiling, unheard)["lesion"][:, 0] for image, brain in pairs]
        )

    return card, predict


def refuse_other_spacing(card: ModelCard, spacing_mm: tuple[float, float, float]) -> None:
    """Refuse a model whose grid is another one: samples are not interpolated, the exam grades their own voxels.

    Args:
        card: The model's; where its spacing is 0 along an axis, or none, a sample's own is what the engine would take.
        spacing_mm: Of a sample.

    Raises:
        ModelError: It works on voxels of another size.
    """
    wanted = card.preparation.spacing_mm or (0.0, 0.0, 0.0)
    if not np.allclose([w or s for w, s in zip(wanted, spacing_mm, strict=True)], spacing_mm, rtol=2e-3):
        told = "x".join(f"{w:g}" if w else "own" for w in wanted)
        raise ModelError(
            f"The model '{card.name}' cannot take this exam.",
            f"It works on voxels of {told} mm, the exam's patients have {'x'.join(f'{s:g}' for s in spacing_mm)} mm.",
            "Choose the exam of the model's task, or evaluate the model on labelled cases.",
        )


def settings_of(card: ModelCard) -> Settings:
    """How a card turns logits into a mask."""
    return Settings(card.decision.threshold, card.temperature, card.minimum_lesion_ml, card.decision.peak)


def task_of(card: ModelCard) -> str:
    """Whose exam a model takes."""
    return "t1" if card.reference_role == "t1" else "dwi-adc"
