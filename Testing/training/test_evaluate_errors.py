"""Errors of the published evaluations that must not come back: one test each, on masks whose figures are known.

Cases are boxes on grids of known spacing; nothing is read from files and no model runs here.
"""

from __future__ import annotations

import csv
import math
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch", reason="the evaluation reads recipes of training, which need torch")

from strokeseg_training.evaluate.logs import TrainingRun, read_columns
from strokeseg_training.evaluate.panels import (
    COLOURS,
    FALSE,
    MISSED,
    RIGHT,
    Cut,
    agreement,
    choose_slices,
    draw_panel,
)
from strokeseg_training.evaluate.published.attention_unet import batch_results, training_history
from strokeseg_training.evaluate.record import ANY, Record, compare, compare_slices
from strokeseg_training.evaluate.tables import (
    HASHES,
    patients_csv,
    slice_groups,
    summaries,
    tables_csv,
)

SHAPE = (12, 10, 8)
HASH = dict.fromkeys(HASHES, "abc")


def box(*bounds, shape=SHAPE):
    mask = np.zeros(shape, np.uint8)
    mask[tuple(slice(a, b) for a, b in bounds)] = 1
    return mask


NOTHING = np.zeros(SHAPE, np.uint8)
CUBE = box((2, 4), (2, 4), (2, 4))  # 8 voxels
BESIDE = box((3, 5), (2, 4), (2, 4))  # shares 4 of them


def record(prediction, reference, *, name="a", spacing=(1.0, 1.0, 1.0), classes=(), person=""):
    """As the evaluation makes one; brain is the whole grid."""
    prediction, reference = np.asarray(prediction, np.uint8), np.asarray(reference, np.uint8)
    values = range(max(len(classes), 1) + 1)
    result = SimpleNamespace(
        mask=prediction,
        affine=np.diag([*spacing, 1.0]),
        probability=(prediction > 0).astype(np.float32),
        class_probabilities=np.stack([(prediction == v) for v in values]).astype(np.float32),
        brain=np.ones(prediction.shape, bool),
    )
    metrics, slices = compare(result, reference, classes), compare_slices(result, reference)
    return Record(name, person or name, "", metrics, slices, spacing, (), {"device": "cpu"})


def statistic(records, name, group="lesion_positive", of=ANY):
    return getattr(summaries(records)[of], group).statistics[name]


def test_dice_is_that_of_the_volume_and_no_mean_over_slices():
    # One slice of 2 voxels found whole, one of 60 found by a tenth: slices have Dice 1 and 2*6/66.
    reference = box((0, 10), (0, 6), (3, 4)) + box((0, 2), (0, 1), (5, 6))
    prediction = box((0, 6), (0, 1), (3, 4)) + box((0, 2), (0, 1), (5, 6))
    volume, mean_of_slices = 2 * 8 / (8 + 62), (1 + 12 / 66) / 2
    case = record(prediction, reference)
    assert case.any.dice == pytest.approx(volume)
    assert statistic([case], "dice").mean == pytest.approx(volume)
    assert abs(volume - mean_of_slices) > 0.3
    shown = slice_groups([case])
    assert {row["stratum"]: row["slices"] for row in shown} == {
        "no lesion": 6,
        "up to 1 %": 0,
        "1-5 %": 1,
        "over 5 %": 1,
    }
    assert all("dice" not in row for row in shown)


def test_a_miss_counts_zero_in_overlap_and_nothing_in_distances():
    found, missed = record(CUBE, CUBE, name="a"), record(NOTHING, CUBE, name="b")
    dice, hd95 = (statistic([found, missed], n) for n in ("dice", "hd95_mm"))
    assert (dice.mean, dice.patients, dice.missing) == (0.5, 2, 0)
    # A distance of 0 for the miss would make it the best case of all.
    assert math.isnan(missed.any.hd95_mm)
    assert (hd95.mean, hd95.patients, hd95.missing) == (0.0, 1, 1)
    assert summaries([found, missed])[ANY].without_distances == 1
    assert statistic([found, missed], "lesion_f1").mean == 0.5


def test_two_empty_masks_are_neither_a_success_nor_a_failure():
    half, nothing = record(BESIDE, CUBE, name="a"), record(NOTHING, NOTHING, name="b")
    for group in ("lesion_positive", "all_cases"):
        # With 1 for the empty pair it would be 0.75, with 0 it would be 0.25.
        assert statistic([half, nothing], "dice", group).mean == 0.5
    assert statistic([half, nothing], "dice", "all_cases").missing == 1
    assert math.isnan(nothing.any.sensitivity)
    assert math.isnan(nothing.any.precision)


def test_what_is_drawn_in_a_healthy_patient_is_told_in_ml():
    ill, healthy = record(CUBE, CUBE, name="a"), record(CUBE, NOTHING, name="b", spacing=(5.0, 5.0, 5.0))
    table = summaries([ill, healthy])[ANY].reference_empty
    assert table.patients == 1
    assert table.statistics["false_positive_ml"].mean == pytest.approx(1.0)
    # He counts among all patients, too.
    assert statistic([ill, healthy], "dice", "all_cases").mean == 0.5


