"""Where the engine is found, what its Python must have, and what the panel may import."""

import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import plain_mrml as mrml
import pytest

import strokeseg

panel = mrml.panel

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "StrokeSegModule"
ENGINE = ROOT / "StrokeSegExtension"

# What Slicer brings along, and the engine's rooms for the panel (docs/architecture.md, Arrows).
SLICERS = {"slicer", "qt", "ctk", "vtk", "numpy", "scipy", "SampleData", "DICOMLib", "PythonQt"}
# `resources` stands behind `models` and is the one function that finds them.
ROOMS = {"errors", "events", "models", "checks", "postprocess", "lesions", "metrics", "resources"}
OPTIONAL = {"process_tree.py: psutil"}  # where the engine's packages are installed in Slicer


@pytest.fixture(autouse=True)
def _slicer(slicerEnvironment):
    mrml.start()


def heldBack():
    """Every package that may be missing in a Slicer."""
    return sorted(
        {*panel.requirements.REQUIREMENTS, "torch", "monai", "skimage", "pandas", "nilearn"} - {"numpy", "scipy"}
    )


def run(code, *arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def imports(path):
    """Every absolute import of a file, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            if node.module == "strokeseg":
                yield from (f"strokeseg.{alias.name}" for alias in node.names)
            else:
                yield node.module


def modules():
    return sorted({*MODULE.glob("*.py"), *MODULE.glob("StrokeSegLib/**/*.py")})


# --- the engine


@pytest.fixture
def installed(tmp_path):
    """Copies of the panel's finder as an extension is installed, and as it is checked out, below a difficult path."""
    users = tmp_path / "Ärzte 空 x"
    for where in ("installed/StrokeSegLib", "checkout/StrokeSegModule/StrokeSegLib", "alone/StrokeSegLib"):
        shutil.copytree(MODULE / "StrokeSegLib", users / where, ignore=shutil.ignore_patterns("__pycache__"))
    (users / "installed" / "strokeseg").symlink_to(ENGINE / "strokeseg")
    (users / "installed" / "Resources").symlink_to(ROOT / "Resources")
    (users / "checkout" / "StrokeSegExtension").symlink_to(ENGINE)
    (users / "checkout" / "pyproject.toml").touch()
    return users


# The little of Slicer that these parts use.
CHILD = """
import json, sys, types
sys.path[:] = [sys.argv[1], *(place for place in sys.path if place != sys.argv[2])]
import slicer
slicer.i18n = sys.modules["slicer.i18n"] = types.ModuleType("slicer.i18n")
slicer.i18n.tr = str
from StrokeSegLib import engine_path, requirements
"""
FIND = """
engine_path.add()
import strokeseg
print(json.dumps([str(engine_path.folder()), strokeseg.__file__, str(engine_path.extensionFolder()),
                  engine_path.workerEnvironment()["PYTHONPATH"], requirements.consoleCommand(["psutil", "openvino"]),
                  requirements.terminalCommand("/my env/python")]))
"""


def find(place):
    return json.loads(run(CHILD + FIND, place, MODULE, PYTHONPATH="/other").splitlines()[-1])


def test_an_installed_extension_uses_the_engine_beside_the_module(installed):
    folder, engine, extension, pythonPath, command, terminal = find(installed / "installed")
    assert folder == str(installed / "installed")
    assert engine == str(installed / "installed" / "strokeseg" / "__init__.py")
    assert extension == "None"
    assert pythonPath.split(os.pathsep)[:2] == [str(installed / "installed"), "/other"]
    # There is no folder to install from, and the engine is there already.
    assert command == (
        "slicer.util.pip_install(['psutil>=5.9']); slicer.util.pip_install(['--no-deps', 'openvino>=2025.4'])"
    )
    assert terminal.startswith('"/my env/python" -m pip install "numpy>=1.26" "scipy')


def test_a_checkout_uses_its_own_engine_and_installs_from_its_own_folder(installed):
    folder, engine, extension, pythonPath, command, terminal = find(installed / "checkout" / "StrokeSegModule")
    assert folder == str(installed / "checkout" / "StrokeSegExtension")
    assert engine == str(installed / "checkout" / "StrokeSegExtension" / "strokeseg" / "__init__.py")
    assert extension == str(installed / "checkout")
    assert pythonPath.split(os.pathsep)[0] == folder
    assert command.endswith(f"'openvino>=2025.4', '{installed / 'checkout'}'])")
    assert terminal == f'"/my env/python" -m pip install "{installed / "checkout"}"'


def test_a_module_that_came_alone_uses_the_installed_package_and_forces_it_on_no_other_python(installed):
    folder, engine, _, pythonPath, *_ = find(installed / "alone")
    assert Path(engine).is_relative_to(folder)
    assert pythonPath.split(os.pathsep)[0] == "/other"


def test_the_worker_starts_from_a_path_with_umlauts_blanks_and_chinese(installed):
    code = """
from StrokeSegLib.transports import PlainTransport
from StrokeSegLib.worker_link import Listener, WorkerLink
transport = PlainTransport()
link = WorkerLink(transport)
link.hello(Listener(onResult=lambda event: print(event["version"]), onError=print))
while link.busy:
    transport.wait(0.1)
"""
    assert run(CHILD + code, installed / "installed", MODULE).splitlines()[-1] == strokeseg.__version__


def test_the_chosen_python_gets_the_environment_without_slicers_libraries(monkeypatch):
    startup = {"PATH": "/usr/bin", "HOME": "/home/x"}
    monkeypatch.setattr(panel.engine_path, "_startupEnvironment", lambda: dict(startup))
    monkeypatch.setenv("PYTHONHOME", "/slicer/lib/Python")
    chosen = panel.engine_path.workerEnvironment("/my env/python")
    own = panel.engine_path.workerEnvironment()
    assert "PYTHONHOME" not in chosen
    assert own["PYTHONHOME"] == "/slicer/lib/Python"
    for environment in (chosen, own):
        assert environment["PYTHONPATH"].split(os.pathsep)[0] == str(ENGINE)
        assert (environment["PYTHONUTF8"], environment["PYTHONNOUSERSITE"]) == ("1", "1")


def test_slicers_python_comes_first_unless_the_user_chose_another(monkeypatch, tmp_path):
    for name in ("PythonSlicer", "python-real", "mine"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    # The interpreter itself before its launcher.
    assert panel.engine_path.pythonExecutable() == tmp_path / "python-real"
    (tmp_path / "python-real").unlink()
    assert panel.engine_path.pythonExecutable() == tmp_path / "PythonSlicer"
    assert panel.engine_path.workerCommand(str(tmp_path / "mine")) == [
        str(tmp_path / "mine"),
        "-m",
        "strokeseg",
        "worker",
    ]
    with pytest.raises(FileNotFoundError, match="'/nowhere/python' is not there"):
        panel.engine_path.pythonExecutable("/nowhere/python")
    monkeypatch.setenv("PATH", "")
    assert panel.engine_path.pythonExecutable() == Path(sys.executable)
    monkeypatch.setattr(sys, "executable", "/opt/Slicer/bin/SlicerApp-real")
    with pytest.raises(FileNotFoundError, match="Choose a Python"):
        panel.engine_path.pythonExecutable()


# --- packages


def test_the_requirements_are_those_of_the_engine():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert sorted(panel.requirements.REQUIREMENTS.values()) == sorted(project["dependencies"])


def test_a_python_with_everything_lacks_nothing_and_one_with_nothing_lacks_all(tmp_path, monkeypatch):
    monkeypatch.setattr(panel.requirements, "_complete", set())
    assert panel.requirements.missing() == []
    bare = tmp_path / "bare python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')  # without the folder of packages
    bare.chmod(0o755)
    everything = [*panel.requirements.REQUIREMENTS]
    assert panel.requirements.missing(str(bare)) == everything  # the engine came with the module
    (tmp_path / "broken").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "broken").chmod(0o755)
    assert panel.requirements.missing(str(tmp_path / "broken")) == [*everything, "strokeseg"]


def test_a_package_that_is_there_but_cannot_be_imported_is_missing(tmp_path, monkeypatch):
    (tmp_path / "nibabel.py").write_text("raise OSError('half installed')\n")
    monkeypatch.setattr(panel.requirements, "_complete", set())
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(panel.engine_path, "ownFolder", lambda: None)
    assert panel.requirements.missing() == ["nibabel"]


def test_what_this_python_lacks_is_found_without_importing(monkeypatch):
    assert panel.requirements.missingHere() == []
    monkeypatch.setitem(panel.requirements.REQUIREMENTS, "no_such_package", "no-such-package>=1")
    assert panel.requirements.missingHere() == ["no_such_package"]
    assert panel.requirements.consoleCommand() == (
        f"slicer.util.pip_install(['no-such-package>=1']); slicer.util.pip_install(['--no-deps', '{ROOT}'])"
    )


# --- what the panel may import


def test_the_panel_imports_only_what_slicer_has_and_the_rooms_that_are_for_it():
    wrong = []
    for path in modules():
        for name in imports(path):
            top, _, rest = name.partition(".")
            if top == "strokeseg":
                good = rest.partition(".")[0] in ROOMS | {"__version__"}
            else:
                good = top in SLICERS | {"StrokeSegLib"} | set(sys.stdlib_module_names)
            if not good:
                wrong.append(f"{path.name}: {name}")
    assert set(wrong) == OPTIONAL


def test_the_panel_and_its_rooms_import_with_everything_else_held_back(tmp_path):
    code = f"""
import importlib, sys
sys.path[:0] = {[str(MODULE), str(ROOT / "Testing")]!r}
from slicer_harness.start import start
start(sys.argv[2])
from pathlib import Path
from importlib.machinery import PathFinder
HELD = set({heldBack()!r})
class Finder:
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in HELD else PathFinder.find_spec(name, path, target)
for name in [n for n in sys.modules if n.partition(".")[0] in HELD]:
    del sys.modules[name]
sys.meta_path[:] = [Finder() if finder is PathFinder else finder for finder in sys.meta_path]
from StrokeSegLib import engine_path
engine_path.add()
for name in {sorted(ROOMS)!r}:
    importlib.import_module("strokeseg." + name)
for path in sorted(Path(sys.argv[1]).glob("*.py")):
    importlib.import_module("StrokeSegLib." + path.stem)
import StrokeSegLib
print(StrokeSegLib.segmentVolumes.__name__, len(StrokeSegLib.requirements.missingHere()) > 5)
"""
    out = run(code, MODULE / "StrokeSegLib", tmp_path)
    assert out.splitlines()[-1] == "segmentVolumes True"


def test_the_package_imports_nothing_until_it_is_used():
    code = f"import sys; sys.path.insert(0, {str(MODULE)!r}); import StrokeSegLib; "
    code += "print([n for n in sys.modules if n.partition('.')[0] in ('slicer', 'vtk', 'numpy', 'strokeseg')])"
    assert run(code) == "[]"


# --- settings


class Store(dict):
    """A QSettings on a file: it gives back texts."""

    def value(self, key):
        return self.get(key)

    def setValue(self, key, value):
        self[key] = str(value).lower() if isinstance(value, bool) else value

    def remove(self, key):
        self.pop(key, None)


def test_settings_have_defaults_keep_their_type_and_can_be_reset():
    DEFAULTS = panel.settings.DEFAULTS
    store = Store()
    settings = panel.settings.Settings(store)
    assert {name: settings.value(name) for name in DEFAULTS} == DEFAULTS
    settings.setValue("keepWorker", False)
    settings.setValue("pythonExecutable", "/home/Ärzte 空 x/python")
    again = panel.settings.Settings(store)
    assert again.value("keepWorker") is False
    assert again.value("pythonExecutable") == "/home/Ärzte 空 x/python"
    assert set(store) == {"StrokeSeg/keepWorker", "StrokeSeg/pythonExecutable"}
    store["StrokeSeg/keepWorker"] = "rubbish"
    assert settings.value("keepWorker") is True
    settings.reset()
    assert {name: settings.value(name) for name in DEFAULTS} == DEFAULTS


def test_settings_are_kept_by_slicer():
    import qt

    panel.settings.Settings().setValue("keepWorker", False)
    panel.settings.Settings().setValue("lastInputFolder", "/home/Ärzte 空 x")
    assert panel.settings.Settings().value("keepWorker") is False
    assert qt.QSettings().value("StrokeSeg/lastInputFolder") == "/home/Ärzte 空 x"


def test_a_setting_that_is_unknown_or_of_another_type_is_refused():
    settings = panel.settings.Settings(Store())
    with pytest.raises(KeyError):
        settings.value("colour")
    with pytest.raises(TypeError):
        settings.setValue("keepWorker", "yes")
