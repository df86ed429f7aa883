"""The page for those who have patients: each of its commands runs as it stands there, on its own practice data."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import nibabel as nib
import pytest

pytest.importorskip("torch", reason="training needs torch, which is not installed")
pytest.importorskip("lightning", reason="training needs lightning, which is not installed")
pytest.importorskip("onnx", reason="the export needs onnx, which is not installed")

import torch
import yaml
from typer.testing import CliRunner

from strokeseg.cli import app as engine
from strokeseg.models import ModelStore
from strokeseg.networks import build
from strokeseg_training.bank_writing import write_bank
from strokeseg_training.cli import app as training
from strokeseg_training.datasets.phantom import Phantoms, PhantomScene
from strokeseg_training.export import export_model
from strokeseg_training.fit.card import card_fields
from strokeseg_training.recipe import load_recipe

DOCS = Path(__file__).parents[2] / "StrokeSegExtension" / "docs"
# Added to what the page says: voxels of the practice data, synthetic ones of the same kind, and few steps.
SMALL = ["preparation.spacing_mm=[6,6,6]", "preparation.margin_voxels=1"]
SHORT = [
    *SMALL, "data.generator=null", "data.bank=small-bank", "data.workers=0", "stages=[{steps: 2}]", "batch=1",
    "accumulation=1", "validation.every=2", "precision=fp32", "threads=1", "tensorboard=false", "log_every=1",
]  # fmt: skip
ADDED = {"prepare": SMALL, "fit": SHORT, "evaluate": SMALL}


def commands(page):
    """The commands of a page's blocks, in their order, as words."""
    blocks = page.read_text(encoding="utf-8").split("```sh\n")[1:]
    return [shlex.split(line) for block in blocks for line in block.split("```")[0].splitlines() if line]


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """The folder in which everything was typed, and what was answered to each command."""
    place = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(place)
        monkeypatch.setenv("STROKESEG_HOME", str(place / "home"))
        monkeypatch.setenv("STROKESEG_THREADS", "1")
        made = Phantoms("dwi-adc")
        write_bank((made.make([PhantomScene(s)]) for s in range(100, 102)), place / "small-bank", about={})
        if "dwi-adc" not in ModelStore().names():
            recipe = load_recipe("dwi-adc")
            torch.manual_seed(0)
            network = build(recipe.network.name, **recipe.network.arguments)
            export_model(network.eval(), card_fields(recipe, {}), place / "home" / "models" / "dwi-adc")
        answers = []
        for program, *words in commands(DOCS / "own-patients.md"):
            app = {"strokeseg": engine, "strokeseg-train": training}[program]
            added = [w for s in ADDED.get(words[0], []) for w in ("--set", s)]
            cpu = ["--device", "cpu"] if words[0] in ("fit", "evaluate", "segment") else []
            result = CliRunner().invoke(app, [*words, *added, *cpu])
            assert result.exit_code == 0, f"{shlex.join(words)}\n{result.output}"
            answers.append((words, result.output))
        yield place, answers


def test_every_command_of_the_page_runs(said):
    _, answers = said
    names = [words[0] for words, _ in answers]
    first = ["synthesize", "prepare", "fit", "export", "models", "segment", "evaluate", "evaluate"]
    assert names == [*first, "synthesize", "prepare", "fit"]


def test_the_run_mixes_as_the_page_says_and_its_card_tells(said):
    place, _ = said
    recipe = yaml.safe_load((place / "runs" / "mine" / "recipe.yaml").read_text(encoding="utf-8"))
    assert (recipe["data"]["real_share"], recipe["init_from"]) == (0.5, "dwi-adc")
    card = json.loads((place / "home" / "models" / "my-dwi-adc" / "card.json").read_text(encoding="utf-8"))
    (data,) = card["origin"]["training_data"]
    split = json.loads((place / "prepared" / "dwi-adc-finetune" / "split.json").read_text(encoding="utf-8"))
    assert (data["real_share"], data["prepared"]["split_sha256"]) == (0.5, split["sha256"])
    assert len(split["sides"]["train"]) == data["patients"] == 5


def test_the_model_gives_a_mask_on_the_scan_and_is_judged_beside_the_one_it_began_with(said):
    place, _ = said
    scan = next((place / "practice" / "sub-strokecase0003").rglob("*_dwi.nii.gz"))
    assert nib.load(place / "result" / "lesion_mask.nii.gz").shape == nib.load(scan).shape
    mine, before = (
        json.loads((place / "evaluation" / name / "results.json").read_text(encoding="utf-8"))["about"]
        for name in ("mine", "before")
    )
    assert (mine["model"], before["model"], mine["patients"]) == ("my-dwi-adc", "dwi-adc", 2)
    assert mine["split_sha256"] == before["split_sha256"]
    assert mine["seen"]["verdict"] == "not seen"


def test_the_files_that_the_page_names_are_there(said):
    place, _ = said
    for name in ("split.json", "statistics.csv", "manifest.json"):
        assert (place / "prepared" / "dwi-adc-finetune" / name).is_file()
        assert f"`{name}`" in (DOCS / "own-patients.md").read_text(encoding="utf-8")
    # BIDS tells the centres.
    split = json.loads((place / "prepared" / "bids" / "split.json").read_text(encoding="utf-8"))
    assert sum(map(len, split["sides"].values())) == 8
