"""`strokeseg-train cascade`: thresholds chosen on the validation side of a prepared set, and nowhere else."""

import json
import shutil
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

pytest.importorskip("torch", reason="recipes of training need torch, which is not installed")

import yaml
from data_phantom import recipe, recipe_data, write_patients
from typer.testing import CliRunner

from strokeseg.errors import InputError, ModelError
from strokeseg.models import ModelStore, read_card
from strokeseg.models.decision import CascadeStep, Decision
from strokeseg.postprocess import cascade_threshold, decide
from strokeseg_training.cascade import (
    Scores,
    Tuned,
    cascade_of,
    choose_thresholds,
    examine,
    tune_cascade,
    write_decision,
)
from strokeseg_training.cli import app
from strokeseg_training.evaluate.seen import look_for_seen
from strokeseg_training.exam_model import open_predictor
from strokeseg_training.prepare import PreparedSet, prepare_data_set

MM = np.eye(4)
SHAPE = (12, 12, 12)
BRAIN = np.ones(SHAPE, bool)
THRESHOLDS = tuple(round(0.05 * k, 2) for k in range(1, 20))
# A clear map and a faint one; the volumes are those of the masks below.
CASCADE = Decision("cascade", 0.1, (CascadeStep(0.7, 0.6, 0.001), CascadeStep(0.3, 0.25, 0.001)))


def halo(inner, outer):
    """A core of 4x4x4 voxels in a rim of one voxel: the reference is the core."""
    probability, reference = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, bool)
    probability[3:9, 3:9, 3:9] = outer
    probability[4:8, 4:8, 4:8] = inner
    reference[4:8, 4:8, 4:8] = True
    return probability, reference


def rows(*cases, minimum=0.0):
    return [examine(p, r, MM, BRAIN, thresholds=THRESHOLDS, minimum_lesion_ml=minimum) for p, r in cases]


def test_thresholds_go_where_the_lesion_ends():
    clear, faint = halo(0.92, 0.72), halo(0.43, 0.32)
    chosen, before, after = choose_thresholds(rows(clear, faint), CASCADE, THRESHOLDS)
    for probability, reference in (clear, faint):
        steps = [(s.maximum, s.threshold, s.volume_ml) for s in chosen.steps]
        used = cascade_threshold(probability, steps=steps, otherwise=chosen.threshold, affine=MM)
        mask = decide(probability, threshold=used, minimum_lesion_ml=0, affine=MM)
        assert np.array_equal(mask > 0, reference)
    # Before, both rims were lesion: Dice 2 * 64 / (64 + 216).
    assert (before.dice, after.dice) == (pytest.approx(128 / 280), 1.0)
    # Nearest to what was: above 0.72 and 0.32; no map needed the last, which stays.
    assert [s.threshold for s in chosen.steps] == [0.75, 0.35]
    assert chosen.threshold == 0.1
    assert [(s.maximum, s.volume_ml) for s in chosen.steps] == [(0.7, 0.001), (0.3, 0.001)]


def test_what_is_best_already_stays():
    fitting = replace(CASCADE, steps=(CascadeStep(0.7, 0.8, 0.001), CascadeStep(0.3, 0.4, 0.001)))
    chosen, before, after = choose_thresholds(rows(halo(0.92, 0.72), halo(0.43, 0.32)), fitting, THRESHOLDS)
    assert (chosen, before) == (fitting, after)


