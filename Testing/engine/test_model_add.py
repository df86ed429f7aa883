"""Taking models in and giving them up: whole and checked or not at all, and no two of one name."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import model_folders as folders
import numpy as np
import pytest
import torch
from safetensors.numpy import save

from strokeseg.errors import InputError, ModelError
from strokeseg.models import ModelStore, writing
from strokeseg.models import store as store_module

FILES = ["card.json", "network.onnx", "weights.safetensors"]


@pytest.fixture
def store(tmp_path):
    """A store with the bundled model 'ours' and room for the user's."""
    (tmp_path / "bundled").mkdir()
    folders.write_model(tmp_path / "bundled" / "ours")
    return ModelStore(tmp_path / "bundled", tmp_path / "home" / "models")


@pytest.fixture
def source(tmp_path):
    return tmp_path / "from" / "tiny"


def refusal(store, source, title=None, **options):
    """The error, after nothing was found to be left behind."""
    before = folders.tree(store.user_folder) if store.user_folder.exists() else []
    with pytest.raises(ModelError) as caught:
        store.add(source, **options)
    assert folders.tree(store.user_folder) == before
    assert caught.value.next_step
    if title is not None:
        assert caught.value.title == title
    return caught.value.cause


def rewrite(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


# --- what goes well


def test_a_folder_becomes_a_model(store, source):
    folders.write_model(source)
    (source / "README.md").write_text("About it.")
    (source / "LICENSE").write_text("Apache-2.0")
    (source / ".DS_Store").write_bytes(b"left by a file manager")
    card = store.add(source)
    assert card.name == "tiny"
    assert card.folder == store.user_folder / "tiny" == store.folder_of("tiny")
    assert store.names() == ["ours", "tiny"]
    assert folders.tree(store.user_folder) == ["tiny", *(f"tiny/{n}" for n in ["LICENSE", "README.md", *FILES])]
    assert store.check("tiny") == card
    assert folders.run_graph(card.folder).ravel().tolist() == [1.0] * 8
    assert folders.tree(source) == sorted([".DS_Store", "LICENSE", "README.md", *FILES])


def test_the_folder_may_have_another_name_than_the_model(store, tmp_path):
    folders.write_model(tmp_path / "My Modèle 1.0", name="tiny")
    assert store.add(tmp_path / "My Modèle 1.0").name == "tiny"
    assert store.names() == ["ours", "tiny"]


def test_a_model_of_torch_needs_no_graph_and_a_rule_no_file(store, tmp_path):
    for name, runtime, files in (("net", "torch", ("weights.safetensors",)), ("rule", "threshold", ())):
        folder = folders.write_model(tmp_path / name)
        for file in set(folders.FILES) - set(files):
            (folder / file).unlink()
        folders.write_card(folder, files, runtime=runtime, network="residual-unet")
        assert store.add(folder).runtime == runtime


def test_a_model_from_the_export_is_taken_in(store, tmp_path):
    export = pytest.importorskip("strokeseg_training.export", reason="the export is not there")
    assert export
    import tiny_model as tiny

    torch.set_num_threads(1)
    tiny.make_tiny_model(tmp_path / "tiny", channels=(4, 8), tissue=True)
    card = store.add(tmp_path / "tiny")
    assert card.outputs == ("lesion", "tissue")
    assert store.check("tiny").files == card.files


def test_removing_gives_the_name_free(store, source):
    folders.write_model(source)
    store.add(source)
    store.remove("tiny")
    assert store.names() == ["ours"]
    assert folders.tree(store.user_folder) == []
    assert store.add(source).name == "tiny"


# --- names


def test_a_name_is_given_once(store, source):
    folders.write_model(source)
    store.add(source)
    cause = refusal(store, source, "There is a model 'tiny' already.")
    assert cause == "You added it earlier."


def test_no_model_takes_the_name_of_one_that_comes_with_strokeseg(store, tmp_path):
    folders.write_model(tmp_path / "ours")
    assert "comes with StrokeSeg" in refusal(store, tmp_path / "ours", "There is a model 'ours' already.")


def test_a_users_folder_with_a_bundled_name_is_told_and_not_used(store):
    folders.write_model(store.user_folder / "ours", title="Another")
    assert store.names() == ["ours"]
    assert store.card("ours").title == "Tiny"
    assert [c.title for c in store.cards()] == ["Tiny"]
    bundled, own = store.models()
    assert (bundled.bundled, bundled.problem, own.bundled, own.card) == (True, None, False, None)
    assert own.problem.cause == "A model of the same name comes with StrokeSeg."
    store.remove("ours")
    assert [m.bundled for m in store.models()] == [True]


def test_a_place_that_is_taken_by_something_else_is_told(store, source):
    folders.write_model(source)
    (store.user_folder / "tiny").mkdir(parents=True)
    cause = refusal(store, source, "The place of the model 'tiny' is taken.")
    assert "has no card.json" in cause


def test_another_name_than_was_asked_for_is_refused(store, source):
    folders.write_model(source)
    assert "Its card says 'tiny'" in refusal(store, source, "'tiny' is not the model 'large'.", name="large")


@pytest.mark.parametrize("name", ["ours", "nothing"])
def test_only_own_models_are_removed(store, name):
    with pytest.raises(ModelError) as caught:
        store.remove(name)
    assert caught.value.cause in ("It comes with StrokeSeg.", "These models are at hand: ours.")
    assert store.names() == ["ours"]


def test_removing_takes_no_file_that_is_no_models(store, source):
    folders.write_model(source)
    store.add(source)
    (store.user_folder / "tiny" / "thesis.docx").write_text("mine")
    with pytest.raises(ModelError, match=r"also holds 'thesis\.docx'"):
        store.remove("tiny")
    assert (store.user_folder / "tiny" / "thesis.docx").read_text() == "mine"
    assert store.card("tiny").name == "tiny"


def test_removing_a_linked_model_keeps_what_it_is_linked_to(store, source):
    folders.write_model(source)
    store.user_folder.mkdir(parents=True)
    (store.user_folder / "tiny").symlink_to(source)
    store.remove("tiny")
    assert store.names() == ["ours"]
    assert folders.tree(source) == FILES


def test_a_store_of_one_folder_cannot_be_changed(tmp_path, source):
    folders.write_model(source)
    with pytest.raises(ModelError, match="This store cannot be changed"):
        ModelStore(tmp_path).add(source)


# --- broken models beside good ones


def test_a_broken_model_hides_no_other(store, source):
    folders.write_model(source)
    store.add(source)
    broken = store.user_folder / "broken"
    broken.mkdir()
    (broken / "card.json").write_text("{")
    folders.write_model(store.user_folder / "renamed", name="other")
    assert store.names() == ["broken", "ours", "renamed", "tiny"]
    assert [c.name for c in store.cards()] == ["ours", "tiny"]
    problems = {m.name: m.problem and m.problem.cause for m in store.models()}
    assert problems["ours"] is problems["tiny"] is None
    assert "not valid JSON" in problems["broken"]
    assert problems["renamed"] == "Its card says 'other'."
    store.remove("broken")
    assert store.names() == ["ours", "renamed", "tiny"]


# --- the card


@pytest.mark.parametrize(
    ("change", "title", "said"),
    [
        (lambda d: d.update(colour="red"), "not valid", "'colour': expected no field of this name"),
        (lambda d: d["inputs"][0].update(role="pet"), "not valid", "'inputs[0].role': expected one of"),
        (lambda d: d.update(format=2), "made for a newer StrokeSeg", "format 2, this version reads format 1"),
        (lambda d: d.update(name="../evil"), "not valid", "lower-case letters"),
        (lambda d: d["files"][0].update(name="../x"), "not valid", "the plain name of a file"),
        (lambda d: d["files"][0].update(sha256="0" * 64), "is damaged", "has the SHA-256"),
        (lambda d: d["files"][0].update(size_bytes=1), "is damaged", "the card says 1 bytes"),
        (lambda d: d["files"].pop(0), "was refused", "does not list 'weights.safetensors'"),
        (lambda d: d["files"].pop(1), "was refused", "does not list 'network.onnx'"),
        (lambda d: d["files"].append({"name": "run.exe", "sha256": "0" * 64, "size_bytes": 1}), "was", "'run.exe'"),
        (lambda d: d["files"].append({"name": "card.json", "sha256": "0" * 64, "size_bytes": 1}), "was", "'card.json'"),
        (lambda d: d.update(outputs=["lesion", "tissue"]), "was refused", "has no output 'tissue'"),
    ],
)
def test_a_wrong_card_is_refused_with_the_reason(store, source, change, title, said):
    folders.write_model(source)
    rewrite(source / "card.json", change)
    with pytest.raises(ModelError) as caught:
        store.add(source)
    assert title in caught.value.title
    assert ".partial" not in str(caught.value)
    assert said in refusal(store, source)


def test_a_folder_without_card_or_with_half_of_one_is_refused_by_its_own_name(store, source):
    source.mkdir(parents=True)
    assert refusal(store, source, "'tiny' is not a model.") == "The folder has no card.json."
    (source / "holiday.jpg").write_text("")
    assert refusal(store, source, "'tiny' is not a model.") == "The folder has no card.json."
    (source / "holiday.jpg").unlink()
    (source / "card.json").write_text('{"format": 1,')
    assert "not valid JSON" in refusal(store, source, "The card of the model 'tiny' cannot be read.")


# --- files


@pytest.mark.parametrize(
    "name", ["run.py", "setup.exe", "weights.pt", "lib.so", "LICENSE.exe", "README.py", "data.bin", "card.json.bak"]
)
def test_what_is_no_file_of_a_model_is_refused(store, source, name):
    folders.write_model(source)
    (source / name).write_text("x")
    assert f"It holds '{name}', which is no file of a model" in refusal(store, source)


@pytest.mark.parametrize("name", ["LICENSE", "LICENCE.md", "LICENSE-APACHE.txt", "NOTICE", "readme.txt", "README.rst"])
def test_texts_about_a_model_are_kept(store, source, name):
    folders.write_model(source)
    (source / name).write_text("x")
    assert (store.add(source).folder / name).read_text() == "x"


def test_folders_links_and_pipes_are_refused(store, source, tmp_path):
    folders.write_model(source)
    (source / "README").mkdir()
    assert "'README' is a folder" in refusal(store, source)
    (source / "README").rmdir()
    os.mkfifo(source / "README")
    assert "'README' is no plain file" in refusal(store, source)
    (source / "README").unlink()
    for name in ("weights.safetensors", "card.json", "network.onnx"):
        (source / name).rename(tmp_path / name)
        (source / name).symlink_to(tmp_path / name)
        assert f"'{name}' is a link" in refusal(store, source)
        (source / name).unlink()
        (tmp_path / name).rename(source / name)
    assert store.add(source).name == "tiny"


def test_a_card_that_is_a_pipe_blocks_nothing(store, source):
    source.mkdir(parents=True)
    os.mkfifo(source / "card.json")
    assert "'card.json' is no plain file" in refusal(store, source)


def test_texts_and_folders_that_are_too_large_are_refused(store, source, monkeypatch):
    folders.write_model(source)
    (source / "README").write_bytes(b" " * (1024**2 + 1))
    assert "'README' has 1048577 bytes; 1048576 are the most" in refusal(store, source)
    (source / "README").unlink()
    with (source / "weights.safetensors").open("r+b") as file:
        file.truncate(2 * 1024**3 + 1)
    assert "are the most" in refusal(store, source)


def test_nothing_at_the_place_is_an_input_error(store, tmp_path):
    with pytest.raises(InputError, match="There is no model at"):
        store.add(tmp_path / "absent")
    assert not store.user_folder.exists()


# --- weights and graph, through the whole check


def test_a_pickle_under_the_name_of_weights_is_refused(store, source, tmp_path):
    torch.save({"w": torch.zeros(2)}, tmp_path / "checkpoint.pt")
    content = (tmp_path / "checkpoint.pt").read_bytes()
    folders.write_model(source, weights=content, graph=folders.make_graph())
    assert "the pickle in it can run code" in refusal(
        store, source, "The weights file 'weights.safetensors' was refused."
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_weights_that_are_no_numbers_are_refused(store, source, kind, value):
    weights = save({**folders.VALUES, "other": np.array([1, value, 2], kind)})
    folders.write_model(source, weights=weights)
    cause = refusal(store, source, "The weights file 'weights.safetensors' was refused.")
    assert cause.startswith("'other' in it holds NaN or infinity")


def test_truncated_weights_are_refused_even_with_a_hash_that_fits(store, source):
    folders.write_model(source)
    path = source / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-2])
    assert "the card says" in refusal(store, source, "The model 'tiny' is damaged.")
    folders.write_card(source)
    assert "the file has" in refusal(store, source, "The weights file 'weights.safetensors' was refused.")


