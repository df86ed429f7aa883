"""Many cases: tables for patients with and without lesion, with bootstrap intervals over patients.

Patients with an empty reference have a table of their own (specificity, false-positive volume and count): a Dice of 0
or 1 by convention says nothing about finding lesions. With fewer than ten patients every one is listed and no
interval is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from strokeseg.errors import InputError
from strokeseg.metrics.empty import DISTANCES
from strokeseg.metrics.evaluate import Metrics
from strokeseg.metrics.lesionwise import SizeRecall
from strokeseg.metrics.strata import CASE_STRATA, COMPONENT_STRATA, TIERS

MINIMUM_PATIENTS = 10
ALL_FIELDS = ("dice", "lesion_f1", "avd_ml", "ald", "specificity", "false_positive_ml")
LESION_FIELDS = (
    "dice", "iou", "sensitivity", "specificity", "precision", "accuracy", "mcc", "pr_auc",
    "avd_ml", "volume_difference_ml", "false_positive_ml", "ald",
    "lesion_f1", "lesion_precision", "lesion_recall", "rq", *DISTANCES,
)  # fmt: skip
EMPTY_FIELDS = ("specificity", "false_positive_ml", "lesion_false_positives")
STRATUM_FIELDS = ("dice", "lesion_f1", "avd_ml", "ald")


@dataclass(frozen=True)
class Statistic:
    """One metric over patients.

    Attributes:
        patients: Patients with a value.
        missing: Patients without one (NaN), left out of everything else here.
        mean: Over patients; NaN without any.
        median: Over patients; NaN without any.
        mean_interval: Confidence interval of the mean; None with fewer than ten patients.
        median_interval: Likewise of the median.
        values: (patient, value) of everybody, with fewer than ten patients; else empty.
    """

    patients: int
    missing: int
    mean: float
    median: float
    mean_interval: tuple[float, float] | None
    median_interval: tuple[float, float] | None
    values: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class CohortTable:
    """One table: number of patients and cases, and metric name to its statistic."""

    patients: int
    cases: int
    statistics: dict[str, Statistic]


@dataclass(frozen=True)
class CohortSummary:
    """A cohort's tables.

    Attributes:
        all_cases: Everybody, for comparison with published means; what empty references count follows the cases' own
            mode.
        lesion_positive: Cases whose reference holds a lesion.
        reference_empty: Cases whose reference is empty.
        by_volume: Lesion-positive cases by lesion volume, group name to table.
        recall_by_size: Reference lesions of all patients by size group.
        tiers: Tier name to number of lesion-positive cases.
        without_distances: Lesion-positive cases without surface distances because nothing was predicted.
        confidence: Level of the intervals.
        resamples: Bootstrap samples behind each interval.
        seed: Seed of the bootstrap.
    """

    all_cases: CohortTable
    lesion_positive: CohortTable
    reference_empty: CohortTable
    by_volume: dict[str, CohortTable]
    recall_by_size: tuple[SizeRecall, ...]
    tiers: dict[str, int]
    without_distances: int
    confidence: float
    resamples: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data for JSON: None for NaN."""
        plain: dict[str, Any] = _without_nan(asdict(self))
        for row, recall in zip(plain["recall_by_size"], self.recall_by_size, strict=True):
            row["recall"] = recall.recall if recall.lesions else None
        return plain


def summarise_cohort(
    cases: Sequence[Metrics],
    *,
    patients: Sequence[str] | None = None,
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 2022,
) -> CohortSummary:
    """Tables over many cases.

    Args:
        cases: One record a scan.
        patients: Name of each scan's patient. Scans of one patient are averaged before anything else, since they are no
            independent evidence. None: each scan is a patient of its own, named by its number from 1.
        confidence: Level of the intervals, 0 to 1.
        resamples: Bootstrap samples.
        seed: Makes the intervals repeatable.

    Raises:
        InputError: No cases, as many names as there are not cases, or cases counted over different domains or
            neighbours.
    """
    names = [str(k) for k in range(1, len(cases) + 1)] if patients is None else list(patients)
    _check(cases, names)
    rows = list(zip(names, cases, strict=True))

    def table(chosen: list[tuple[str, Metrics]], metric_names: Sequence[str]) -> CohortTable:
        statistics = {m: _statistic(chosen, m, confidence, resamples, seed) for m in metric_names}
        return CohortTable(len({name for name, _ in chosen}), len(chosen), statistics)

    positive = [row for row in rows if row[1].reference_voxels]
    return CohortSummary(
        all_cases=table(rows, ALL_FIELDS),
        lesion_positive=table(positive, LESION_FIELDS),
        reference_empty=table([row for row in rows if not row[1].reference_voxels], EMPTY_FIELDS),
        by_volume={s: table([r for r in positive if r[1].volume_stratum == s], STRATUM_FIELDS) for s in CASE_STRATA},
        recall_by_size=tuple(_pooled_recall(cases, s) for s in COMPONENT_STRATA),
        tiers={tier: sum(case.tier == tier for _, case in positive) for tier in TIERS},
        without_distances=sum(case.outcome == "prediction empty" for _, case in positive),
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )


