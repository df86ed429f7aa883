"""`segment` and `Segmentation`: the engine's main job, from a case to a result that can be looked at and saved.

Puts `prepare`, `predict`, `postprocess`, `lesions`, `report` and `results` together; nothing but `worker` and `cli`
imports it.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from strokeseg import __version__
from strokeseg.case import Case
from strokeseg.errors import InputError
from strokeseg.events import Monitor
from strokeseg.lesions import Lesion, find_lesions, lesions_csv, total_volume_ml
from strokeseg.models import ModelCard, ModelStore, automatic_model
from strokeseg.postprocess import decide, decide_argmax
from strokeseg.predict import Asked, check_asked, predict
from strokeseg.prepare import Prepared, prepare
from strokeseg.report import draw_overlay, render_page, title_lines
from strokeseg.results import SUMMARY, writing
from strokeseg.runtime import KeptRuntimes, Runtime, check_choice, open_runtime
from strokeseg.volume import Affine, Grid, Volume, write_nifti

if TYPE_CHECKING:
    from strokeseg.metrics import Metrics

NOTICE = "Research use only. Not a medical device; not for diagnosis or treatment."


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


def segment(
    case: Case,
    model: str = "auto",
    device: str = "auto",
    *,
    threshold: float | None = None,
    min_lesion_ml: float | None = None,
    strategy: str = "auto",
    window: tuple[int, int, int] | None = None,
    overlap: float | None = None,
    tta: bool = False,
    uncertainty: bool = False,
    precision: str = "fp32",
    runtime: Runtime | str = "auto",
    register: bool = False,
    b_value: float | None = None,
    synthetic: bool = False,
    kept: KeptRuntimes | None = None,
    monitor: Monitor | None = None,
) -> Segmentation:
    """Find the lesions of a case.

    Args:
        case: The volumes by role.
        model: Name of a model, or ``auto``: the best one for the roles that are there.
        device: ``auto``, ``cpu``, ``cuda:N`` or ``mps``.
        threshold: Probability from which a voxel is lesion, 0-1; None: the model's own.
        min_lesion_ml: Smaller lesions are dropped; None: the model's own.
        strategy: ``whole``, ``windows``, ``slices``, or ``auto``: the model's own, in parts where memory is short.
        window: Voxels (x, y, z) of a window on the model's grid; None: the model's own.
        overlap: Share of a window that neighbours overlap, 0 to 0.9; None: the model's own.
        tta: Run the mirrored case, too, and take the mean of both.
        uncertainty: Also give the entropy of that mean; runs the mirrored case, too.
        precision: ``fp32``, ``bf16`` or ``fp16``; where the device has it.
        runtime: ``auto``, ``openvino`` or ``torch``, or one that is already open for the model.
        register: Correct the place of the other volumes by rigid registration where it helps.
        b_value: s/mm² of the DWI where the file does not say it.
        synthetic: The case is simulated; pictures and report say so.
        kept: Runtimes that stay open for the next case; None: it is opened for this one.
        monitor: Hears progress and warnings, notices a cancellation.

    Raises:
        InputError: The case cannot be used; says why and what to do.
        ModelError: The model is missing, damaged, or does not fit.
        DependencyError: The device or the runtime is not there.
        MemoryLimitError: The memory is not enough, however the model is run.
        Cancelled: The user stopped the run.
    """
    monitor = monitor or Monitor()
    card = choose_model(case, model)
    if model == "auto" and card.status == "experimental":
        monitor.warn("experimental_model", f"The model '{card.name}' is experimental: check every lesion yourself.")
    if card.decision.rule == "argmax" and threshold is not None:
        raise InputError(
            "The threshold cannot be used.",
            f"The model '{card.name}' has several classes and takes the most probable one.",
            "Leave --threshold out.",
        )
    asked = Asked(strategy, window, overlap, tta, uncertainty)
    check_asked(card, asked)
    if isinstance(runtime, str):
        check_choice(card, device, runtime=runtime, precision=precision)

    def opened(where: str) -> Runtime:
        name = runtime if isinstance(runtime, str) else "auto"
        if kept is not None:
            return kept.open(card, where, runtime=name, precision=precision)
        return open_runtime(card, where, runtime=name, precision=precision)

    def ready() -> Runtime:
        return opened(device) if isinstance(runtime, str) else runtime

    prepared, engine = _prepared_while_opening(case, card, ready, monitor, register=register, b_value=b_value)
    with monitor.stage("model", f"running {card.name}"):
        prediction = predict(prepared, card, engine, monitor, asked=asked, on_cpu=lambda: opened("cpu"))
    engine = prediction.runtime
    for note in engine.notes:
        monitor.warn(note.code, note.message)
    used_threshold = card.decision.threshold if threshold is None else threshold
    smallest = card.minimum_lesion_ml if min_lesion_ml is None else min_lesion_ml
    affine, brain = prepared.reference.affine, prepared.brain.mask
    with monitor.stage("postprocess", "deciding"):
        if card.decision.rule == "argmax":
            mask = decide_argmax(prediction.classes, minimum_lesion_ml=smallest, affine=affine, brain=brain)
        else:
            mask = decide(
                prediction.probability,
                threshold=used_threshold,
                minimum_lesion_ml=smallest,
                affine=affine,
                brain=brain,
            )
    with monitor.stage("lesions", "describing the lesions"):
        _, lesions = find_lesions(
            mask,
            affine,
            probability=prediction.probability,
            adc=prepared.images.get("adc"),
            dwi=prepared.images.get("dwi"),
            brain=brain,
            midplane=prepared.midplane.plane,
        )
    numbers = {"threshold": used_threshold, "minimum_lesion_ml": smallest}
    summary = _summary(case, prepared, card, numbers, lesions, monitor)
    summary["synthetic"] = synthetic
    run = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "runtime": engine.name,
        "device": engine.device,
        "precision": engine.precision,
        "strategy": prediction.strategy,
        "strategy_reason": prediction.reason,
        "mirrored": tta or uncertainty,
        "python": platform.python_version(),
        "system": platform.system(),
    }
    return Segmentation(
        mask=mask,
        probability=prediction.probability,
        class_probabilities=prediction.classes,
        affine=affine,
        lesions=lesions,
        warnings=[w.message for w in monitor.warnings],
        timing=monitor.seconds,
        summary=summary,
        images=prepared.images,
        brain=prepared.brain.mask,
        card=card,
        run=run,
        uncertainty=prediction.uncertainty,
        tissue=prediction.tissue,
        _monitor=monitor,
    )


def _prepared_while_opening(
    case: Case,
    card: ModelCard,
    opened: Callable[[], Runtime],
    monitor: Monitor,
    *,
    register: bool,
    b_value: float | None,
) -> tuple[Prepared, Runtime]:
    """The case prepared, and the runtime, which loads and compiles meanwhile: both mostly leave the interpreter's lock.

    What is wrong with model or device is said as if the runtime had been opened first: before what is wrong with the
    scans, and before work that takes long.
    """
    with ThreadPoolExecutor(1, "runtime") as pool:  # nothing leaves the block before the thread has ended
        opening = pool.submit(opened)

        def refuse_early() -> None:
            if register or opening.done():
                opening.result()

        try:
            with monitor.stage("prepare", "checking and preparing the scans"):
                prepared = prepare(case, card, monitor, register=register, b_value=b_value, between=refuse_early)
        except InputError:
            opening.result()
            raise
        if card.runtime == "threshold":
            return prepared, opening.result()  # a rule has nothing to load
        with monitor.stage("load", f"loading {card.name}"):
            return prepared, opening.result()


def choose_model(case: Case, model: str = "auto", store: ModelStore | None = None) -> ModelCard:
    """The card for a name; ``auto`` takes the best model at hand for the roles that are there.

    Raises:
        InputError: No model works with these roles.
        ModelError: There is no model of this name.
    """
    store = store or ModelStore()
    if model != "auto":
        return store.card(model)
    found = automatic_model(case.roles, store.names())
    if found is not None:
        return store.card(found)
    choices = "; ".join(f"{c.name} needs {' and '.join(r.upper() for r in c.required_roles)}" for c in store.cards())
    raise InputError(
        "No model works with these scans.",
        f"Given: {', '.join(r.upper() for r in case.roles)}. At hand: {choices}.",
        "Add the missing scan, or name a model with --model.",
    )


def _summary(
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


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower())


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(
        json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8", newline=""
    )
