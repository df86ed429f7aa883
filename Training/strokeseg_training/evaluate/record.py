"""`Record`: one patient's figures on the grid of his scan, for any lesion and for each class; to JSON and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import InputError
from strokeseg.metrics import Metrics, SliceStratum, evaluate_masks, slices_by_lesion_fraction
from strokeseg.metrics.lesionwise import SizeRecall
from strokeseg.models import ModelCard
from strokeseg.segmentation import Segmentation
from strokeseg.volume import Grid, resample_mask

ANY = "any"
"""All classes together: what is lesion at all."""


@dataclass(frozen=True)
class Record:
    """A patient who was judged.

    Attributes:
        patient: His id.
        person: Who he is.
        centre: Where he was examined, or "".
        metrics: `ANY`, and the names of classes where there are several, to figures; background is no class.
        slices: Of any lesion, axial slices by their share of lesion.
        spacing_mm: Of his scan.
        warnings: What the engine said.
        run: Runtime, device and precision.
    """

    patient: str
    person: str
    centre: str
    metrics: Mapping[str, Metrics]
    slices: tuple[SliceStratum, ...]
    spacing_mm: tuple[float, float, float]
    warnings: tuple[str, ...]
    run: Mapping[str, Any]

    @property
    def any(self) -> Metrics:
        """Of any lesion."""
        return self.metrics[ANY]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: None for NaN."""
        return {
            "patient": self.patient,
            "person": self.person,
            "centre": self.centre,
            "metrics": {name: m.to_dict() for name, m in self.metrics.items()},
            "slices": [{**vars(s), "mean_dice": None if math.isnan(s.mean_dice) else s.mean_dice} for s in self.slices],
            "spacing_mm": list(self.spacing_mm),
            "warnings": list(self.warnings),
            "run": dict(self.run),
        }

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Record:
        """The record that `to_dict` was made of."""
        x, y, z = data["spacing_mm"]
        return cls(
            data["patient"],
            data["person"],
            data["centre"],
            {name: _metrics(m) for name, m in data["metrics"].items()},
            tuple(
                SliceStratum(**{**s, "mean_dice": math.nan if s["mean_dice"] is None else s["mean_dice"]})
                for s in data["slices"]
            ),
            (x, y, z),
            tuple(data["warnings"]),
            data["run"],
        )


def judged_classes(card: ModelCard, names: Sequence[str]) -> tuple[str, ...]:
    """Names of the classes that model and data set both tell apart; empty: lesion or not is all.

    Args:
        card: Of the model.
        names: Of the data set's classes, in order of their values.

    Raises:
        InputError: Both have several, and not as many.
    """
    if len(names) == 1 or len(card.classes) == 1:
        return ()
    if len(card.classes) != len(names):
        raise InputError(
            "The model's classes are not those of the data set.",
            f"The model '{card.name}' has {len(card.classes)} ({', '.join(c.name for c in card.classes)}), the "
            f"recipe {len(names)} ({', '.join(names)}).",
            "Choose the recipe that the model was trained by.",
        )
    return tuple(names)


def labels_on(labels: NDArray[np.uint8], source: Grid, target: Grid) -> NDArray[np.uint8]:
    """Reference labels (x, y, z) on the grid of the segmentation; the same array where the grids are one."""
    return labels if source.matches(target, tolerance_mm=0.01) else resample_mask(labels, source, target)


def compare(result: Segmentation, labels: NDArray[np.uint8], classes: Sequence[str]) -> dict[str, Metrics]:
    """Figures of any lesion and of each class, on the grid of the segmentation.

    Args:
        result: Of the engine.
        labels: (x, y, z) on its grid: the value of a class, 0 for background.
        classes: Names, where model and data set tell several apart; else empty.
    """
    found = {
        ANY: evaluate_masks(
            result.mask > 0, labels > 0, result.affine, probability=result.probability, brain=result.brain
        )
    }
    for value, name in enumerate(classes, start=1):
        found[name] = evaluate_masks(
            result.mask == value,
            labels == value,
            result.affine,
            probability=result.class_probabilities[value],
            brain=result.brain,
        )
    return found


def compare_slices(result: Segmentation, labels: NDArray[np.uint8]) -> tuple[SliceStratum, ...]:
    """Axial slices of any lesion in groups by their share of it; no figure of the volume comes from them."""
    return slices_by_lesion_fraction(result.mask > 0, labels > 0, result.brain, result.affine)


def _metrics(data: Mapping[str, Any]) -> Metrics:
    values: dict[str, Any] = {f.name: data[f.name] for f in fields(Metrics) if f.name != "recall_by_size"}
    recall = tuple(SizeRecall(s["stratum"], s["lesions"], s["found"]) for s in data["recall_by_size"])
    numbers: dict[str, Any] = {k: math.nan if v is None else v for k, v in values.items()}
    return Metrics(**numbers, recall_by_size=recall)
