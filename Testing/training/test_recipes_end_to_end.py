"""Each recipe with tiny settings: data set, prepare, fit, export, evaluate, and `strokeseg segment` on the scan."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
# The trio's losses, with the terms that a log has of them; each network goes all the way with another one.
LOSSES = {"cce": ["entropy"], "dice": ["dice"], "cce-dice": ["dice", "entropy"]}
TRIO = {"atlas-unet": "cce", "atlas-segnet": "dice", "atlas-resunet": "cce-dice"}
ATLAS = [*SMALL, *SLICES, "network.arguments={channels: [2, 2, 2, 2, 2]}"]
TISSUE = {"in_channels": 4, "out_channels": 1, "channels": [4, 8], "tissue": True}
SETTINGS = {
    "lesion-net": [
        *SMALL, *SLICES,
        # The scan's own slices, and pixels of another size.
        "preparation.spacing_mm=[5,5,0]",
        "network.arguments={width: 8, depths: [1, 1, 1, 1], heads: [2, 2, 2, 2], decoder_width: 8}",
    ],
    **{name: [*ATLAS, f"objective.name={loss}"] for name, loss in TRIO.items()},
    "dwi-adc-finetune": [
        *SMALL, "network.arguments=" + json.dumps(TISSUE), "preparation.multiple=2", "stages=[{steps: 4}]",
        "data.generator=null", "data.bank=bank", "validation.every=2",
    ],
}  # fmt: skip
# What one network was prepared for serves the other.
SETS = {"atlas-resunet": "atlas-unet"}
SCANS = {"t1": "*t1w*.nii.gz", "dwi": "*_dwi.nii.gz", "adc": "*_adc.nii.gz"}


def words(settings: list[str]) -> list[str]:
    """For a command."""
    return [word for s in settings for word in ("--set", s)]


def done(app: Any, *given: Any) -> str:
    result = CliRunner().invoke(app, [str(g) for g in given])
    assert result.exit_code == 0, result.output
    return str(result.output)


@dataclass(frozen=True)
class Made:
    """What became of a recipe: paths in the folder of the tests."""

    data: Path
    prepared: Path
    model: Path
    evaluation: Path

    def results(self) -> dict[str, Any]:
        return dict(json.loads((self.evaluation / "results.json").read_text(encoding="utf-8")))


class Kitchen:
    """Makes what is asked for, once: most steps of one test are those of another."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._made: dict[str, Made] = {}

    def made(self, name: str) -> Made:
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _data(self, *, chronic: bool) -> Path:
        layout, task = ("atlas-r1", "t1") if chronic else ("isles22", "dwi-adc")
        folder = self.place / layout
        if not folder.exists():
            done(training, "synthesize", "--small", "--task", task, "--layout", layout, "--count", 4, "--out", folder)
        return folder

    def prepared(self, name: str) -> Path:
        """The set for a recipe."""
        prepared = self.place / f"set-{SETS.get(name, name)}"
        if not prepared.exists():
            data, settings = self._data(chronic=name.startswith("atlas")), words(SETTINGS[name])
            done(training, "prepare", "--recipe", name, "--data", data, "--out", prepared, *settings)
        return prepared

    def _make(self, name: str) -> Made:
        settings, prepared, run = words(SETTINGS[name]), self.prepared(name), self.place / f"run-{name}"
        data = self._data(chronic=name.startswith("atlas"))
        begin = ["--set", f"data.prepared={prepared}", "--out", run, "--device", "cpu"]
        if name == "dwi-adc-finetune":
            made = Phantoms("dwi-adc")
            write_bank((made.make([PhantomScene(s)]) for s in range(10, 12)), self.place / "bank", about={})
            torch.manual_seed(0)
            torch.save(build("residual-unet", **TISSUE).state_dict(), self.place / "before.pt")
            begin += ["--init-from", self.place / "before.pt"]
        out = done(training, "fit", "--recipe", name, *settings, *begin, "--limit-steps", 2)
        assert "Stopped by --limit-steps: step 2 of" in out
        out = done(training, "fit", "--resume", "--out", run, "--device", "cpu")
        assert "Complete: step" in out
        best = sorted(run.glob("checkpoints/*"))[-1]
        model = self.place / "home" / "models" / name
        snapshot = best / "snapshot.safetensors"
        done(training, "export", "--card", best / "card.json", "--checkpoint", snapshot, "--out", model)
        found = Made(data, prepared, model, self.place / f"evaluation-{name}")
        self.evaluate(name, found, found.evaluation)
        return found

    def evaluate(self, name: str, made: Made, out: Path, *more: Any) -> str:
        settings, run = words(SETTINGS[name]), self.place / f"run-{name}"
        where = ["--data", made.prepared, "--originals", made.data, "--run", run, "--out", out, "--device", "cpu"]
        return done(training, "evaluate", "--recipe", name, "--model", name, *where, *settings, *more)


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory):
    place = tmp_path_factory.mktemp("recipes")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(place)
        monkeypatch.setenv("STROKESEG_HOME", str(place / "home"))
        monkeypatch.setenv("STROKESEG_THREADS", "1")
        yield Kitchen(place)


