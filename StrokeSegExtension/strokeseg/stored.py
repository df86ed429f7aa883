"""A result folder read back: the report is rendered again from its files. Imports `report`, `results` and `errors`."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from strokeseg.errors import InputError
from strokeseg.report import render_page
from strokeseg.results import SUMMARY, require_result


def render_stored(folder: Path) -> str:
    """The HTML page of a result folder.

    Raises:
        InputError: The folder is no complete result, a file in it is damaged, or a run is writing there.
    """
    require_result(folder)
    summary = _json(folder / SUMMARY)
    metrics = _json(folder / "metrics.json") if (folder / "metrics.json").exists() else None
    try:
        picture = (folder / "overlay.png").read_bytes()
        with (folder / "lesions.csv").open(encoding="utf-8", newline="") as file:
            rows = [_lesion(row) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError) as error:
        raise _damaged(folder, "lesions.csv or overlay.png") from error
    return render_page(summary, rows, overlay_png=picture, metrics=metrics)


def _lesion(row: dict[str, str]) -> dict[str, Any]:
    """A line of lesions.csv as the report wants it."""

    def number(name: str) -> float | None:
        return float(row[name]) if row[name] else None

    def triple(name: str) -> list[float | None]:
        return [number(f"{name}_{axis}_mm") for axis in "ras"]

    return {
        "label": int(row["label"]),
        "voxels": int(row["voxels"]),
        "volume_ml": number("volume_ml"),
        "centroid_ras_mm": triple("centroid"),
        "extent_mm": triple("extent"),
        "side": row["side"] or None,
        "adc_mean": number("adc_mean_1e-3_mm2_per_s"),
        "adc_min": number("adc_min_1e-3_mm2_per_s"),
        "adc_below_062_ml": number("adc_below_0.62_ml"),
        "dwi_mean": number("dwi_mean"),
        "probability_mean": number("probability_mean"),
        "hint": row["hint"],
    }


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path.parent, path.name) from error


def _damaged(folder: Path, name: str) -> InputError:
    return InputError(
        f"The result '{folder.name}' is damaged.", f"{name} is missing or cannot be read.", "Segment the case again."
    )
