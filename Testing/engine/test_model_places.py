"""Where the user's models live: the rule of platformdirs on this system, and the same by name on the others."""

import sys
from pathlib import Path

import platformdirs
import pytest

from strokeseg.models import ModelStore, places, user_data_folder, user_models_folder

VARIABLES = ("STROKESEG_HOME", "XDG_DATA_HOME", "HOME", "LOCALAPPDATA")


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"HOME": "/home/somebody"},
        {"HOME": "/home/some body/é"},
        {"HOME": "/home/somebody", "XDG_DATA_HOME": "/data"},
        {"HOME": "/home/somebody", "XDG_DATA_HOME": "data"},
        {"HOME": "/home/somebody", "XDG_DATA_HOME": ""},
        {"HOME": ""},
        {"HOME": "relative"},
    ],
    ids=str,
)
@pytest.mark.skipif(sys.platform == "win32", reason="there is no such variable on Windows")
def test_it_is_the_folder_that_platformdirs_names(monkeypatch, environment):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert user_data_folder() == Path(platformdirs.user_data_path("strokeseg", appauthor=False))


def test_as_it_is_here_it_is_the_folder_that_platformdirs_names(monkeypatch):
    monkeypatch.delenv("STROKESEG_HOME", raising=False)
    assert user_data_folder() == Path(platformdirs.user_data_path("strokeseg", appauthor=False))
    assert user_models_folder() == user_data_folder() / "models"


@pytest.mark.parametrize(
    ("platform", "environment", "home", "expected"),
    [
        ("linux", {}, "/home/a", "/home/a/.local/share/strokeseg"),
        ("linux", {"XDG_DATA_HOME": "/x"}, "/home/a", "/x/strokeseg"),
        ("darwin", {}, "/Users/a", "/Users/a/Library/Application Support/strokeseg"),
        ("win32", {"LOCALAPPDATA": "D:\\Local"}, "C:\\Users\\a", "D:\\Local\\strokeseg"),
        ("win32", {}, "C:\\Users\\a", "C:\\Users\\a\\AppData\\Local\\strokeseg"),
        ("win32", {"XDG_DATA_HOME": "/x"}, "C:\\Users\\a", "C:\\Users\\a\\AppData\\Local\\strokeseg"),
    ],
)
def test_each_system_has_its_folder(platform, environment, home, expected):
    assert str(places._system_folder(platform, environment, home)) == expected


def test_the_variable_names_another_one(monkeypatch, tmp_path):
    monkeypatch.setenv("STROKESEG_HOME", str(tmp_path))
    assert user_models_folder() == tmp_path / "models"
    assert ModelStore().user_folder == tmp_path / "models"
    monkeypatch.setenv("STROKESEG_HOME", "")
    assert user_data_folder().name == "strokeseg"


def test_asking_makes_no_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("STROKESEG_HOME", str(tmp_path / "absent"))
    store = ModelStore()
    assert "adc-threshold" in store.names()
    assert [m.bundled for m in store.models()] == [True] * len(store.names())
    assert not any(tmp_path.iterdir())
