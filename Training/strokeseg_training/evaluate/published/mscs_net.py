"""MSCS-Net's files: figures of the lesion alone, with the average Hausdorff distance in mm, and curves of the training.

The overlay of found, false and missed voxels is the panel of each patient: all of them are shown, as they are.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from strokeseg_training.evaluate import charts
from strokeseg_training.evaluate.logs import TrainingRun
from strokeseg_training.evaluate.published import Work
from strokeseg_training.evaluate.record import ANY
from strokeseg_training.evaluate.tables import HASHES, to_csv
from strokeseg_training.prepare.storage import to_json, write_text

_FIGURES = {"lesion_dice": "dice", "lesion_iou": "iou", "precision": "precision", "recall": "sensitivity",
            "accuracy": "accuracy", "ahd_mm": "ahd_mm"}  # fmt: skip
# What the original's curves show beside Dice, and what the columns of a log may call it.
_CURVES = {"accuracy": ("accuracy",), "IoU": ("iou",), "precision": ("precision",), "recall": ("sensitivity", "recall")}


def write(work: Work) -> list[Path]:
    """All files.

    Raises:
        OSError: One cannot be written.
    """
    results = work.results
    rows = [
        [r.patient, r.any.outcome, *(_cell(getattr(r.any, key)) for key in _FIGURES.values()),
         r.any.true_positive_voxels, r.any.false_positive_voxels, r.any.false_negative_voxels,
         *results.hashes.values()]
        for r in results.records
    ]  # fmt: skip
    table, means = work.folder / "lesion_metrics.csv", work.folder / "lesion_metrics.json"
    columns = ["patient", "outcome", *_FIGURES, "tp_voxels", "fp_voxels", "fn_voxels", *HASHES]
    write_text(table, to_csv(columns, rows))
    write_text(means, to_json(_means(work)))
    written = [table, means]
    curves = None if work.run is None else _curves(work.run)
    if curves is not None:
        written.append(charts.save(curves, work.folder / "training_curves.png", results.note))
    return written


def _means(work: Work) -> dict[str, Any]:
    """Over the patients with a lesion; background is no part of any."""
    statistics = work.results.to_dict(work.loss)["tables"][ANY]["lesion_positive"]["statistics"]
    return {"about": work.results.about, "lesion_positive": {name: statistics[key] for name, key in _FIGURES.items()}}


def _curves(run: TrainingRun) -> Figure | None:
    """A view for each figure that the log holds; None where it holds none."""
    views = {}
    for title, names in _CURVES.items():
        lines = {
            name: (columns["step"], columns[key])
            for name, columns in (("training", run.train), ("validation", run.validation))
            for key in names
            if key in columns
        }
        if lines:
            views[title] = lines
    # In the log of a training, 'dice' is a term of the loss.
    if dice := run.curves("dice"):
        views["Dice"] = dice
    if not views:
        return None
    figure = Figure(figsize=(max(2.8 * len(views), 4.2), 3.2), layout="constrained")
    for axes, (title, lines) in zip(figure.subplots(1, len(views), squeeze=False)[0], views.items(), strict=True):
        charts.draw_lines(axes, lines)
        axes.set(title=title, xlabel="step", ylim=(0, 1))
        axes.legend(fontsize=8, frameon=False)
        axes.grid(visible=True, linewidth=0.4, alpha=0.5)
    return figure


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"
