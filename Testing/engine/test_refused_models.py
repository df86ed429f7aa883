"""Models that must not be taken in or run, one after the other: each refusal has a reason and a next step.

By ``strokeseg models add``, from a folder and from a zip, and by ``strokeseg segment`` where somebody copied the folder
to the models by hand. The details of each check have test files of their own; ten gigabytes of zeros are in
test_model_archive.py.
"""

import io
import json
import pickle
import stat
import zipfile
from pathlib import Path

import model_folders as folders
import numpy as np
import pytest
from onnx import TensorProto, helper
from safetensors.numpy import save
from typer.testing import CliRunner

from strokeseg import cli, cli_models
from strokeseg.models import ModelStore

SAMPLE = Path(__file__).parents[2] / "Resources" / "Samples" / "synthetic-patient"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("STROKESEG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STROKESEG_THREADS", "1")
    return tmp_path / "home" / "models"


def refusal(app, *arguments):
    """The error of a command, which has three parts and the exit code for models."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--format", "json"])
    assert result.exit_code == 4, result.output
    error = json.loads(result.stdout.splitlines()[-1])
    assert error["event"] == "error"
    assert all(error[part].strip().endswith((".", "?")) for part in ("title", "cause", "next_step")), error
    return error["cause"]


# --- what is wrong with the folder of a model


def pickle_for_weights(folder):
    content = io.BytesIO()
    pickle.dump({"weight": [0.5, 1.5]}, content)
    folders.write_model(folder, weights=content.getvalue(), graph=folders.make_graph())


def with_pointer(location):
    def make(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        (folder.parent / "secret.bin").write_bytes(bytes(64))
        graph = folders.make_graph()
        graph.graph.initializer[0].external_data[0].value = location.format(folder=folder.parent)
        folders.write_model(folder, graph=graph)

    return make


def leak(location="../secret.bin"):
    tensor = folders.pointer("leak", 0, 4, [1], location=location, data_type=TensorProto.FLOAT)
    return helper.make_node("Constant", [], ["leaked"], value=tensor)


def pointer_in_a_branch(folder):
    graph = folders.make_graph()
    branch = helper.make_graph([leak()], "branch", [], [])
    graph.graph.node.append(helper.make_node("If", ["flag"], [], then_branch=branch, else_branch=branch))
    folders.write_model(folder, graph=graph)


def pointer_in_a_function(folder):
    graph = folders.make_graph()
    sets = [helper.make_opsetid("", 18)]
    graph.functions.append(helper.make_function("local", "f", [], ["leaked"], [leak()], sets))
    folders.write_model(folder, graph=graph)


def own_operator(folder):
    graph = folders.make_graph()
    graph.graph.node.append(helper.make_node("Evil", ["input"], ["evil"], domain="com.example"))
    folders.write_model(folder, graph=graph)


def wrong_hash(folder):
    folders.write_model(folder)
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x3c")


def cut_weights(folder):
    folders.write_model(folder)
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-2])


def cut_weights_that_the_card_vouches_for(folder):
    cut_weights(folder)
    folders.write_card(folder)


def missing_head(folder):
    folders.write_model(folder, outputs=["lesion", "tissue"])


def weights_of(value):
    def make(folder):
        folders.write_model(folder, weights=save({**folders.VALUES, "conv.bias": np.full(1, value, np.float16)}))

    return make


def with_card(**changes):
    return lambda folder: folders.write_model(folder, **changes)


FOLDERS = {
    "a pickle named safetensors": (pickle_for_weights, "pickle"),
    "external data, absolute": (with_pointer("{folder}/secret.bin"), "takes its numbers from"),
    "external data, ..": (with_pointer("../secret.bin"), "takes its numbers from '../secret.bin'"),
    "external data in a subgraph": (pointer_in_a_branch, "The tensor 'leak' takes its numbers from"),
    "external data in a function": (pointer_in_a_function, "The tensor 'leak' takes its numbers from"),
    "a custom operator": (own_operator, "It uses the operator 'com.example.Evil'"),
    "a wrong hash": (wrong_hash, "'weights.safetensors' has the SHA-256"),
    "truncated weights": (cut_weights, "'weights.safetensors' has "),
    "truncated weights with a hash": (cut_weights_that_the_card_vouches_for, "the file has"),
    "a missing head": (missing_head, "It has no output 'tissue'"),
    "NaN weights": (weights_of(np.nan), "'conv.bias' in it holds NaN or infinity"),
    "infinite weights": (weights_of(np.inf), "'conv.bias' in it holds NaN or infinity"),
    "an unknown field": (with_card(treshold=0.5), "Field 'treshold': expected no field of this name"),
    "an unknown role": (
        with_card(inputs=[{"role": "pet", "required": True}]),
        "Field 'inputs[0].role': expected one of",
    ),
    "a channel that is not known": (
        with_card(preparation={"spacing_mm": [], "margin_voxels": 2, "multiple": 1, "channels": ["dwi_ratio", "pet"]}),
        "Field 'preparation.channels': expected channels that this version can make",
    ),
    "a newer format": (with_card(format=2), "Its card has format 2, this version reads format 1."),
}


@pytest.mark.parametrize("what", FOLDERS)
def test_a_folder_is_not_taken_in(tmp_path, home, what):
    make, why = FOLDERS[what]
    make(tmp_path / "bad")
    assert why in refusal(cli_models.app, "add", tmp_path / "bad")
    assert folders.tree(home) == []
    assert "bad" not in ModelStore().names()


@pytest.mark.parametrize("what", FOLDERS)
def test_a_zip_of_it_is_not_taken_in(tmp_path, home, what):
    make, why = FOLDERS[what]
    make(tmp_path / "bad")
    archive = folders.zip_of(tmp_path / "bad", tmp_path / "bad.zip", top="bad/")
    assert why in refusal(cli_models.app, "add", archive)
    assert folders.tree(home) == []


@pytest.mark.parametrize("what", FOLDERS)
def test_a_folder_that_somebody_copied_to_the_models_is_not_run(tmp_path, home, what):
    make, why = FOLDERS[what]
    make(home / "bad")
    scans = [part for role in ("dwi", "adc") for part in (f"--{role}", SAMPLE / f"{role}.nii.gz")]
    cause = refusal(cli.app, "segment", *scans, "--model", "bad", "--out", tmp_path / "out")
    assert why in cause
    assert not (tmp_path / "out").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["home"]


def test_a_link_is_not_followed(tmp_path, home):
    folders.write_model(tmp_path / "bad")
    (tmp_path / "bad" / "weights.safetensors").rename(tmp_path / "elsewhere")
    (tmp_path / "bad" / "weights.safetensors").symlink_to(tmp_path / "elsewhere")
    assert "'weights.safetensors' is a link" in refusal(cli_models.app, "add", tmp_path / "bad")
    assert folders.tree(home) == []


# --- what is wrong with a zip


def entry(name, mode=stat.S_IFREG | 0o644):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def escape(zipped):
    zipped.writestr(entry("../../evil"), b"x")


def absolute(zipped):
    zipped.writestr(entry("/tmp/evil"), b"x")


def link(zipped):
    zipped.writestr(entry("README", stat.S_IFLNK | 0o777), "/etc/passwd")


def many(zipped):
    for number in range(10_000):
        zipped.writestr(entry(f"README-{number}"), b"")


ZIPS = {
    "path escape": (escape, "leads out of the model's folder"),
    "absolute path": (absolute, "is an absolute path"),
    "symlink": (link, "is a link"),
    "10,000 files": (many, "It holds 10003 files"),
}


@pytest.mark.parametrize("what", ZIPS)
def test_a_zip_is_not_unpacked(tmp_path, home, what):
    put, why = ZIPS[what]
    folders.write_model(tmp_path / "tiny")
    with zipfile.ZipFile(folders.zip_of(tmp_path / "tiny", tmp_path / "bad.zip"), "a") as zipped:
        put(zipped)
    assert why in refusal(cli_models.app, "add", tmp_path / "bad.zip")
    assert folders.tree(home) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.zip", "home", "tiny"]


# --- names


def test_a_name_is_given_once(tmp_path, home):
    folders.write_model(tmp_path / "tiny")
    ModelStore().add(tmp_path / "tiny")
    before = folders.tree(home)
    assert refusal(cli_models.app, "add", tmp_path / "tiny") == "You added it earlier."
    bundled = ModelStore().folder_of("adc-threshold")
    assert "It comes with StrokeSeg" in refusal(cli_models.app, "add", bundled)
    assert folders.tree(home) == before


@pytest.mark.parametrize("name", ["con", "nul", "aux.v2", "com1", "dot.", "blank ", "../up", "Capital"])
def test_a_name_that_is_no_folder_everywhere_is_refused(tmp_path, home, name):
    folders.write_model(tmp_path / "tiny", name=name)
    assert "Field 'name'" in refusal(cli_models.app, "add", tmp_path / "tiny")
    assert folders.tree(home) == []
