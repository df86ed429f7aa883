"""From answers to a result: decided as the engine decides, measured by the engine's metrics, in tables of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from strokeseg.errors import InputError
from strokeseg.metrics import Calibration, Metrics, SizeRecall, calibrate, evaluate_masks, summarise_cohort
from strokeseg.postprocess import decide
from strokeseg.predict.native import LARGEST_LOGIT

TAGS = ("empty", "hard", "bilateral", "midline")
"""What may be said of an exam's patient.

No lesion; drawn from harder ranges than training's; infarcts on both sides; an infarct at the middle.
"""
ALL, ORDINARY = "with lesion", "ordinary"
GROUPS = (ALL, ORDINARY, "hard", "bilateral", "midline")
_BINS = 10
# No interval is shown: as many samples as the engine's bootstrap needs to run at all.
_RESAMPLES = 99


@dataclass(frozen=True)
class Settings:
    """How logits become a mask.

    Args:
        threshold: Probability from which a voxel is lesion.
        temperature: Logits are divided by it first.
        minimum_lesion_ml: Smaller lesions are dropped.
        peak: Lesions that reach this probability nowhere are dropped; 0: none.
    """

    threshold: float = 0.5
    temperature: float = 1.0
    minimum_lesion_ml: float = 0.02
    peak: float = 0.0


@dataclass(frozen=True, eq=False)
class Answer:
    """What a predictor says about one patient.

    Args:
        seed: Of the patient's scene.
        tags: Of `TAGS`.
        brain: Boolean (x, y, z).
        reference: Boolean (x, y, z), inside the brain.
        logits: float32 (voxels of the brain,), in the order of `brain`.
        affine: 4x4, voxel size in mm on its diagonal.
    """

    seed: int
    tags: tuple[str, ...]
    brain: NDArray[np.bool_]
    reference: NDArray[np.bool_]
    logits: NDArray[np.float32]
    affine: NDArray[np.float64]

    def probability(self, temperature: float) -> NDArray[np.float32]:
        """Probability of lesion (voxels of the brain,), as the engine computes it."""
        cut = np.clip(self.logits / np.float32(temperature), -LARGEST_LOGIT, LARGEST_LOGIT)
        return np.asarray(expit(cut), dtype=np.float32)

    def spread(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """One number for each brain voxel, as a volume; 0 outside."""
        volume = np.zeros(self.brain.shape, np.float32)
        volume[self.brain] = values
        return volume


@dataclass(frozen=True)
class Group:
    """Means over the patients of one table that have a lesion; NaN where there is nothing to average.

    Attributes:
        cases: Patients.
        recall_by_size: Reference lesions and how many of them were found, by size class.
    """

    cases: int
    dice: float
    lesion_f1: float
    precision: float
    sensitivity: float
    false_positive_ml: float
    recall_by_size: tuple[SizeRecall, ...]


@dataclass(frozen=True)
class Empties:
    """The patients without lesion.

    Attributes:
        cases: Patients.
        false_positive_ml: Mean volume found.
        largest_false_positive_ml: In the worst of them.
        false_lesions: Components found in all of them.
        clean: Patients in whom nothing was found.
    """

    cases: int
    false_positive_ml: float
    largest_false_positive_ml: float
    false_lesions: int
    clean: int


@dataclass(frozen=True)
class ExamResult:
    """The result of a predictor in an exam.

    Attributes:
        exam: Name of the exam.
        generator_version: Results of different versions cannot be compared.
        settings: How logits became masks.
        groups: Table name (of `GROUPS`) to means; tables without patients are left out.
        empties: The patients without lesion.
        ece: Expected calibration error over all brain voxels of all patients.
        brier: Mean squared difference of probability and reference over them.
        nll: Mean negative logarithm of the probability given to what is true, over them.
        cases: Seed, tags and metrics of each patient.
    """

    exam: str
    generator_version: str
    settings: Settings
    groups: dict[str, Group]
    empties: Empties
    ece: float
    brier: float
    nll: float
    cases: tuple[tuple[int, tuple[str, ...], Metrics], ...]

    @property
    def lesion(self) -> Group:
        """The table of all patients with lesion."""
        return self.groups[ALL]

    def to_dict(self) -> dict[str, Any]:
        """Everything as data for JSON: None for NaN."""
        return {
            **self.summary(),
            "cases": [{"seed": s, "tags": list(t), "metrics": m.to_dict()} for s, t, m in self.cases],
        }

    def summary(self) -> dict[str, Any]:
        """`to_dict` without the single patients."""
        plain: dict[str, Any] = _without_nan(
            {
                "exam": self.exam,
                "generator_version": self.generator_version,
                "settings": asdict(self.settings),
                "groups": {name: asdict(group) for name, group in self.groups.items()},
                "empty": asdict(self.empties),
                "ece": self.ece,
                "brier": self.brier,
                "nll": self.nll,
            }
        )
        return plain


def grade(answers: Sequence[Answer], settings: Settings, exam: str = "", generator_version: str = "") -> ExamResult:
    """Decide, measure and sum up.

    Args:
        answers: Of one predictor; at least one.
        settings: How logits become masks.
        exam: Name of the exam.
        generator_version: Of the exam.

    Raises:
        InputError: There is no answer, or the settings are not usable.
    """
    if not answers:
        raise InputError("There is nothing to grade.", "There is no answer.", "Take the exam first.")
    metrics, curves, losses = [], [], []
    for one in answers:
        inside = one.probability(settings.temperature)
        probability = one.spread(inside)
        mask = decide(
            probability,
            threshold=settings.threshold,
            minimum_lesion_ml=settings.minimum_lesion_ml,
            affine=one.affine,
            peak=settings.peak,
            brain=one.brain,
        )
        metrics.append(evaluate_masks(mask, one.reference, one.affine, brain=one.brain))
        curves.append(calibrate(probability, one.reference, one.brain, bins=_BINS))
        losses.append(nll(one, settings.temperature))
    voxels = np.array([int(one.brain.sum()) for one in answers], dtype=np.float64)
    return ExamResult(
        exam=exam,
        generator_version=generator_version,
        settings=settings,
        groups=_groups([one.tags for one in answers], metrics),
        empties=_empties(metrics),
        ece=pooled_ece(curves),
        brier=float(np.average([c.brier for c in curves], weights=voxels)),
        nll=float(np.average(losses, weights=voxels)),
        cases=tuple((a.seed, a.tags, m) for a, m in zip(answers, metrics, strict=True)),
    )


def nll(one: Answer, temperature: float) -> float:
    """Mean negative logarithm of the probability given to what is true, over one patient's brain."""
    cut = np.clip(one.logits / np.float32(temperature), -LARGEST_LOGIT, LARGEST_LOGIT).astype(np.float64)
    return float(np.logaddexp(0.0, np.where(one.reference[one.brain], -cut, cut)).mean())


