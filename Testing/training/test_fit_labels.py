"""Training on class labels of prepared patients: the same trainer, curve and checkpoints; mixed with synthetic ones."""

from __future__ import annotations

import csv
import json
import math
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which is not installed")
pytest.importorskip("lightning", reason="training needs lightning, which is not installed")

import label_phantom as labels  # noqa: E402
from data_phantom import write_patients  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402

from strokeseg.errors import DependencyError, InputError, MemoryLimitError  # noqa: E402
from strokeseg.networks import NetworkForm  # noqa: E402
from strokeseg_training.bank_writing import write_bank  # noqa: E402
from strokeseg_training.datasets.phantom import Phantoms, PhantomScene  # noqa: E402
from strokeseg_training.fit import run as run_module  # noqa: E402
from strokeseg_training.fit.batches import Prepare, TrainingBatches  # noqa: E402
from strokeseg_training.fit.checkpoints import latest  # noqa: E402
from strokeseg_training.fit.course import Limits  # noqa: E402
from strokeseg_training.fit.module import TrainingModule  # noqa: E402
from strokeseg_training.fit.prepared import PreparedSource  # noqa: E402
from strokeseg_training.fit.run import Start, fit  # noqa: E402
from strokeseg_training.fit.scores import PreparedScores  # noqa: E402
from strokeseg_training.fit.scoring import means, score_classes  # noqa: E402
from strokeseg_training.fit.sources import Sources, turn  # noqa: E402
from strokeseg_training.losses import IGNORED  # noqa: E402
from strokeseg_training.prepare import PreparedSet, prepare_data_set  # noqa: E402
from strokeseg_training.prepare.recipe import data_recipe_of  # noqa: E402
from strokeseg_training.recipe import recipe_of  # noqa: E402

HERE = Path(__file__).parent
blobs = SimpleNamespace(**runpy.run_path(str(HERE / "fit_phantom.py")))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return labels.prepare_patients(tmp_path_factory.mktemp("patients"))


@pytest.fixture
def recipe(prepared):
    def made(**changes):
        return recipe_of(labels.recipe_data(prepared, **changes), "test")

    return made


def run(folder, given, **options):
    return fit(given, folder, device="cpu", **options)


def rows(folder, name="train.csv"):
    with (folder / name).open() as file:
        return list(csv.DictReader(file))


def curve(folder):
    """What must not depend on where a run was interrupted."""
    timed = ("seconds_per_step", "waiting_share")
    return [{k: v for k, v in r.items() if k not in timed} for r in rows(folder)], rows(folder, "validation.csv")


def same_end(one, other):
    names = ("weights.safetensors", "averaged.safetensors")
    first, second = ([load_file(d.checkpoint / n) for n in names] for d in (one, other))
    return all(torch.equal(a[k], b[k]) for a, b in zip(first, second, strict=True) for k in a)


# --- the same again


WATCHED = {"every": 2, "side": "val", "watch": "loss"}


@pytest.fixture(scope="module")
def whole(prepared, tmp_path_factory):
    """Eight steps with batch norm, augmentation, two batches a step, validations, and a rate that falls."""
    given = recipe_of(labels.recipe_data(prepared, **_ALL), "test")
    return run(tmp_path_factory.mktemp("runs") / "whole", given)


_ALL = {
    "accumulation": 2,
    "validation": WATCHED,
    "schedule": {"rule": "plateau", "patience": 0, "warm_up": 0, "factor": 0.5},
    "stages": [{"steps": 8}],
}


class Failing(Sources):
    """Prepared patients, one of whose samples cannot be had."""

    def __init__(self, at, error):
        self.at, self.error = at, error

    def prepared(self, folder, recipe):
        outer = self

        class Source(PreparedSource):
            def example(self, number):
                if number == outer.at:
                    raise outer.error
                return super().example(number)

        return Source(folder, recipe)