def files_of(made: Made, patient: str, roles: list[str]) -> dict[str, Path]:
    """Role to the scan of a patient."""
    name = patient.split("_", maxsplit=1)[0]
    return {r: next(p for p in sorted(made.data.rglob(SCANS[r])) if p.is_file() and name in p.name) for r in roles}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_recipe_goes_from_a_data_set_to_a_result_on_the_scans_own_grid(name, kitchen, tmp_path):
    made = kitchen.made(name)
    card = json.loads((made.model / "card.json").read_text(encoding="utf-8"))
    assert (card["runtime"], card["name"]) == ("openvino", name)
    split = json.loads((made.prepared / "split.json").read_text(encoding="utf-8"))
    assert card["origin"]["training_data"][0]["prepared"]["split_sha256"] == split["sha256"]

    results = made.results()
    about, (record,) = results["about"], results["patients"]
    assert (about["model"], about["side"], about["seen"]["verdict"]) == (name, "test", "not seen")
    assert about["split_sha256"] == split["sha256"]
    assert [record["patient"]] == split["sides"]["test"]
    several = [c["name"] for c in card["classes"]] if len(card["classes"]) > 1 else []
    assert list(record["metrics"]) == ["any", *several]

    files = files_of(made, record["patient"], [i["role"] for i in card["inputs"]])
    inputs = [word for role, file in files.items() for word in (f"--{role}", file)]
    done(engine, "segment", *inputs, "--model", name, "--device", "cpu", "--out", tmp_path / "result")
    mask, scan = nib.load(tmp_path / "result" / "lesion_mask.nii.gz"), nib.load(next(iter(files.values())))
    assert mask.shape == scan.shape == (26, 30, 22)
    np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-4)
    assert set(np.unique(mask.get_fdata())) <= set(range(len(card["classes"]) + 1))
    # The evaluation judged what a user of the model gets.
    judged = nib.load(made.evaluation / "patients" / record["patient"] / f"prediction_{record['patient']}.nii.gz")
    np.testing.assert_array_equal(np.asarray(judged.dataobj), np.asarray(mask.dataobj))


@pytest.mark.parametrize(("name", "loss"), [(n, o) for n in TRIO for o in LOSSES if TRIO[n] != o])
def test_every_network_of_the_trio_learns_with_every_of_its_losses(name, loss, kitchen, tmp_path):
    chosen = [*ATLAS, f"objective.name={loss}", "stages=[{steps: 2}]", "validation.every=0"]
    where = ["--set", f"data.prepared={kitchen.prepared(name)}", "--out", tmp_path / "run", "--device", "cpu"]
    assert "Complete: step 2" in done(training, "fit", "--recipe", name, *words(chosen), *where)
    with (tmp_path / "run" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["step"] for r in rows] == ["1", "2"]
    assert list(rows[0])[1:-3] == ["loss", *LOSSES[loss]]
    for row in rows:
        assert math.isfinite(float(row["loss"]))
        assert float(row["loss"]) == pytest.approx(sum(float(row[term]) for term in LOSSES[loss]), rel=1e-5)


def test_a_model_of_several_classes_is_judged_class_by_class(kitchen):
    made = kitchen.made("atlas-unet")
    (record,) = made.results()["patients"]
    (main,), further = (
        sorted(p for p in made.data.rglob(pattern) if p.is_file() and record["patient"] in p.name)
        for pattern in ("*_LesionSmooth_stx.nii.gz", "*_LesionSmooth_[0-9]_stx.nii.gz")
    )
    prediction = next((made.evaluation / "patients").rglob("prediction_*.nii.gz"))
    drawn = np.asarray(nib.load(prediction).dataobj)
    reference = (np.asarray(nib.load(main).dataobj) > 0).astype(int)
    for path in further:
        reference[np.asarray(nib.load(path).dataobj) > 0] = 2
    pairs = {"any": (drawn > 0, reference > 0)}
    pairs |= {name: (drawn == k, reference == k) for k, name in enumerate(("main lesion", "sub-lesion"), start=1)}
    for name, (found, wanted) in pairs.items():
        figures = record["metrics"][name]
        assert (figures["prediction_voxels"], figures["reference_voxels"]) == (found.sum(), wanted.sum())
        if found.any() or wanted.any():
            assert figures["dice"] == pytest.approx(2 * (found & wanted).sum() / (found.sum() + wanted.sum()))
    assert record["metrics"]["main lesion"]["reference_voxels"] > 0


def test_models_judged_by_the_same_patients_stand_in_one_table(kitchen, tmp_path):
    unet, resunet = kitchen.made("atlas-unet"), kitchen.made("atlas-resunet")
    kitchen.evaluate("atlas-resunet", resunet, tmp_path / "both", "--beside", unet.evaluation)
    assert (tmp_path / "both" / "models.csv").read_bytes() == (
        tmp_path / "both" / "atlas" / "results_table.csv"
    ).read_bytes()
    with (tmp_path / "both" / "models.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    classes = ["any", "main lesion", "sub-lesion"]
    assert [(r["model"], r["class"]) for r in rows] == [
        (model, c) for model in ("atlas-resunet", "atlas-unet") for c in classes
    ]
    assert {(r["model"], r["loss"]) for r in rows} == {(m, TRIO[m]) for m in ("atlas-resunet", "atlas-unet")}
    assert len({r["split_sha256"] for r in rows}) == 1
    # Patients of another data set have no place in it.
    lesion_net = kitchen.made("lesion-net")
    where = ["--data", unet.prepared, "--originals", unet.data, "--out", tmp_path / "no", "--device", "cpu"]
    command = ["evaluate", "--recipe", "atlas-unet", "--model", "atlas-unet", *where, *words(SETTINGS["atlas-unet"])]
    refused = CliRunner().invoke(training, [str(w) for w in [*command, "--beside", lesion_net.evaluation]])
    assert refused.exit_code == 3
    assert "It judged other patients" in refused.output