def _check(cases: Sequence[Metrics], names: list[str]) -> None:
    if not cases:
        raise InputError("There is nothing to summarise.", "The list of cases is empty.", "Evaluate at least one case.")
    if len(names) != len(cases):
        raise InputError(
            "The cases cannot be assigned to patients.",
            f"There are {len(cases)} cases and {len(names)} patient names.",
            "Give one patient name for each case.",
        )
    settings = sorted({(case.domain, case.connectivity) for case in cases})
    if len(settings) > 1:
        seen = ", ".join(f"{domain} with {neighbours} neighbours" for domain, neighbours in settings)
        raise InputError(
            "The cases cannot be put into one table.",
            f"They were evaluated in different ways: {seen}.",
            "Evaluate all cases either with or without a brain mask, and with the same connectivity.",
        )


def _statistic(rows: list[tuple[str, Metrics]], metric: str, confidence: float, resamples: int, seed: int) -> Statistic:
    """Mean and median over patients, each patient the mean of their cases that have a value."""
    by_patient: dict[str, list[float]] = {}
    for name, case in rows:
        by_patient.setdefault(name, []).append(float(getattr(case, metric)))
    valued = {n: [v for v in values if not math.isnan(v)] for n, values in by_patient.items()}
    means = [(name, math.fsum(values) / len(values)) for name, values in valued.items() if values]
    sample = np.array([v for _, v in means])
    few = len(means) < MINIMUM_PATIENTS

    def interval(statistic: Callable[..., Any]) -> tuple[float, float] | None:
        return None if few else _interval(sample, statistic, confidence, resamples, seed)

    return Statistic(
        patients=len(means),
        missing=len(by_patient) - len(means),
        mean=float(sample.mean()) if means else math.nan,
        median=float(np.median(sample)) if means else math.nan,
        mean_interval=interval(np.mean),
        median_interval=interval(np.median),
        values=tuple(means) if few else (),
    )


def _interval(
    sample: NDArray[np.float64], statistic: Callable[..., Any], confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    """BCa bootstrap interval; where BCa has no value, the percentile interval of the same seed."""
    if np.ptp(sample) == 0.0:
        return float(sample[0]), float(sample[0])

    def bootstrap(method: str) -> tuple[float, float]:
        # Through the attribute, because importing scipy.stats takes a second and only cohorts need it.
        with np.errstate(all="ignore"):
            found = scipy.stats.bootstrap(
                (sample,),
                statistic,
                n_resamples=resamples,
                batch=max(1, 4_000_000 // sample.size),
                confidence_level=confidence,
                method=method,
                random_state=np.random.default_rng(seed),
            ).confidence_interval
        return float(found.low), float(found.high)

    # Leaving one patient out can leave a median with ties unmoved for everybody; BCa's acceleration is then 0/0.
    if _jackknife_is_flat(sample, statistic):
        return bootstrap("percentile")
    return bootstrap("BCa")


def _jackknife_is_flat(sample: NDArray[np.float64], statistic: Callable[..., Any]) -> bool:
    return len({float(statistic(np.delete(sample, k))) for k in range(sample.size)}) == 1


def _pooled_recall(cases: Sequence[Metrics], stratum: str) -> SizeRecall:
    rows = [s for case in cases for s in case.recall_by_size if s.stratum == stratum]
    return SizeRecall(stratum, lesions=sum(s.lesions for s in rows), found=sum(s.found for s in rows))


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value
