"""Errors of the published evaluations of networks for volumes that must not come back: one test each, named after it.

Numbers of sections are those of the project's notes on the originals (3: StrokeFormer, 4: 3D attention U-Net, 5:
MSCS-Net). Errors that all systems share have their tests in `test_evaluate_errors`, those of losses in
`test_losses_volumes`, those of thresholds in `test_cascade_tuning`.
"""

from __future__ import annotations

import csv
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch", reason="the evaluation reads recipes of training, which need torch")

from strokeseg.volume import Grid
from strokeseg_training.evaluate import charts
from strokeseg_training.evaluate.logs import SOFT_DICE, TrainingRun
from strokeseg_training.evaluate.panels import COLOURS, FALSE, MISSED, RIGHT, agreement, painted
from strokeseg_training.evaluate.published import Work, atlas, attention_unet, mscs_net, strokeformer, writers_of
from strokeseg_training.evaluate.record import Record, compare, compare_slices, labels_on
from strokeseg_training.evaluate.tables import HASHES, summaries
from strokeseg_training.recipe_losses import NamedLoss

SHAPE = (16, 12, 10)
NOTHING = np.zeros(SHAPE, np.uint8)


def box(*bounds):
    mask = np.zeros(SHAPE, np.uint8)
    mask[tuple(slice(a, b) for a, b in bounds)] = 1
    return mask


CUBE = box((2, 4), (2, 4), (2, 4))  # 8 voxels
FAR = box((12, 15), (8, 10), (7, 9))  # 12 voxels that touch nothing of it


def record(prediction, reference, name="a", spacing=1.0):
    """As the evaluation makes one; the brain is the whole grid."""
    result = SimpleNamespace(
        mask=prediction,
        affine=np.diag([spacing, spacing, spacing, 1.0]),
        probability=(prediction > 0).astype(np.float32),
        class_probabilities=np.stack([prediction == 0, prediction == 1]).astype(np.float32),
        brain=np.ones(SHAPE, bool),
    )
    metrics, slices = compare(result, reference, ()), compare_slices(result, reference)
    return Record(name, name, "", metrics, slices, (spacing,) * 3, (), {"device": "cpu"})


def work(records, folder, run=None, failed=()):
    results = SimpleNamespace(
        records=tuple(records),
        failed=tuple(SimpleNamespace(patient=p) for p in failed),
        tables=summaries(records),
        hashes=dict.fromkeys(HASHES, "abc"),
        about={"model": "tiny"},
        card=SimpleNamespace(name="tiny"),
        note="tiny, synthetic",
        to_dict=lambda _loss: {"tables": {n: t.to_dict() for n, t in summaries(records).items()}},
    )
    return Work(results, SimpleNamespace(), run, "not said", (), folder)  # type: ignore[arg-type]


def table(path):
    return list(csv.DictReader(path.open(encoding="utf-8", newline="")))


def run_of(train, validation, objective=None):
    recipe = SimpleNamespace(as_data=lambda: {"name": "r"}, objective=objective, card=SimpleNamespace(classes=["one"]))
    return TrainingRun(recipe, train, validation)  # type: ignore[arg-type]


def drawn(axes):
    return {line.get_label(): list(line.get_ydata()) for line in axes.lines}


# --- 3.8, StrokeFormer


def test_background_is_not_ignored_where_precision_and_iou_are_counted(tmp_path):
    # Error 6: with background ignored, precision was 1 and IoU the recall. One voxel of four found, 15 drawn beside:
    # Dice .10, IoU .053, precision .063, recall .25.
    reference, prediction = box((0, 4), (0, 1), (0, 1)), box((3, 4), (0, 1), (0, 1)) + box((0, 15), (5, 6), (5, 6))
    files = strokeformer.write(work([record(prediction, reference)], tmp_path))
    assert [f.name for f in files] == ["scores.csv", "per_size_scores.csv"]
    (row,) = table(files[0])
    assert {k: row[k] for k in ("dice", "f1", "iou", "precision", "recall")} == {
        "dice": "0.1000", "f1": "0.1000", "iou": "0.0526", "precision": "0.0625", "recall": "0.2500",
    }  # fmt: skip
    assert 0 < float(row["mcc"]) < 0.2


