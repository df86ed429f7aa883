"""The trainer: the same weights from the same seed, wherever it was stopped; saved in time; ready for the export."""

import csv
import json
import math
import os
import runpy
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which is not installed")
pytest.importorskip("lightning", reason="training needs lightning, which is not installed")

import numpy as np  # noqa: E402
import typer  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from strokeseg.errors import DependencyError, InputError, ModelError  # noqa: E402
from strokeseg.events import Log, Monitor, Progress  # noqa: E402
from strokeseg.models import read_card  # noqa: E402
from strokeseg_training.bank import Bank  # noqa: E402
from strokeseg_training.bank_writing import write_bank  # noqa: E402
from strokeseg_training.channels import make_channels  # noqa: E402
from strokeseg_training.cli_fit import fit as fit_command  # noqa: E402
from strokeseg_training.export import export_model  # noqa: E402
from strokeseg_training.fit.batches import Prepare, TrainingBatches, Variation, crop_box  # noqa: E402
from strokeseg_training.fit.beginning import open_data  # noqa: E402
from strokeseg_training.fit.checkpoints import latest  # noqa: E402
from strokeseg_training.fit.course import Limits  # noqa: E402
from strokeseg_training.fit.crops import close_up_box, cropped  # noqa: E402
from strokeseg_training.fit.module import TrainingModule  # noqa: E402
from strokeseg_training.fit.run import Start, fit  # noqa: E402
from strokeseg_training.fit.sources import BankSource, GeneratorSource, Sources  # noqa: E402
from strokeseg_training.losses.components import component_weights  # noqa: E402
from strokeseg_training.recipe import recipe_of  # noqa: E402
from strokeseg_training.recipe_parts import CloseUp, Data, GeneratorData  # noqa: E402

phantom = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("fit_phantom.py"))))
CPU = torch.device("cpu")


class FakeSources(Sources):
    def training(self, data, seed, device):
        return phantom.FakeSource()

    def about(self, data):
        return {"generator_version": "fake"}


def recipe(**changes):
    return recipe_of(phantom.recipe_data(**changes), "test")


def run(folder, given=None, **options):
    return fit(given or recipe(), folder, device="cpu", sources=options.pop("sources", FakeSources()), **options)


def weights(done):
    return load_file(done.checkpoint / "weights.safetensors")


def rows(folder, name="train.csv"):
    with (folder / name).open() as file:
        return list(csv.DictReader(file))