def test_distances_are_millimetres_of_the_scan():
    reference, prediction = box((2, 3), (2, 3), (2, 3)), box((2, 3), (2, 3), (5, 6))
    for spacing, millimetres in (((1.0, 1.0, 1.0), 3.0), ((1.0, 1.0, 6.5), 19.5)):
        metrics = record(prediction, reference, spacing=spacing).any
        assert metrics.hd95_mm == metrics.assd_mm == metrics.ahd_mm == pytest.approx(millimetres)


def test_background_is_no_class_and_in_no_mean():
    # Background alone has Dice 0.99 here; a mean with it would read 0.5 and more.
    reference, prediction = CUBE * 1, box((8, 10), (6, 8), (5, 7)) * 2
    cases = [record(prediction, reference, classes=("main", "sub"))]
    assert list(summaries(cases)) == [ANY, "main", "sub"]
    assert statistic(cases, "dice").mean == statistic(cases, "dice", of="main").mean == 0.0
    with_background = 1 - np.mean((prediction > 0) != (reference > 0))
    assert with_background > 0.98


def test_each_class_has_its_own_table_over_patients_who_have_it():
    both = CUBE + 2 * box((8, 10), (6, 8), (5, 7))
    cases = [
        record(both, both, name="a", classes=("main", "sub")),
        record(CUBE, both, name="b", classes=("main", "sub")),  # the sub-lesion is missed
        record(CUBE, CUBE, name="c", classes=("main", "sub")),  # there is none
    ]
    sub = summaries(cases)["sub"]
    assert (sub.lesion_positive.patients, sub.reference_empty.patients) == (2, 1)
    assert sub.lesion_positive.statistics["dice"].mean == 0.5
    assert statistic(cases, "dice", of="main").mean == 1.0


def test_patients_are_not_pooled_into_one_volume():
    large = box((0, 10), (0, 10), (0, 8))  # 800 voxels, all found
    cases = [record(large, large, name="a"), record(NOTHING, CUBE, name="b")]
    pooled = 2 * 800 / (2 * 800 + 8)
    assert statistic(cases, "dice").mean == 0.5
    assert pooled > 0.99


def test_every_patient_counts_alike_however_few_are_in_his_group_of_sizes():
    # Eight small lesions missed, one large one found: a mean over groups would be 0.5.
    size = (20.0, 20.0, 20.0)
    cases = [record(NOTHING, CUBE, name=str(n)) for n in range(8)] + [record(CUBE, CUBE, name="x", spacing=size)]
    assert statistic(cases, "dice").mean == pytest.approx(1 / 9)


def test_two_scans_of_a_person_are_one_person():
    cases = [record(CUBE, CUBE, name="a1", person="a"), record(CUBE, CUBE, name="a2", person="a"),
             record(NOTHING, CUBE, name="b")]  # fmt: skip
    dice = statistic(cases, "dice")
    assert (dice.mean, dice.patients) == (0.5, 2)


def test_precision_and_iou_know_false_positives():
    # The published example: recall 0.25, precision 0.0625; with background ignored both read 0.25 and 1.
    reference = box((0, 4), (0, 1), (0, 1))
    prediction = box((3, 12), (0, 1), (0, 1)) + box((0, 7), (2, 3), (0, 1))
    metrics = record(prediction, reference).any
    assert (metrics.sensitivity, metrics.precision) == (0.25, 0.0625)
    assert metrics.dice == pytest.approx(0.1)
    assert metrics.iou == pytest.approx(1 / 19)


def test_the_number_of_patients_is_no_multiple_of_anything():
    # Dropping what does not fill a batch would drop the miss.
    cases = [record(CUBE, CUBE, name=str(n)) for n in range(16)] + [record(NOTHING, CUBE, name="x")]
    dice = statistic(cases, "dice")
    assert (dice.patients, dice.mean) == (17, pytest.approx(16 / 17))
    assert dice.mean_interval is not None
    assert dice.mean_interval[0] < dice.mean < dice.mean_interval[1] <= 1.0


def test_tables_carry_the_hashes_and_leave_no_value_empty():
    cases = [record(NOTHING, CUBE, name="a"), record(NOTHING, NOTHING, name="b")]
    rows = list(csv.DictReader(patients_csv(cases, HASH).splitlines()))
    assert [(r["dice"], r["hd95_mm"], r["outcome"]) for r in rows] == [
        ("0", "", "prediction empty"),
        ("", "", "both empty"),
    ]
    rows += list(csv.DictReader(tables_csv(summaries(cases), HASH).splitlines()))
    assert all(r[h] == "abc" for r in rows for h in HASHES)


def test_a_record_is_the_same_after_it_was_written():
    case = record(NOTHING, CUBE + 2 * box((8, 10), (6, 8), (5, 7)), classes=("main", "sub"))
    again = Record.of(case.to_dict())
    assert again.to_dict() == case.to_dict()
    assert math.isnan(again.any.hd95_mm)
    assert statistic([again], "dice").mean == 0.0


