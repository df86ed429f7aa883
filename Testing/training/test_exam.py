"""The exam: grading, tables, calibration and choice on patients whose right answers are known."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="the exam needs torch, which is not installed")

from scipy import ndimage  # noqa: E402
from scipy.special import logit  # noqa: E402

from strokeseg.errors import InputError, ModelError  # noqa: E402
from strokeseg.metrics import calibrate  # noqa: E402
from strokeseg.models import read_card  # noqa: E402
from strokeseg_training import cli_exam, exam  # noqa: E402
from strokeseg_training.exam import Answer, Exam, ExamScene, Settings, answer, choose, grade, score  # noqa: E402
from strokeseg_training.sample import Sample  # noqa: E402

SHAPE, ML = (20, 20, 16), 0.008  # voxels of 2 mm
BRAIN_VOXELS = 18 * 18 * 14
# Boxes (start, size) by seed: 27 voxels are 0.216 ml, 8 are 0.064 ml, 180 are 1.44 ml.
LESIONS = {
    1: [((4, 4, 4), (3, 3, 3)), ((12, 12, 4), (2, 2, 2))],
    2: [((2, 2, 2), (6, 6, 5))],
    3: [((4, 8, 8), (3, 3, 3)), ((13, 8, 8), (3, 3, 3))],
    4: [],
    5: [],
}
TAGS = {1: (), 2: ("hard",), 3: ("bilateral",), 4: ("empty",), 5: ("empty", "hard")}


def box(start, size):
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))] = True
    return mask


def lesion_of(seed):
    return np.any([box(*b) for b in LESIONS[seed]] or [np.zeros(SHAPE, bool)], axis=0)


def sample_of(description):
    """Bright lesions with low ADC in even tissue."""
    seed = json.loads(description)["seed"]
    lesion = lesion_of(seed)
    brain = box((1, 1, 1), (18, 18, 14))
    images = {"dwi": np.where(lesion, 300.0, 100.0), "adc": np.where(lesion, 0.4, 0.8)}
    return Sample(
        images={role: torch.from_numpy(i.astype(np.float32))[None] for role, i in images.items()},
        brain=torch.from_numpy(brain)[None],
        lesion=torch.from_numpy(lesion.astype(np.float32))[None],
        tissue=torch.ones((1, *SHAPE), dtype=torch.uint8),
        midplane=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        spacing_mm=(2.0, 2.0, 2.0),
        seeds=(seed,),
    )


def small_exam(seeds=(1, 2, 3, 4, 5)):
    scenes = tuple(ExamScene(s, TAGS[s], json.dumps({"seed": s})) for s in seeds)
    return Exam("dwi-adc-9", "dwi-adc", "test", scenes, make=sample_of)


def perfect(sample):
    return torch.where(sample.lesion > 0.5, 6.0, -6.0)


def with_false(seed, *boxes, value=6.0):
    """The perfect answer, and for one patient boxes more."""

    def predict(sample):
        logits = perfect(sample)
        if sample.seeds == (seed,):
            for b in boxes:
                logits[0][torch.from_numpy(box(*b))] = value
        return logits

    return predict


def test_the_perfect_answer_is_perfect_in_every_table():
    result = score(perfect, small_exam())
    assert {name: group.cases for name, group in result.groups.items()} == {
        "with lesion": 3, "ordinary": 2, "hard": 1, "bilateral": 1,
    }  # fmt: skip
    for group in result.groups.values():
        assert (group.dice, group.lesion_f1, group.precision, group.false_positive_ml) == (1.0, 1.0, 1.0, 0.0)
    assert [(s.stratum, s.found, s.lesions) for s in result.lesion.recall_by_size] == [
        ("<0.1 ml", 1, 1), ("0.1-1 ml", 3, 3), (">1 ml", 1, 1),
    ]  # fmt: skip
    assert (result.empties.cases, result.empties.clean, result.empties.false_positive_ml) == (2, 2, 0.0)


def test_what_is_found_in_empty_patients_has_a_table_of_its_own():
    result = score(with_false(4, ((5, 5, 5), (5, 5, 4)), ((14, 14, 5), (1, 1, 5))), small_exam())
    assert result.lesion.false_positive_ml == 0.0
    assert result.empties.false_positive_ml == pytest.approx(105 * ML / 2)
    assert result.empties.largest_false_positive_ml == pytest.approx(105 * ML)
    assert (result.empties.false_lesions, result.empties.clean) == (2, 1)


def test_a_half_found_hard_patient_counts_in_its_tables():
    def predict(sample):
        logits = perfect(sample)
        logits[:, :, 5:] = torch.where(torch.tensor(sample.seeds == (2,)), -6.0, logits[:, :, 5:])
        return logits

    result = score(predict, small_exam())
    # Half of 180 voxels: Dice 2 * 90 / (90 + 180).
    assert result.groups["hard"].dice == pytest.approx(2 / 3)
    assert result.groups["hard"].sensitivity == 0.5
    assert result.groups["ordinary"].dice == 1.0
    assert result.lesion.dice == pytest.approx((1 + 1 + 2 / 3) / 3)


def test_small_lesions_are_dropped_and_the_threshold_decides():
    # Three voxels (0.024 ml) of probability 0.8 in an empty patient.
    predict = with_false(4, ((5, 5, 5), (1, 1, 3)), value=float(logit(0.8)))
    answers = answer(predict, small_exam())
    volumes = [
        grade(answers, settings).empties.largest_false_positive_ml
        for settings in (Settings(), Settings(minimum_lesion_ml=0.03), Settings(threshold=0.85))
    ]
    assert volumes == pytest.approx([3 * ML, 0.0, 0.0])


def test_calibration_is_that_of_all_brain_voxels_together():
    # 0.1 everywhere: the gap to the share of lesion, pooled, however unequal the patients are.
    answers = answer(lambda s: np.full((1, *SHAPE), logit(0.1), np.float32), small_exam())
    result = grade(answers, Settings())
    lesion_voxels = (27 + 8) + 180 + (27 + 27)
    assert result.ece == pytest.approx(abs(0.1 - lesion_voxels / (5 * BRAIN_VOXELS)), abs=1e-6)
    share = lesion_voxels / (5 * BRAIN_VOXELS)
    assert result.nll == pytest.approx(-share * np.log(0.1) - (1 - share) * np.log(0.9), rel=1e-5)


def random_answers(scale, count=3, voxels=24):
    """References drawn from known probabilities, and logits that are `scale` times too large."""
    rng = np.random.default_rng(0)
    answers = []
    for seed in range(count):
        true = rng.normal(-1.5, 1.5, (voxels,) * 3)
        reference = rng.random(true.shape) < 1 / (1 + np.exp(-true))
        brain = np.ones(true.shape, bool)
        logits = (scale * true).astype(np.float32)[brain]
        answers.append(Answer(seed, (), brain, reference, logits, np.diag([2.0, 2.0, 2.0, 1.0])))
    return answers


@pytest.mark.parametrize("objective", ["nll", "ece"])
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.5])
def test_the_temperature_undoes_what_was_planted(scale, objective):
    answers = random_answers(scale)
    temperature = exam.choose_temperature(answers, objective)
    assert temperature == pytest.approx(scale, rel=0.06)
    assert grade(answers, Settings(temperature=temperature)).ece < 0.01


def test_pooled_calibration_error_is_that_of_one_large_patient():
    answers = random_answers(1.7)
    result = grade(answers, Settings())
    probability = np.concatenate([a.spread(a.probability(1.0)) for a in answers])
    reference = np.concatenate([a.reference for a in answers])
    whole = calibrate(probability, reference, np.ones_like(reference))
    assert result.ece == pytest.approx(whole.ece, rel=1e-9)
    assert result.brier == pytest.approx(whole.brier, rel=1e-9)


def test_threshold_and_minimum_are_chosen_that_keep_lesions_and_drop_what_is_false():
    # True lesions at 0.62, a false block beside them at 0.42, and a false speck of two voxels at 0.9 in every patient.
    def predict(sample):
        lesion = sample.lesion > 0.5
        logits = torch.where(lesion, float(logit(0.62)), -7.0)
        logits[0][torch.from_numpy(box((9, 2, 10), (3, 3, 3)))] = float(logit(0.42))
        logits[0][torch.from_numpy(box((16, 16, 12), (1, 1, 2)))] = float(logit(0.9))
        return logits

    # Temperature 1 leaves the probabilities where they were planted.
    choice = choose(
        answer(predict, small_exam()), thresholds=(0.3, 0.5, 0.6, 0.7), peaks=(0.0, 0.8), minima_ml=(0.0, 0.02, 0.1)
    )
    best = {(t.threshold, t.peak, t.minimum_lesion_ml): t for t in choice.tried}
    chosen = best[choice.settings.threshold, choice.settings.peak, choice.settings.minimum_lesion_ml]
    # 0.1 ml would drop the true lesion of 0.064 ml, nothing the speck of 0.016 ml.
    assert choice.settings.minimum_lesion_ml == 0.02
    assert (chosen.dice, chosen.lesion_f1, chosen.empty_false_positive_ml) == (1.0, 1.0, 0.0)
    assert choice.settings.peak == 0.0
    assert len(choice.tried) == 24
    # Every combination is graded as the exam grades it.
    answers = answer(predict, small_exam())
    for one in choice.tried[::5]:
        settings = Settings(one.threshold, choice.settings.temperature, one.minimum_lesion_ml, one.peak)
        result = grade(answers, settings)
        assert (one.dice, one.lesion_f1) == pytest.approx((result.lesion.dice, result.lesion.lesion_f1))
        assert one.empty_false_positive_ml == pytest.approx(result.empties.false_positive_ml)


def test_a_peak_is_chosen_where_true_lesions_have_one_and_false_ones_do_not():
    # Lesions of 0.9 with a rim of 0.5 that belongs to them; false blocks of 0.5 everywhere.
    def predict(sample):
        lesion = sample.lesion > 0.5
        core = torch.from_numpy(ndimage.binary_erosion(lesion.numpy(), np.ones((1, 3, 1, 1))))
        logits = torch.where(lesion, float(logit(0.5)), -7.0)
        logits = torch.where(core | (lesion & (lesion.sum() < 30)), float(logit(0.9)), logits)
        logits[0][torch.from_numpy(box((16, 16, 12), (2, 2, 2)))] = float(logit(0.5))
        return logits

    chosen = choose(
        answer(predict, small_exam()), thresholds=(0.3, 0.7), peaks=(0.0, 0.7, 0.95), minima_ml=(0.0,)
    ).settings  # fmt: skip
    assert (chosen.threshold, chosen.peak) == (0.3, 0.7)


def test_patients_without_lesion_limit_the_choice():
    # The small lesion of patient 1 shows at 0.25 only, where patient 4 shows 100 false voxels, too.
    def predict(sample):
        logits = perfect(sample)
        if sample.seeds == (1,):
            logits[0][torch.from_numpy(box((12, 12, 4), (2, 2, 2)))] = float(logit(0.25))
        if sample.seeds == (4,):
            logits[0][torch.from_numpy(box((5, 5, 5), (5, 5, 4)))] = float(logit(0.25))
        return logits

    answers = answer(predict, small_exam())
    # At a temperature of 1; half of the 0.8 ml is the mean over two patients.
    free = exam.choose(answers, empty_false_ml=0.5, thresholds=(0.05, 0.6))
    tight = exam.choose(answers, empty_false_ml=0.1, thresholds=(0.05, 0.6))
    assert (free.settings.threshold, tight.settings.threshold) == (0.05, 0.6)
    # Scars are larger: their exam allows twice as much.
    assert exam.EMPTY_FALSE_ML == {"dwi-adc": 0.5, "t1": 1.0}


def test_the_same_answers_give_the_same_result_and_plain_json():
    first, second = (score(perfect, small_exam()).to_dict() for _ in range(2))
    assert json.dumps(first, allow_nan=False) == json.dumps(second, allow_nan=False)
    assert [c["seed"] for c in first["cases"]] == [1, 2, 3, 4, 5]


def test_an_answer_of_another_shape_or_with_nan_is_refused():
    for wrong in (lambda s: torch.zeros(1, 4, 4, 4), lambda s: torch.full((1, *SHAPE), float("nan"))):
        with pytest.raises(ModelError, match="cannot be graded"):
            score(wrong, small_exam())


def test_a_patient_that_is_not_what_its_tags_say_is_refused():
    for seed, tags in ((1, ("empty",)), (4, ())):
        wrong = Exam(
            "dwi-adc-9", "dwi-adc", "test", (ExamScene(seed, tags, json.dumps({"seed": seed})),), make=sample_of
        )
        with pytest.raises(InputError, match=f"seed {seed} is (not )?said to be empty"):
            score(perfect, wrong)


def scene(seed, version="1", task="dwi-adc"):
    return SimpleNamespace(seed=seed, task=task, version=version, to_json=lambda: json.dumps({"seed": seed, "x": 0.1}))


def test_an_exam_is_written_and_read_again(tmp_path):
    made = exam.save_exam(tmp_path / "dwi-adc-3.json", [(scene(7), ["hard"]), (scene(8), ["empty"])])
    assert (made.name, made.task, made.generator_version, made.reference_fraction) == ("dwi-adc-3", "dwi-adc", "1", 0.5)
    assert [(s.seed, s.tags, json.loads(s.description)) for s in made.scenes] == [
        (7, ("hard",), {"seed": 7, "x": 0.1}), (8, ("empty",), {"seed": 8, "x": 0.1}),
    ]  # fmt: skip
    assert Exam.load(tmp_path / "dwi-adc-3.json") is not made
    with pytest.raises(InputError, match="one task and generator version"):
        exam.save_exam(tmp_path / "dwi-adc-4.json", [(scene(7), []), (scene(8, version="2"), [])])
    with pytest.raises(InputError, match="name must be TASK-VERSION"):
        exam.save_exam(tmp_path / "mine.json", [(scene(7), [])])
    with pytest.raises(InputError, match="tags of seed 7"):
        exam.save_exam(tmp_path / "dwi-adc-5.json", [(scene(7), ["easy"])])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dwi-adc-3.json"]


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "The reason"), ("[]", "format 1"), ('{"format": 2}', "format 1"), ('{"format": 1}', "TASK-VERSION")],
)
def test_a_damaged_exam_is_refused_in_words(tmp_path, text, words):
    (tmp_path / "dwi-adc-1.json").write_text(text)
    with pytest.raises(InputError, match=words):
        Exam.load(tmp_path / "dwi-adc-1.json")


def test_an_unknown_exam_names_the_known_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(exam, "FOLDER", tmp_path)
    for version in (2, 10):
        exam.save_exam(tmp_path / f"dwi-adc-{version}.json", [(scene(7), [])])
    with pytest.raises(InputError, match="dwi-adc-10, dwi-adc-2"):
        Exam.load("dwi-adc-3")
    assert exam.newest_exam("dwi-adc") == "dwi-adc-10"
    with pytest.raises(InputError, match="no exam for the task 't1'"):
        exam.newest_exam("t1")


@pytest.fixture
def taken(tmp_path, monkeypatch):
    """A model whose logit is DWI ratio - 1.5 ADC (2.4 in lesions, -0.2 elsewhere), and the small exam as a file."""
    pytest.importorskip("onnx", reason="the export needs onnx, which is not installed")
    pytest.importorskip("openvino", reason="the model runs by OpenVINO, which is not installed")
    monkeypatch.setattr(exam, "_generator", lambda: sample_of)
    import tiny_model as tiny

    tiny.make_linear_model(tmp_path / "linear", spacing_mm=2.0)
    exam.save_exam(tmp_path / "dwi-adc-9.json", [(scene(s), TAGS[s]) for s in LESIONS])
    app = Typer()
    cli_exam.register(app)

    def run(*words):
        return CliRunner().invoke(app, [*words])

    return tmp_path, run


def test_a_model_folder_takes_the_exam_by_the_engines_runtime(taken):
    folder, run = taken
    done = run("exam", str(folder / "linear"), "--exam", str(folder / "dwi-adc-9.json"), "--format", "json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["exam"] == "dwi-adc-9"
    assert result["groups"]["with lesion"]["dice"] == 1.0
    # At 0.4 all of the brain is lesion: its logit is -0.2, a probability of 0.45.
    done = run("exam", str(folder / "linear"), "--exam", str(folder / "dwi-adc-9.json"), "--threshold", "0.4")
    assert done.exit_code == 0, done.output
    assert f"{BRAIN_VOXELS * ML:.3f} ml at most" in done.stdout
    assert "without lesion: 2 cases, 0 of them clean" in done.stdout


def test_calibrate_writes_its_choice_and_what_was_measured_into_the_card(taken):
    folder, run = taken
    words = ("calibrate", str(folder / "linear"), "--exam", str(folder / "dwi-adc-9.json"))
    before = read_card(folder / "linear")
    dry = run(*words, "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert read_card(folder / "linear") == before
    done = run(*words)
    assert done.exit_code == 0, done.output
    card = read_card(folder / "linear")
    # Everything is clear-cut, but the logits are too small: a lower temperature, the highest threshold that keeps all.
    assert card.temperature < 1.0
    (measured,) = card.measured
    assert measured["ece"] < measured["ece_before_calibration"]
    assert measured["settings"]["threshold"] == card.decision.threshold > 0.5
    assert measured["groups"]["with lesion"]["dice"] == 1.0
    assert (card.files, card.limits) == (before.files, before.limits)
    assert run(*words).exit_code == 0
    assert len(read_card(folder / "linear").measured) == 1
    assert not list((folder / "linear").glob(".partial-*"))


def test_a_peak_is_written_into_the_card_moves_along_and_is_taken_away_again(taken, tmp_path):
    folder, run = taken
    model = Path(shutil.copytree(folder / "linear", tmp_path / "model"))
    card = json.loads((model / "card.json").read_text(encoding="utf-8"))
    card["decision"] = {"rule": "threshold", "threshold": 0.6, "peak": 0.8}
    (model / "card.json").write_text(json.dumps(card), encoding="utf-8")
    words = (str(model), "--exam", str(folder / "dwi-adc-9.json"))
    for more, threshold, peak in (((), 0.6, 0.8), (("--threshold", "0.3"), 0.3, 0.4)):
        done = run("exam", *words, *more, "--format", "json")
        assert done.exit_code == 0, done.output
        settings = json.loads(done.stdout)["settings"]
        assert (settings["threshold"], settings["peak"]) == (threshold, pytest.approx(peak))
    # Nothing is faint here: no peak is needed.
    assert run("calibrate", *words).exit_code == 0
    assert "peak" not in json.loads((model / "card.json").read_text(encoding="utf-8"))["decision"]
    result = score(perfect, small_exam())
    cli_exam.write_settings(model, result, replace(result, settings=Settings(0.5, 1.2, 0.04, 0.9)))
    decision = read_card(model).decision
    assert (decision.threshold, decision.peak) == (0.5, 0.9)


def test_a_wrong_model_or_exam_is_an_error_in_words(taken):
    folder, run = taken
    done = run("exam", str(folder / "absent"))
    assert (done.exit_code, "no card.json" in done.output) == (4, True)
    done = run("exam", str(folder / "linear"), "--exam", "absent-1")
    assert (done.exit_code, "There is no exam" in done.output) == (3, True)
