"""Metrics of one case on phantoms whose answers are computed by hand."""

import json
import math

import numpy as np
import pytest
from scipy import ndimage

from strokeseg.errors import InputError
from strokeseg.metrics import (
    calibrate,
    evaluate_masks,
    performance_tier,
    pr_auc,
    slices_by_lesion_fraction,
    surface_distances,
    volume_stratum,
)
from strokeseg.metrics.strata import component_stratum

RATIOS = ("dice", "iou", "sensitivity", "precision", "mcc", "lesion_f1", "lesion_precision", "lesion_recall", "rq")
DISTANCES = ("hd95_mm", "assd_mm", "ahd_mm", "nsd_2mm")


def spacing(x, y, z):
    return np.diag([x, y, z, 1.0])


def box(shape, *slices):
    mask = np.zeros(shape, bool)
    mask[slices] = True
    return mask


def line(text):
    """A phantom along x: a hash is a voxel inside, a dot one outside."""
    return np.array([c == "#" for c in text]).reshape(-1, 1, 1)


def test_two_cubes_a_voxel_apart_on_an_anisotropic_grid():
    reference = box((8, 6, 6), slice(1, 4), slice(1, 4), slice(1, 4))
    prediction = box((8, 6, 6), slice(2, 5), slice(1, 4), slice(1, 4))
    m = evaluate_masks(prediction, reference, spacing(2, 1, 1))
    assert m.dice == pytest.approx(2 * 18 / 54)
    assert m.iou == pytest.approx(18 / 36)
    # Each surface has 26 voxels: nine lie 2 mm off, the middle of the far layer 1 mm, sixteen on the other surface.
    assert m.assd_mm == pytest.approx(19 / 26)
    assert m.ahd_mm == pytest.approx(19 / 26)
    assert m.hd95_mm == pytest.approx(2.0)
    assert m.nsd_2mm == 1.0
    assert m.reference_ml == pytest.approx(0.054)
    assert m.volume_difference_ml == 0.0
    assert m.false_positive_ml == pytest.approx(0.018)


def test_parallel_plates_are_as_far_apart_as_their_slices():
    reference = box((7, 7, 6), slice(1, 6), slice(1, 6), slice(1, 2))
    prediction = box((7, 7, 6), slice(1, 6), slice(1, 6), slice(3, 4))
    far = evaluate_masks(prediction, reference, spacing(0.7, 0.7, 3.0))
    assert [far.hd95_mm, far.assd_mm, far.ahd_mm, far.nsd_2mm] == pytest.approx([6, 6, 6, 0])
    near = evaluate_masks(prediction, reference, spacing(0.7, 0.7, 1.0))
    assert near.nsd_2mm == 1.0  # 2 mm is within 2 mm


def test_unequal_surfaces_tell_assd_from_ahd():
    m = evaluate_masks(line("#..."), line(".###"), spacing(1, 1, 1))
    # From the prediction: 1 mm. From the reference: 1, 2, 3 mm.
    assert m.assd_mm == pytest.approx(7 / 4)
    assert m.ahd_mm == pytest.approx((1 + 2) / 2)
    assert m.hd95_mm == pytest.approx(2.9)
    assert m.nsd_2mm == pytest.approx(3 / 4)


def test_distance_across_sheared_slices_is_the_worlds():
    sheared = np.array([[1, 0, 1, 5], [0, 1, 0, -3], [0, 0, 2, 7], [0, 0, 0, 1.0]])
    m = evaluate_masks(box((2, 2, 2), 0, 0, 1), box((2, 2, 2), 0, 0, 0), sheared)
    assert m.hd95_mm == pytest.approx(math.sqrt(5))
    assert m.voxel_ml == pytest.approx(0.002)


def test_surface_distances_agree_with_distance_transforms():
    random = np.random.default_rng(3)
    p, g = (ndimage.gaussian_filter(random.normal(size=(30, 26, 18)), 2) > 0.05 for _ in range(2))
    steps = (0.9, 1.1, 3.0)

    def surface(mask):
        return mask & (ndimage.distance_transform_cdt(np.pad(mask, 1), "taxicab")[1:-1, 1:-1, 1:-1] == 1)

    to_g, to_p = (ndimage.distance_transform_edt(~surface(m), sampling=steps) for m in (g, p))
    there, back = to_g[surface(p)], to_p[surface(g)]
    found = surface_distances(p, g, spacing(*steps))
    both = np.concatenate([there, back])
    assert found.assd_mm == pytest.approx(both.mean())
    assert found.ahd_mm == pytest.approx((there.mean() + back.mean()) / 2)
    assert found.hd95_mm == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))
    assert found.nsd_2mm == pytest.approx((both <= 2).mean())