@pytest.mark.parametrize("batch", [1, 6, 11])
def test_a_run_killed_at_any_batch_comes_to_the_same_curve_without_repeated_rows(recipe, whole, tmp_path, batch):
    given, killed = recipe(**_ALL), SystemExit()
    with pytest.raises(SystemExit):
        run(tmp_path / "run", given, sources=Failing(batch * 3, killed))
    # Nothing was tidied up: only every third step was saved.
    assert (latest(tmp_path / "run") or (0,))[0] == batch // 2 // 3 * 3
    done = run(tmp_path / "run", given, start=Start(resume=True))
    assert same_end(done, whole)
    assert curve(tmp_path / "run") == curve(whole.folder)
    assert [r["step"] for r in rows(tmp_path / "run")] == [str(n) for n in range(1, 9)]


def test_the_curve_has_the_terms_of_the_objective_and_a_row_for_each_validation(whole):
    train, scores = curve(whole.folder)
    assert list(train[0]) == ["step", "loss", "dice", "entropy", "learning_rate"]
    for row in train:
        assert float(row["loss"]) == pytest.approx(float(row["dice"]) + float(row["entropy"]), rel=1e-6)
    assert [r["step"] for r in scores] == ["2", "4", "6", "8"]
    assert list(scores[0])[-2:] == ["dice_1", "dice_2"]
    # The rate is halved after each validation that is not the best so far.
    best, rate, expected = math.inf, 0.01, []
    for row in scores:
        expected += [rate, rate]
        rate *= 1.0 if float(row["loss"]) < best else 0.5
        best = min(best, float(row["loss"]))
    assert [float(r["learning_rate"]) for r in train] == pytest.approx(expected)


def test_memory_that_runs_out_leaves_the_last_whole_step(recipe, whole, tmp_path):
    given = recipe(**_ALL)
    # The second batch of the sixth step.
    with pytest.raises(MemoryLimitError, match="memory is not enough") as caught:
        run(tmp_path / "run", given, sources=Failing(11 * 3, MemoryError("out of memory")))
    assert "--resume" in caught.value.next_step
    assert latest(tmp_path / "run")[0] == 5
    assert same_end(run(tmp_path / "run", given, start=Start(resume=True)), whole)
    assert curve(tmp_path / "run") == curve(whole.folder)


def full_at(batch, monkeypatch):
    """The device's memory ends while the network computes a batch."""
    step = TrainingModule.training_step

    def full(module, *given):
        if module.batch_number == batch:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return step(module, *given)

    monkeypatch.setattr(TrainingModule, "training_step", full)


def test_a_device_that_is_full_within_a_step_leaves_the_step_before(recipe, whole, tmp_path):
    given, folder = recipe(**_ALL), tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        full_at(11, patch)
        with pytest.raises(MemoryLimitError, match="memory is not enough") as caught:
            run(folder, given)
    assert "Tried to allocate 2.00 GiB" in caught.value.cause
    step, checkpoint = latest(folder)
    # Only every third step is saved in a run that does not fail.
    assert step == 5
    assert caught.value.next_step.startswith("Step 5 is saved. Free memory, or take fewer 'data.workers', and go on ")
    assert f"--init-from {checkpoint / 'snapshot.safetensors'} --at-step 5" in caught.value.next_step
    assert same_end(run(folder, given, start=Start(resume=True)), whole)
    assert curve(folder) == curve(whole.folder)


def test_a_device_that_is_full_while_weights_change_leaves_no_half_changed_ones(recipe, whole, tmp_path):
    given, folder, calls = recipe(**_ALL), tmp_path / "run", []

    def full(optimiser, closure):
        closure()
        calls.append(len(calls))
        if len(calls) == 6:
            with torch.no_grad():
                optimiser.param_groups[0]["params"][0].add_(1.0)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        step(optimiser)

    step = torch.optim.Adam.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", full)
        with pytest.raises(MemoryLimitError) as caught:
            run(folder, given)
    # Weights of which some have changed are no step: the last one that was saved is the third.
    assert latest(folder)[0] == 3
    assert caught.value.next_step.startswith("Step 3 is saved. ")
    assert same_end(run(folder, given, start=Start(resume=True)), whole)
    assert curve(folder) == curve(whole.folder)


@pytest.mark.parametrize("batch", [0, 1])
def test_a_device_that_is_full_in_the_first_step_has_nothing_to_resume(recipe, tmp_path, monkeypatch, batch):
    full_at(batch, monkeypatch)
    with pytest.raises(MemoryLimitError, match="memory is not enough") as caught:
        run(tmp_path / "run", recipe(**_ALL))
    assert latest(tmp_path / "run") is None
    assert caught.value.next_step.startswith("No step is saved yet: start again in another folder, with a smaller 'ba")
    assert "--resume" not in caught.value.next_step


