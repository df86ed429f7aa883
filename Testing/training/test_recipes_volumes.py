"""The published networks on volumes: their recipes' settings, and each from a data set to a result, with tiny ones."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which is not installed")
pytest.importorskip("lightning", reason="training needs lightning, which is not installed")
pytest.importorskip("onnx", reason="the export needs onnx, which is not installed")

from typer.testing import CliRunner  # noqa: E402

from strokeseg.cli import app as engine  # noqa: E402
from strokeseg_training.cli import app as training  # noqa: E402
from strokeseg_training.fit.module import TrainingModule  # noqa: E402
from strokeseg_training.prepare.recipe import load_data_recipe  # noqa: E402
from strokeseg_training.recipe import load_recipe  # noqa: E402

SMALL = [
    "preparation.spacing_mm=[6,6,6]", "preparation.margin_voxels=1", "preparation.multiple=4", "data.workers=0",
    "precision=fp32", "threads=1", "tensorboard=false", "log_every=1", "batch=2", "accumulation=1",
    "stages=[{steps: 3}]", "validation.epochs=0", "validation.every=3",
    "datasets.split={train: 0.5, val: 0.25, test: 0.25, seed: 42}",
]  # fmt: skip
# `synthesize` writes patients with voxels of 6 mm. Name to settings, layout, and the images of a patient.
DWI_ADC, T1 = {"dwi": "*_dwi.nii.gz", "adc": "*_adc.nii.gz"}, {"t1": "*T1w.nii.gz"}
MADE = {
    "attention-unet-3d": (
        [
            "network.arguments={features: 2, levels: 2, checkpointing: true}", "objective.auxiliary={aux2: 0.3}",
            "datasets.patches.size=[16,16,16]", "card.window=[16,16,16]",
        ],
        "isles22", DWI_ADC,
    ),
    "mscs-net": (
        [
            "network.arguments={channels: [2, 2], units: [2, 2], pooled: 2, decoder_channels: [2, 2, 2]}",
            "datasets.patches.size=[32,32,8]", "card.window=[32,32,8]", "card.input_shape=[32,32,8]",
            "preparation.multiple=1",
        ],
        "isles22", DWI_ADC,
    ),
    "segformer3d": (
        [
            "network.arguments={widths: [4, 8], depths: [1, 1], heads: [1, 2], reductions: [2, 1], decoder_width: 8}",
            "datasets.patches.size=[16,16,16]", "card.window=[16,16,16]", "card.input_shape=[16,16,16]",
            "schedule.warm_up=1",
        ],
        "atlas", T1,
    ),
}  # fmt: skip


def done(app, *words):
    result = CliRunner().invoke(app, [str(w) for w in words])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STROKESEG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STROKESEG_THREADS", "1")
    return tmp_path


@pytest.mark.parametrize("name", MADE)
def test_a_recipe_goes_from_a_data_set_to_a_result_on_the_scans_own_grid(name, place):
    own, layout, images = MADE[name]
    settings = [word for s in (*SMALL, *own) for word in ("--set", s)]
    task = "t1" if images is T1 else "dwi-adc"
    done(training, "synthesize", "--small", "--task", task, "--layout", layout, "--count", 4, "--out", "data")
    done(training, "prepare", "--recipe", name, "--data", "data", "--out", "set", "--pictures", *settings)
    assert len(list(place.glob("set/pictures/*.png"))) == 4
    out = done(
        training, "fit", "--recipe", name, *settings, "--set", "data.prepared=set", "--out", "run", "--device", "cpu"
    )
    assert "Complete: step 3 of 3" in out
    rows = (place / "run" / "train.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 4
    # Deep supervision: the further output has a column of its own.
    assert ("aux2" in rows[0]) == (name == "attention-unet-3d")
    last = sorted(place.glob("run/checkpoints/*"))[-1]
    export = ["--card", last / "card.json", "--checkpoint", last / "snapshot.safetensors", "--out", f"made/{name}"]
    done(training, "export", *export)
    # Whoever gets the model adds it; then it is listed with its card.
    assert name not in done(engine, "models", "list")
    done(engine, "models", "add", f"made/{name}")
    assert name in done(engine, "models", "list")
    card = json.loads((place / "home" / "models" / name / "card.json").read_text(encoding="utf-8"))
    assert (card["runtime"], card["strategy"], card["window"]) == ("openvino", "windows", json.loads(own_window(own)))
    split = json.loads((place / "set" / "split.json").read_text(encoding="utf-8"))
    assert card["origin"]["training_data"][0]["prepared"]["split_sha256"] == split["sha256"]
    done(
        training, "evaluate", "--recipe", name, "--model", name, "--data", "set", "--originals", "data", "--out",
        "judged", "--device", "cpu", *settings,
    )  # fmt: skip
    assert json.loads((place / "judged" / "results.json").read_text(encoding="utf-8"))
    found = {r: sorted(p for p in (place / "data").rglob(pattern) if p.is_file())[0] for r, pattern in images.items()}
    inputs = [word for role, file in found.items() for word in (f"--{role}", file)]
    done(engine, "segment", *inputs, "--model", name, "--device", "cpu", "--out", "result")
    mask, scan = nib.load("result/lesion_mask.nii.gz"), nib.load(next(iter(found.values())))
    assert mask.shape == scan.shape == (26, 30, 22)
    np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-4)
    shutil.rmtree(place / "home")


def own_window(settings):
    return next(s.partition("=")[2] for s in settings if s.startswith("card.window="))


# --- as published


def test_the_attention_u_net_has_its_published_settings():
    found = load_recipe("attention-unet-3d")
    assert (found.optimiser.name, found.optimiser.lr, found.optimiser.weight_decay) == ("adamw", 1e-4, 2e-4)
    assert (found.batch, found.accumulation, found.gradient_clip, found.stages[0].epochs) == (2, 4, 1, 100)
    assert (found.schedule.rule, found.schedule.factor, found.schedule.patience) == ("plateau", 0.5, 10)
    assert (found.validation.watch, found.validation.patience) == ("dice", 15)
    assert (found.objective.name, found.objective.auxiliary) == (
        "focal-tversky-boundary", {"aux4": 0.6, "aux3": 0.4, "aux2": 0.3},
    )  # fmt: skip
    loss = found.objective.arguments
    assert [loss[k] for k in ("focal_tversky", "boundary", "false_positives", "false_negatives", "gamma")] == [
        0.7, 0.3, 0.25, 0.85, 2.0,
    ]  # fmt: skip
    patches = found.datasets.patches
    assert (patches.size, patches.each, patches.lesion_share) == ((112, 112, 80), 4, 0.7)
    assert (found.card.window, found.card.overlap, found.card.decision.rule) == ((112, 112, 80), 0.25, "cascade")
    assert [s.threshold for s in found.card.decision.steps] == [0.6, 0.5, 0.35, 0.2]
    assert found.preparation.spacing_mm == (1, 1, 1)
    assert load_data_recipe("attention-unet-3d", ["datasets.frame=[224,224,144]"]).datasets.frame == (224, 224, 144)


def test_mscs_net_has_its_published_settings_and_the_published_ways_as_options():
    found = load_recipe("mscs-net")
    assert (found.optimiser.name, found.optimiser.lr, found.schedule.rule) == ("adam", 1e-4, "constant")
    assert (found.batch, found.stages[0].epochs, found.validation.watch, found.validation.patience) == (
        8, 100, "loss", 70,
    )  # fmt: skip
    assert (found.objective.name, found.datasets.patches.size, found.datasets.patches.place) == (
        "dice-focal", (192, 192, 16), "windows",
    )  # fmt: skip
    assert found.card.input_shape == (192, 192, 16)
    assert found.preparation.channels == ("adc_robust", "dwi_robust")
    as_published = load_recipe(
        "mscs-net",
        [
            "preparation.channels=[adc_slice_minmax,dwi_slice_minmax]", "augmentation.clip=[0,1]",
            "datasets.patches={size: [192, 192, 16], place: fixed, start: [29, 29, 2]}",
            "objective.arguments.divided_twice=true", "network.arguments.attended_skips=true",
        ],
    )  # fmt: skip
    assert as_published.datasets.patches.start == (29, 29, 2)


def test_segformer3d_has_its_published_settings_and_the_learning_rate_that_was_meant():
    found = load_recipe("segformer3d")
    assert (found.optimiser.name, found.optimiser.weight_decay, found.batch) == ("adamw", 1e-3, 8)
    assert (found.stages[0].epochs, found.validation.patience, found.objective.name) == (250, 50, "dice-ce")
    # As many patches as make sixty steps a pass, as published; the rate is the training's own, of a smaller network.
    small = "network.arguments={widths: [8], depths: [1], heads: [2], reductions: [1], decoder_width: 8}"
    counted = load_recipe("segformer3d", [small]).in_steps([60 * found.batch])
    assert counted.steps == 250 * 60
    module = TrainingModule(counted)
    rate = [module.learning_rate(n) for n in range(counted.steps)]
    assert rate[0] == pytest.approx(4e-4 / 600)
    assert rate[7800] == pytest.approx(4e-4 * 0.48)
    assert max(rate) == pytest.approx(4e-4, rel=0.05)
    assert rate.index(max(rate)) == pytest.approx(600, abs=2)
    assert rate[-1] < 1e-7
    assert load_recipe("segformer3d", ["objective.name=ici"]).objective.settings.weights == {
        "overall": 0.25, "instance": 0.5, "centre": 0.25,
    }  # fmt: skip