def test_a_graph_that_reads_elsewhere_is_refused(store, source):
    graph = folders.make_graph()
    graph.graph.initializer[0].external_data[0].value = "/etc/passwd"
    folders.write_model(source, graph=graph)
    assert "'/etc/passwd'" in refusal(store, source, "The graph 'network.onnx' was refused.")


def test_weights_that_the_card_does_not_list_are_no_way_around_the_check(store, source):
    folders.write_model(source)
    folders.write_card(source, ("network.onnx",))
    assert "does not list 'weights.safetensors'" in refusal(store, source)


def test_a_model_that_was_changed_after_it_was_added_is_found_by_a_check(store, source):
    folders.write_model(source)
    card = store.add(source)
    path = card.folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x3c")
    with pytest.raises(ModelError, match="has the SHA-256"):
        store.check("tiny")
    with pytest.raises(ModelError, match="has the SHA-256"):
        store.verify(card)


# --- interruptions


def test_an_interruption_leaves_nothing(store, source, monkeypatch):
    folders.write_model(source)

    def interrupted(folder):
        assert len(folders.tree(store.user_folder)) == 5
        raise KeyboardInterrupt

    monkeypatch.setattr(store_module, "check_folder", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.add(source)
    assert folders.tree(store.user_folder) == []


def test_what_a_killed_process_left_is_cleared_by_the_next(store, source):
    folders.write_model(source)
    leftover = store.user_folder / ".partial-0123456789ab" / "tiny"
    leftover.mkdir(parents=True)
    (leftover / "card.json").write_text("{}")
    assert store.names() == ["ours"]
    store.add(source)
    assert not leftover.parent.exists()
    assert store.names() == ["ours", "tiny"]


def test_a_killed_process_gives_the_lock_back(store, source):
    folders.write_model(source)
    code = """
import sys, time
from pathlib import Path
from strokeseg.models.writing import prepared
with prepared(Path(sys.argv[1])) as partial:
    (partial / "half").write_text("")
    print("holding", flush=True)
    time.sleep(60)
"""
    engine = Path(store_module.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(engine)}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(store.user_folder)], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout.readline() == "holding\n"
        assert "is adding or removing a model" in refusal(store, source, "Another StrokeSeg is at work on the models.")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert any(".partial-" in p for p in folders.tree(store.user_folder))
    store.add(source)
    assert folders.tree(store.user_folder) == ["tiny", *(f"tiny/{n}" for n in FILES)]