def test_worker_processes_change_nothing(recipe, whole, tmp_path, prepared):
    data = {"prepared": str(prepared), "flips": False, "workers": 1}
    assert same_end(run(tmp_path / "run", recipe(**_ALL, data=data)), whole)


def test_a_run_ends_where_nothing_gets_better_and_has_nothing_left(recipe, tmp_path):
    still = {"optimiser": {"name": "adam", "lr": 1e-30, "weight_decay": 0}, "validation": {**WATCHED, "patience": 1}}
    # Batch norm would remember more with each batch.
    given = recipe(**still, network={"name": "atlas-unet", "arguments": {"channels": [2, 4]}}, stages=[{"steps": 20}])
    done = run(tmp_path / "run", given)
    # The first is the best; the second and the third are no better, which is one more than the patience.
    assert (done.step, done.stopped_by) == (6, "patience")
    assert json.loads((tmp_path / "run" / "best" / "card.json").read_text())["origin"]["steps"] == 2
    with pytest.raises(InputError, match="nothing left to train"):
        run(tmp_path / "run", given, start=Start(resume=True))


# --- samples


def test_a_pass_shows_every_slice_once_and_epochs_are_steps(recipe, prepared, tmp_path):
    source = PreparedSource(str(prepared), recipe())
    names = [source.example(n).name for n in range(2 * len(source))]
    assert len(set(names)) == len(source) > 10
    assert sorted(names[: len(source)]) == sorted(names[len(source) :])
    assert names[: len(source)] != names[len(source) :]
    twice = recipe(stages=[{"epochs": 2}], validation={"epochs": 0.5, "side": "val"})
    steps = math.ceil(2 * len(source) / 3)
    resolved = twice.in_steps([len(source)])
    assert (resolved.steps, resolved.validation.every) == (steps, round(len(source) / 6))
    done = run(tmp_path / "run", twice, limits=Limits(steps=1))
    assert (done.step, done.steps, done.stopped_by) == (1, steps, "steps")


def test_lesion_outside_the_brain_does_not_count(recipe, prepared):
    source = PreparedSource(str(prepared), recipe())
    number = next(n for n in range(len(source)) if bool(source.example(n).maps["labels"].any()))
    example = source.example(number)
    example.maps["brain"].zero_()
    label = Prepare(recipe()).real(example, 0)[1]
    assert torch.equal(label == IGNORED, example.maps["labels"] > 0)


@pytest.mark.parametrize("share", [0.5, 0.25, 0.3, 2 / 3])
def test_a_mixed_run_keeps_its_ratio_and_leaves_nobody_out(share):
    turns = [turn(n, share) for n in range(3000)]
    for end in range(1, 3000):
        if end % 300 == 0:
            assert abs(sum(real for real, _ in turns[:end]) - end * share) <= 1
    for kind in (True, False):
        own = [place for real, place in turns if real is kind]
        assert own == list(range(len(own)))


@pytest.fixture
def mixed(tmp_path):
    """A recipe of the bundled model's kind for volumes, with real patients and a bank."""
    folder = tmp_path / "patients"
    write_patients(folder, seeds=(0, 1, 2, 3))
    made = Phantoms("dwi-adc")
    write_bank(
        (made.make([PhantomScene(s)]) for s in range(10, 14)), tmp_path / "bank", about={"generator_version": "p"}
    )
    card = {**blobs.recipe_data()["card"]}
    recipe = blobs.recipe_data(
        preparation={"spacing_mm": [6, 6, 6], "margin_voxels": 1, "multiple": 2, "channels": ["dwi_ratio", "adc"]},
        datasets={
            "layout": "isles22", "classes": [{"name": "lesion"}], "split": {"train": 0.5, "val": 0.25, "test": 0.25},
        },
        data={
            "bank": str(tmp_path / "bank"), "prepared": str(tmp_path / "set"), "real_share": 0.5, "workers": 0,
            "extra_voxels": 1,
        },
        validation={"every": 4, "side": "val"},
        stages=[{"steps": 5}],
        batch=2,
        card=card,
    )  # fmt: skip
    prepare_data_set(data_recipe_of(recipe, "test"), folder, tmp_path / "set")
    return recipe


