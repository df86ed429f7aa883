"""Each recipe with tiny settings: data set, prepare, fit, export, `strokeseg segment` on the scan's own grid."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which is not installed")
pytest.importorskip("lightning", reason="training needs lightning, which is not installed")
pytest.importorskip("onnx", reason="the export needs onnx, which is not installed")

from typer.testing import CliRunner  # noqa: E402

from strokeseg.cli import app as engine  # noqa: E402
from strokeseg.networks import build  # noqa: E402
from strokeseg_training.bank_writing import write_bank  # noqa: E402
from strokeseg_training.cli import app as training  # noqa: E402
from strokeseg_training.datasets.phantom import Phantoms, PhantomScene  # noqa: E402

# Patients of `synthesize --small` have voxels of 6 mm.
SMALL = [
    "preparation.spacing_mm=[6,6,6]", "preparation.margin_voxels=1", "data.workers=0", "precision=fp32", "threads=1",
    "tensorboard=false", "log_every=1",
]  # fmt: skip
SLICES = ["stages=[{steps: 3}]", "batch=4", "validation.epochs=0", "validation.every=3", "datasets.slices.size=[32,32]"]
ATLAS = [*SMALL, *SLICES, "objective.name=cce-dice"]
TISSUE = {"in_channels": 4, "out_channels": 1, "channels": [4, 8], "tissue": True}
SETTINGS = {
    "lesion-net": [
        *SMALL, *SLICES,
        "network.arguments={width: 8, depths: [1, 1, 1, 1], heads: [2, 2, 2, 2], decoder_width: 8}",
    ],
    "atlas-unet": [*ATLAS, "network.arguments={channels: [2, 2, 2, 2, 2]}"],
    "atlas-segnet": [*ATLAS, "network.arguments={channels: [2, 2, 2, 2, 2]}"],
    "atlas-resunet": [*ATLAS, "network.arguments={channels: [2, 2, 2, 2, 2]}"],
    "dwi-adc-finetune": [
        *SMALL, "network.arguments=" + json.dumps(TISSUE), "preparation.multiple=2", "stages=[{steps: 4}]",
        "data.generator=null", "data.bank=bank", "validation.every=2",
    ],
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


@pytest.mark.parametrize("name", SETTINGS)
def test_a_recipe_goes_from_a_data_set_to_a_result_on_the_scans_own_grid(name, place):
    settings = [word for s in SETTINGS[name] for word in ("--set", s)]
    chronic = name.startswith("atlas")
    layout = "atlas-r1" if chronic else "isles22"
    task = "t1" if chronic else "dwi-adc"
    done(training, "synthesize", "--small", "--task", task, "--layout", layout, "--count", 4, "--out", "data")
    done(training, "prepare", "--recipe", name, "--data", "data", "--out", "set", *settings)
    begin = ["--set", "data.prepared=set", "--out", "run", "--device", "cpu"]
    if name == "dwi-adc-finetune":
        made = Phantoms("dwi-adc")
        write_bank((made.make([PhantomScene(s)]) for s in range(10, 12)), place / "bank", about={})
        torch.manual_seed(0)
        torch.save(build("residual-unet", **TISSUE).state_dict(), "before.pt")
        begin += ["--init-from", "before.pt"]
    out = done(training, "fit", "--recipe", name, *settings, *begin, "--limit-steps", 2)
    assert "Stopped by --limit-steps: step 2 of" in out
    out = done(training, "fit", "--resume", "--out", "run", "--device", "cpu")
    assert "Complete: step" in out
    best = sorted(place.glob("run/checkpoints/*"))[-1]
    model = place / "home" / "models" / name
    done(
        training, "export", "--card", best / "card.json", "--checkpoint", best / "snapshot.safetensors", "--out", model
    )
    card = json.loads((model / "card.json").read_text(encoding="utf-8"))
    assert (card["runtime"], card["name"]) == ("openvino", name)
    said = card["origin"]["training_data"][0]["prepared"]
    assert said["split_sha256"] == json.loads(Path("set/split.json").read_text(encoding="utf-8"))["sha256"]
    scans = {"t1": "*t1w*.nii.gz"} if chronic else {"dwi": "*_dwi.nii.gz", "adc": "*_adc.nii.gz"}
    if name == "lesion-net":
        scans = {"dwi": scans["dwi"]}
    files = {role: sorted(p for p in Path("data").rglob(pattern) if p.is_file())[0] for role, pattern in scans.items()}
    inputs = [word for role, file in files.items() for word in (f"--{role}", file)]
    done(engine, "segment", *inputs, "--model", name, "--device", "cpu", "--out", "result")
    mask, scan = nib.load("result/lesion_mask.nii.gz"), nib.load(next(iter(files.values())))
    assert mask.shape == scan.shape == (26, 30, 22)
    np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-4)
    assert set(np.unique(mask.get_fdata())) <= set(range(len(card["classes"]) + 1))
