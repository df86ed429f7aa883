"""`strokeseg-train evaluate`: whole evaluations of ellipsoid patients by the threshold rule, kept, refused and told."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("torch", reason="evaluations read recipes of training, which need torch")

import yaml
from data_phantom import recipe, recipe_data, write_patients
from typer.testing import CliRunner

import strokeseg
from strokeseg.case import Case
from strokeseg.errors import InputError, ModelError
from strokeseg.events import Monitor
from strokeseg.models import ModelStore
from strokeseg_training.cli import app
from strokeseg_training.datasets import Split, UnusablePatients, read_split, write_split
from strokeseg_training.evaluate import charts, evaluate_model, running, training_marks
from strokeseg_training.evaluate.engine import Model, open_model
from strokeseg_training.evaluate.logs import SOFT_DICE, read_run
from strokeseg_training.evaluate.published import Work, writers_of
from strokeseg_training.evaluate.record import Record, judged_classes
from strokeseg_training.evaluate.results import write_results
from strokeseg_training.evaluate.seen import look_for_seen, refuse_seen
from strokeseg_training.evaluate.subjects import Where, find_subjects
from strokeseg_training.prepare import PreparedSet, prepare_data_set

RULE = "adc-threshold"
SPLIT = {"train": 0.25, "val": 0.25, "test": 0.5}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate") / "patients"
    write_patients(folder, seeds=range(4))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What a training of forty steps leaves."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "recipe.yaml").write_text(yaml.safe_dump({k: v for k, v in recipe_data().items() if k != "datasets"}))
    rows = "".join(f"{s},{1 / s},0.001,0.5\n" for s in (10, 20, 30, 40))
    (folder / "train.csv").write_text("step,loss,learning_rate,seconds_per_step\n" + rows)
    (folder / "validation.csv").write_text("step,loss,dice\n20,0.5,0.25\n40,0.25,0.75\n")
    return folder


@pytest.fixture(scope="module")
def done(data, run, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "results"
    systems = ("lesion-net", "atlas")
    return evaluate_model(recipe(split=SPLIT), RULE, Where(data), out, run=run, systems=systems)


@pytest.fixture
def without_figures(monkeypatch):
    monkeypatch.setattr(running, "write_results", lambda *_: [])


def masks(folder):
    return sorted(folder.rglob("*_msk.nii.gz"))


def emptied(path):
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), path)


def test_figures_are_those_of_the_files_on_the_scans_own_grid(data, done):
    assert len(done.results.records) == done.judged == 2
    for record in done.results.records:
        case = record.patient.split("_")[0]
        mask = next(m for m in masks(data) if case in m.name)
        prediction = done.folder / "patients" / record.patient / f"prediction_{record.patient}.nii.gz"
        assert np.array_equal(nib.load(prediction).affine, nib.load(mask).affine)
        own = strokeseg.evaluate(prediction, mask)
        assert record.any.dice == own.dice
        assert record.any.reference_ml == pytest.approx(np.count_nonzero(nib.load(mask).dataobj) * 0.216)
    results = json.loads((done.folder / "results.json").read_text(encoding="utf-8"))
    hashes = done.results.hashes
    assert {k: results["about"][k] for k in hashes} == hashes
    assert all(len(v) == 64 for v in hashes.values())
    # The decision is the card's; nothing in the evaluation chooses one.
    card = ModelStore().card(RULE)
    assert results["about"]["decision"]["threshold"] == card.decision.threshold
    assert "threshold" not in CliRunner().invoke(app, ["evaluate", "--help"]).output


def test_systems_have_their_own_files(done):
    out = done.folder
    lines = list(csv.DictReader((out / "lesion-net" / "loss_metrics.csv").open(encoding="utf-8", newline="")))
    assert [(r["epoch"], r["G1_train_loss"], r["G1_val_loss"], r["G1_3d_dsc"]) for r in lines] == [
        ("1", "0.075", "0.5", "25"),
        ("2", "0.0291667", "0.25", "75"),
    ]
    assert "HD95[mm]" in (out / "lesion-net" / "test_metrics.txt").read_text(encoding="utf-8")
    for patient in (r.patient for r in done.results.records):
        slices = sorted((out / "lesion-net" / "segmentation_outputs" / "evaluation").glob(f"{patient}_*.png"))
        assert len(slices) == 22
    table = list(csv.DictReader((out / "atlas" / "results_table.csv").open(encoding="utf-8", newline="")))
    assert [(r["model"], r["class"], r["patients_with_class"]) for r in table] == [(RULE, "any", "2")]
    for name in ("lesion-net/G1_train_val_loss_and_3d_dsc.png", "atlas/loss_curve.png", "figures/performance.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert all(done.results.hashes[h] in page for h in done.results.hashes)
    assert "names no split of real patients" in page


def test_the_dice_of_training_is_drawn_as_1_less_the_term_of_the_log(done, run, tmp_path, monkeypatch):
    figures = {}
    monkeypatch.setattr(charts, "save", lambda figure, path, _note: figures.setdefault(path.name, figure) and path)
    log = read_run(run)
    log = replace(log, train={**log.train, "dice": [1.0, 0.75, 0.5, 0.25]})
    write_results(done.results, running.Place(tmp_path, done.results.facts), log, (), ())
    lines = {line.get_label(): list(line.get_ydata()) for line in figures["validation-dice.png"].axes[0].lines}
    assert lines == {SOFT_DICE: [0.0, 0.25, 0.5, 0.75], "validation dice": [0.25, 0.75]}


def test_the_later_systems_write_their_files_too(done, tmp_path):
    for name, write in writers_of(["attention-unet-3d", "mscs-net"], RULE).items():
        (tmp_path / name).mkdir()
        place = running.Place(done.folder, done.results.facts)
        write(Work(done.results, place, None, "not said", (), tmp_path / name))
    batch = json.loads((tmp_path / "attention-unet-3d" / "batch_inference_results.json").read_text(encoding="utf-8"))
    dice = [r.any.dice for r in done.results.records]
    assert batch["avg_dice_score"] == pytest.approx(sum(dice) / 2)
    assert (tmp_path / "attention-unet-3d" / "performance_analysis.png").is_file()
    means = json.loads((tmp_path / "mscs-net" / "lesion_metrics.json").read_text(encoding="utf-8"))
    assert means["lesion_positive"]["lesion_dice"]["patients"] == 2
    with pytest.raises(InputError, match="Did you mean 'lesion-net'"):
        writers_of(["lesionnet"], RULE)


def test_the_command_goes_on_and_tells(data, run, done, tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(recipe_data(split=SPLIT)), encoding="utf-8")
    words = ["evaluate", "--recipe", str(path), "--model", RULE, "--data", str(data), "--out", str(done.folder)]
    answer = CliRunner().invoke(app, [*words, "--format", "json"])
    assert answer.exit_code == 0, answer.output
    said = json.loads(answer.stdout)
    assert (said["judged"], said["about"]["patients"]) == (0, 2)
    other = CliRunner().invoke(app, [*words, "--side", "val"])
    assert other.exit_code == InputError.exit_code
    assert "another evaluation" in other.output


def test_the_reference_reaches_no_inference(data, done, tmp_path, monkeypatch, without_figures):
    seen = []
    plain = Model.segment

    def watched(self, case, monitor):
        seen.append(case)
        return plain(self, case, monitor)

    monkeypatch.setattr(Model, "segment", watched)
    blank = shutil.copytree(data, tmp_path / "patients")
    for mask in masks(blank):
        emptied(mask)
    again = evaluate_model(recipe(split=SPLIT), RULE, Where(blank), tmp_path / "out")
    assert [r.any.reference_voxels for r in again.results.records] == [0, 0]
    for record in again.results.records:
        name = f"patients/{record.patient}/prediction_{record.patient}.nii.gz"
        assert (done.folder / name).read_bytes() == (again.folder / name).read_bytes()
    assert all(type(case) is Case and set(case.volumes) <= {"dwi", "adc", "b0"} for case in seen)


def test_a_kill_costs_one_patient(data, done, tmp_path, monkeypatch, without_figures):
    plain, calls = Model.segment, []

    def killed(self, case, monitor):
        calls.append(case.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain(self, case, monitor)

    monkeypatch.setattr(Model, "segment", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate_model(recipe(split=SPLIT), RULE, Where(data), tmp_path / "out")
    again = evaluate_model(recipe(split=SPLIT), RULE, Where(data), tmp_path / "out")
    assert (again.judged, len(calls)) == (1, 3)
    assert [r.to_dict() for r in again.results.records] == [r.to_dict() for r in done.results.records]


def test_whom_the_engine_refuses_is_told_and_tried_again(data, tmp_path, monkeypatch, without_figures):
    plain, calls = Model.segment, []

    def refused(self, case, monitor):
        calls.append(case.name)
        if len(calls) == 1:
            raise InputError("No brain was found.", "The image is empty.", "Look at it.")
        return plain(self, case, monitor)

    monkeypatch.setattr(Model, "segment", refused)
    first = evaluate_model(recipe(split=SPLIT), RULE, Where(data), tmp_path / "out")
    assert [p.text for p in first.results.failed] == ["No brain was found. The image is empty."]
    assert "1 patients failed" in first.results.note
    second = evaluate_model(recipe(split=SPLIT), RULE, Where(data), tmp_path / "out")
    assert (second.judged, second.results.failed, len(second.results.records)) == (1, (), 2)


def test_a_model_folder_is_judged_and_refused_by_its_own_patients(data, done, tmp_path, without_figures):
    folder = shutil.copytree(ModelStore().folder_of(RULE), tmp_path / "mine")
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    card["origin"]["training_data"] = [{"split_sha256": done.results.hashes["split_sha256"]}]
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(InputError, match="in the model's training") as refused:
        evaluate_model(recipe(split=SPLIT), str(folder), Where(data, side="train"), tmp_path / "train")
    assert "--even-if-seen" in refused.value.next_step
    assert not (tmp_path / "train").exists()
    judged = evaluate_model(recipe(split=SPLIT), str(folder), Where(data), tmp_path / "test")
    assert judged.results.seen.verdict == "not seen"
    assert [r.to_dict() for r in judged.results.records] == [r.to_dict() for r in done.results.records]
    assert judged.results.hashes["model_sha256"] != done.results.hashes["model_sha256"]
    with pytest.raises(ModelError), open_model("no-such-model"):
        pass


PEOPLE = {"a1": "a", "a2": "a", "b": "b", "c": "c"}
MARKS = {name: f"{number:016x}" for number, name in enumerate(PEOPLE)}
MINE = Split({"train": ("b",), "val": ("c",), "test": ("a1", "a2")}, PEOPLE, {})


def verdict(origin, side=("a1", "a2")):
    return look_for_seen(origin, MINE, side, lambda: MARKS)


def test_a_card_tells_whom_the_model_has_seen():
    other = "f" * 64
    assert verdict({"data": "synthetic"}).verdict == "no real patients named"
    same = {"stages": [{"split_sha256": MINE.sha256}]}
    assert verdict(same).verdict == "not seen"
    assert verdict(same, ("b",)).trained_on == ("b",)
    assert verdict(same, ("c",)).verdict == "chose the model"
    assert verdict({"split_sha256": other}).verdict == "cannot be told"
    # Another examination of the same person counts.
    assert verdict({"split_sha256": other, "sides": {"train": ["a2"]}}).trained_on == ("a1", "a2")
    assert verdict({"split_sha256": other, "images": {"train": [MARKS["a1"]]}}).trained_on == ("a1", "a2")
    assert verdict({"split_sha256": other, "images": {"train": ["0" * 15 + "9"], "val": []}}).verdict == "not seen"
    for origin in ({"split_sha256": other}, {"split_sha256": other, "sides": {"train": ["a2"]}}):
        with pytest.raises(InputError, match="cannot be judged"):
            refuse_seen(verdict(origin), allowed=False)
        refuse_seen(verdict(origin), allowed=True)
    refuse_seen(verdict(same, ("c",)), allowed=False)


def test_a_prepared_set_needs_its_originals_and_the_same_files(data, tmp_path):
    chosen, card = recipe(split=SPLIT), ModelStore().card(RULE)
    prepare_data_set(chosen, data, tmp_path / "set")
    prepared = PreparedSet(tmp_path / "set")

    def found(where):
        return find_subjects(chosen, card, where, Monitor())

    with pytest.raises(InputError, match="The scans are missing"):
        found(Where(tmp_path / "set"))
    subjects = found(Where(tmp_path / "set", originals=data))
    assert [p.id for p in subjects.patients] == [prepared.patients[n].id for n in prepared.side("test")]
    # Made again from the folder alone, the split is the same.
    assert found(Where(data)).split.sha256 == prepared.split.sha256 == subjects.split.sha256
    marks = training_marks(prepared, "dwi")
    assert marks["images"]["test"] == sorted(subjects.marks[p.id] for p in subjects.patients)
    changed = shutil.copytree(data, tmp_path / "changed")
    name = subjects.patients[0].id.split("_")[0]
    emptied(next(m for m in masks(changed) if name in m.name))
    with pytest.raises(UnusablePatients, match="not the file that was prepared"):
        found(Where(tmp_path / "set", originals=changed))


def test_nobody_vanishes_from_a_side(data, tmp_path):
    chosen, card = recipe(split=SPLIT), ModelStore().card(RULE)
    subjects = find_subjects(chosen, card, Where(data), Monitor())
    write_split(subjects.split, tmp_path / "split.json")
    assert read_split(tmp_path / "split.json").sha256 == subjects.split.sha256
    name = subjects.patients[0].id
    fewer = shutil.copytree(data, tmp_path / "fewer")
    next(m for m in masks(fewer) if name.split("_")[0] in m.name).unlink()
    where = Where(fewer, split=tmp_path / "split.json")
    # A missing mask is no healthy patient.
    with pytest.raises(UnusablePatients, match="mask of 'lesion' is missing"):
        find_subjects(chosen, card, where, Monitor())
    shutil.rmtree(next(p for p in fewer.iterdir() if p.name == name.split("_")[0]))
    with pytest.raises(UnusablePatients):
        find_subjects(chosen, card, where, Monitor())
    left = find_subjects(chosen, card, Where(data, split=tmp_path / "split.json", leave_out=(name,)), Monitor())
    assert (left.left_out, len(left.patients)) == ((name,), 1)


def test_classes_of_model_and_data_must_be_as_many():
    card = ModelStore().card(RULE)
    assert judged_classes(card, ["lesion"]) == ()
    assert judged_classes(card, ["main", "sub"]) == ()
    two = type(card)(**{**vars(card), "classes": card.classes * 2})
    assert judged_classes(two, ["main", "sub"]) == ("main", "sub")
    with pytest.raises(InputError, match="not those of the data set"):
        judged_classes(two, ["a", "b", "c"])


def test_a_stored_patient_is_read_back_as_he_was(done):
    record = done.results.records[0]
    path = done.folder / "patients" / record.patient / "patient.json"
    assert Record.of(json.loads(path.read_text(encoding="utf-8"))["record"]).to_dict() == record.to_dict()