def test_real_and_synthetic_patients_are_one_batch_and_only_synthetic_ones_teach_tissue(mixed, tmp_path):
    batch = TrainingBatches(recipe_of(mixed, "test"), CPU, Sources())[0]
    synthetic, real = batch.target.tissue
    assert batch.channels.shape[:2] == (2, 2)
    assert bool((real == 255).all())
    assert not bool((synthetic[batch.target.inside[0]] == 255).any())
    done = run(tmp_path / "run", recipe_of(mixed, "test"))
    assert done.best_dice is not None
    assert all(math.isfinite(float(r["tissue"])) for r in rows(tmp_path / "run"))
    said = json.loads((done.checkpoint / "card.json").read_text())["origin"]["training_data"][0]
    assert said["real_share"] == 0.5
    assert said["synthetic"]["bank"] == {"generator_version": "p"}
    assert said["prepared"]["split_sha256"] == PreparedSet(tmp_path / "set").split.sha256
    assert len(said["prepared"]["images"]["train"]) == said["patients"] == 2


def test_a_run_does_not_go_on_with_other_patients(recipe, prepared, tmp_path):
    given = recipe()
    run(tmp_path / "run", given, limits=Limits(steps=1))
    state = latest(tmp_path / "run")[1] / "state.pt"
    torch.save({**torch.load(state, weights_only=True), "data": "0" * 64}, state)
    with pytest.raises(InputError, match="other data"):
        run(tmp_path / "run", given, start=Start(resume=True))


# --- scores


def test_scores_of_classes_count_what_is_seen_by_hand():
    label = torch.zeros(4, 4, 1, dtype=torch.uint8)
    label[0], label[1, :2] = 1, 2
    brain = torch.ones(4, 4, 1, dtype=torch.bool)
    logits = torch.zeros(1, 3, 4, 4, 1)
    logits[0, 1, 0, :2] = logits[0, 2, 1] = 1.0
    logits[0, 1, 3] = 1.0
    brain[3] = False
    one = score_classes(logits, label, brain, 0.5, 0.002)
    # Main: 2 of 4 found. Sub: 2 found, and 2 too many. What is found outside the brain is not found.
    assert one.dices == (pytest.approx(2 * 2 / 6), pytest.approx(2 * 2 / 6))
    assert (one.sensitivity, one.false_ml) == (pytest.approx(4 / 6), pytest.approx(0.004))
    healthy = score_classes(logits, torch.zeros_like(label), brain, 0.1, 0.002)
    assert all(math.isnan(d) for d in healthy.dices)
    found = means([one, healthy])
    assert found["dice"] == pytest.approx(2 / 3)
    assert found["false_ml_without_lesion"] == pytest.approx(6 * 0.002)
    assert (found["dice_1"], found["loss"]) == (pytest.approx(2 / 3), pytest.approx(0.3))


class Darker(nn.Module):
    """Says main lesion where the image is below -1."""

    form = NetworkForm(in_channels=1, slices=True)

    def forward(self, batch):
        assert batch.shape[2:] == (16, 12, 1)
        return torch.cat([torch.zeros_like(batch), -1.0 - batch, torch.full_like(batch, -9.0)], dim=1)


def test_volumes_are_put_together_of_slices_that_are_smaller_than_the_brain(recipe, prepared):
    datasets = {**labels.recipe_data()["datasets"], "slices": {"size": [16, 12]}}
    given = recipe(datasets=datasets, validation={"every": 1, "side": "train"})
    module = TrainingModule(given)
    module.averaged = Darker()
    scores = PreparedScores(PreparedSource(str(prepared), given), given).of(module, lambda v: v)
    patients = PreparedSet(prepared)
    assert len(scores) == len(patients.side("train"))
    for one, number in zip(scores, patients.side("train"), strict=True):
        volume = patients.volume(number)
        found = (np.asarray(volume.channels[0], dtype=np.float32) < -1.0) & (volume.brain > 0)
        main = volume.labels == 1
        assert one.dices[0] == pytest.approx(2 * (found & main).sum() / (found.sum() + main.sum()))
        assert one.dices[0] > 0.2