def test_sizes_are_rows_and_no_score_is_a_mean_of_their_means(tmp_path):
    # Error 7: the score was the mean of three size groups, each of slices. Three small lesions found, a large one not:
    # by patients 0.75, by groups 0.5.
    small = [record(CUBE, CUBE, name) for name in "abc"]
    large = record(NOTHING, box((0, 12), (0, 10), (0, 10)), "d", spacing=2.5)
    files = strokeformer.write(work([*small, large], tmp_path))
    (row,), by_size = table(files[0]), {r["size"]: r for r in table(files[1])}
    assert (row["patients"], row["dice"]) == ("4", "0.7500")
    assert list(by_size) == ["with lesion", "<1 ml", "1-10 ml", ">10 ml", "without lesion"]
    assert [by_size[s]["dice"] for s in ("<1 ml", "1-10 ml", ">10 ml")] == ["1.0000", "", "0.0000"]
    assert by_size["1-10 ml"]["patients"] == "0"


def test_false_positives_in_the_healthy_are_counted(tmp_path):
    # Error 7, too: healthy slices were in no score.
    cases = [record(CUBE, CUBE, "a"), record(FAR, NOTHING, "b", spacing=5.0)]
    files = strokeformer.write(work(cases, tmp_path))
    by_size = {r["size"]: r for r in table(files[1])}
    assert by_size["without lesion"]["patients"] == "1"
    assert float(by_size["without lesion"]["false_positive_ml"]) == pytest.approx(1.5)


def test_nobody_in_whom_nothing_was_found_vanishes(tmp_path):
    # Errors 7 and 8: who had no proposal was left out, and empty predictions were left out of distances in silence.
    files = strokeformer.write(work([record(CUBE, CUBE, "a"), record(NOTHING, CUBE, "b")], tmp_path))
    (row,) = table(files[0])
    assert (row["patients"], row["dice"], row["patients_without_distance"]) == ("2", "0.5000", "1")
    assert row["hausdorff95_mm"] == "0.0000"


def test_a_small_lesion_of_the_reference_survives_another_grid():
    # Error 12: masks resized with truncation lost lesions of 2x2 voxels; the ratio of the original's grids is 1.5.
    fine, coarse = np.diag([1.0, 1.0, 1.0, 1.0]), np.diag([1.5, 1.5, 1.0, 1.0])
    source, target = Grid((18, 18, 6), fine), Grid((12, 12, 6), coarse)
    for first in range(4, 10):
        labels = np.zeros(source.shape, np.uint8)
        labels[first : first + 2, first : first + 2, 2:4] = 1
        assert labels_on(labels, source, target).any()
    labels = np.zeros(source.shape, np.uint8)
    labels[4:13, 4:13, 1:5] = 1
    volume = np.count_nonzero(labels_on(labels, source, target)) * 2.25
    assert volume == pytest.approx(np.count_nonzero(labels), rel=0.2)


def test_no_crop_around_the_lesion_hides_what_is_far_from_it():
    # Error 13: half of the test volumes were crops around their lesions.
    metrics = record(CUBE + FAR, CUBE).any
    assert (metrics.false_positive_voxels, metrics.precision) == (12, pytest.approx(8 / 20))


# --- 4.8, the 3D attention U-Net


def batch(records, failed=()):
    return attention_unet.batch_results(records, failed, {})


def test_an_empty_reference_blanks_no_prediction():
    # Error 2: predictions of more than 500 voxels were erased where the reference was empty, and scored 1.
    drawn = box((0, 12), (0, 10), (0, 10))
    found = batch([record(CUBE, CUBE, "a"), record(drawn, NOTHING, "b")])
    row = found["results"][1]
    assert (row["is_gt_zero_case"], row["dice_score"]) == (True, 0.0)
    assert row["lesion_volume"] == pytest.approx(1200)
    assert found["gt_zero_corrections"] == 0
    assert found["gt_zero_avg_false_positive_volume"] == pytest.approx(1200)
    assert (found["avg_dice_score"], found["gt_positive_avg_dice"]) == (0.5, 1.0)


