"""The wheel holds both packages, their resources and their licence, and works without the checkout."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("hatchling") is None or importlib.util.find_spec("pip") is None:
        pytest.skip("hatchling and pip are needed to build the wheel; 'pip install hatchling' brings the former")
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--disable-pip-version-check", "--wheel-dir", str(out), str(ROOT)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize(
    "name",
    [
        "strokeseg/__init__.py",
        "strokeseg/__main__.py",
        "strokeseg/py.typed",
        "strokeseg/report/templates/report.html.j2",
        "strokeseg/_resources/Models/adc-threshold/card.json",
        "strokeseg/_resources/Samples/synthetic-patient/dwi.nii.gz",
        "strokeseg/_resources/Samples/synthetic-patient/sample.json",
        "strokeseg_training/__init__.py",
    ],
)
def test_the_wheel_holds(names: set[str], name: str) -> None:
    assert name in names


def test_every_file_of_both_packages_and_of_the_resources_is_in_the_wheel(names: set[str]) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "StrokeSegExtension/strokeseg", "Training/strokeseg_training", "Resources"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout.split()  # fmt: skip
    if not tracked:
        pytest.skip("git does not know the files of this folder")
    renamed = {
        "StrokeSegExtension/strokeseg/": "strokeseg/",
        "Training/strokeseg_training/": "strokeseg_training/",
        "Resources/": "strokeseg/_resources/",
    }
    there = [f for f in tracked if (ROOT / f).is_file()]
    expected = {new + f.removeprefix(old) for f in there for old, new in renamed.items() if f.startswith(old)}
    assert len(expected) == len(there)
    assert expected - names == set()


def test_the_wheel_holds_nothing_but_the_two_packages(names: set[str]) -> None:
    assert {n.split("/")[0].split("-")[0] for n in names} == {"strokeseg", "strokeseg_training"}
    assert not [n for n in names if "__pycache__" in n or n.endswith((".pyc", ".DS_Store"))]


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        said = Parser().parsestr(archive.read(metadata).decode("utf-8"))
        scripts = archive.read(metadata.replace("METADATA", "entry_points.txt")).decode("utf-8")
        licences = [n for n in archive.namelist() if n.endswith(("/LICENSE.txt", "/NOTICE"))]
    assert said["Name"] == "strokeseg"
    assert said["License-Expression"] == "Apache-2.0"
    assert len(licences) == 2
    assert "strokeseg = strokeseg.__main__:main" in scripts
    plain = [r for r in said.get_all("Requires-Dist", []) if "extra ==" not in r]
    assert not [r for r in plain if r.startswith(("torch", "monai", "lightning"))]


def test_the_unpacked_wheel_finds_its_models_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "site packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    environment = {k: v for k, v in os.environ.items() if k != "STROKESEG_RESOURCES"} | {"PYTHONPATH": str(place)}
    code = (
        "import strokeseg.resources as r; from strokeseg.models import ModelStore; "
        "print(r.resources_root()); print(*ModelStore().names())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    root, models = done.stdout.splitlines()
    assert Path(root) == place / "strokeseg" / "_resources"
    assert "adc-threshold" in models.split()