def test_a_name_that_was_taken_meanwhile_is_not_overwritten(store, source, monkeypatch):
    folders.write_model(source)
    real = store_module.check_folder

    def meanwhile(folder):
        folders.write_model(store.user_folder / "tiny", title="First")
        return real(folder)

    monkeypatch.setattr(store_module, "check_folder", meanwhile)
    with pytest.raises(ModelError, match="You added it earlier"):
        store.add(source)
    assert store.card("tiny").title == "First"


@pytest.mark.parametrize(("number", "said"), [(28, "is full"), (13, "Permission denied")])
def test_a_system_that_refuses_is_told_in_words(store, source, monkeypatch, number, said):
    folders.write_model(source)

    def refuse(*_):
        raise OSError(number, os.strerror(number), str(store.user_folder))

    monkeypatch.setattr(store_module, "move_in", refuse)
    assert said in refusal(store, source)


def test_a_home_that_is_a_file_is_told_in_words(tmp_path, source):
    folders.write_model(source)
    (tmp_path / "home").write_text("")
    (tmp_path / "bundled").mkdir()
    with pytest.raises(ModelError, match="STROKESEG_HOME"):
        ModelStore(tmp_path / "bundled", tmp_path / "home" / "models").add(source)


def test_a_virus_scanner_that_holds_a_new_file_is_waited_for(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    real, tries, slept = Path.rename, [], []

    def held(self, target):
        tries.append(self)
        if len(tries) < 3:
            raise PermissionError(13, "held")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", held)
    monkeypatch.setattr(writing, "sys", SimpleNamespace(platform="win32"))
    monkeypatch.setattr(time, "sleep", slept.append)
    writing.rename(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").is_dir()
    assert slept == [0.1, 0.1]
