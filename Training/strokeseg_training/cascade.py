"""The thresholds of a card's cascade, chosen on the validation side of a prepared set and on nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.errors import InputError
from strokeseg.events import Monitor
from strokeseg.metrics import compare_lesions, compare_voxels
from strokeseg.metrics.inputs import voxel_volume_ml
from strokeseg.models.card import ModelCard, parse_card
from strokeseg.models.decision import CascadeStep, Decision
from strokeseg.postprocess import decide, remove_small
from strokeseg.volume import Affine
from strokeseg_training._exam_choice import EMPTY_FALSE_ML, THRESHOLDS
from strokeseg_training.evaluate.engine import open_model
from strokeseg_training.evaluate.record import labels_on
from strokeseg_training.evaluate.seen import look_for_seen
from strokeseg_training.evaluate.subjects import Subjects, Where, find_subjects
from strokeseg_training.prepare import DataRecipe
from strokeseg_training.prepare.reading import read_patient
from strokeseg_training.prepare.storage import MANIFEST
from strokeseg_training.recipe_card import PUBLISHED_CASCADE

_Floats = NDArray[np.float64]
_Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Examined:
    """What each threshold makes of one patient's map; arrays over the thresholds.

    Attributes:
        maximum: The largest probability in the brain.
        voxels: That reach the threshold.
        voxel_ml: Volume of one.
        ill: The reference holds a lesion.
        dice: NaN where it holds none.
        lesion_f1: Likewise.
        false_ml: False-positive volume.
    """

    maximum: float
    voxels: _Floats
    voxel_ml: float
    ill: bool
    dice: _Floats
    lesion_f1: _Floats
    false_ml: _Floats


@dataclass(frozen=True)
class Scores:
    """Means: of patients with a lesion, and the false-positive volume of those without (0 where there are none)."""

    dice: float
    lesion_f1: float
    empty_false_positive_ml: float


@dataclass(frozen=True)
class Tuned:
    """What was chosen.

    Attributes:
        decision: The new one.
        before: With the old thresholds.
        after: With the new ones, of the same patients: better than of others, because they chose them.
        patients: On the validation side.
        ill: How many of them have a lesion.
        split_sha256: Of the set's split.
        marks: Of the patients' images, see `strokeseg_training.evaluate.seen`.
    """

    decision: Decision
    before: Scores
    after: Scores
    patients: int
    ill: int
    split_sha256: str
    marks: tuple[str, ...]


def tune_cascade(
    recipe: DataRecipe,
    model: Path,
    prepared: Path,
    originals: Path,
    *,
    device: str = "auto",
    monitor: Monitor | None = None,
) -> Tuned:
    """Choose the thresholds of a model's cascade; maxima and volumes stay, and nothing is written.

    Args:
        recipe: By which the set was prepared.
        model: The model folder.
        prepared: The prepared set, whose validation side is used.
        originals: Folder of the data set: maps are decided on the scans' own grids.
        device: ``auto``, ``cpu``, ``cuda:N`` or ``mps``.
        monitor: Hears progress, notices a cancellation.

    Raises:
        InputError: The data are no prepared set, the model has several classes or was trained on the patients, or none
            of them has a lesion.
        UnusablePatients: Patients of the side who cannot be used.
        ModelError: It is no model.
    """
    monitor = monitor or Monitor()
    if not (prepared / MANIFEST).is_file():
        raise InputError(
            "Thresholds cannot be chosen on these data.",
            f"'{prepared.name}' is no prepared set, so that nothing says who is in its validation.",
            "Run 'strokeseg-train prepare' and give --data the folder that it wrote.",
        )
    with open_model(str(model), device) as opened:
        decision = cascade_of(opened.card)
        subjects = find_subjects(recipe, opened.card, Where(prepared, originals, side="val"), monitor)
        _refuse_trained_on(opened.card, subjects)
        thresholds = tuple(sorted({*THRESHOLDS, *_thresholds(decision)}))
        rows = []
        with monitor.stage("validation", f"{len(subjects.patients)} patients"):
            for number, patient in enumerate(subjects.patients):
                monitor.progress(number, len(subjects.patients), patient.id)
                read, problems = read_patient(patient, recipe.datasets, subjects.role)
                if read is None:
                    raise InputError(
                        f"The patient '{patient.id}' cannot be read.",
                        " ".join(p.text for p in problems),
                        "Correct the files.",
                    )
                result = opened.segment(read.case, Monitor(cancelled=lambda: _cancelled(monitor)))
                reference = labels_on(read.labels, read.grid, result.grid) > 0
                rows.append(
                    examine(
                        result.probability,
                        reference,
                        result.affine,
                        result.brain,
                        thresholds=thresholds,
                        minimum_lesion_ml=opened.card.minimum_lesion_ml,
                    )
                )
        chosen, before, after = choose_thresholds(rows, decision, thresholds)
    marks = tuple(sorted(subjects.marks[p.id] for p in subjects.patients))
    return Tuned(chosen, before, after, len(rows), sum(r.ill for r in rows), subjects.split.sha256, marks)


def cascade_of(card: ModelCard) -> Decision:
    """The card's cascade; the published one where it has a single threshold.

    Raises:
        InputError: The model has several classes.
    """
    if card.decision.rule == "argmax":
        raise InputError(
            "The model can have no cascade.",
            f"'{card.name}' has {len(card.classes)} classes and takes the most probable one; it has no threshold.",
            "Leave its decision as it is.",
        )
    if card.decision.rule == "cascade":
        return card.decision
    steps: Any = PUBLISHED_CASCADE["steps"]
    otherwise: Any = PUBLISHED_CASCADE["threshold"]
    return Decision("cascade", otherwise, tuple(CascadeStep(**s) for s in steps))


def examine(
    probability: NDArray[np.float32],
    reference: NDArray[np.bool_],
    affine: Affine,
    brain: NDArray[np.bool_],
    *,
    thresholds: Sequence[float],
    minimum_lesion_ml: float,
) -> Examined:
    """What each threshold makes of a patient.

    Args:
        probability: (x, y, z), 0 to 1.
        reference: (x, y, z).
        affine: 4x4, voxel index to mm.
        brain: (x, y, z).
        thresholds: To try.
        minimum_lesion_ml: Smaller lesions are dropped.
    """
    voxel_ml, ill = voxel_volume_ml(affine), bool(reference.any())
    maximum = float(probability[brain].max(initial=0.0))
    # Nothing outside this box can change: lesions are found and compared within it.
    box = ndimage.find_objects((((probability >= min(thresholds)) & brain) | reference).view(np.uint8))
    where = box[0] if box else (slice(0, 1),) * 3
    map_, truth, inside = probability[where], reference[where], brain[where]
    voxels, dice, f1, false_ml = [], [], [], []
    for threshold in thresholds:
        every = decide(map_, threshold=threshold, minimum_lesion_ml=0.0, affine=affine, brain=inside)
        mask = remove_small(every, affine, minimum_lesion_ml) > 0
        voxels.append(float(np.count_nonzero(every)))
        dice.append(compare_voxels(mask, truth).dice if ill else np.nan)
        f1.append(compare_lesions(mask, truth, voxel_ml=voxel_ml).f1 if ill else np.nan)
        false_ml.append(float(np.count_nonzero(mask & ~truth)) * voxel_ml)
    columns = (np.array(c, dtype=np.float64) for c in (voxels, dice, f1, false_ml))
    counts, *figures = columns
    return Examined(maximum, counts, voxel_ml, ill, *figures)


def choose_thresholds(
    rows: Sequence[Examined], decision: Decision, thresholds: Sequence[float]
) -> tuple[Decision, Scores, Scores]:
    """Of all falling thresholds, those with the highest mean of Dice and lesion F1.

    Only those count that find at most half a millilitre in patients without lesion on average; where none does, those
    that find least. Between equals those that change least, so that a step which fits no patient keeps its threshold.

    Args:
        rows: Of all patients.
        decision: The cascade so far; its thresholds are among `thresholds`.
        thresholds: That the patients were examined with, rising.

    Returns:
        The new decision, and the scores before and after.

    Raises:
        InputError: No patient has a lesion.
    """
    if not any(r.ill for r in rows):
        raise InputError(
            "Nothing can be chosen.",
            f"None of the {len(rows)} patients in validation has a lesion.",
            "Use a set with lesions in its validation.",
        )
    values = np.array(thresholds)
    now = [int(np.flatnonzero(values == t)[0]) for t in _thresholds(decision)]
    usual = [n for n, t in enumerate(thresholds) if t in THRESHOLDS]
    tried = np.array([now, *(c[::-1] for c in combinations(usual, len(now)))], dtype=np.int64)
    scores = _score(rows, decision, tried)
    worth = np.round((scores[0] + scores[1]) / 2, 6)
    allowed = scores[2] <= max(EMPTY_FALSE_ML["dwi-adc"], scores[2].min())
    change = np.round(np.abs(values[tried] - values[now]).sum(axis=1), 6)
    best = int(np.lexsort((change, -worth, ~allowed))[0])
    *at_steps, otherwise = (float(values[n]) for n in tried[best])
    steps = tuple(replace(s, threshold=t) for s, t in zip(decision.steps, at_steps, strict=True))
    before, after = (Scores(*(float(row[n]) for row in scores)) for n in (0, best))
    return Decision("cascade", otherwise, steps), before, after


def write_decision(model: Path, tuned: Tuned) -> dict[str, Any]:
    """The content of a model's card with the new thresholds, checked, for the caller to write.

    It says on whom they were chosen, so that an evaluation of the same patients tells.

    Raises:
        ModelError: The card would no longer be one.
    """
    card: dict[str, Any] = json.loads((model / "card.json").read_text(encoding="utf-8"))
    card["decision"] = {
        "rule": tuned.decision.rule,
        "steps": [asdict(step) for step in tuned.decision.steps],
        "threshold": tuned.decision.threshold,
    }
    card["origin"]["decision_chosen_on"] = {
        "side": "val",
        # Its beginning only: with the whole hash, a card says that the split's training was the model's.
        "split_sha256": tuned.split_sha256[:12],
        "images": {"val": list(tuned.marks)},
        "patients": tuned.patients,
        "with_lesion": tuned.ill,
        "before": asdict(tuned.before),
        "after": asdict(tuned.after),
    }
    parse_card(card, model)
    return card


def _score(rows: Sequence[Examined], decision: Decision, tried: _Indices) -> list[_Floats]:
    """Means of Dice, lesion F1 and false volume without lesion, for each row of `tried` (n, steps + 1)."""
    sums: list[_Floats] = [np.zeros(len(tried)) for _ in range(3)]
    ill = sum(r.ill for r in rows)
    for row in rows:
        index = tried[:, -1].copy()
        for number in reversed(range(len(decision.steps))):
            step, at = decision.steps[number], tried[:, number]
            # As `cascade_threshold` has it.
            if row.maximum > step.maximum:
                index = np.where(row.voxels[at] > step.volume_ml / row.voxel_ml + 1e-3, at, index)
        if row.ill:
            sums[0] += row.dice[index]
            sums[1] += row.lesion_f1[index]
        else:
            sums[2] += row.false_ml[index]
    return [sums[0] / ill, sums[1] / ill, sums[2] / max(len(rows) - ill, 1)]


def _thresholds(decision: Decision) -> list[float]:
    return [*(s.threshold for s in decision.steps), decision.threshold]


def _refuse_trained_on(card: ModelCard, subjects: Subjects) -> None:
    seen = look_for_seen(card.origin, subjects.split, [p.id for p in subjects.patients], lambda: subjects.marks)
    if seen.verdict in ("seen", "cannot be told"):
        raise InputError(
            "Thresholds cannot be chosen on these patients.",
            seen.sentence,
            "Give the prepared set that the model was trained with, whose validation it was not trained on.",
        )


def _cancelled(monitor: Monitor) -> bool:
    monitor.check()
    return False