def test_every_average_is_that_of_the_rows():
    # Error 4: the printed averages contradicted their own conventions.
    cases = [
        record(CUBE, CUBE, "a"),
        record(FAR, CUBE, "b"),
        record(NOTHING, NOTHING, "c"),
        record(CUBE + FAR, CUBE, "d"),
    ]
    found = batch(cases, failed=["e"])
    assert (found["total_patients"], found["successful"], found["failed"]) == (5, 4, 1)
    for key in ("dice_score", "iou_score", "sensitivity", "specificity", "precision"):
        values = [r[key] for r in found["results"] if r[key] is not None]
        ill = [r[key] for r in found["results"] if r["is_gt_zero_case"] is False and r[key] is not None]
        assert found[f"avg_{key}"] == pytest.approx(sum(values) / len(values))
        assert found["avg_patients"][key] == len(values)
        assert found[f"gt_positive_avg_{key.removesuffix('_score')}"] == pytest.approx(sum(ill) / len(ill))


def test_a_patient_without_figures_is_a_failure_and_no_healthy_one():
    # Errors 3 and 11: a mask that could not be read became an empty one.
    rows = batch([record(CUBE, CUBE, "a")], failed=["b"])["results"]
    assert rows[1]["patient_id"] == "b"
    assert (rows[1]["success"], rows[1]["is_gt_zero_case"], rows[1]["gt_volume"]) == (False, None, None)


def test_a_history_has_the_terms_of_the_log_and_no_others():
    # The keys are the original's, the columns those of our log.
    train = {"step": [1, 2], "loss": [0.9, 0.5], "focal_tversky": [0.8, 0.4], "boundary": [0.2, 0.1]}
    validation = {"step": [2], "loss": [0.7], "focal_tversky": [0.6], "dice": [0.3]}
    (epoch,) = attention_unet.training_history(run_of(train, validation), {})["epochs"]
    assert (epoch["train_tversky"], epoch["train_boundary"]) == (pytest.approx(0.6), pytest.approx(0.15))
    assert (epoch["val_tversky"], epoch["val_boundary"], epoch["train_dice"]) == (0.6, None, None)


def test_curves_go_through_what_was_logged_and_have_gaps_where_nothing_was():
    # Error 9: curves had stretches that no training draws.
    steps, values = [1, 2, 3, 4], [0.1, math.nan, 0.5, 0.2]
    axes = charts.curves({"validation": (steps, values)}, "Dice").axes[0]
    (line,) = axes.lines
    assert np.array_equal(line.get_xdata(), steps)
    assert np.array_equal(line.get_ydata(), values, equal_nan=True)


def test_the_best_value_is_marked_where_it_was_reached():
    scores = {"step": [10, 20, 30], "loss": [3.0, 2.0, 1.0], "dice": [0.2, 0.6, 0.4]}
    run = run_of({"step": [10, 20, 30], "loss": [3.0, 2.0, 1.0]}, scores)
    assert attention_unet.training_history(run, {})["best_dice"] == 0.6
    star = attention_unet._curves(run)["training_dice"].axes[0].lines[-1]
    assert (list(star.get_xdata()), list(star.get_ydata())) == ([20], [0.6])


def test_tiers_count_every_patient_with_a_lesion_once():
    # The border 0.8 is excellent; a healthy patient is in no tier.
    wide = box((2, 5), (2, 4), (2, 4))
    cases = [record(CUBE, CUBE, "a"), record(wide, CUBE, "b"), record(CUBE + FAR, CUBE, "c"), record(FAR, CUBE, "d"),
             record(NOTHING, NOTHING, "e")]  # fmt: skip
    assert [round(c.any.dice, 3) for c in cases[:4]] == [1.0, 0.8, 0.571, 0.0]
    bars = charts.tier_bars(cases).axes[0].patches
    assert [int(b.get_height()) for b in bars] == [2, 0, 1, 1]