def test_a_batch_of_results_has_the_published_keys_and_no_invented_value():
    cases = [record(BESIDE, CUBE, name="p1"), record(NOTHING, NOTHING, name="p2"), record(NOTHING, CUBE, name="p4")]
    found = batch_results(cases, ["p3"], {"split_sha256": "abc"})
    assert (found["total_patients"], found["successful"], found["failed"]) == (4, 3, 1)
    # Dice 0.5 and 0; the empty pair has none. Sensitivity is not 1 without reference, precision not without prediction.
    assert found["avg_dice_score"] == found["gt_positive_avg_dice"] == 0.25
    assert (found["avg_patients"]["dice_score"], found["gt_positive_patients"]) == (2, 2)
    assert found["avg_sensitivity"] == found["avg_precision"] == 0.25
    assert found["gt_zero_corrections"] == 0
    rows = {row["patient_id"]: row for row in found["results"]}
    assert [row["patient_num"] for row in found["results"]] == [1, 2, 3, 4]
    assert rows["p1"]["gt_volume"] == pytest.approx(8.0)  # mm³
    assert rows["p1"]["lesion_volume"] == pytest.approx(8.0)
    assert rows["p2"]["is_gt_zero_case"] is True
    assert (rows["p2"]["dice_score"], rows["p2"]["sensitivity"], rows["p2"]["precision"]) == (None, None, None)
    assert (rows["p3"]["success"], rows["p3"]["dice_score"]) == (False, None)
    keys = {"patient_num", "dice_score", "iou_score", "sensitivity", "specificity", "precision", "lesion_volume",
            "is_gt_zero_case", "gt_volume", "success"}  # fmt: skip
    assert all(keys <= set(row) for row in found["results"])


def run_of(train, validation):
    return TrainingRun(SimpleNamespace(as_data=lambda: {"name": "r"}), train, validation)  # type: ignore[arg-type]


def test_an_epoch_is_the_mean_of_its_rows_and_not_the_last_batch():
    run = run_of(
        {"step": [10, 20, 30, 40], "loss": [4.0, 2.0, 1.0, 0.0], "seconds_per_step": [1.0, 3.0, 1.0, 1.0]},
        {"step": [20, 40], "loss": [5.0, 3.0], "dice": [0.5, 0.4]},
    )
    first, second = run.epochs
    assert (first.train["loss"], second.train["loss"]) == (3.0, 0.5)
    history = training_history(run, HASH)
    assert [e["train_loss"] for e in history["epochs"]] == [3.0, 0.5]
    assert history["epochs"][0]["epoch_time"] == 40.0
    assert history["epochs"][0]["train_tversky"] is None
    assert history["epochs"][1]["val_dice_change"] == pytest.approx(-0.1)
    assert (history["best_dice"], history["total_epochs"]) == (0.5, 2)


def test_half_a_row_at_the_end_of_a_log_is_passed_over(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("step,loss\n10,1.5\n20,nan\n30")
    columns = read_columns(path)
    assert columns["step"] == [10.0, 20.0]
    assert columns["loss"][0] == 1.5
    assert math.isnan(columns["loss"][1])


def test_every_wrong_voxel_is_on_the_picture(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(3)
    prediction, reference = (rng.random((40, 50)) < 0.3).astype(np.uint8), (rng.random((40, 50)) < 0.3).astype(np.uint8)
    codes = agreement(prediction, reference)
    counts = {code: int((codes == code).sum()) for code in COLOURS}
    assert counts[FALSE] == int(((prediction == 1) & (reference == 0)).sum())
    assert counts[MISSED] == int(((prediction == 0) & (reference == 1)).sum())
    grey = np.full((40, 50), 90, np.uint8)
    case = record(prediction[..., None], reference[..., None])
    path = tmp_path / "panel.png"
    path.write_bytes(draw_panel([Cut(grey, reference, prediction, 12.0, (3, 4))], case, (), "p"))
    picture = np.asarray(Image.open(path).convert("RGB"))
    for code, colour in COLOURS.items():
        shown = int((picture == np.array(colour)).all(axis=2).sum())
        # A voxel is 3x4 pixels; the key of the colour is 10x10.
        assert shown == counts[code] * 12 + 100


def test_colours_differ_in_lightness_for_those_who_see_no_colour():
    lightness = sorted(float(np.dot(COLOURS[c], (0.2126, 0.7152, 0.0722))) for c in (RIGHT, FALSE, MISSED))
    assert min(np.diff(lightness)) > 40


def test_the_slice_where_most_went_wrong_is_shown_too():
    reference = box((0, 4), (0, 4), (2, 3))
    prediction = reference + box((0, 12), (0, 10), (6, 7))
    brain = np.ones(SHAPE, bool)
    assert choose_slices(reference, prediction, brain) == [2, 6]
    assert choose_slices(reference, reference, brain) == [2]
    assert choose_slices(NOTHING, prediction, brain) == [6]
    assert choose_slices(NOTHING, NOTHING, brain) == [0]