def test_four_counts_give_all_ratios():
    # 3 true positives, 1 false positive, 2 false negatives, 4 true negatives.
    m = evaluate_masks(line("####......"), line(".#####...."), spacing(1, 1, 1))
    assert (m.true_positive_voxels, m.false_positive_voxels, m.false_negative_voxels) == (3, 1, 2)
    assert m.dice == pytest.approx(6 / 9)
    assert m.voxel_f1 == m.dice
    assert m.iou == pytest.approx(3 / 6)
    assert m.sensitivity == pytest.approx(3 / 5)
    assert m.precision == pytest.approx(3 / 4)
    assert m.specificity == pytest.approx(4 / 5)
    assert m.accuracy == pytest.approx(7 / 10)
    assert m.mcc == pytest.approx((3 * 4 - 1 * 2) / math.sqrt(4 * 5 * 5 * 6))


def test_true_negatives_are_counted_in_the_brain_and_overlap_everywhere():
    brain = line("######....")
    m = evaluate_masks(line(".###....##"), line("..###....."), spacing(1, 1, 1), brain=brain)
    assert m.domain == "brain"
    assert m.domain_voxels == 6
    assert m.specificity == pytest.approx(2 / 3)
    assert m.accuracy == pytest.approx(4 / 6)
    assert m.dice == pytest.approx(2 * 2 / (5 + 3))
    assert m.false_positive_ml == pytest.approx(0.003)
    assert evaluate_masks(line(".###....##"), line("..###....."), spacing(1, 1, 1)).domain == "whole grid"


def test_mcc_of_large_volumes_does_not_overflow():
    mask = box((100, 100, 100), slice(0, 50))
    assert evaluate_masks(mask, mask, spacing(1, 1, 1)).mcc == 1.0


def test_lesion_f1_counts_touched_missed_and_invented_lesions():
    reference = line("###..##...####......")
    prediction = line("#.#.......#.....##..")
    m = evaluate_masks(prediction, reference, spacing(1, 1, 1))
    assert (m.reference_lesions, m.prediction_lesions, m.ald) == (3, 4, 1)
    # Two reference lesions are touched (one by two predictions), one is missed, one prediction touches nothing.
    assert (m.lesion_true_positives, m.lesion_false_negatives, m.lesion_false_positives) == (2, 1, 1)
    assert m.lesion_f1 == pytest.approx(2 / 3)
    assert m.lesion_precision == pytest.approx(2 / 3)
    assert m.lesion_recall == pytest.approx(2 / 3)


def test_a_mask_of_the_whole_brain_has_lesion_f1_1_and_is_given_away_by_its_volume():
    brain = box((20, 20, 20), slice(2, 18), slice(2, 18), slice(2, 18))
    reference = box((20, 20, 20), slice(5, 7), slice(5, 7), slice(5, 7))
    m = evaluate_masks(brain, reference, spacing(10, 10, 10), brain=brain)
    assert m.lesion_f1 == 1.0
    assert m.precision == pytest.approx(8 / 4096)
    assert m.false_positive_ml == pytest.approx(4088)
    assert m.specificity == 0.0
    assert m.rq == 0.0


def test_recognition_quality_pairs_each_lesion_once():
    # IoU 4/8 and 3/8 with the same reference: only one of them can be its partner.
    m = evaluate_masks(line("####.###.."), line("########.."), spacing(1, 1, 1))
    assert m.rq == pytest.approx(1 / (1 + 0.5))
    assert m.lesion_f1 == 1.0


def test_recognition_starts_at_an_overlap_of_a_quarter():
    assert evaluate_masks(line("#..."), line("####"), spacing(1, 1, 1)).rq == 1.0
    assert evaluate_masks(line("#...."), line("#####"), spacing(1, 1, 1)).rq == 0.0


def test_the_better_pair_is_matched_first():
    # One prediction bridges two references (IoU 5/9 and 3/9); a second one covers a part of the first (1/5 < 1/4).
    reference = line("#####.###....")
    prediction = line("#########....")
    m = evaluate_masks(prediction, reference, spacing(1, 1, 1))
    assert m.rq == pytest.approx(1 / (1 + 0.5))


@pytest.mark.parametrize(("connectivity", "corner", "edge"), [(6, 2, 2), (18, 2, 1), (26, 1, 1)])
def test_connectivity_decides_what_is_one_lesion(connectivity, corner, edge):
    mask = box((6, 6, 6), 0, 0, 0) | box((6, 6, 6), 1, 1, 1)
    assert evaluate_masks(mask, mask, spacing(1, 1, 1), connectivity=connectivity).reference_lesions == corner
    mask = box((6, 6, 6), 0, 0, 0) | box((6, 6, 6), 1, 1, 0)
    assert evaluate_masks(mask, mask, spacing(1, 1, 1), connectivity=connectivity).reference_lesions == edge