def test_the_dice_of_a_training_is_1_less_the_term_of_its_loss():
    # The log's term falls from 0.75 to 0.25 while the training gets better.
    train = {"step": [1, 2, 3, 4], "loss": [1.0, 0.8, 0.5, 0.3], "dice": [0.75, 0.5, 0.25, 0.125]}
    scores = {"step": [2, 4], "loss": [0.7, 0.6], "dice": [0.3, 0.4]}
    one, two = attention_unet.training_history(run_of(train, scores), {})["epochs"]
    assert [e["train_dice"] for e in (one, two)] == [0.375, 0.8125]
    assert (one["train_dice_change"], two["train_dice_change"]) == (None, 0.4375)
    assert [e["val_dice"] for e in (one, two)] == [0.3, 0.4]


# --- curves of Dice, which several systems have


def test_curves_of_dice_rise_with_the_training_and_say_what_they_are():
    train = {"step": [1, 2, 3], "loss": [1.5, 1.0, 0.5], "dice": [0.75, math.nan, 0.25]}
    scores = {"step": [2, 3], "loss": [1.0, 0.5], "dice": [0.5, 0.625], "dice_1": [0.5, 0.75], "dice_2": [0.5, 0.5]}
    found = run_of(train, scores).curves("dice")
    assert list(found) == [SOFT_DICE, "validation dice", "validation dice_1", "validation dice_2"]
    steps, values = found[SOFT_DICE]
    assert list(steps) == [1, 2, 3]
    np.testing.assert_array_equal(values, [0.25, math.nan, 0.75])
    assert found["validation dice_1"] == ([2, 3], [0.5, 0.75])
    assert run_of(train, scores).curves("loss") == {
        "training loss": ([1, 2, 3], [1.5, 1.0, 0.5]), "validation loss": ([2, 3], [1.0, 0.5]),
    }  # fmt: skip


def test_a_loss_without_dice_has_no_curve_of_it():
    run = run_of({"step": [1], "loss": [1.0], "entropy": [1.0]}, {"step": [1], "dice": [0.5]})
    assert list(run.curves("dice")) == ["validation dice"]
    assert attention_unet.training_history(run, {})["epochs"][0]["train_dice"] is None
    assert run_of({"step": [1], "loss": [1.0], "entropy": [1.0]}, {}).curves("dice") == {}


def test_dice_that_the_loss_divided_once_more_is_drawn_whole():
    # MSCS-Net's own training: a perfect answer costs 0.5 with two classes, and is no Dice of 0.5.
    divided = NamedLoss(name="dice-focal", arguments={"divided_twice": True})
    run = run_of({"step": [1, 2], "loss": [1.0, 0.5], "dice": [0.75, 0.5]}, {}, divided)
    assert run.curves("dice") == {SOFT_DICE: ([1, 2], [0.5, 1.0])}
    (view,) = mscs_net._curves(run).axes
    assert drawn(view) == {SOFT_DICE: [0.5, 1.0]}
    plain = NamedLoss(name="dice-focal")
    assert run_of(run.train, {}, plain).curves("dice") == {SOFT_DICE: ([1, 2], [0.25, 0.5])}


def test_the_trios_figures_show_these_curves_and_none_without_a_line(tmp_path, monkeypatch):
    figures = {}
    monkeypatch.setattr(charts, "save", lambda figure, path, _note: figures.setdefault(path, figure) and path)
    train = {"step": [1, 2], "loss": [1.0, 0.5], "dice": [0.75, 0.25]}
    files = atlas.write(work([record(CUBE, CUBE)], tmp_path, run_of(train, {"step": [2], "dice": [0.5]})))
    assert [f.name for f in files[2:]] == ["dice_curve.png", "loss_curve.png"]
    assert drawn(figures[files[2]].axes[0]) == {SOFT_DICE: [0.25, 0.75], "validation dice": [0.5]}
    assert drawn(figures[files[3]].axes[0]) == {"training loss": [1.0, 0.5]}
    files = atlas.write(work([record(CUBE, CUBE)], tmp_path, run_of({"step": [1], "loss": [1.0]}, {})))
    assert [f.name for f in files[2:]] == ["loss_curve.png"]