def pooled_ece(curves: Sequence[Calibration]) -> float:
    """The calibration error of all voxels together: bins are added up before they are compared."""
    voxels = np.array([c.voxels for c in curves], dtype=np.float64)
    claimed = np.nansum(voxels * np.array([c.mean_probability for c in curves]), axis=0)
    true = np.nansum(voxels * np.array([c.lesion_fraction for c in curves]), axis=0)
    return float(np.abs(claimed - true).sum() / voxels.sum())


def _groups(tags: Sequence[tuple[str, ...]], metrics: Sequence[Metrics]) -> dict[str, Group]:
    chosen = {
        ALL: [m for m in metrics if m.reference_voxels],
        ORDINARY: [m for t, m in zip(tags, metrics, strict=True) if m.reference_voxels and "hard" not in t],
    }
    for name in GROUPS[2:]:
        chosen[name] = [m for t, m in zip(tags, metrics, strict=True) if m.reference_voxels and name in t]
    return {name: _group(members) for name, members in chosen.items() if members or name == ALL}


def _group(members: list[Metrics]) -> Group:
    if not members:
        return Group(0, *(math.nan,) * 5, ())
    summary = summarise_cohort(members, resamples=_RESAMPLES)
    means = {name: statistic.mean for name, statistic in summary.lesion_positive.statistics.items()}
    return Group(
        cases=len(members),
        dice=means["dice"],
        lesion_f1=means["lesion_f1"],
        precision=means["precision"],
        sensitivity=means["sensitivity"],
        false_positive_ml=means["false_positive_ml"],
        recall_by_size=summary.recall_by_size,
    )


def _empties(metrics: Sequence[Metrics]) -> Empties:
    members = [m for m in metrics if not m.reference_voxels]
    volumes = [m.false_positive_ml for m in members]
    return Empties(
        cases=len(members),
        false_positive_ml=math.fsum(volumes) / len(volumes) if volumes else math.nan,
        largest_false_positive_ml=max(volumes, default=math.nan),
        false_lesions=sum(m.lesion_false_positives for m in members),
        clean=sum(v == 0.0 for v in volumes),
    )


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value