def test_the_choice_is_the_best_of_all_falling_thresholds():
    drawn = np.random.default_rng(4)
    cases = []
    for _ in range(3):
        probability, reference = halo(*sorted(drawn.uniform(0.1, 1, 2))[::-1])
        cases.append((np.clip(probability + drawn.normal(0, 0.08, SHAPE), 0, 1).astype(np.float32), reference))
    thresholds, step = (0.1, 0.25, 0.6, 0.8), CascadeStep(0.7, 0.6, 0.01)
    start = Decision("cascade", 0.25, (step,))
    examined = [examine(p, r, MM, BRAIN, thresholds=thresholds, minimum_lesion_ml=0.0) for p, r in cases]
    _, _, after = choose_thresholds(examined, start, thresholds)
    worths = []
    for low, high in combinations(thresholds, 2):
        picked = [
            thresholds.index(cascade_threshold(p, steps=[(0.7, high, 0.01)], otherwise=low, affine=MM))
            for p, _ in cases
        ]
        pairs = [(e.dice[n], e.lesion_f1[n]) for e, n in zip(examined, picked, strict=True)]
        worths.append(float(np.mean(pairs)))
    assert (after.dice + after.lesion_f1) / 2 == pytest.approx(max(worths), abs=1e-6)


def test_false_volume_without_lesion_outweighs_dice():
    # The faint patient is found below 0.35 only; there, 729 voxels of a healthy one would be lesion.
    healthy = np.zeros(SHAPE, np.float32)
    healthy[1:10, 1:10, 1:10] = 0.38
    cases = [halo(0.43, 0.32), (healthy, np.zeros(SHAPE, bool))]
    chosen, before, after = choose_thresholds(rows(*cases), CASCADE, THRESHOLDS)
    assert before.empty_false_positive_ml == pytest.approx(0.729)
    assert (after.empty_false_positive_ml, after.dice) == (0.0, 1.0)
    # A map that fits no step is decided by the last threshold, so that this one has to rise, and those above it.
    assert ([s.threshold for s in chosen.steps], chosen.threshold) == ([0.6, 0.45], 0.4)


def test_without_a_lesion_nothing_is_chosen():
    with pytest.raises(InputError, match="None of the 1 patients in validation has a lesion"):
        choose_thresholds(rows((halo(0.9, 0.1)[0], ~BRAIN)), CASCADE, THRESHOLDS)


