"""Tables over many cases: who is in which table, and how sure a mean is."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from strokeseg.errors import InputError
from strokeseg.metrics import evaluate_masks, summarise_cohort


def case(found, reference, extra=0, voxel_mm=10.0, connectivity=26):
    """`found` of `reference` lesion voxels predicted, and `extra` false ones; 1 ml a voxel."""
    g, p = np.zeros((60, 1, 1), bool), np.zeros((60, 1, 1), bool)
    g[:reference] = True
    p[:found] = True
    p[50 : 50 + extra] = True
    return evaluate_masks(p, g, np.diag([voxel_mm, voxel_mm, voxel_mm, 1]), connectivity=connectivity)


def cohort(n=12):
    return [case(k, 12) for k in range(1, n + 1)]


def test_empty_references_have_their_own_table():
    s = summarise_cohort([case(2, 2), case(0, 2), case(0, 0, extra=6), case(0, 0)])
    assert (s.lesion_positive.cases, s.reference_empty.cases, s.all_cases.cases) == (2, 2, 4)
    assert s.lesion_positive.statistics["dice"].mean == pytest.approx(0.5)
    assert s.reference_empty.statistics["specificity"].mean == pytest.approx((54 / 60 + 1) / 2)
    assert s.reference_empty.statistics["false_positive_ml"].mean == pytest.approx(3.0)
    assert s.reference_empty.statistics["lesion_false_positives"].mean == pytest.approx(0.5)
    assert "dice" not in s.reference_empty.statistics


def test_missing_distances_are_counted_and_never_zero():
    s = summarise_cohort([case(2, 2), case(0, 2)])
    assert s.without_distances == 1
    hd95 = s.lesion_positive.statistics["hd95_mm"]
    assert (hd95.patients, hd95.missing, hd95.mean) == (1, 1, 0.0)


def test_few_patients_are_all_shown_and_get_no_interval():
    dice = summarise_cohort(cohort(9)).lesion_positive.statistics["dice"]
    assert dice.mean_interval is None
    assert dice.median_interval is None
    assert dice.values == tuple((str(k), pytest.approx(2 * k / (12 + k))) for k in range(1, 10))


def test_ten_patients_get_an_interval():
    dice = summarise_cohort(cohort(10)).lesion_positive.statistics["dice"]
    assert dice.values == ()
    low, high = dice.mean_interval
    assert low < dice.mean < high
    low, high = dice.median_interval
    assert low <= dice.median <= high


def test_the_same_seed_gives_the_same_interval():
    first, again, other = (
        summarise_cohort(cohort(), seed=s, resamples=999).lesion_positive.statistics["dice"].mean_interval
        for s in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_the_interval_of_a_symmetric_sample_is_near_students():
    cases = [case(k, 30) for k in range(1, 31)]
    sensitivity = summarise_cohort(cases).lesion_positive.statistics["sensitivity"]
    values = np.arange(1, 31) / 30
    low, high = stats.t.interval(0.95, 29, values.mean(), stats.sem(values))
    assert sensitivity.mean_interval == pytest.approx((low, high), abs=0.01)


def test_equal_patients_have_an_interval_without_width():
    dice = summarise_cohort([case(3, 3)] * 12).lesion_positive.statistics["dice"]
    assert dice.mean_interval == (1.0, 1.0)


def test_a_median_with_ties_still_gets_an_interval():
    cases = [case(12, 12)] * 11 + [case(1, 12)]
    low, high = summarise_cohort(cases).lesion_positive.statistics["dice"].median_interval
    assert (low, high) == (1.0, 1.0)


def test_scans_of_one_patient_count_once():
    s = summarise_cohort([case(2, 2), case(0, 2), case(2, 2)], patients=["a", "a", "b"])
    dice = s.lesion_positive.statistics["dice"]
    assert (s.lesion_positive.patients, s.lesion_positive.cases) == (2, 3)
    assert dice.values == (("a", 0.5), ("b", 1.0))
    assert dice.mean == pytest.approx(0.75)


def test_strata_by_volume_tiers_and_component_recall():
    small = case(8, 8, voxel_mm=4.0)  # 0.512 ml
    s = summarise_cohort([small, case(3, 5), case(1, 20), case(0, 0, extra=1)])
    assert {name: t.cases for name, t in s.by_volume.items()} == {"<1 ml": 1, "1-10 ml": 1, ">10 ml": 1}
    assert s.by_volume["1-10 ml"].statistics["dice"].mean == pytest.approx(6 / 8)
    assert s.tiers == {">=0.8": 1, "0.6-0.8": 1, "0.4-0.6": 0, "<0.4": 1}
    assert [(r.stratum, r.lesions, r.found) for r in s.recall_by_size] == [
        ("<0.1 ml", 0, 0),
        ("0.1-1 ml", 1, 1),
        (">1 ml", 2, 2),
    ]


def test_the_summary_is_json():
    plain = json.loads(json.dumps(summarise_cohort([case(0, 2)]).to_dict(), allow_nan=False))
    assert plain["lesion_positive"]["statistics"]["hd95_mm"]["mean"] is None
    assert plain["recall_by_size"][2] == {"stratum": ">1 ml", "lesions": 1, "found": 0, "recall": 0.0}
    assert plain["recall_by_size"][0]["recall"] is None


def test_no_reference_at_all_leaves_an_empty_table():
    s = summarise_cohort([case(0, 0)])
    assert s.lesion_positive.cases == 0
    assert math.isnan(s.lesion_positive.statistics["dice"].mean)


def test_cohorts_that_cannot_be_one_table_are_refused():
    with pytest.raises(InputError, match="list of cases is empty"):
        summarise_cohort([])
    with pytest.raises(InputError, match="2 cases and 1 patient names"):
        summarise_cohort(cohort(2), patients=["a"])
    with pytest.raises(InputError, match="6 neighbours"):
        summarise_cohort([case(1, 1), case(1, 1, connectivity=6)])
