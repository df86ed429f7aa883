"""Shared resources are found in each of the four places where they can be, and their absence is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from strokeseg import resources
from strokeseg.errors import DependencyError

PACKAGE = Path(resources.__file__).parent


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An engine without resources in a folder of its own, two levels below `tmp_path`."""
    package = tmp_path / "checkout" / "StrokeSegExtension" / "strokeseg"
    package.mkdir(parents=True)
    monkeypatch.setattr(resources, "_PACKAGE", package)
    monkeypatch.delenv("STROKESEG_RESOURCES", raising=False)
    return package


def add_resources(root: Path) -> Path:
    (root / "Models" / "tiny").mkdir(parents=True)
    (root / "Models" / "tiny" / "card.json").write_text("{}")
    return root


def test_a_checkout_has_them_two_folders_up(engine: Path) -> None:
    root = add_resources(engine.parent.parent / "Resources")
    assert resources.resources_root() == root
    assert resources.resource_path("Models", "tiny", "card.json") == root / "Models" / "tiny" / "card.json"
    assert resources.resource_path() == root


def test_an_installed_extension_has_them_beside_the_package(engine: Path) -> None:
    add_resources(engine.parent.parent / "Resources")
    root = add_resources(engine.parent / "Resources")
    assert resources.resources_root() == root


def test_an_installed_wheel_has_them_inside_the_package(engine: Path) -> None:
    add_resources(engine.parent / "Resources")
    root = add_resources(engine / "_resources")
    assert resources.resources_root() == root


def test_the_environment_comes_first(engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_resources(engine / "_resources")
    root = add_resources(tmp_path / "Mes données 资源")
    monkeypatch.setenv("STROKESEG_RESOURCES", str(root))
    assert resources.resources_root() == root


def test_an_empty_environment_leaves_the_other_places(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROKESEG_RESOURCES", "")
    root = add_resources(engine / "_resources")
    assert resources.resources_root() == root


def test_a_wrong_place_in_the_environment_is_not_replaced_in_silence(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_resources(engine / "_resources")
    monkeypatch.setenv("STROKESEG_RESOURCES", str(tmp_path / "absent"))
    with pytest.raises(DependencyError) as caught:
        resources.resources_root()
    assert str(tmp_path / "absent") in caught.value.cause


def test_a_folder_without_models_is_not_taken_for_the_resources(engine: Path) -> None:
    (engine.parent / "Resources" / "Icons").mkdir(parents=True)
    root = add_resources(engine.parent.parent / "Resources")
    assert resources.resources_root() == root


def test_when_no_place_has_them_all_places_are_named(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STROKESEG_RESOURCES", raising=False)
    with pytest.raises(DependencyError) as caught:
        resources.resource_path("Models")
    assert caught.value.exit_code == 5
    places = [engine / "_resources", engine.parent / "Resources", engine.parents[1] / "Resources"]
    assert ", ".join(str(p) for p in places) in caught.value.cause
    assert "STROKESEG_RESOURCES" in caught.value.next_step


def test_a_missing_file_is_named(engine: Path) -> None:
    add_resources(engine / "_resources")
    with pytest.raises(DependencyError, match="'Samples/patient' is not in the resources folder"):
        resources.resource_path("Samples", "patient")


def test_the_package_itself_finds_its_models_from_any_working_folder(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "STROKESEG_RESOURCES"}
    code = "from strokeseg.models import ModelStore; print(*ModelStore().names())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert "adc-threshold" in done.stdout.split()