def curve(folder):
    """What must not depend on where a run was interrupted."""
    return [{k: v for k, v in r.items() if k not in ("seconds_per_step", "waiting_share")} for r in rows(folder)]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A complete run of ten steps."""
    return run(tmp_path_factory.mktemp("runs") / "whole", command="strokeseg-train fit --recipe test")


# --- the same again


def test_the_same_seed_gives_the_same_weights_bit_for_bit(whole, tmp_path):
    again = run(tmp_path / "again")
    assert same(weights(again), weights(whole))
    assert curve(tmp_path / "again") == curve(whole.folder)
    other = run(tmp_path / "other", recipe(seed=4))
    assert not same(weights(other), weights(whole))


def test_worker_processes_change_nothing(tmp_path):
    write_bank((phantom.patient(s) for s in range(1, 6)), tmp_path / "bank", about={}, shard_size=2)
    stages = [{"steps": 6}]
    found = []
    for workers in (0, 2):
        data = {"bank": str(tmp_path / "bank"), "workers": workers}
        found.append(run(tmp_path / f"run{workers}", recipe(data=data, stages=stages), sources=Sources()))
    assert same(*map(weights, found))


@pytest.mark.parametrize("stop_after", [3, 4, 7])
def test_a_resumed_run_gives_the_same_weights_and_the_same_curve(whole, tmp_path, stop_after):
    first = run(tmp_path / "run", limits=Limits(steps=stop_after))
    assert (first.step, first.stopped_by) == (stop_after, "steps")
    second = run(tmp_path / "run", start=Start(resume=True))
    assert (second.step, second.stopped_by) == (10, "")
    assert same(weights(second), weights(whole))
    assert same(
        load_file(second.checkpoint / "averaged.safetensors"), load_file(whole.checkpoint / "averaged.safetensors")
    )
    assert curve(tmp_path / "run") == curve(whole.folder)


def test_a_killed_run_goes_on_from_its_last_checkpoint_without_repeated_rows(whole, tmp_path):
    class Killed(FakeSources):
        def training(self, data, seed, device):
            return self

        def samples(self, numbers):
            if numbers[0] == 7:
                raise SystemExit  # nothing of ours is asked to tidy up
            return phantom.FakeSource().samples(numbers)

    with pytest.raises(SystemExit):
        run(tmp_path / "run", sources=Killed())
    assert len(rows(tmp_path / "run")) == 7
    assert latest(tmp_path / "run")[0] == 4
    # Half a row and half a checkpoint, as a kill may leave them.
    with (tmp_path / "run" / "train.csv").open("a") as file:
        file.write("8,0.5,0.")
    (tmp_path / "run" / "checkpoints" / ".partial-step-00000008").mkdir()
    done = run(tmp_path / "run", start=Start(resume=True))
    assert same(weights(done), weights(whole))
    assert curve(tmp_path / "run") == curve(whole.folder)
    assert [r["step"] for r in rows(tmp_path / "run")] == [str(n) for n in range(1, 11)]


def test_a_stop_between_two_rows_of_the_log_does_not_show(tmp_path):
    sparse = recipe(log_every=5)
    run(tmp_path / "whole", sparse)
    run(tmp_path / "run", sparse, limits=Limits(steps=3))
    run(tmp_path / "run", sparse, start=Start(resume=True))
    assert curve(tmp_path / "run") == curve(tmp_path / "whole")
    assert len(curve(tmp_path / "run")) == 2


def test_accumulated_batches_are_one_step(tmp_path):
    two = recipe(accumulation=2, checkpoint={"every": 2}, stages=[{"steps": 4}])
    complete = run(tmp_path / "whole", two)
    run(tmp_path / "run", two, limits=Limits(steps=3))
    resumed = run(tmp_path / "run", two, start=Start(resume=True))
    assert same(weights(complete), weights(resumed))
    card = json.loads((complete.checkpoint / "card.json").read_text())
    assert (card["origin"]["steps"], card["origin"]["patients_seen"]) == (4, 8)
    assert len(rows(tmp_path / "run")) == 4


# --- stopping


def test_minutes_that_are_over_end_the_run_after_a_step_and_save_it(tmp_path):
    done = run(tmp_path / "run", limits=Limits(minutes=0.0))
    assert (done.step, done.stopped_by) == (1, "minutes")
    assert latest(tmp_path / "run") == (1, done.checkpoint)


def test_a_request_to_stop_saves_the_run(tmp_path):
    asked = []
    done = run(tmp_path / "run", monitor=Monitor(cancelled=lambda: len(asked) == 5 or asked.append(1)))
    assert done.stopped_by == "cancelled"
    assert latest(tmp_path / "run")[0] == done.step < 10


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_signal_saves_the_run_and_it_can_be_resumed(tmp_path, number):
    write_bank((phantom.patient(s) for s in range(1, 6)), tmp_path / "bank", about={}, shard_size=2)
    data = {"bank": str(tmp_path / "bank"), "workers": 1}
    given = recipe(data=data, stages=[{"steps": 100000}], checkpoint={"every": 100000})
    (tmp_path / "r.yaml").write_text(given.to_yaml())
    program = "import typer; from strokeseg_training.cli_fit import fit; typer.run(fit)"
    command = [sys.executable, "-c", program, "--recipe", "r.yaml", "--out", "run", "--device", "cpu"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        limit = time.monotonic() + 120
        while not (tmp_path / "run" / "train.csv").is_file() or len(rows(tmp_path / "run")) < 3:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < limit
            time.sleep(0.05)
        # As a terminal does: to the whole group, workers included.
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
    assert process.returncode == 130, out + err
    assert "Stopped on request" in out
    assert "Traceback" not in err
    step, _ = latest(tmp_path / "run")
    assert step >= 3
    assert int(rows(tmp_path / "run")[-1]["step"]) == step


# --- where a run begins


def test_a_run_from_a_snapshot_begins_with_its_weights_and_a_fresh_optimiser(whole, tmp_path):
    snapshot = whole.checkpoint / "snapshot.safetensors"
    still = recipe(optimiser={"lr": 1e-30}, stages=[{"steps": 1}])
    done = run(tmp_path / "run", still, start=Start(weights=snapshot))
    given = load_file(snapshot)
    assert all(v.dtype == torch.float16 for v in given.values())
    for name, value in weights(done).items():
        torch.testing.assert_close(value, given[name].float(), rtol=0, atol=1e-20)
    card = json.loads((done.checkpoint / "card.json").read_text())
    assert card["origin"]["started_from"] == "snapshot.safetensors"


def test_a_snapshot_is_the_average_in_half_precision(whole):
    averaged = load_file(whole.checkpoint / "averaged.safetensors")
    for name, value in load_file(whole.checkpoint / "snapshot.safetensors").items():
        assert torch.equal(value, averaged[name].half())
    assert not same(averaged, weights(whole))


def test_a_run_elsewhere_takes_up_schedule_and_data_at_its_step(whole, tmp_path):
    snapshot = whole.checkpoint / "snapshot.safetensors"
    done = run(tmp_path / "run", start=Start(weights=snapshot, step=6))
    assert (done.step, len(rows(tmp_path / "run"))) == (10, 4)
    rates, usual = ([float(r["learning_rate"]) for r in curve(f)] for f in (tmp_path / "run", whole.folder))
    # A hundred steps of warm-up in the recipe: 1 %, 2 %, ... of the rate at that step.
    assert rates == pytest.approx([0.01 * n * rate for n, rate in enumerate(usual[6:], start=1)])


def test_weights_of_another_network_are_refused_and_nothing_is_adapted(whole, tmp_path):
    other = {**phantom.recipe_data()["network"]}
    other["arguments"] = {**other["arguments"], "channels": [4, 6]}
    with pytest.raises(ModelError, match="do not fit"):
        run(tmp_path / "run", recipe(network=other), start=Start(weights=whole.checkpoint / "snapshot.safetensors"))
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_written_over_another(whole):
    with pytest.raises(InputError, match="not an empty folder"):
        run(whole.folder)


def test_a_complete_run_has_nothing_left(whole):
    with pytest.raises(InputError, match="nothing left to train"):
        run(whole.folder, start=Start(resume=True))


def test_a_run_does_not_go_on_with_another_recipe(tmp_path):
    run(tmp_path / "run", limits=Limits(steps=1))
    with pytest.raises(InputError, match="another recipe") as caught:
        run(tmp_path / "run", recipe(optimiser={"lr": 0.5}), start=Start(resume=True))
    assert "'optimiser.lr' was 0.01, is 0.5" in caught.value.cause
    # What changes no step may change.
    done = run(tmp_path / "run", recipe(checkpoint={"every": 9}), start=Start(resume=True), limits=Limits(steps=2))
    assert done.step == 2


def test_a_damaged_checkpoint_is_said(tmp_path):
    done = run(tmp_path / "run", limits=Limits(steps=1))
    (done.checkpoint / "state.pt").write_bytes(b"no checkpoint")
    with pytest.raises(ModelError, match="step-00000001"):
        run(tmp_path / "run", start=Start(resume=True))


def test_a_checkpoint_with_code_is_refused(tmp_path):
    done = run(tmp_path / "run", limits=Limits(steps=1))
    torch.save({"batch_number": Path("x")}, done.checkpoint / "state.pt")
    with pytest.raises(ModelError, match="cannot be read"):
        run(tmp_path / "run", start=Start(resume=True))


@pytest.mark.parametrize(
    ("changes", "options", "error", "words"),
    [
        ({"precision": "fp16"}, {}, InputError, "'fp16' is for NVIDIA"),
        ({"preparation": {"spacing_mm": [4, 4, 4], "multiple": 2, "channels": ["adc"]}}, {}, InputError, "2 channels"),
        ({"preparation": {"spacing_mm": [4, 4, 4], "multiple": 1, "channels": ["adc", "dwi_ratio"]}}, {}, InputError,
         "preparation.multiple=2"),
        ({"preparation": {"spacing_mm": [2, 2, 2], "multiple": 2, "channels": ["adc", "dwi_ratio"]}}, {}, InputError,
         "spacing"),
        ({"network": {"name": "residual-unet", "arguments": {"channels": [4, 8]}}}, {}, InputError, "output 'tissue'"),
        ({"loss": {"dice": 0, "bce": 0}, "stages": [{"steps": 1}]}, {}, InputError, "no loss"),
        ({}, {"start": Start(step=3)}, InputError, "--at-step"),
        ({}, {"start": Start(resume=True)}, InputError, "no run to resume"),
        ({"optimiser": {"lr": 1e30}}, {}, ModelError, "diverged"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused_in_words(tmp_path, changes, options, error, words):
    with pytest.raises(error) as caught:
        run(tmp_path / "run", recipe(**changes), **options)
    assert words in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said(tmp_path):
    with pytest.raises(DependencyError, match="'cuda' is not there"):
        fit(recipe(), tmp_path / "run", device="cuda", sources=FakeSources())


# --- what is learned, logged and scored


def test_training_finds_blobs(tmp_path):
    given = recipe(
        stages=[{"steps": 150}],
        log_every=50,
        validation={"every": 75, "bank": str(tmp_path / "bank")},
        checkpoint={"every": 1000},
        schedule={"warm_up": 10},
        ema_decay=0.9,
    )
    write_bank((phantom.patient(s) for s in range(2000, 2006)), tmp_path / "bank", about={})

    class Scored(FakeSources):
        def validation(self, recipe, device):
            return BankSource(recipe.validation.bank)

    heard = []
    done = run(tmp_path / "run", given, sources=Scored(), monitor=Monitor(heard.append))
    assert done.best_dice > 0.8
    scores = rows(tmp_path / "run", "validation.csv")
    assert [r["step"] for r in scores] == ["75", "150"]
    assert done.best_dice == max(float(r["dice"]) for r in scores)
    best = json.loads((tmp_path / "run" / "best" / "card.json").read_text())["origin"]["steps"]
    assert float(scores[best // 75 - 1]["dice"]) == done.best_dice
    losses = [float(r["loss"]) for r in rows(tmp_path / "run")]
    assert losses[-1] < 0.7 * losses[0]
    assert any("validation patients" in e.message for e in heard if isinstance(e, Log))
    steps = [e for e in heard if isinstance(e, Progress)]
    assert (steps[-1].done, steps[-1].total) == (150, 150)
    assert "left" in steps[-1].message


def test_every_term_has_a_column_and_a_stage_brings_its_own(whole):
    table = rows(whole.folder)
    assert list(table[0]) == [
        "step", "loss", "bce", "dice", "small", "tissue", "tversky",
        "learning_rate", "seconds_per_step", "waiting_share",
    ]  # fmt: skip
    for n, r in enumerate(table):
        value = {k: float(v) for k, v in r.items()}
        expected = value["dice"] + value["bce"] + 0.2 * value["tissue"]
        if n < 6:
            assert math.isnan(value["tversky"])
        else:
            expected += value["tversky"] + 0.5 * value["small"]
        assert value["loss"] == pytest.approx(expected, rel=1e-5)
        assert 0 <= value["waiting_share"] <= 1


def test_the_learning_rate_warms_up_and_falls_to_the_power(whole):
    rates = [float(r["learning_rate"]) for r in rows(whole.folder)]
    expected = [0.01 * min(1, (n + 1) / 2) * (1 - n / 10) ** 0.9 for n in range(10)]
    assert rates == pytest.approx(expected)


def test_the_average_follows_the_weights():
    module = TrainingModule(recipe(ema_decay=0.5))
    before = [p.clone() for p in module.averaged.parameters()]
    with torch.no_grad():
        for p in module.network.parameters():
            p.add_(1.0)
    module.averagings = 1000
    module.average()
    for old, new in zip(before, module.averaged.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.5)


def test_tensorboard_gets_the_same_numbers(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tmp_path / "run", recipe(tensorboard=True), limits=Limits(steps=3))
    run(tmp_path / "run", recipe(tensorboard=True), start=Start(resume=True), limits=Limits(steps=5))
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload().Scalars("train/loss")
    assert [e.step for e in events] == [1, 2, 3, 4, 5]
    assert [e.value for e in events] == pytest.approx([float(r["loss"]) for r in rows(tmp_path / "run")], rel=1e-6)


def test_only_the_newest_checkpoints_stay(tmp_path):
    run(tmp_path / "run", recipe(checkpoint={"every": 2, "keep": 2}))
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir()) == ["step-00000008", "step-00000010"]


def test_bf16_and_another_order_in_memory_train_too(tmp_path):
    class Precise(FakeSources, phantom.FakeSource):
        def training(self, data, seed, device):
            return self

        def validation(self, recipe, device):
            return self

        def __len__(self):
            return 2

        def samples(self, numbers):
            assert not torch.is_autocast_enabled("cpu")
            return super().samples(numbers)

    given = recipe(precision="bf16", channels_last=True, validation={"every": 1, "bank": "x"}, stages=[{"steps": 2}])
    done = run(tmp_path / "run", given, sources=Precise())
    assert len(rows(tmp_path / "run", "validation.csv")) == 2
    assert all(v.dtype == torch.float32 for v in weights(done).values())
    assert math.isfinite(done.loss)


# --- what the network sees


def test_a_crop_has_the_brain_in_its_middle_and_a_size_that_fits():
    brain = torch.zeros(20, 20, 20, dtype=torch.bool)
    brain[5:11, 0:3, 7] = True
    # 6 + 2, 3 + 2, 1 + 2 voxels, rounded up to multiples of 4; it may begin before the grid.
    assert crop_box(brain, margin=1, multiple=4) == [(4, 8), (-2, 8), (6, 4)]


def test_a_crop_that_leaves_the_grid_is_filled_with_zeros():
    given = recipe(
        preparation={"spacing_mm": [4, 4, 4], "margin_voxels": 8, "multiple": 2, "channels": ["adc", "brain"]}
    )
    sample = phantom.patient(1)
    batch = Prepare(given)(sample, [1])
    assert min(batch.channels.shape[2:]) > 32
    assert int(batch.channels[0, 1].sum()) == int(sample.brain.sum()) == int(batch.target.inside.sum())
    torch.testing.assert_close(batch.target.lesion.sum(), sample.lesion.sum())


def test_a_crop_holds_what_the_channels_show():
    sample = phantom.patient(1)
    batch = Prepare(recipe())(sample, [1])
    (x, nx), (y, ny), (z, nz) = crop_box(sample.brain[0], margin=1, multiple=2)
    expected = make_channels(sample, ["dwi_ratio", "adc"])[:, :, x : x + nx, y : y + ny, z : z + nz]
    assert torch.equal(batch.channels, expected)
    assert torch.equal(batch.target.tissue, sample.tissue[:, x : x + nx, y : y + ny, z : z + nz])


def test_patients_of_a_batch_are_padded_to_the_largest_and_padding_does_not_count():
    small, large = phantom.patient(1), phantom.patient(2)
    small.brain[:, :12] = False
    both = Prepare(recipe())(phantom.Sample.together([small, large]), [1, 2])
    alone = [Prepare(recipe())(sample, [n]) for n, sample in enumerate((small, large), start=1)]
    assert alone[0].channels.shape[2] < alone[1].channels.shape[2] == both.channels.shape[2]
    for n, one in enumerate(alone):
        assert int(both.target.inside[n].sum()) == int(one.target.inside.sum())
        assert int((both.target.tissue[n] != 255).sum()) == one.target.tissue.numel()
        torch.testing.assert_close(both.channels[n].sum(), one.channels.sum())


def test_half_of_the_patients_are_flipped_each_as_a_whole():
    given = recipe()
    make = Prepare(given)
    flipped = 0
    for number in range(40):
        sample = phantom.patient(1)
        straight, turned = make(sample, [number]), make(sample, [number], Variation(flips=True))
        if torch.equal(turned.channels, straight.channels):
            continue
        flipped += 1
        assert torch.equal(turned.channels, straight.channels.flip(2))
        for one, other in zip(turned.target, straight.target, strict=True):
            assert torch.equal(one, other.flip(1))
    assert 10 <= flipped <= 30


def test_the_margin_grows_at_random_within_its_bound():
    make = Prepare(recipe())
    sizes = {tuple(make(phantom.patient(1), [n], Variation(extra_voxels=3)).channels.shape[2:]) for n in range(20)}
    least = make(phantom.patient(1), [0]).channels.shape[2:]
    assert len(sizes) > 3
    for size in sizes:
        assert all(a <= s <= a + 6 for s, a in zip(size, least, strict=True))


def test_close_ups_show_each_lesion_as_often_as_the_other_and_the_right_voxels():
    brain = torch.ones((32, 32, 32), dtype=torch.bool)
    lesion = torch.zeros((32, 32, 32))
    lesion[4:10, 4:10, 4:10], lesion[28, 28, 28] = 1, 1
    weights = component_weights(lesion[None], voxel_ml=1.0, smallest_ml=0.5)[0]
    rng, close_up = np.random.default_rng(3), CloseUp(size=(8, 8, 64), lesion_share=0.8)
    boxes = [close_up_box(lesion, brain, close_up, rng, weights) for _ in range(400)]
    for box in boxes:
        assert [size for _, size in box] == [8, 8, 32]
        assert all(first >= 0 and first + size <= 32 for first, size in box)
    held = [cropped(lesion, box) for box in boxes]
    small = sum(bool(h.sum() == 1) for h in held) / 400
    large = sum(bool(h.sum() > 1) for h in held) / 400
    assert 0.35 < small < 0.5
    assert 0.35 < large < 0.6
    alike = [close_up_box(lesion, brain, close_up, rng) for _ in range(100)]
    assert sum(bool(cropped(lesion, box).sum() > 1) for box in alike) > 75
    nowhere = [close_up_box(torch.zeros_like(lesion), brain, close_up, rng) for _ in range(50)]
    assert len({box[0] for box in nowhere}) > 10


def test_a_stage_of_close_ups_comes_before_one_of_whole_brains(tmp_path):
    write_bank((phantom.patient(s) for s in range(1, 5)), tmp_path / "bank", about={}, shard_size=4)
    data = {"bank": str(tmp_path / "bank"), "flips": False}
    near = {"steps": 2, "data": {"close_up": {"size": [8, 8, 8], "lesion_share": 1.0}}}
    batches = TrainingBatches(
        recipe(data=data, stages=[near, {"steps": 2}]), torch.device("cpu"), Sources()
    )  # fmt: skip
    shapes = [tuple(batches[n].channels.shape[2:]) for n in range(4)]
    assert shapes[:2] == [(8, 8, 8)] * 2
    assert all(min(s) > 8 for s in shapes[2:])
    first = batches[0]
    assert first.target.lesion.sum() > 0
    assert first.target.lesion.shape[1:] == first.channels.shape[2:] == first.target.tissue.shape[1:]
    again = batches[0]
    assert torch.equal(first.channels, again.channels)


def test_larger_infarcts_first_leaves_the_others_of_the_bank_out(tmp_path):
    write_bank((phantom.patient(s) for s in range(1, 9)), tmp_path / "bank", about={"made": "here"}, shard_size=3)
    bank = Bank(tmp_path / "bank")
    by_hand = [float(bank[n].lesion.sum()) * math.prod(bank.manifest.spacing_mm) / 1000 for n in range(8)]
    assert bank.lesion_ml() == pytest.approx(by_hand, rel=1e-5)
    least = sorted(by_hand)[5]
    data = {"bank": str(tmp_path / "bank"), "flips": False}
    given = recipe(data=data, stages=[{"steps": 6, "data": {"least_lesion_ml": least * 0.999}}, {"steps": 8}])
    large = {seed for seed, ml in zip(bank.manifest.seeds, by_hand, strict=True) if ml >= least * 0.999}
    source = Sources().training(given.stages[0].data, 5, CPU)
    assert [len(source), len(Sources().training(given.stages[1].data, 5, CPU))] == [3, 8]
    assert {source.samples([n]).seeds[0] for n in range(6)} == large
    about, _ = open_data(given, Sources())
    assert about[0] == {"bank": {"made": "here"}, "patients": 3, "least_lesion_ml": least * 0.999}
    assert about[1] == {"bank": {"made": "here"}, "patients": 8}
    with pytest.raises(InputError, match=r"infarct of 1000 ml or more.*largest infarct of the bank has"):
        BankSource(str(tmp_path / "bank"), least_lesion_ml=1000).samples([0])
    with pytest.raises((InputError, ValueError), match="chooses among synthetic patients"):
        recipe(data={"prepared": "p", "least_lesion_ml": 1.0})


def test_in_place_of_a_small_infarct_the_generator_makes_another_patient(monkeypatch):
    seeds = {"task": "dwi-adc", "seeds": {"from": 100, "to": 200}}
    data = Data(generator=GeneratorData.model_validate(seeds), least_lesion_ml=2.0)
    made = []

    def patients(self, places):
        made.extend(places)
        sample = phantom.patient(places[0])
        ml = 5.0 if places[0] % 4 == 0 else 0.5
        lesion = torch.zeros_like(sample.lesion)
        lesion[0, 0, 0, 0] = ml * 1000 / math.prod(sample.spacing_mm)
        return replace(sample, lesion=lesion)

    monkeypatch.setattr(GeneratorSource, "_made", patients)
    source = Sources().training(data, 5, CPU)
    found = source.samples([0, 1, 103])
    assert found.lesion.shape[0] == 3
    assert [s % 4 for s in found.seeds] == [0, 0, 0]
    assert found.seeds[0] == 0
    assert found.seeds == source.samples([0, 1, 103]).seeds
    assert [p % 4 for p in made].count(0) == 6
    # Where there is none, each seed was tried once.
    made.clear()
    with pytest.raises(InputError, match="largest of 100 that were made has 5 ml"):
        Sources().training(data.model_copy(update={"least_lesion_ml": 50.0}), 5, CPU).samples([3])
    assert sorted(made) == list(range(100))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": {"bank": "b", "close_up": {"size": [11, 8, 8]}}}, "multiples of 'preparation.multiple'"),
        ({"data": {"bank": "b", "close_up": {"size": [8, 8, 8], "lesions": 1}}}, "lesions"),
    ],
)
def test_close_ups_that_do_not_fit_are_refused(changes, said):
    with pytest.raises((InputError, ValueError), match=said):
        recipe(**changes)


def test_a_bank_is_seen_as_a_whole_before_a_patient_comes_again(tmp_path):
    write_bank((phantom.patient(s) for s in range(1, 8)), tmp_path / "bank", about={}, shard_size=3)
    source = BankSource(str(tmp_path / "bank"), seed=5)
    first, second = ([source.samples([n]).seeds[0] for n in turn] for turn in (range(7), range(7, 14)))
    assert sorted(first) == sorted(second) == list(range(1, 8))
    assert first != second
    # Out of turn, as another worker asks.
    assert BankSource(str(tmp_path / "bank"), seed=5).samples([9]).seeds[0] == second[2]


def test_a_batch_depends_on_its_number_alone():
    batches = TrainingBatches(recipe(batch=2), CPU, FakeSources())
    late = batches[7]
    for one, other in zip(late.target, TrainingBatches(recipe(batch=2), CPU, FakeSources())[7].target, strict=True):
        assert torch.equal(one, other)
    assert late.channels.shape[0] == 2


def test_a_patient_without_brain_is_named():
    sample = phantom.patient(9)
    sample.brain[:] = False
    with pytest.raises(InputError, match="seed 9"):
        Prepare(recipe())(sample, [0])


# --- to a model


def test_a_run_goes_straight_into_the_export(whole, tmp_path):
    fields = json.loads((whole.checkpoint / "card.json").read_text())
    done = export_model(whole.checkpoint / "snapshot.safetensors", fields, tmp_path / "tiny-fit")
    card = read_card(tmp_path / "tiny-fit")
    assert done.rounding == 0.0
    assert card.runtime == "openvino"
    assert card.outputs == ("lesion", "tissue")
    assert card.preparation.channels == ("dwi_ratio", "adc")
    origin = card.origin
    assert (origin["recipe"], origin["seed"], origin["steps"], origin["patients_seen"]) == ("tiny-fit", 3, 10, 10)
    assert origin["command"] == "strokeseg-train fit --recipe test"
    assert origin["recipe_sha256"] == recipe().sha256
    assert origin["data"] == "random blobs"
    assert origin["training_data"] == [{"generator_version": "fake"}]


# --- the command


app = typer.Typer()
app.command()(fit_command)


def command(*arguments):
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def banked(tmp_path):
    write_bank((phantom.patient(s) for s in range(1, 5)), tmp_path / "bank", about={"generator_version": "0"})
    (tmp_path / "r.yaml").write_text(recipe(data={"bank": str(tmp_path / "bank"), "workers": 0}).to_yaml())
    return tmp_path


def test_the_command_trains_and_says_how_to_go_on(banked):
    out = str(banked / "run")
    done = command("--recipe", str(banked / "r.yaml"), "--out", out, "--set", "stages.1.steps=2", "--limit-steps", "5")
    assert done.exit_code == 0, done.output
    assert "Stopped by --limit-steps: step 5 of 8" in done.stdout
    assert f"--resume --out {out}" in done.stdout
    on = command("--resume", "--out", out, "--format", "json")
    assert on.exit_code == 0, on.output
    result = json.loads(on.stdout)
    assert (result["step"], result["steps"], result["stopped_by"]) == (8, 8, "")
    card = json.loads((Path(result["checkpoint"]) / "card.json").read_text())
    assert "--set stages.1.steps=2" in card["origin"]["command"]
    assert card["origin"]["training_data"] == [{"bank": {"generator_version": "0"}, "patients": 4}]
    assert str(banked) not in json.dumps(card)


def test_the_command_refuses_in_words(banked):
    wrong = command("--recipe", str(banked / "r.yaml"), "--set", "sed=1", "--out", str(banked / "run"))
    assert wrong.exit_code == 3
    assert "Did you mean 'seed'?" in wrong.output
    assert command("--out", str(banked / "run")).exit_code == 3
