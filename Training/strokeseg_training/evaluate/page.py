"""`render`: the page for people, one HTML file beside its pictures, without scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Template

from strokeseg.metrics import Statistic
from strokeseg.report.figures import number
from strokeseg.report.page import pages_of
from strokeseg_training.evaluate.tables import slice_groups

if TYPE_CHECKING:
    from strokeseg_training.evaluate.results import Results

_TEMPLATES = Path(__file__).parent / "templates"
_NAMES = {
    "dice": "Dice", "iou": "IoU", "sensitivity": "Sensitivity", "specificity": "Specificity",
    "precision": "Precision", "accuracy": "Accuracy", "mcc": "MCC", "pr_auc": "PR-AUC",
    "avd_ml": "Absolute volume difference (ml)", "volume_difference_ml": "Volume difference (ml)",
    "false_positive_ml": "False-positive volume (ml)", "ald": "Difference in number of lesions",
    "lesion_f1": "Lesion F1", "lesion_precision": "Lesion precision", "lesion_recall": "Lesion recall",
    "rq": "Recognition quality (IoU ≥ 0.25)", "hd95_mm": "HD95 (mm)", "assd_mm": "ASSD (mm)", "ahd_mm": "AHD (mm)",
    "nsd_2mm": "NSD at 2 mm", "lesion_false_positives": "False lesions",
}  # fmt: skip
_FIVE_DIGITS = ("specificity", "accuracy")
_PATIENT = ("dice", "reference_ml", "prediction_ml", "false_positive_ml", "lesion_f1", "hd95_mm", "assd_mm")


def render(results: Results, pictures: Mapping[str, str], figures: Sequence[str], files: Sequence[str]) -> str:
    """The page.

    Args:
        results: Of the evaluation.
        pictures: Patient to the path of his panel.
        figures: Paths of the figures.
        files: Paths of all result files; paths are relative to the page, with ``/``.
    """
    classes = [
        {"name": "any lesion" if name == "any" else name, "key": name, "summary": summary, "groups": _groups(summary)}
        for name, summary in results.tables.items()
    ]
    return _template().render(
        results=results,
        facts=results.facts,
        classes=classes,
        slices=slice_groups(results.records),
        patient_figures=[(key, _NAMES.get(key, key.replace("_ml", " (ml)").replace("_", " "))) for key in _PATIENT],
        pictures=pictures,
        figures=figures,
        files=files,
        names=_NAMES,
    )


def _groups(summary: Any) -> list[tuple[str, Any]]:
    return [
        ("all patients", summary.all_cases),
        ("patients with a lesion", summary.lesion_positive),
        ("patients without lesion", summary.reference_empty),
        *((f"lesion volume {name}", table) for name, table in summary.by_volume.items()),
    ]


def _printed(key: str, value: float) -> str:
    return number(value, 5 if key in _FIVE_DIGITS else 3)


def _interval(key: str, statistic: Statistic, which: str) -> str:
    bounds = getattr(statistic, f"{which}_interval")
    return "" if bounds is None else f"{_printed(key, bounds[0])} to {_printed(key, bounds[1])}"


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = pages_of(_TEMPLATES)
    environment.filters.update(printed=lambda value, key: _printed(key, value))
    environment.globals.update(interval=_interval)
    return environment.get_template("evaluation.html.j2")
