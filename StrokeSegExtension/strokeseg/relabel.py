"""A new threshold on a result: mask and table from the kept probabilities, without running the model again."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import InputError
from strokeseg.lesions import Lesion, Plane, find_lesions, total_volume_ml
from strokeseg.postprocess import decide, peak_at
from strokeseg.results import SUMMARY, is_complete, require_result
from strokeseg.segmentation import Segmentation
from strokeseg.volume import Affine, read_volume, write_nifti

_MAP = "lesion_probability.nii.gz"


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a new decision needs of a result, on the grid of the reference scan.

    Attributes:
        name: Of the result, for messages.
        probability: float32 (x, y, z).
        brain: bool (x, y, z).
        affine: 4x4, voxel index to RAS mm.
        midplane: See `strokeseg.lesions.find_lesions`.
        minimum_lesion_ml: Of the result.
        images: "adc" in 1e-3 mm²/s and "dwi" (x, y, z), where they are still at hand.
        own_threshold: The model's for this case.
        own_peak: The model's at that threshold, see `strokeseg.postprocess.peak_at`.
    """

    name: str
    probability: NDArray[np.float32]
    brain: NDArray[np.bool_]
    affine: Affine
    midplane: Plane
    minimum_lesion_ml: float
    images: dict[str, NDArray[np.float32]]
    own_threshold: float = 0.5
    own_peak: float = 0.0


@dataclass(frozen=True)
class Relabelled:
    """The lesions at the new threshold, and the mask file where one was asked for."""

    lesions: list[Lesion]
    volume_ml: float
    files: dict[str, Path]


def evidence_of(result: Segmentation, name: str) -> Evidence:
    """The evidence of a segmentation that is at hand: the new table has ADC and DWI, too.

    Raises:
        InputError: Its model has no threshold.
    """
    _refuse_argmax(result.card.decision.rule, name)
    return _evidence(
        name,
        result.summary,
        result.probability,
        result.brain,
        result.affine,
        {role: result.images[role] for role in ("adc", "dwi") if role in result.images},
    )


def read_evidence(folder: Path) -> Evidence:
    """The evidence of a result folder; ADC and DWI are not in it, and their columns stay empty.

    Raises:
        InputError: The folder is no complete result, a file in it is damaged, or a run is writing there.
    """
    require_result(folder)
    volume = read_volume(folder / _MAP, role="mask")
    # The brain was not kept, but outside of it the map is 0, and nowhere else.
    brain = volume.array > 0
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        _refuse_argmax(summary["model"].get("rule", "threshold"), folder.name)
        shape = tuple(summary["grid"]["shape"])
        evidence = _evidence(folder.name, summary, volume.array, brain, volume.affine, {})
    except (OSError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise _damaged(folder.name, f"{SUMMARY} lacks what a result has, or cannot be read.") from error
    if repaired := [note for note in volume.notes if "not numbers" in note]:  # the reader lets a few pass in scans
        raise _damaged(folder.name, f"In {_MAP}: {repaired[0]}")
    if volume.array.shape != shape:
        raise _damaged(folder.name, f"{_MAP} has the shape {volume.array.shape}, the result has {shape}.")
    return evidence


def relabel(
    evidence: Evidence, *, threshold: float, min_lesion_ml: float | None = None, out: Path | None = None
) -> Relabelled:
    """Decide again; the same as segmenting the case with this threshold.

    Args:
        evidence: What the model found.
        threshold: Probability from which a voxel is lesion, 0-1.
        min_lesion_ml: Smaller lesions are dropped; None: as in the result.
        out: File for the new mask (.nii or .nii.gz) that is not there yet; None: none is written.

    Raises:
        InputError: The map holds no probabilities, or the file cannot be written or would replace another.
    """
    if out is not None:
        _check_file(out)
    mask = decide(
        evidence.probability,
        threshold=threshold,
        minimum_lesion_ml=evidence.minimum_lesion_ml if min_lesion_ml is None else min_lesion_ml,
        affine=evidence.affine,
        peak=peak_at(threshold, own_threshold=evidence.own_threshold, own_peak=evidence.own_peak),
        brain=evidence.brain,
    )
    _, lesions = find_lesions(
        mask,
        evidence.affine,
        probability=evidence.probability,
        brain=evidence.brain,
        midplane=evidence.midplane,
        adc=evidence.images.get("adc"),
        dwi=evidence.images.get("dwi"),
    )
    files = {}
    if out is not None:
        write_nifti(out, mask, evidence.affine, dtype=np.uint8)
        files["lesion_mask.nii.gz"] = out
    return Relabelled(lesions, total_volume_ml(lesions), files)


def _evidence(
    name: str,
    summary: dict[str, Any],
    probability: NDArray[np.float32],
    brain: NDArray[np.bool_],
    affine: Affine,
    images: dict[str, NDArray[np.float32]],
) -> Evidence:
    r, a, s = (float(v) for v in summary["midplane"]["normal_ras"])
    midplane = ((r, a, s), float(summary["midplane"]["offset_mm"]))
    used = summary["model"]
    return Evidence(
        name,
        probability,
        brain,
        affine,
        midplane,
        minimum_lesion_ml=float(used["minimum_lesion_ml"]),
        images=images,
        # Results of earlier versions know of no peak, and some not of the model's own threshold.
        own_threshold=float(used.get("own_threshold", used["threshold"])),
        own_peak=float(used.get("own_peak", 0.0)),
    )


def _refuse_argmax(rule: str, name: str) -> None:
    if rule == "argmax":
        raise InputError(
            "The threshold cannot be changed.",
            f"The model of the result '{name}' has several classes and takes the most probable one.",
            "Keep the result as it is, or segment with a model that has a threshold.",
        )


def _check_file(out: Path) -> None:
    title = f"The mask '{out.name}' cannot be written."
    if not out.name.lower().endswith((".nii", ".nii.gz")):
        raise InputError(title, "Its name ends neither in .nii nor in .nii.gz.", "Give it another name.")
    if os.path.lexists(out):
        raise InputError(title, "Something of this name is there already; it is not replaced.", "Give another name.")
    if is_complete(out.parent):
        cause = f"'{out.parent.name}' is a result; its files belong together, and it holds no others."
        raise InputError(title, cause, "Choose another folder.")


def _damaged(name: str, cause: str) -> InputError:
    return InputError(f"The result '{name}' is damaged.", cause, "Segment the case again.")