def test_recall_is_told_by_component_size():
    # 1 mm x 5 mm x 10 mm = 0.05 ml a voxel: components of 0.05, 0.1, 1.0 and 1.05 ml.
    pieces = [1, 2, 20, 21]
    text = "..".join("#" * n for n in pieces)
    m = evaluate_masks(line(text[:1] + "." * (len(text) - 22) + text[-21:]), line(text), spacing(1, 5, 10))
    rows = {s.stratum: (s.lesions, s.found) for s in m.recall_by_size}
    assert rows == {"<0.1 ml": (1, 1), "0.1-1 ml": (2, 0), ">1 ml": (1, 1)}


@pytest.mark.parametrize(
    ("prediction", "reference", "outcome", "sensitivity", "others"),
    [
        ("......", "..##..", "prediction empty", 0.0, 0.0),
        ("..##..", "......", "reference empty", math.nan, 0.0),
        ("......", "......", "both empty", math.nan, math.nan),
    ],
)
def test_empty_masks_follow_the_declared_table(prediction, reference, outcome, sensitivity, others):
    m = evaluate_masks(line(prediction), line(reference), spacing(1, 1, 1))
    assert m.outcome == outcome
    for name in RATIOS:
        expected = sensitivity if name in ("sensitivity", "lesion_recall") else others
        assert getattr(m, name) == pytest.approx(expected, nan_ok=True), name
    assert all(math.isnan(getattr(m, name)) for name in DISTANCES)


def test_isles_mode_rewards_two_empty_masks_and_nothing_else():
    both = evaluate_masks(line("...."), line("...."), spacing(1, 1, 1), empty="isles")
    assert all(getattr(both, name) == 1.0 for name in RATIOS)
    assert all(math.isnan(getattr(both, name)) for name in DISTANCES)
    assert evaluate_masks(line("#..."), line("...."), spacing(1, 1, 1), empty="isles").dice == 0.0
    assert evaluate_masks(line("...."), line("#..."), spacing(1, 1, 1), empty="isles").dice == 0.0


def test_an_empty_reference_still_tells_specificity_and_false_positives():
    m = evaluate_masks(line("#.#......."), line(".........."), spacing(10, 10, 10))
    assert m.specificity == pytest.approx(0.8)
    assert m.false_positive_ml == pytest.approx(2.0)
    assert m.lesion_false_positives == 2
    assert m.volume_stratum is None


def test_signed_and_absolute_volume_difference():
    m = evaluate_masks(line("#....."), line("..###."), spacing(10, 10, 10))
    assert (m.avd_ml, m.volume_difference_ml) == (pytest.approx(2.0), pytest.approx(-2.0))
    assert (m.reference_ml, m.prediction_ml) == (pytest.approx(3.0), pytest.approx(1.0))


def test_the_dictionary_is_json_with_none_for_nan():
    m = evaluate_masks(line("...."), line("...."), spacing(1, 1, 1))
    plain = json.loads(json.dumps(m.to_dict(), allow_nan=False))
    assert plain["dice"] is None
    assert plain["outcome"] == "both empty"
    assert plain["recall_by_size"][0] == {"stratum": "<0.1 ml", "lesions": 0, "found": 0, "recall": None}


def test_labels_above_zero_are_lesion():
    labels = np.array([0, 1, 2, 0], np.uint8).reshape(-1, 1, 1)
    assert evaluate_masks(labels, line(".##."), spacing(1, 1, 1)).dice == 1.0


@pytest.mark.parametrize("value", [0.4, math.nan, -1.0])
def test_a_probability_map_or_an_image_is_not_taken_for_a_mask(value):
    image = np.full((3, 3, 3), value)
    with pytest.raises(InputError, match="is not a mask"):
        evaluate_masks(image, np.ones((3, 3, 3), bool), spacing(1, 1, 1))


def test_other_unusable_inputs_are_refused_in_words():
    mask = np.ones((3, 3, 3), bool)
    with pytest.raises(InputError, match=r"\(3, 3, 2\).*\(3, 3, 3\)"):
        evaluate_masks(mask[:, :, :2], mask, spacing(1, 1, 1))
    with pytest.raises(InputError, match="affine"):
        evaluate_masks(mask, mask, spacing(1, 1, 0))
    with pytest.raises(InputError, match="12 neighbours"):
        evaluate_masks(mask, mask, spacing(1, 1, 1), connectivity=12)
    with pytest.raises(InputError, match="probability map"):
        evaluate_masks(mask, mask, spacing(1, 1, 1), probability=np.full((3, 3, 3), math.nan))


