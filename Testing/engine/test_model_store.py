"""The model store: models by name, and files that must be what their card says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from strokeseg.errors import ModelError
from strokeseg.models import ModelStore, list_models

BUNDLED = Path(__file__).parents[2] / "Resources" / "Models"
WEIGHTS = b"\x00\x01\x02 weights"


def add_model(root: Path, folder: str, name: str | None = None, files: dict[str, bytes] | None = None) -> None:
    """A model folder: the bundled card under another name, with files."""
    data: dict[str, Any] = json.loads((BUNDLED / "adc-threshold" / "card.json").read_text(encoding="utf-8"))
    data["name"] = name or folder
    data["files"] = [
        {"name": n, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        for n, content in (files or {}).items()
    ]
    (root / folder).mkdir()
    (root / folder / "card.json").write_text(json.dumps(data), encoding="utf-8")
    for n, content in (files or {}).items():
        (root / folder / n).write_bytes(content)


def test_the_bundled_store_has_the_threshold_rule() -> None:
    assert "adc-threshold" in ModelStore(BUNDLED).names()
    assert [c.name for c in list_models()] == ModelStore().names()
    ModelStore().verify(ModelStore().card("adc-threshold"))


def test_names_are_sorted_and_only_folders_with_a_card_count(tmp_path: Path) -> None:
    for name in ("zeta", "alpha"):
        add_model(tmp_path, name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "registry.json").write_text("{}")
    store = ModelStore(tmp_path)
    assert store.names() == ["alpha", "zeta"]
    assert [c.name for c in store.cards()] == ["alpha", "zeta"]
    assert store.card("zeta").folder == tmp_path / "zeta"


def test_an_unknown_name_brings_the_nearest_one_and_all_that_are_there(tmp_path: Path) -> None:
    add_model(tmp_path, "dwi-adc")
    add_model(tmp_path, "other")
    with pytest.raises(ModelError) as caught:
        ModelStore(tmp_path).card("dwi_adc")
    assert caught.value.title == "There is no model 'dwi_adc'."
    assert "dwi-adc, other" in caught.value.cause
    assert caught.value.next_step == "Did you mean 'dwi-adc'?"


@pytest.mark.parametrize("name", ["", "..", ".", "../../etc/passwd", "/etc", "xyzzy"])
def test_a_name_that_is_like_none_is_no_path_either(tmp_path: Path, name: str) -> None:
    add_model(tmp_path, "dwi-adc")
    with pytest.raises(ModelError) as caught:
        ModelStore(tmp_path).card(name)
    assert "Did you mean" not in caught.value.next_step
    assert "models list" in caught.value.next_step


def test_a_store_without_models_says_so(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        assert ModelStore(folder).names() == []
        with pytest.raises(ModelError, match=r"at hand: none\."):
            ModelStore(folder).card("dwi-adc")


def test_a_folder_that_holds_another_model_is_refused(tmp_path: Path) -> None:
    add_model(tmp_path, "folder", "model")
    with pytest.raises(ModelError) as caught:
        ModelStore(tmp_path).card("folder")
    assert "'folder'" in caught.value.title
    assert "'model'" in caught.value.cause


def test_complete_files_pass(tmp_path: Path) -> None:
    add_model(tmp_path, "net", files={"weights.safetensors": WEIGHTS, "empty.txt": b""})
    store = ModelStore(tmp_path)
    store.verify(store.card("net"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "'weights.safetensors' is missing; the card says 11 bytes."),
        (WEIGHTS[:-1], "'weights.safetensors' has 10 bytes; the card says 11 bytes."),
        (WEIGHTS + b"x", "'weights.safetensors' has 12 bytes; the card says 11 bytes."),
        (b"\x00\x01\x03 weights", "'weights.safetensors' has the SHA-256 "),
    ],
    ids=["missing", "truncated", "longer", "one bit changed"],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    assert len(WEIGHTS) == 11
    add_model(tmp_path, "net", files={"good.txt": b"good", "weights.safetensors": WEIGHTS})
    path = tmp_path / "net" / "weights.safetensors"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    store = ModelStore(tmp_path)
    with pytest.raises(ModelError) as caught:
        store.verify(store.card("net"))
    assert caught.value.title == "The model 'net' is damaged."
    assert caught.value.cause.startswith(said)


def test_a_folder_in_the_place_of_a_file_is_a_missing_file(tmp_path: Path) -> None:
    add_model(tmp_path, "net", files={"weights.safetensors": WEIGHTS})
    path = tmp_path / "net" / "weights.safetensors"
    path.unlink()
    path.mkdir()
    store = ModelStore(tmp_path)
    with pytest.raises(ModelError, match="is missing"):
        store.verify(store.card("net"))
