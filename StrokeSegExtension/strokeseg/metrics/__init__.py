"""How well a prediction agrees with a reference: overlap, surfaces, lesions, calibration, and whole cohorts.

Plain arrays and affines in, frozen records with units in their names out. Imports the standard library, numpy, scipy
and `strokeseg.errors` only, so that it also runs inside Slicer.
"""

from strokeseg.metrics.calibration import Calibration, calibrate, pr_auc
from strokeseg.metrics.cohort import CohortSummary, CohortTable, Statistic, summarise_cohort
from strokeseg.metrics.distances import SurfaceDistances, surface_distances
from strokeseg.metrics.evaluate import Metrics, evaluate_masks
from strokeseg.metrics.lesionwise import LesionAgreement, SizeRecall, compare_lesions
from strokeseg.metrics.overlap import Overlap, compare_voxels
from strokeseg.metrics.slices import SliceStratum, slices_by_lesion_fraction
from strokeseg.metrics.strata import performance_tier, volume_stratum

__all__ = [
    "Calibration",
    "CohortSummary",
    "CohortTable",
    "LesionAgreement",
    "Metrics",
    "Overlap",
    "SizeRecall",
    "SliceStratum",
    "Statistic",
    "SurfaceDistances",
    "calibrate",
    "compare_lesions",
    "compare_voxels",
    "evaluate_masks",
    "performance_tier",
    "pr_auc",
    "slices_by_lesion_fraction",
    "summarise_cohort",
    "surface_distances",
    "volume_stratum",
]
