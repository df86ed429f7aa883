"""`segment`: a case led from preparation to its table of lesions."""

from __future__ import annotations

import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from strokeseg.case import Case
from strokeseg.errors import InputError
from strokeseg.events import Monitor
from strokeseg.lesions import find_lesions
from strokeseg.models import ModelCard, ModelStore, automatic_model
from strokeseg.postprocess import cascade_threshold, decide, decide_argmax, peak_at
from strokeseg.predict import Asked, check_asked, predict
from strokeseg.prepare import Prepared, prepare
from strokeseg.runtime import KeptRuntimes, Runtime, check_choice, open_runtime
from strokeseg.segmentation.result import Segmentation
from strokeseg.segmentation.summary import summarize
from strokeseg.volume import Affine


def segment(
    case: Case,
    model: str | ModelCard = "auto",
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
        model: Name of a model, or ``auto``: the best one for the roles that are there; or the card of any model folder,
            as `strokeseg.models.read_card` gives it.
        device: ``auto``, ``cpu``, ``cuda:N`` or ``mps``.
        threshold: Probability from which a voxel is lesion, 0-1; None: the model's own for this case. The peak that
            lesions must reach, where the model has one, moves along (`strokeseg.postprocess.peak_at`).
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
    card = model if isinstance(model, ModelCard) else choose_model(case, model)
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
    smallest = card.minimum_lesion_ml if min_lesion_ml is None else min_lesion_ml
    affine, brain = prepared.reference.affine, prepared.brain.mask
    with monitor.stage("postprocess", "deciding"):
        own_threshold = _own_threshold(card, prediction.probability, affine, brain)
        used_threshold = own_threshold if threshold is None else threshold
        used_peak = peak_at(used_threshold, own_threshold=own_threshold, own_peak=card.decision.peak)
        if card.decision.rule == "argmax":
            mask = decide_argmax(prediction.classes, minimum_lesion_ml=smallest, affine=affine, brain=brain)
        else:
            mask = decide(
                prediction.probability,
                threshold=used_threshold,
                minimum_lesion_ml=smallest,
                affine=affine,
                peak=used_peak,
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
    numbers = {
        "threshold": used_threshold,
        "own_threshold": own_threshold,
        "peak": used_peak,
        "own_peak": card.decision.peak,
        "minimum_lesion_ml": smallest,
    }
    summary = summarize(case, prepared, card, numbers, lesions, monitor)
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


def _own_threshold(
    card: ModelCard, probability: NDArray[np.float32], affine: Affine, brain: NDArray[np.bool_]
) -> float:
    """The model's threshold for this map; the same for every map unless the card has a cascade."""
    decision = card.decision
    steps = [(s.maximum, s.threshold, s.volume_ml) for s in decision.steps]
    if not steps:
        return decision.threshold
    return cascade_threshold(probability, steps=steps, otherwise=decision.threshold, affine=affine, brain=brain)


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
