"""`make_arrays`: one patient's arrays on the model's grid, through the engine's own `prepare`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.errors import InputError
from strokeseg.events import Monitor
from strokeseg.models import ModelCard
from strokeseg.prepare import prepare
from strokeseg.volume import Grid
from strokeseg_training.prepare.align import align
from strokeseg_training.prepare.align_picture import draw_alignment
from strokeseg_training.prepare.reading import PatientVolumes
from strokeseg_training.recipe_data import Axis, Datasets

AXES: dict[Axis, int] = {"sagittal": 0, "coronal": 1, "axial": 2}
_NEIGHBOURS = np.ones((3, 3, 3), dtype=int)


@dataclass(frozen=True, eq=False)
class PatientArrays:
    """What a network is trained on.

    Args:
        channels: float16 or float32 (C, x, y, z), 0 outside the brain.
        labels: uint8 (x, y, z).
        brain: uint8 (x, y, z), 1 in the brain.
        grid: Of all of them, axes closest to right, front and top.
        facts: Counts and notes, JSON data.
        picture: PNG of the patient before and after the alignment, where it was asked for.
    """

    channels: NDArray[Any]
    labels: NDArray[np.uint8]
    brain: NDArray[np.uint8]
    grid: Grid
    facts: dict[str, Any]
    picture: bytes | None = None


def make_arrays(
    volumes: PatientVolumes, card: ModelCard, data: Datasets, monitor: Monitor, *, picture: bool = False
) -> PatientArrays:
    """Prepare a patient as the engine does before it runs the model.

    Args:
        volumes: The patient, read.
        card: Of the recipe.
        data: Classes and the type of the channels.
        monitor: Asked for a cancellation.
        picture: Draw one.

    Raises:
        InputError: The engine refuses the patient, or a channel does not fit the type.
        Cancelled: The monitor said so.
    """

    def cancelled() -> bool:
        monitor.check()
        return False

    inner = Monitor(cancelled=cancelled)
    prepared = prepare(volumes.case, card, inner, register=data.registration)
    aligned = align(prepared, volumes.labels, data.frame)
    grid, brain, moved = aligned.grid, aligned.brain, aligned.labels
    with np.errstate(over="ignore"):
        channels = aligned.channels.astype(data.dtype)
    if not np.isfinite(channels).all():
        bad = [n for n, c in zip(card.preparation.channels, channels, strict=True) if not np.isfinite(c).all()]
        raise InputError(
            "A channel cannot be stored.",
            f"'{bad[0]}' holds values that are no numbers in {data.dtype}.",
            "Use --set datasets.dtype=float32, or look at the patient's images.",
        )
    notes = [*volumes.notes, *(w.message for w in inner.warnings)]
    if data.registration:
        notes += prepared.corrected.assumptions
    if moved.lost:
        notes.append(f"{moved.lost} lesions lie outside of the model's grid.")
    facts = {
        "shape": list(grid.shape),
        "affine": [[float(v) for v in row] for row in grid.affine],
        "classes": _classes(volumes, moved.labels, data),
        "rescued_lesions": moved.rescued,
        "lost_lesions": moved.lost,
        "lesion_voxels_outside_brain": int(np.count_nonzero(moved.labels.astype(bool) & (brain == 0))),
        "planes": {axis: _planes(brain, moved.labels, number) for axis, number in AXES.items()},
        "notes": notes,
    }
    drawn = None
    if picture:
        drawn = draw_alignment(volumes.case.name, volumes.case.volumes, volumes.labels, prepared, aligned)
    return PatientArrays(channels, moved.labels, brain, grid, facts, drawn)


def _classes(volumes: PatientVolumes, labels: NDArray[np.uint8], data: Datasets) -> dict[str, dict[str, Any]]:
    """Class to what there is of it: lesions and ml on the scan's own grid, voxels and slices on the model's."""
    found = {}
    for value, kind in enumerate(data.classes, start=1):
        native, own = volumes.labels == value, labels == value
        found[kind.name] = {
            "lesions": int(ndimage.label(native, _NEIGHBOURS)[1]),
            "ml": round(float(np.count_nonzero(native)) * volumes.grid.voxel_ml, 6),
            "voxels": int(np.count_nonzero(own)),
            "slices": {a: int(own.any(axis=_others(n)).sum()) for a, n in AXES.items()},
        }
    return found


def _planes(brain: NDArray[np.uint8], labels: NDArray[np.uint8], axis: int) -> dict[str, list[int]]:
    """First and last plane with brain, and all planes with a lesion, along an axis."""
    inside = np.flatnonzero(brain.any(axis=_others(axis)))
    lesion = np.flatnonzero(labels.any(axis=_others(axis)))
    return {"brain": [int(inside[0]), int(inside[-1])] if inside.size else [], "lesion": [int(n) for n in lesion]}


def _others(axis: int) -> tuple[int, ...]:
    return tuple(a for a in range(3) if a != axis)
