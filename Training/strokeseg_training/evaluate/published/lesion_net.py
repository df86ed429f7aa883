"""Lesion-Net's files: a table of metrics as text, the course of training as CSV and curve, predictions slice by slice.

Its table has DSC, IoU, HD95 and ASD of whole volumes. Here they are those of patients with a lesion, distances in mm;
patients without lesion, and those without any prediction, have lines of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from strokeseg.metrics import CohortSummary
from strokeseg.report.plane import axial_cut, to_canonical
from strokeseg.volume import read_volume
from strokeseg_training.evaluate import charts
from strokeseg_training.evaluate.logs import TrainingRun
from strokeseg_training.evaluate.published import Work
from strokeseg_training.evaluate.record import ANY
from strokeseg_training.evaluate.tables import to_csv
from strokeseg_training.prepare.storage import write_text

_FIGURES = (
    ("DSC[%]", "dice", 100.0),
    ("IoU[%]", "iou", 100.0),
    ("HD95[mm]", "hd95_mm", 1.0),
    ("ASD[mm]", "assd_mm", 1.0),
)


def write(work: Work) -> list[Path]:
    """All files.

    Raises:
        OSError: One cannot be written.
    """
    metrics = work.folder / f"{work.results.facts['side']}_metrics.txt"
    write_text(metrics, "\n".join([*_head(work), "", *_table(work)]) + "\n")
    return [metrics, *(_course(work.run, work) if work.run is not None else ()), *_slices(work)]


def _head(work: Work) -> Iterator[str]:
    card, run = work.results.card, work.run
    yield f"Experiment: {card.origin.get('recipe', card.name)}"
    yield f"Model: {card.name} {card.version}, network {card.network}"
    if run is not None:
        recipe = run.recipe
        yield f"Batch size: {recipe.batch * recipe.accumulation}"
        yield f"Epochs: {len(run.epochs)} (validations), {int(max(run.train['step'], default=0))} steps"
        yield f"Learning rate: {recipe.optimiser.lr:g}"
        yield f"AMP: {recipe.precision if recipe.precision != 'fp32' else 'off'}"
    devices = sorted({str(r.run["device"]) for r in work.results.records})
    yield f"Device: {', '.join(devices)}"
    for name, value in work.results.hashes.items():
        yield f"{name}: {value}"
    yield f"Seen: {work.results.seen.sentence}"


def _table(work: Work) -> Iterator[str]:
    records, summary = work.results.records, work.results.tables[ANY]
    slices = sum(s.slices for r in records for s in r.slices)
    yield f"slices: {slices}, patients: {len(records)}, failed: {len(work.results.failed)}"
    yield "group\tpatients\t" + "\t".join(name for name, _, _ in _FIGURES)
    yield _line("with lesion", summary)
    empty = summary.reference_empty
    false = empty.statistics["false_positive_ml"]
    yield f"without lesion: {empty.patients} patients, false-positive volume {_number(false.mean)} ml (mean)"
    yield f"nothing predicted: {summary.without_distances} of those with lesion; Dice 0, no distance"


def _line(group: str, summary: CohortSummary) -> str:
    table = summary.lesion_positive
    cells = []
    for _, key, factor in _FIGURES:
        s = table.statistics[key]
        bounds = "" if s.mean_interval is None else " [" + ", ".join(_number(v * factor) for v in s.mean_interval) + "]"
        cells.append(f"{_number(s.mean * factor)}{bounds} (n={s.patients})")
    return "\t".join([group, str(table.patients), *cells])


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _course(run: TrainingRun, work: Work) -> list[Path]:
    """The training, an epoch a row; what the log does not hold stays empty."""
    columns = ("epoch", "G1_train_loss", "G1_val_loss", "G1_3d_dsc", "step")
    rows = [
        (
            e.number,
            _cell(e.train.get("loss", math.nan)),
            _cell(e.validation.get("loss", math.nan)),
            _cell(100 * e.validation.get("dice", math.nan)),
            e.step,
        )
        for e in run.epochs
    ]
    path = work.folder / "loss_metrics.csv"
    write_text(path, to_csv(columns, rows))
    figure = charts.two_scales(run.train, run.validation, "dice", "Loss, and Dice of whole volumes in validation")
    return [path, charts.save(figure, work.folder / "G1_train_val_loss_and_3d_dsc.png", work.results.note)]


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def _slices(work: Work) -> list[Path]:
    """Every axial slice of every prediction on the scan's own grid: 255 is lesion, front at the top, R at the left."""
    place = work.folder / "segmentation_outputs" / "evaluation"
    place.mkdir(parents=True, exist_ok=True)
    for record in work.results.records:
        volume = read_volume(work.place.prediction(record.patient), role="reference")
        mask, _ = to_canonical(np.asarray(volume.array) > 0, volume.affine)
        for index in range(mask.shape[2]):
            cut = axial_cut(mask, index, (slice(None), slice(None)))
            picture = Image.fromarray(np.where(cut, 255, 0).astype(np.uint8))
            picture.save(place / f"{record.patient}_{index + 1:03d}.png", compress_level=3)
    return [place]