def test_pr_auc_by_hand():
    probability = np.array([0.9, 0.8, 0.7, 0.1]).reshape(-1, 1, 1)
    assert pr_auc(probability, line("#.#.")) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert pr_auc(probability, line("##..")) == 1.0
    assert math.isnan(pr_auc(probability, line("....")))


def test_equal_probabilities_are_one_step_of_the_curve():
    assert pr_auc(np.full((10, 1, 1), 0.3), line("###.......")) == pytest.approx(0.3)


def test_a_mask_in_place_of_a_map_scores_as_two_steps():
    # Precision 2/3 at recall 2/3, then 3/6 at recall 1.
    expected = 2 / 3 * 2 / 3 + 1 / 3 * 3 / 6
    for dtype in (bool, np.uint8, np.float32):
        assert pr_auc(line("###...").astype(dtype), line(".###..")) == pytest.approx(expected)


def test_a_random_map_scores_the_share_of_lesion():
    random = np.random.default_rng(0)
    reference = random.random((40, 40, 25)) < 0.1
    assert pr_auc(random.random((40, 40, 25)), reference) == pytest.approx(0.1, abs=0.01)


def test_pr_auc_is_counted_in_the_brain():
    probability = np.array([0.9, 0.8, 0.95, 0.1]).reshape(-1, 1, 1)
    m = evaluate_masks(line("##.."), line("##.."), spacing(1, 1, 1), probability=probability, brain=line("##.#"))
    assert m.pr_auc == 1.0
    m = evaluate_masks(line("##.."), line("##.."), spacing(1, 1, 1), probability=probability)
    assert m.pr_auc == pytest.approx(0.5 * 1 / 2 + 0.5 * 2 / 3)


def test_calibration_by_hand():
    probability = np.array([0.1, 0.1, 0.9, 0.9, 0.9]).reshape(-1, 1, 1)
    c = calibrate(probability, line(".###."), line("####."), bins=2)
    assert c.voxels == (2, 2)
    assert c.mean_probability == pytest.approx((0.1, 0.9))
    assert c.lesion_fraction == pytest.approx((0.5, 1.0))
    assert c.ece == pytest.approx(0.5 * 0.4 + 0.5 * 0.1)
    assert c.brier == pytest.approx((0.01 + 0.81 + 0.01 + 0.01) / 4)


def test_bins_hold_their_lower_edge_and_empty_bins_have_no_value():
    c = calibrate(np.array([0.3, 1.0]).reshape(-1, 1, 1), line(".#"), line("##"), bins=10)
    assert c.voxels == (0, 0, 0, 1, 0, 0, 0, 0, 0, 1)
    assert math.isnan(c.mean_probability[0])
    assert json.loads(json.dumps(c.to_dict(), allow_nan=False))["mean_probability"][0] is None


def test_calibration_without_brain_is_refused():
    with pytest.raises(InputError, match="brain mask is empty"):
        calibrate(np.zeros((2, 1, 1)), line(".."), line(".."))


def test_strata_and_tiers_at_their_borders():
    assert [volume_stratum(v) for v in (0.99, 1.0, 10.0, 10.1)] == ["<1 ml", "1-10 ml", "1-10 ml", ">10 ml"]
    assert [component_stratum(v) for v in (0.099, 0.0999999999, 1.0, 1.01)] == [
        "<0.1 ml",
        "0.1-1 ml",
        "0.1-1 ml",
        ">1 ml",
    ]
    assert [performance_tier(d) for d in (0.8, 0.79, 0.6, 0.4, 0.39)] == [
        ">=0.8",
        "0.6-0.8",
        "0.6-0.8",
        "0.4-0.6",
        "<0.4",
    ]
    assert performance_tier(math.nan) is None


def test_slices_are_grouped_by_their_share_of_lesion():
    brain = np.ones((10, 10, 5), bool)
    brain[:, :, 4] = False
    reference = np.zeros((10, 10, 5), bool)
    reference[0, 0, 1] = True  # 1 %
    reference[:5, 0, 2] = True  # 5 %
    reference[:6, 0, 3] = True  # 6 %
    prediction = reference.copy()
    prediction[0, 0, 0] = True
    prediction[3:6, 0, 3] = False
    # Axes permuted: the head-foot axis comes first.
    affine = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    rows = slices_by_lesion_fraction(*(np.moveaxis(m, 2, 0) for m in (prediction, reference, brain)), affine)
    assert [(r.stratum, r.slices, r.slices_with_false_positives) for r in rows] == [
        ("no lesion", 1, 1),
        ("up to 1 %", 1, 0),
        ("1-5 %", 1, 0),
        ("over 5 %", 1, 0),
    ]
    assert [r.mean_dice for r in rows] == pytest.approx([math.nan, 1.0, 1.0, 2 / 3], nan_ok=True)
