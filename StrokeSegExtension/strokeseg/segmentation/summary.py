"""`summarize`: what summary.json says of a run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from strokeseg import __version__
from strokeseg.case import Case
from strokeseg.events import Monitor
from strokeseg.lesions import Lesion, total_volume_ml
from strokeseg.models import ModelCard
from strokeseg.prepare import Prepared
from strokeseg.volume import Volume

NOTICE = "Research use only. Not a medical device; not for diagnosis or treatment."


def summarize(
    case: Case,
    prepared: Prepared,
    card: ModelCard,
    numbers: dict[str, float],
    lesions: list[Lesion],
    monitor: Monitor,
) -> dict[str, Any]:
    """The content of summary.json: no path, no name, no date."""
    grid = prepared.reference.grid
    used = {i.role for i in card.inputs} | ({"b0"} if prepared.corrected.computed_roles else set())
    by_side = {s: sum(x.volume_ml for x in lesions if x.side == s) for s in ("left", "right", "midline")}
    return {
        "format": 1,
        "strokeseg_version": __version__,
        "notice": NOTICE,
        "model": {
            "name": card.name,
            "title": card.title,
            "version": card.version,
            "status": card.status,
            "task": card.task,
            "rule": card.decision.rule,
            **numbers,
        },
        "reference_role": card.reference_role,
        "grid": {
            "shape": list(grid.shape),
            "spacing_mm": [round(s, 6) for s in grid.spacing_mm],
            "orientation": grid.orientation,
        },
        "inputs": [
            _input(role, volume, used=role in used, b_value=prepared.corrected.b_value if role == "dwi" else None)
            for role, volume in case.volumes.items()
        ],
        "computed": list(prepared.corrected.computed_roles),
        "assumptions": prepared.corrected.assumptions,
        "brain": {
            "method": prepared.brain.method,
            "volume_ml": round(prepared.brain.volume_ml, 3),
            "findings": list(prepared.brain.findings),
        },
        "midplane": {
            "normal_ras": list(prepared.midplane.normal_ras),
            "offset_mm": prepared.midplane.offset_mm,
            "quality": round(prepared.midplane.quality, 4),
        },
        "result": {
            "volume_ml": round(total_volume_ml(lesions), 4),
            "lesion_count": len(lesions),
            **{f"{side}_ml": round(volume, 4) for side, volume in by_side.items()},
        },
        "findings": [asdict(f) for f in prepared.corrected.findings],
        "warnings": [{"code": w.code, "message": w.message} for w in monitor.warnings],
    }


def _input(role: str, volume: Volume, *, used: bool, b_value: float | None) -> dict[str, Any]:
    grid = volume.grid
    return {
        "role": role,
        "used": used,
        "sha256": volume.sha256,
        "shape": list(grid.shape),
        "spacing_mm": [round(s, 6) for s in grid.spacing_mm],
        "orientation": grid.orientation,
        "b_value": b_value,
        "notes": list(volume.notes),
    }
