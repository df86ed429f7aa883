"""The files of a run as the scene wants them: arrays on a volume's grid, lesions as rows, the summary."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from slicer.i18n import tr as _

from strokeseg.errors import InputError
from strokeseg.lesions import Lesion

from .exchange import readLabelMap, readProbability
from .placement import ontoGridOf

MASK, PROBABILITY, UNCERTAINTY = "lesion_mask.nii.gz", "lesion_probability.nii.gz", "uncertainty.nii.gz"
_SUMMARY, _TABLE = "summary.json", "lesions.csv"


class ResultFiles:
    """Reads a result.

    Args:
        result: The worker's event ``result`` (``files``, ``summary``, ``lesions``), or the folder of a result.

    Raises:
        InputError: It is no complete result.
    """

    def __init__(self, result: Mapping[str, Any] | str | Path) -> None:
        if isinstance(result, Mapping):
            self._paths = {name: Path(path) for name, path in result["files"].items()}
            self._rows = result.get("lesions")
            summary = result.get("summary") or None
        else:
            folder = Path(result)
            self._paths = {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
            self._rows, summary = None, None
        self.summary: Mapping[str, Any] = self._readSummary() if summary is None else summary

    def has(self, name: str) -> bool:
        """Whether the result has a file."""
        return name in self._paths

    @property
    def midplane(self) -> tuple[tuple[float, ...], float]:
        """(normal, offset in mm) in the world of the run."""
        try:
            plane = self.summary["midplane"]
            return tuple(float(v) for v in plane["normal_ras"]), float(plane["offset_mm"])
        except (LookupError, TypeError, ValueError) as error:
            raise _damaged(_SUMMARY) from error

    def onGridOf(self, volumeNode: Any, name: str) -> NDArray[Any]:
        """A file's voxels (i, j, k) in the order of a volume node.

        Raises:
            InputError: The file is missing or damaged, or lies elsewhere.
        """
        if name not in self._paths:
            raise _damaged(name)
        array, affine = readLabelMap(self._paths[name]) if name == MASK else readProbability(self._paths[name])
        return ontoGridOf(volumeNode, array, affine)

    def lesions(self) -> list[Lesion]:
        """The table, largest lesion first."""
        try:
            if self._rows is not None:
                known = {f.name for f in fields(Lesion)}
                return [Lesion(**{k: _plain(v) for k, v in row.items() if k in known}) for row in self._rows]
            with self._paths[_TABLE].open(encoding="utf-8", newline="") as file:
                return [_ofCsv(row) for row in csv.DictReader(file)]
        except (OSError, LookupError, TypeError, ValueError) as error:
            raise _damaged(_TABLE) from error

    def _readSummary(self) -> Mapping[str, Any]:
        try:
            summary = json.loads(self._paths[_SUMMARY].read_text(encoding="utf-8"))
        except (OSError, LookupError, ValueError) as error:
            raise _damaged(_SUMMARY) from error
        if not isinstance(summary, dict) or "strokeseg_version" not in summary:
            raise _damaged(_SUMMARY)
        return summary


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _ofCsv(row: Mapping[str, str]) -> Lesion:
    def number(name: str) -> float | None:
        return float(row[name]) if row[name] else None

    def place(name: str) -> tuple[float, float, float]:
        return float(row[f"{name}_r_mm"]), float(row[f"{name}_a_mm"]), float(row[f"{name}_s_mm"])

    return Lesion(
        label=int(row["label"]),
        volume_ml=float(row["volume_ml"]),
        voxels=int(row["voxels"]),
        centroid_ras_mm=place("centroid"),
        side=row["side"] or None,
        extent_mm=place("extent"),
        adc_mean=number("adc_mean_1e-3_mm2_per_s"),
        adc_min=number("adc_min_1e-3_mm2_per_s"),
        adc_below_062_ml=number("adc_below_0.62_ml"),
        dwi_mean=number("dwi_mean"),
        probability_mean=number("probability_mean"),
        hint=row["hint"],
    )


def _damaged(name: str) -> InputError:
    return InputError(
        _("The result cannot be shown."),
        _("The file '{name}' of the run is missing or cannot be read.").format(name=name),
        _("Run again; the log may tell what happened to the file."),
    )