def test_a_network_learns_its_patients_by_heart(recipe, tmp_path):
    done = run(
        tmp_path / "run",
        recipe(
            augmentation=None,
            # Batch norms that follow by a hundredth a step would need more steps.
            network={"name": "atlas-unet", "arguments": {"channels": [8, 8, 16]}},
            batch=8,
            validation={"every": 60, "side": "train"},
            stages=[{"steps": 120}],
            log_every=20,
        ),
    )
    assert done.best_dice > 0.5
    losses = [float(r["loss"]) for r in rows(tmp_path / "run")]
    assert losses[-1] < 0.5 * losses[0]


# --- what the recipe's tables ask for


def test_adam_is_adam_and_frozen_parameters_are_not_trained(recipe):
    module = TrainingModule(recipe(optimiser={"name": "adam", "lr": 0.01, "weight_decay": 0, "eps": 1e-7}))
    next(module.network.parameters()).requires_grad_(requires_grad=False)
    adam = module.configure_optimizers()
    assert type(adam) is torch.optim.Adam
    assert adam.defaults["eps"] == 1e-7
    assert len(adam.param_groups[0]["params"]) == len(list(module.network.parameters())) - 1


def test_weights_and_biases_are_used_only_where_asked_for(recipe, tmp_path, monkeypatch):
    heard = []

    class Heard:
        def __init__(self, **given):
            heard.append(given)
            raise ModuleNotFoundError("wandb")

    monkeypatch.setattr(run_module, "WandbLogger", Heard)
    run(tmp_path / "run", recipe(), limits=Limits(steps=1))
    assert heard == []
    with pytest.raises(DependencyError, match="Weights & Biases"):
        run(tmp_path / "other", recipe(wandb=True), limits=Limits(steps=1))
    assert heard[0]["name"] == "other"


# --- refusals


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": {"name": "atlas-resunet", "arguments": {"channels": [2, 4, 4], "out_channels": 2}}},
         "network.arguments.out_channels=3"),
        ({"objective": None}, "knows lesion and no lesion only"),
        ({"preparation": {"spacing_mm": [5, 5, 5], "margin_voxels": 1, "multiple": 4, "channels": ["t1_zscore"]}},
         "spacing_mm"),
        ({"preparation": {"spacing_mm": [6, 6, 6], "margin_voxels": 2, "multiple": 4, "channels": ["t1_zscore"]}},
         "margin_voxels"),
        ({"datasets": {**labels.recipe_data()["datasets"], "split": {"seed": 7}}}, "'split' was"),
        ({"init_from": "no-model"}, "--set init_from=null"),
        ({"validation": {"every": 2, "bank": "x"}}, "validation.side=val"),
        ({"data": {"prepared": "nowhere"}}, "strokeseg-train prepare"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused_in_words(recipe, tmp_path, changes, words):
    given = labels.recipe_data(recipe().data.prepared)
    if changes.get("validation"):
        write_bank(iter([blobs.patient(1)]), tmp_path / "x", about={})
        changes = {"validation": {"every": 2, "bank": str(tmp_path / "x")}}
    with pytest.raises(InputError) as caught:
        run(tmp_path / "run", recipe_of({**given, **changes}, "test"))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("slices", "words"),
    [
        ({"axis": "sagittal", "size": [32, 32]}, "axial"),
        ({"size": [32, 32], "fit": "resize"}, "not stretched"),
        ({"size": [30, 32]}, "multiples of 4"),
    ],
)
def test_slices_that_the_engine_does_not_cut_are_refused(recipe, slices, words):
    with pytest.raises(InputError) as caught:
        TrainingModule(recipe(datasets={**labels.recipe_data()["datasets"], "slices": slices}))
    assert words in str(caught.value)


def test_a_damaged_patient_is_named_before_training_starts(recipe, prepared, tmp_path):
    own = shutil.copytree(prepared, tmp_path / "own")
    patient = PreparedSet(own).patients[1].id
    with (own / "patients" / patient / "labels.npy").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\7")
    with pytest.raises(InputError, match="damaged") as caught:
        run(tmp_path / "run", recipe(data={"prepared": str(own), "workers": 0}))
    assert patient in caught.value.cause
    assert not (tmp_path / "run").exists()
