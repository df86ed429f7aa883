"""From probabilities to masks: thresholds, classes, brain, smallest lesion."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from strokeseg.errors import InputError
from strokeseg.postprocess import decide, decide_argmax, peak_at, remove_small

UNIT = np.eye(4)
TWO_MM = np.diag([2.0, 2.0, 2.0, 1.0])


def line(*values, dtype=np.float32):
    return np.array(values, dtype).reshape(-1, 1, 1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("threshold", [0.3, np.float64(0.3)])
def test_the_threshold_itself_is_lesion(dtype, threshold):
    mask = decide(line(0.29, 0.3, 0.31, dtype=dtype), threshold=threshold, minimum_lesion_ml=0, affine=UNIT)
    assert mask.dtype == np.uint8
    assert mask.ravel().tolist() == [0, 1, 1]


def test_nothing_is_lesion_outside_the_brain():
    brain = line(0, 1, 1, dtype=np.uint8)
    mask = decide(line(0.9, 0.9, 0.1), threshold=0.5, minimum_lesion_ml=0, affine=UNIT, brain=brain)
    assert mask.ravel().tolist() == [0, 1, 0]


def test_the_brain_is_applied_before_small_lesions_are_removed():
    probability = line(0.9, 0.9, 0.9, 0)
    brain = line(0, 0, 1, 1)
    assert not decide(probability, threshold=0.5, minimum_lesion_ml=0.002, affine=UNIT, brain=brain).any()
    assert decide(probability, threshold=0.5, minimum_lesion_ml=0.002, affine=UNIT).sum() == 3


def test_lesions_strictly_smaller_than_the_minimum_are_removed():
    mask = np.zeros((30, 1, 1), np.uint8)
    mask[:9] = 1
    mask[10:20] = 1
    kept = remove_small(mask, TWO_MM, 0.08)
    assert (kept[:9].sum(), kept[10:20].sum()) == (0, 10)
    assert mask[:9].sum() == 9  # the input stays as it was


def test_float32_headers_do_not_decide_at_the_border():
    turn = 0.1
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:2, :2] = 2 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    for nudge in (1 - 1e-7, 1 + 1e-7):
        assert remove_small(np.ones((10, 1, 1), np.uint8), affine * nudge, 0.08).sum() == 10


def test_minimum_is_measured_on_sheared_voxels_by_their_determinant():
    sheared = np.array([[2, 0, 9, 0], [0, 2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1.0]])  # 12 mm³
    assert remove_small(np.ones((2, 1, 1), bool), sheared, 0.024).sum() == 2
    assert remove_small(np.ones((2, 1, 1), bool), sheared, 0.0241).sum() == 0


def test_classes_of_one_lesion_count_together():
    labels = line(1, 1, 2, 0, 2, dtype=np.uint8)
    assert remove_small(labels, UNIT, 0.003).ravel().tolist() == [1, 1, 2, 0, 0]


def test_connectivity_decides_what_is_small():
    mask = np.zeros((3, 3, 3), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert remove_small(mask, UNIT, 0.002).sum() == 2
    assert remove_small(mask, UNIT, 0.002, connectivity=6).sum() == 0


def test_type_and_emptiness_are_kept():
    assert remove_small(np.zeros((2, 2, 2), np.uint16), UNIT, 1.0).dtype == np.uint16
    assert remove_small(np.ones((2, 2, 2), bool), UNIT, 0.0).dtype == bool


def test_argmax_takes_the_highest_class_and_background_in_a_tie():
    background, infarct, bleeding = [0.5, 0.2, 0.1, 0.4], [0.5, 0.7, 0.3, 0.3], [0.0, 0.1, 0.6, 0.3]
    probabilities = np.array([background, infarct, bleeding]).reshape(3, 4, 1, 1)
    labels = decide_argmax(probabilities, minimum_lesion_ml=0, affine=UNIT)
    assert labels.dtype == np.uint8
    assert labels.ravel().tolist() == [0, 1, 2, 0]
    assert not decide_argmax(probabilities, minimum_lesion_ml=0.003, affine=UNIT).any()
    assert decide_argmax(probabilities, minimum_lesion_ml=0.002, affine=UNIT).any()
    brain = line(1, 0, 1, 1)
    assert decide_argmax(probabilities, minimum_lesion_ml=0, affine=UNIT, brain=brain).ravel().tolist() == [0, 0, 2, 0]


def test_a_higher_threshold_shrinks_the_mask():
    probability = np.random.default_rng(0).random((8, 8, 8))
    sizes = [int(decide(probability, threshold=t, minimum_lesion_ml=0, affine=UNIT).sum()) for t in (0.2, 0.5, 0.8)]
    assert sizes == [int((probability >= t).sum()) for t in (0.2, 0.5, 0.8)]
    assert sizes[0] > sizes[1] > sizes[2] > 0


def test_a_lesion_is_drawn_at_the_threshold_where_it_reaches_the_peak():
    probability = line(0.6, 0.7, 0.95, 0.6, 0.2, 0.9, 0.7, 0.2, 0.94)
    rule = {"threshold": 0.6, "minimum_lesion_ml": 0, "affine": UNIT}
    assert decide(probability, **rule, peak=0.95).ravel().tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert decide(probability, **rule, peak=0.9).ravel().tolist() == [1, 1, 1, 1, 0, 1, 1, 0, 1]
    # What is asked of lesions anyway changes nothing, and a peak outside the brain does not count.
    assert decide(probability, **rule, peak=0.6).ravel().tolist() == decide(probability, **rule).ravel().tolist()
    brain = line(1, 1, 0, 1, 1, 1, 1, 1, 1)
    assert decide(probability, **rule, peak=0.95, brain=brain).sum() == 0
    # The smallest lesion counts what the threshold draws.
    small = {**rule, "minimum_lesion_ml": 0.004}
    assert decide(probability, **small, peak=0.9).ravel().tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0]


def test_the_peak_moves_with_the_threshold():
    own = {"own_threshold": 0.8, "own_peak": 0.95}
    moved = [peak_at(t, **own) for t in (0.0, 0.4, 0.8, 0.9, 1.0)]
    assert moved == pytest.approx([0.0, 0.475, 0.95, 0.975, 1.0])
    assert moved[2] == 0.95
    assert [peak_at(t, own_threshold=0.8, own_peak=0.0) for t in (0.1, 0.8, 1.0)] == [0.0] * 3
    assert peak_at(1.0, own_threshold=1.0, own_peak=1.0) == 1.0
    # Thresholds that are none are refused by `decide`, in words.
    for wrong, edge in ((1.5, 1.0), (-0.5, 0.0), (math.nan, 0.5)):
        assert peak_at(wrong, own_threshold=edge, own_peak=1.0) == 0.0
    assert peak_at(0.0, own_threshold=0.0, own_peak=0.5) == 0.5


def test_what_a_higher_threshold_keeps_a_lower_one_keeps_too():
    rng = np.random.default_rng(4)
    probability = ndimage.gaussian_filter(rng.random((24, 24, 24)), 1.5)
    probability = (probability - probability.min()) / np.ptp(probability)
    masks = []
    for threshold in np.linspace(0.05, 0.95, 19):
        peak = peak_at(float(threshold), own_threshold=0.6, own_peak=0.8)
        assert peak > threshold
        masks.append(decide(probability, threshold=threshold, minimum_lesion_ml=0.01, affine=UNIT, peak=peak) > 0)
    assert all((higher <= lower).all() for lower, higher in pairwise(masks))
    assert masks[10].sum() < (probability >= 0.55).sum()


def test_unusable_inputs_are_refused_in_words():
    good = line(0.1, 0.9)
    rule = {"threshold": 0.5, "minimum_lesion_ml": 0.0, "affine": UNIT}
    with pytest.raises(InputError, match="1 of its 2 voxels are NaN"):
        decide(line(0.1, math.nan), **rule)
    with pytest.raises(InputError, match="-3 to 4"):
        decide(line(-3, 4), **rule)
    with pytest.raises(InputError, match=r"1\.5"):
        decide(good, **{**rule, "threshold": 1.5})
    with pytest.raises(InputError, match="threshold"):
        decide(good, **{**rule, "threshold": math.nan})
    with pytest.raises(InputError, match=r"peak that lesions must reach is not usable\. It is 1\.2"):
        decide(good, **rule, peak=1.2)
    with pytest.raises(InputError, match="-1 ml"):
        decide(good, **{**rule, "minimum_lesion_ml": -1.0})
    with pytest.raises(InputError, match="brain mask"):
        decide(good, **rule, brain=line(1, 1, 1))
    with pytest.raises(InputError, match="affine"):
        decide(good, **{**rule, "affine": np.zeros((4, 4))})
    with pytest.raises(InputError, match="12 neighbours"):
        decide(good, **rule, connectivity=12)
    with pytest.raises(InputError, match="3 axes"):
        decide(good[0], **rule)
    with pytest.raises(InputError, match="1 classes"):
        decide_argmax(good[None], minimum_lesion_ml=0, affine=UNIT)
