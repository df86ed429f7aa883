"""Temperature, threshold, peak and minimum lesion volume, chosen on the answers of an exam."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy import ndimage, optimize

from strokeseg.errors import InputError
from strokeseg.metrics import calibrate, compare_lesions, compare_voxels
from strokeseg.metrics.inputs import voxel_volume_ml
from strokeseg.postprocess import decide
from strokeseg_training._exam_grading import Answer, Settings, nll, pooled_ece

Objective = Literal["nll", "ece"]
THRESHOLDS = tuple(round(0.05 * k, 2) for k in range(1, 20))
# What a lesion must reach somewhere, so that a lower threshold can draw it; 0: nothing.
PEAKS = (0.0, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
MINIMA_ML = (0.0, 0.02, 0.04, 0.08)
# What a scan without lesion may show on average, by task; scars are larger than fresh infarcts.
EMPTY_FALSE_ML = {"dwi-adc": 0.5, "t1": 1.0}
_TEMPERATURES = (0.2, 5.0)


@dataclass(frozen=True)
class Tried:
    """One choice of threshold, peak and minimum lesion volume.

    Attributes:
        peak: 0, or more than the threshold.
        dice: Mean over patients with lesion.
        lesion_f1: Likewise.
        empty_false_positive_ml: Mean over patients without lesion; 0 where there are none.
    """

    threshold: float
    peak: float
    minimum_lesion_ml: float
    dice: float
    lesion_f1: float
    empty_false_positive_ml: float

    @property
    def worth(self) -> float:
        """Mean of Dice and lesion F1: large lesions decide the one, small ones the other."""
        return (self.dice + self.lesion_f1) / 2


@dataclass(frozen=True)
class Choice:
    """What was chosen, and everything that was tried.

    Attributes:
        settings: Temperature, threshold, peak and minimum lesion volume.
        tried: Every combination, at that temperature.
    """

    settings: Settings
    tried: tuple[Tried, ...]

    def to_dict(self) -> dict[str, Any]:
        """As data for JSON."""
        return {"settings": asdict(self.settings), "tried": [asdict(t) for t in self.tried]}


def choose(
    answers: Sequence[Answer],
    *,
    objective: Objective = "nll",
    thresholds: Sequence[float] = THRESHOLDS,
    peaks: Sequence[float] = PEAKS,
    minima_ml: Sequence[float] = MINIMA_ML,
    empty_false_ml: float = EMPTY_FALSE_ML["dwi-adc"],
) -> Choice:
    """The temperature first, then threshold, peak and minimum lesion volume together.

    Of the combinations that find at most `empty_false_ml` in patients without lesion on average, the one with the
    highest mean of Dice and lesion F1; where none does, of those that find least. Between equals the higher threshold,
    then the lower peak, then the smaller minimum.

    Args:
        answers: Of one predictor.
        objective: What the temperature minimises, see `choose_temperature`.
        thresholds: Probabilities to try.
        peaks: Probabilities to try; those that are not above a threshold are left out there.
        minima_ml: Volumes to try.
        empty_false_ml: See above.

    Raises:
        InputError: No patient has a lesion.
    """
    if not any(one.reference.any() for one in answers):
        raise InputError(
            "Nothing can be chosen.", "No patient of the exam has a lesion.", "Use an exam with lesions in it."
        )
    temperature = choose_temperature(answers, objective)
    grid = [(t, p, m) for t in thresholds for p in peaks if not p or p > t for m in minima_ml]
    tried = _try(answers, temperature, grid)
    allowed = max(empty_false_ml, min(t.empty_false_positive_ml for t in tried))
    # Rounded, so that the last bit of a mean does not decide.
    best = max(
        (t for t in tried if t.empty_false_positive_ml <= allowed),
        key=lambda t: (round(t.worth, 6), t.threshold, -t.peak, -t.minimum_lesion_ml),
    )
    return Choice(Settings(best.threshold, temperature, best.minimum_lesion_ml, best.peak), tuple(tried))


def choose_temperature(answers: Sequence[Answer], objective: Objective = "nll") -> float:
    """The one number to divide all logits by, 0.2 to 5.

    Args:
        answers: Of one predictor.
        objective: ``nll``: the probability given to what is true (Guo et al., ICML 2017); ``ece``: the gap between
            probability and frequency.
    """
    voxels = np.array([one.logits.size for one in answers], dtype=np.float64)

    def mean_nll(temperature: float) -> float:
        return float(np.average([nll(one, temperature) for one in answers], weights=voxels))

    def error(temperature: float) -> float:
        return pooled_ece(
            [calibrate(one.spread(one.probability(temperature)), one.reference, one.brain) for one in answers]
        )

    cost: Callable[[float], float] = mean_nll if objective == "nll" else error
    found = optimize.minimize_scalar(
        lambda logarithm: cost(float(np.exp(logarithm))),
        bounds=tuple(np.log(_TEMPERATURES)),
        method="bounded",
        options={"xatol": 0.005},
    )
    return round(float(np.exp(found.x)), 3)


def _try(answers: Sequence[Answer], temperature: float, grid: Sequence[tuple[float, float, float]]) -> list[Tried]:
    dice: list[list[float]] = [[] for _ in grid]
    f1: list[list[float]] = [[] for _ in grid]
    false_ml: list[list[float]] = [[] for _ in grid]
    lowest = min(threshold for threshold, _, _ in grid)
    for one in answers:
        voxel_ml = voxel_volume_ml(one.affine)
        probability = one.spread(one.probability(temperature))
        # Nothing outside this box can change: lesions are found and compared within it.
        box = ndimage.find_objects(((probability >= lowest) | one.reference).view(np.uint8))
        where = box[0] if box else (slice(0, 1),) * 3
        probability, reference, brain = probability[where], one.reference[where], one.brain[where]
        ill = bool(one.reference.any())
        # Many combinations leave the same lesions.
        known: dict[bytes, tuple[float, float]] = {}
        for number, (threshold, peak, minimum) in enumerate(grid):
            mask = decide(
                probability,
                threshold=threshold,
                minimum_lesion_ml=minimum,
                affine=one.affine,
                peak=peak,
                brain=brain,
            )
            if not ill:
                false_ml[number].append(int(mask.sum()) * voxel_ml)
                continue
            key = hashlib.blake2b(mask.tobytes()).digest()
            if key not in known:
                lesions = compare_lesions(mask > 0, reference, voxel_ml=voxel_ml)
                known[key] = (compare_voxels(mask > 0, reference).dice, lesions.f1)
            dice[number].append(known[key][0])
            f1[number].append(known[key][1])
    means = [
        [float(np.mean(values[n])) if values[n] else 0.0 for values in (dice, f1, false_ml)] for n in range(len(grid))
    ]
    return [Tried(*combination, *mean) for combination, mean in zip(grid, means, strict=True)]