# --- on a prepared set


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Patients, the set prepared of them, its recipe as a file, and a model folder: the threshold rule."""
    folder = tmp_path_factory.mktemp("cascade")
    write_patients(folder / "patients", seeds=range(4))
    split = {"train": 0.25, "val": 0.5, "test": 0.25}
    prepare_data_set(recipe(split=split), folder / "patients", folder / "set")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe_data(split=split)), encoding="utf-8")
    shutil.copytree(ModelStore().folder_of("adc-threshold"), folder / "model")
    return folder


def words(place, *more, data="set"):
    named = {"--recipe": "recipe.yaml", "--data": data, "--originals": "patients"}
    paths = [w for key, name in named.items() for w in (key, str(place / name))]
    return ["cascade", str(place / "model"), *paths, "--format", "json", *more]


def test_the_command_writes_thresholds_and_on_whom_they_were_chosen(place):
    before = (place / "model" / "card.json").read_bytes()
    dry = CliRunner().invoke(app, words(place, "--dry-run"))
    assert dry.exit_code == 0, dry.output
    assert (place / "model" / "card.json").read_bytes() == before
    answer = CliRunner().invoke(app, words(place))
    assert answer.exit_code == 0, answer.output
    said, card = json.loads(answer.stdout), read_card(place / "model")
    assert json.loads(dry.stdout)["decision"] == said["decision"]
    assert card.decision.rule == "cascade"
    assert [s.threshold for s in card.decision.steps] == [s["threshold"] for s in said["decision"]["steps"]]
    assert said["after"]["dice"] + said["after"]["lesion_f1"] >= said["before"]["dice"] + said["before"]["lesion_f1"]
    # An evaluation of the same patients will say that they chose something.
    prepared = PreparedSet(place / "set")
    assert card.origin["decision_chosen_on"]["patients"] == len(prepared.side("val")) == 2
    marks = {p.id: p.facts["sources"]["dwi"]["sha256"][:16] for p in prepared.patients}
    for name, verdict in (("val", "chose the model"), ("test", "not seen"), ("train", "not seen")):
        side = [prepared.patients[n].id for n in prepared.side(name)]
        assert look_for_seen(card.origin, prepared.split, side, lambda: marks).verdict == verdict
    with pytest.raises(ModelError, match="cannot take the exam"):
        open_predictor(place / "model")


def test_only_the_validation_of_a_prepared_set_is_asked(place, monkeypatch):
    # 4.8: the original's thresholds were tuned on what it was evaluated by.
    assert "--side" not in CliRunner().invoke(app, ["cascade", "--help"]).output
    with pytest.raises(InputError, match="is no prepared set"):
        tune_cascade(recipe(), place / "model", place / "patients", place / "patients")
    opened = []
    from strokeseg_training import cascade

    kept = cascade.read_patient
    monkeypatch.setattr(
        cascade, "read_patient", lambda patient, *rest: opened.append(patient.id) or kept(patient, *rest)
    )
    tune_cascade(recipe(), place / "model", place / "set", place / "patients")
    prepared = PreparedSet(place / "set")
    assert sorted(opened) == sorted(prepared.patients[n].id for n in prepared.side("val"))


def test_patients_of_the_models_training_are_refused(place, tmp_path):
    model = shutil.copytree(place / "model", tmp_path / "model")
    data = json.loads((model / "card.json").read_text(encoding="utf-8"))
    prepared = PreparedSet(place / "set")
    val = [prepared.patients[n].facts["sources"]["dwi"]["sha256"][:16] for n in prepared.side("val")]
    data["origin"] = {"training_data": [{"split_sha256": "0" * 64, "images": {"train": val}}]}
    (model / "card.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(InputError, match="cannot be chosen on these patients"):
        tune_cascade(recipe(), model, place / "set", place / "patients")


def test_several_classes_are_refused_and_a_single_threshold_starts_from_the_published_cascade(place):
    card = ModelStore().card("adc-threshold")
    assert [s.threshold for s in cascade_of(card).steps] == [0.6, 0.5, 0.35, 0.2]
    assert cascade_of(card).steps[0] == CascadeStep(0.8, 0.6, 0.2)
    with pytest.raises(InputError, match="takes the most probable one"):
        cascade_of(replace(card, decision=Decision("argmax", 0.5)))


def test_a_cascade_that_does_not_fall_is_not_written(place, tmp_path):
    model = shutil.copytree(place / "model", tmp_path / "model")
    wrong = Decision("cascade", 0.9, CASCADE.steps)
    score = Scores(0.0, 0.0, 0.0)
    with pytest.raises(ModelError, match=r"decision\.steps"):
        write_decision(model, Tuned(wrong, score, score, 1, 1, "0" * 64, ()))


def test_a_recipe_names_the_cascade_and_others_stay_what_they_were():
    from strokeseg_training.recipe_card import CardDecision

    published = CardDecision.model_validate({"rule": "cascade"}).model_dump(mode="json")
    assert [s["threshold"] for s in published["steps"]] == [0.6, 0.5, 0.35, 0.2]
    assert published["threshold"] == 0.15
    own = {"rule": "cascade", "threshold": 0.2, "steps": [{"maximum": 0.5, "threshold": 0.4, "volume_ml": 0.1}]}
    assert CardDecision.model_validate(own).model_dump(mode="json") == own
    # No new key: cards of older recipes, and the hashes of these, stay the same.
    assert CardDecision().model_dump(mode="json") == {"rule": "threshold", "threshold": 0.5}
    high = {"rule": "threshold", "threshold": 0.5, "peak": 0.9}
    assert CardDecision.model_validate(high).model_dump(mode="json") == high
    for wrong in ({**high, "peak": 0.4}, {"rule": "argmax", "peak": 0.9}):
        with pytest.raises(ValueError, match="'peak' belongs to the rule 'threshold'"):
            CardDecision.model_validate(wrong)
    for wrong in ({**own, "rule": "threshold"}, {"rule": "cascade", "threshold": 0.3}):
        with pytest.raises(ValueError, match="belong to the rule 'cascade'"):
            CardDecision.model_validate(wrong)