# --- 5.8, MSCS-Net


@pytest.mark.parametrize("seed", range(5))
def test_no_false_voxel_is_switched_off_and_no_missed_one_recoloured(seed):
    # Error 1: 60 % of the false-positive pixels were switched off, and most missed ones meant to be recoloured.
    drawn = np.random.default_rng(seed)
    prediction, reference = drawn.random((2, 40, 30)) < 0.3
    rgb = painted(np.zeros((40, 30), np.uint8), agreement(prediction, reference), list(COLOURS.values()))
    for code, mask in (
        (RIGHT, prediction & reference),
        (FALSE, prediction & ~reference),
        (MISSED, ~prediction & reference),
    ):
        assert np.array_equal((rgb == COLOURS[code]).all(axis=-1), mask)
    assert not rgb[~prediction & ~reference].any()


def test_background_flatters_no_figure_of_the_lesion(tmp_path):
    # Error 3: the mean with a background of Dice .99 made .8 of .6.
    (row,) = table(mscs_net.write(work([record(CUBE + FAR, CUBE)], tmp_path))[0])
    assert float(row["lesion_dice"]) == pytest.approx(16 / 28, abs=1e-5)
    assert float(row["lesion_iou"]) == pytest.approx(8 / 20)
    assert (row["tp_voxels"], row["fp_voxels"], row["fn_voxels"]) == ("8", "12", "0")


@pytest.mark.parametrize("number", [1, 9])
def test_no_remainder_of_a_batch_is_dropped(number, tmp_path):
    # Error 3, too: 9 patients in batches of 8 were 8.
    cases = [record(CUBE if n else NOTHING, CUBE, f"p{n:02}") for n in range(number)]
    written = mscs_net.write(work(cases, tmp_path))
    assert len(table(written[0])) == number
    means = json.loads(written[1].read_text(encoding="utf-8"))["lesion_positive"]["lesion_dice"]
    assert (means["patients"], means["mean"]) == (number, pytest.approx((number - 1) / number))


def test_no_view_of_the_training_is_empty(tmp_path):
    # The original shows five figures; what the log does not hold is not drawn as an empty frame.
    train = {"step": [1, 2], "loss": [1.0, 0.5]}
    scores = {"step": [2], "dice": [0.4], "iou": [0.3]}
    views = mscs_net._curves(run_of(train, scores)).axes
    assert [v.get_title() for v in views] == ["IoU", "Dice"]
    assert mscs_net._curves(run_of(train, {"step": []})) is None
    files = mscs_net.write(work([record(CUBE, CUBE)], tmp_path, run_of(train, scores)))
    assert files[-1].name == "training_curves.png"


def test_the_average_hausdorff_distance_is_in_millimetres_and_of_both_ways():
    # 5.6: it was promised, never counted. One voxel against two, 3 voxels of 2 mm apart and one of them shared:
    # one way 0, the other the mean of 0 and 6 mm.
    one, two = box((2, 3), (2, 3), (2, 3)), box((2, 3), (2, 3), (2, 3)) + box((5, 6), (2, 3), (2, 3))
    assert record(two, one, spacing=2.0).any.ahd_mm == pytest.approx((0 + 3) / 2)


# --- all of them


def test_each_network_for_volumes_has_its_systems_files():
    expected = {"attention-unet-3d": "attention-unet-3d", "mscs-net": "mscs-net", "segformer3d": "strokeformer"}
    assert {network: next(iter(writers_of([], network))) for network in expected} == expected
