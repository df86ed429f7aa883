"""`Segmentation`: what was found in a case, its picture, and its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.events import Monitor
from strokeseg.lesions import Lesion, lesions_csv, total_volume_ml
from strokeseg.models import ModelCard
from strokeseg.report import draw_overlay, render_page, title_lines
from strokeseg.results import SUMMARY, writing
from strokeseg.volume import Affine, Grid, write_nifti

if TYPE_CHECKING:
    from strokeseg.metrics import Metrics


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a model found in a case, on the grid of the reference scan.

    Attributes:
        mask: uint8 (x, y, z); labels are the card's classes, 0 is background.
        probability: float32 (x, y, z), probability of any lesion; a soft score for the threshold rule.
        class_probabilities: float32 (K, x, y, z), background first.
        affine: 4x4, voxel index to RAS mm.
        lesions: One row a lesion, largest first.
        warnings: What the reader must know, in sentences.
        timing: Stage to seconds.
        summary: What summary.json will hold.
        uncertainty: float32 (x, y, z), where asked for: entropy of the mean over mirrored passes, 0 to 1; it is not the
            model's uncertainty.
        tissue: uint8 (x, y, z), where the model gives it: 0 background, 1 grey, 2 white, 3 fluid.
    """

    mask: NDArray[np.uint8]
    probability: NDArray[np.float32]
    class_probabilities: NDArray[np.float32]
    affine: Affine
    lesions: list[Lesion]
    warnings: list[str]
    timing: dict[str, float]
    summary: dict[str, Any]
    images: dict[str, NDArray[np.float32]]
    brain: NDArray[np.bool_]
    card: ModelCard
    run: dict[str, Any]
    uncertainty: NDArray[np.float32] | None = None
    tissue: NDArray[np.uint8] | None = None
    _monitor: Monitor = field(default_factory=Monitor)

    @property
    def volume_ml(self) -> float:
        """Volume of all lesions together, ml."""
        return total_volume_ml(self.lesions)

    @property
    def grid(self) -> Grid:
        """The grid of the reference scan."""
        x, y, z = self.mask.shape
        return Grid((x, y, z), self.affine)

    def save(
        self,
        folder: str | Path,
        *,
        metrics: Metrics | None = None,
        per_class: bool = False,
        identity: Mapping[str, str] | None = None,
    ) -> dict[str, Path]:
        """Write all files of the result; they appear together or not at all.

        Args:
            folder: Absent, empty, or an earlier result, which is replaced.
            metrics: Figures against a reference, written to metrics.json and into the report.
            per_class: Also write one probability map for each class.
            identity: Role to file name, and ``name`` of the case; only given when the user wants to be told whose
                result it is. Without it no file says.

        Returns:
            Name of a result to its path.

        Raises:
            InputError: The folder cannot be used, or the disk is full.
        """
        monitor = self._monitor
        for stage in ("write", "report"):
            self.timing.pop(stage, None)  # of an earlier call
        place = Path(folder)
        if identity:
            self.summary["identity"] = dict(identity)
        summary = self.summary
        with writing(place) as partial:
            with monitor.stage("write", "writing masks and tables"):
                write_nifti(partial / "lesion_mask.nii.gz", self.mask, self.affine, dtype=np.uint8)
                write_nifti(partial / "lesion_probability.nii.gz", self.probability, self.affine, dtype=np.float32)
                if self.uncertainty is not None:
                    write_nifti(partial / "uncertainty.nii.gz", self.uncertainty, self.affine, dtype=np.float32)
                if per_class:
                    for lesion_class in self.card.classes:
                        name = f"lesion_probability_{_slug(lesion_class.name)}.nii.gz"
                        write_nifti(partial / name, self.class_probabilities[lesion_class.value], self.affine)
                (partial / "lesions.csv").write_text(lesions_csv(self.lesions), encoding="utf-8", newline="")
                if metrics is not None:
                    _write_json(partial / "metrics.json", metrics.to_dict())
            with monitor.stage("report", "drawing the report"):
                picture = self.overlay()
                (partial / "overlay.png").write_bytes(picture)
                page = render_page(
                    summary,
                    [asdict(lesion) for lesion in self.lesions],
                    overlay_png=picture,
                    metrics=None if metrics is None else metrics.to_dict(),
                )
                (partial / "report.html").write_text(page, encoding="utf-8", newline="")
            monitor.check()
            _write_json(partial / "run.json", {**self.run, "seconds": {k: round(v, 4) for k, v in self.timing.items()}})
            _write_json(partial / SUMMARY, summary)
            names = sorted(p.name for p in partial.iterdir())
        return {name: place / name for name in names}

    def overlay(self) -> bytes:
        """The overlay picture as PNG: radiological convention, the slices with most lesion."""
        role = self.card.reference_role
        adc = self.images.get("adc") if role != "adc" else None
        return draw_overlay(
            self.images[role],
            self.affine,
            self.mask,
            probability=self.probability,
            title_lines=title_lines(self.summary),
            background_name=role.upper(),
            brain=self.brain,
            second=None if adc is None else (adc, "ADC"),
            synthetic=bool(self.summary.get("synthetic")),
        )


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower())


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(
        json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8", newline=""
    )
