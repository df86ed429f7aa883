"""The 3D attention U-Net's files: results of a batch and history of a training as JSON, and its figures.

Keys are the original's. A figure that has no value is null and is no part of an average: `avg_patients` counts those
that have one. The original erased predictions where the reference was empty and counted that as `gt_zero_corrections`;
here a reference changes no prediction, so that it is always 0. Volumes are mm³ of the scan.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from strokeseg.metrics import Metrics
from strokeseg_training.evaluate import charts
from strokeseg_training.evaluate.logs import Epoch, TrainingRun
from strokeseg_training.evaluate.published import Work
from strokeseg_training.evaluate.record import Record
from strokeseg_training.prepare.storage import to_json, write_text

_KEYS = {"dice_score": "dice", "iou_score": "iou", "sensitivity": "sensitivity", "specificity": "specificity",
         "precision": "precision"}  # fmt: skip
# What the original calls the terms of its loss, and what a log does.
_TERMS = {"loss": "loss", "tversky": "focal_tversky", "boundary": "boundary"}


def write(work: Work) -> list[Path]:
    """All files.

    Raises:
        OSError: One cannot be written.
    """
    results, folder = work.results, work.folder
    path = folder / "batch_inference_results.json"
    write_text(path, to_json(batch_results(results.records, [f.patient for f in results.failed], results.about)))
    figures = {
        "performance_analysis": charts.performance(results.records),
        "performance_tiers": charts.tier_bars(results.records),
        "performance_vs_lesion_size": charts.by_size(results.records),
        "distribution_comparison": charts.distributions(results.records),
    }
    written = [path]
    if work.run is not None:
        history = folder / "complete_training_history.json"
        write_text(history, to_json(training_history(work.run, results.hashes)))
        written.append(history)
        figures |= _curves(work.run)
    return written + [charts.save(f, folder / f"{name}.png", results.note) for name, f in figures.items()]


def batch_results(records: Sequence[Record], failed: Sequence[str], about: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``batch_inference_results.json``.

    Args:
        records: Patients who were judged.
        failed: Ids of those whom the engine refused.
        about: What was judged by what.
    """
    ill = [r for r in records if r.any.reference_voxels]
    names = sorted([*(r.patient for r in records), *failed])
    rows = [*(_row(names.index(r.patient) + 1, r) for r in records)]
    rows += [
        {"patient_num": names.index(n) + 1, "patient_id": n, **dict.fromkeys([*_KEYS, "lesion_volume"]),
         "is_gt_zero_case": None, "gt_volume": None, "success": False}
        for n in failed
    ]  # fmt: skip
    short = {key: key.removesuffix("_score") for key in _KEYS}
    return {
        "about": dict(about),
        "volume_unit": "mm3",
        "total_patients": len(names),
        "successful": len(records),
        "failed": len(failed),
        **{f"avg_{key}": _mean([getattr(r.any, name) for r in records]) for key, name in _KEYS.items()},
        "avg_patients": {key: _valued([getattr(r.any, name) for r in records]) for key, name in _KEYS.items()},
        **{f"gt_positive_avg_{short[key]}": _mean([getattr(r.any, n) for r in ill]) for key, n in _KEYS.items()},
        "gt_positive_patients": len(ill),
        "gt_zero_avg_false_positive_volume": _mean(
            [1000 * r.any.false_positive_ml for r in records if not r.any.reference_voxels]
        ),
        "gt_zero_corrections": 0,
        "results": sorted(rows, key=lambda row: row["patient_num"]),
    }


def _row(number: int, record: Record) -> dict[str, Any]:
    m: Metrics = record.any
    return {
        "patient_num": number,
        "patient_id": record.patient,
        **{key: _value(getattr(m, name)) for key, name in _KEYS.items()},
        "lesion_volume": 1000 * m.prediction_ml,
        "is_gt_zero_case": m.reference_voxels == 0,
        "gt_volume": 1000 * m.reference_ml,
        "success": True,
    }


def training_history(run: TrainingRun, hashes: Mapping[str, str]) -> dict[str, Any]:
    """The content of ``complete_training_history.json``; null for what the log does not hold.

    ``val_dice`` is that of whole volumes, ``train_dice`` the soft one of batches: only a loss with Dice has it.
    The original's times of day are left out: the same run gives the same file.
    """
    epochs = run.epochs
    scores = [(e.validation["dice"], e.number) for e in epochs if not math.isnan(e.validation.get("dice", math.nan))]
    return {
        "hashes": dict(hashes),
        "config": run.recipe.as_data(),
        "best_dice": max(scores)[0] if scores else None,
        "total_epochs": len(epochs),
        "epochs": [_epoch(e, epochs[n - 1] if n else None) for n, e in enumerate(epochs)],
    }


def _epoch(epoch: Epoch, before: Epoch | None) -> dict[str, Any]:
    def value(columns: Mapping[str, float], name: str) -> float | None:
        return _value(columns.get(name, math.nan))

    def change(name: str) -> float | None:
        if before is None:
            return None
        return _value(epoch.validation.get(name, math.nan) - before.validation.get(name, math.nan))

    per_step = epoch.train.get("seconds_per_step", math.nan)
    return {
        "epoch": epoch.number,
        "step": epoch.step,
        **{f"train_{name}": value(epoch.train, column) for name, column in _TERMS.items()},
        "train_dice": _value(epoch.soft_dice),
        **{f"val_{name}": value(epoch.validation, column) for name, column in _TERMS.items()},
        "val_dice": value(epoch.validation, "dice"),
        "learning_rate": value(epoch.train, "learning_rate"),
        "epoch_time": _value(per_step * (epoch.step - (before.step if before else 0))),
        "val_dice_change": change("dice"),
        "val_loss_change": change("loss"),
        "train_dice_change": None if before is None else _value(epoch.soft_dice - before.soft_dice),
        "validation_type": "whole volumes, mean over patients with a lesion",
    }


def _curves(run: TrainingRun) -> dict[str, Any]:
    train, scores = run.train, run.validation
    found = {}
    losses = {"training": (train["step"], train["loss"])}
    if "loss" in scores:
        losses["validation"] = (scores["step"], scores["loss"])
    found["training_loss"] = charts.curves(losses, "loss", title="Loss")
    if "dice" in scores:
        known = [(d, s) for d, s in zip(scores["dice"], scores["step"], strict=True) if not math.isnan(d)]
        best = (max(known)[1], max(known)[0]) if known else None
        lines = {"validation": (scores["step"], scores["dice"])}
        found["training_dice"] = charts.curves(lines, "Dice", title="Dice of whole volumes in validation", best=best)
    if "learning_rate" in train:
        lines = {"learning rate": (train["step"], train["learning_rate"])}
        found["learning_rate_schedule"] = charts.curves(lines, "learning rate", title="Learning rate", log=True)
    return found


def _value(number: float) -> float | None:
    return None if math.isnan(number) else number


def _mean(values: Sequence[float]) -> float | None:
    known = [v for v in values if not math.isnan(v)]
    return math.fsum(known) / len(known) if known else None


def _valued(values: Sequence[float]) -> int:
    return sum(not math.isnan(v) for v in values)
