"""Results as tables for a terminal: lesions, metrics, models."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import fields

from rich.table import Table

from strokeseg.lesions import Lesion
from strokeseg.metrics import Metrics
from strokeseg.models import ModelCard

_METRICS = (
    ("dice", "Dice", ""),
    ("iou", "IoU", ""),
    ("precision", "precision", ""),
    ("sensitivity", "sensitivity", ""),
    ("specificity", "specificity", ""),
    ("lesion_f1", "lesion F1", ""),
    ("lesion_precision", "lesion precision", ""),
    ("lesion_recall", "lesion recall", ""),
    ("rq", "recognition quality (IoU 0.25)", ""),
    ("pr_auc", "PR-AUC", ""),
    ("hd95_mm", "HD95", "mm"),
    ("assd_mm", "ASSD", "mm"),
    ("ahd_mm", "AHD", "mm"),
    ("nsd_2mm", "NSD at 2 mm", ""),
)


def lesion_table(lesions: Sequence[Lesion], volume_ml: float) -> Table:
    """The lesions, largest first."""
    title = f"{len(lesions)} lesion{'' if len(lesions) == 1 else 's'}, {volume_ml:.2f} ml together"
    if not lesions:
        title = "No lesion above the threshold was found. This does not exclude a stroke."
    table = Table(title=title, title_justify="left", show_header=bool(lesions))
    for name in ("#", "ml", "side", "centroid R, A, S (mm)", "ADC mean", "ADC min", "probability"):
        table.add_column(name)
    for x in lesions:
        place = ", ".join(f"{v:.1f}" for v in x.centroid_ras_mm)
        numbers = (_number(x.adc_mean, 2), _number(x.adc_min, 2), _number(x.probability_mean, 2))
        table.add_row(f"{x.label}{'*' if x.hint else ''}", f"{x.volume_ml:.3f}", x.side or "", place, *numbers)
    hints = [f"* {x.label}: {x.hint}" for x in lesions if x.hint]
    if hints:
        table.caption, table.caption_justify = "\n".join(hints), "left"
    return table


def metrics_table(metrics: Metrics) -> Table:
    """The figures against a reference; an empty reference has a table of its own."""
    empty = metrics.reference_voxels == 0
    table = Table(title=f"Against the reference ({metrics.outcome})", title_justify="left", show_header=False)
    table.add_row("reference", f"{metrics.reference_ml:.3f} ml in {metrics.reference_lesions} lesions")
    table.add_row("prediction", f"{metrics.prediction_ml:.3f} ml in {metrics.prediction_lesions} lesions")
    table.add_row("false positive", f"{metrics.false_positive_ml:.3f} ml in {metrics.lesion_false_positives} lesions")
    if empty:
        table.add_row("specificity", f"{metrics.specificity:.6f} ({metrics.domain})")
        table.add_row("all other figures", "not defined: the reference is empty")
        return table
    table.add_row("volume difference", f"{metrics.volume_difference_ml:+.3f} ml (absolute {metrics.avd_ml:.3f})")
    table.add_row("lesion count difference", str(metrics.ald))
    for name, title, unit in _METRICS:
        value = getattr(metrics, name)
        text = "not defined" if math.isnan(value) else f"{value:.4f} {unit}".strip()
        table.add_row(title, text)
    return table


def model_table(cards: Sequence[ModelCard]) -> Table:
    """The models at hand."""
    table = Table(title="Models at hand", title_justify="left")
    for name in ("name", "what it is", "needs", "may use", "status"):
        table.add_column(name)
    for card in cards:
        needs, may = (", ".join(r.upper() for r in roles) for roles in (card.required_roles, card.optional_roles))
        table.add_row(card.name, card.title, needs, may, card.status)
    return table


def card_text(card: ModelCard) -> str:
    """Everything a card says, a field a line."""
    lines = []
    for field in fields(card):
        if field.name == "folder":
            continue
        value = getattr(card, field.name)
        text = json.dumps(value, ensure_ascii=False, default=_plain) if not isinstance(value, str) else value
        lines.append(f"{field.name.replace('_', ' ')}: {text}")
    return "\n".join(lines)


def _plain(value: object) -> object:
    return {f.name: getattr(value, f.name) for f in fields(value)}  # type: ignore[arg-type]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
