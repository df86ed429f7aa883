"""The arrows of the architecture: who may import whom. Every import counts, also one inside a function."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "StrokeSegExtension" / "strokeseg"

PLAIN = {"errors"}
ALLOWED = {
    "errors": set(),
    "events": {"errors"},
    "resources": {"errors"},
    "volume": {"errors"},
    "case": {"errors", "volume", "models"},
    "checks": PLAIN,
    "symmetry": PLAIN,
    "postprocess": PLAIN,
    "lesions": PLAIN,
    "metrics": PLAIN,
    "models": {"errors", "resources"},
    "networks": {"errors"},
    "runtime": {"errors", "models", "networks"},
    "prepare": {"errors", "events", "volume", "case", "checks", "symmetry", "models"},
    "predict": {"errors", "events", "volume", "case", "prepare", "models", "runtime"},
    "report": {"errors", "volume"},
    "results": {"errors"},
    "evaluation": {"errors", "volume", "checks", "metrics"},
    "stored": {"errors", "report", "results"},
    "segmentation": {
        "errors", "events", "volume", "case", "prepare", "predict", "postprocess", "lesions", "metrics", "models",
        "runtime",
        "report", "results",
    },
    "console": {"errors", "events"},
    "command": {"errors", "events", "console"},
    "cli_models": {"errors", "models", "command", "console", "tables"},
    "tables": {"errors", "lesions", "metrics", "models"},
    "job": {"errors", "events", "case", "evaluation", "metrics", "results", "runtime", "segmentation", "volume"},
    "relabel": {"errors", "lesions", "postprocess", "results", "segmentation", "volume"},
    "protocol": {"errors"},
    "worker": {"errors", "events", "protocol", "results", "runtime", "job", "relabel", "evaluation"},
    "cli": {
        "errors", "command", "cli_models", "resources", "evaluation", "job", "stored", "console", "tables", "worker",
    },
    "__main__": {"cli", "worker"},
    "__init__": {"case", "evaluation", "metrics", "models", "segmentation"},
}  # fmt: skip

STANDARD = set(sys.stdlib_module_names)
# Third-party packages that a room may load when it is imported. What is loaded inside functions is free.
AT_IMPORT = {
    "errors": set(),
    "events": set(),
    "resources": set(),
    "models": set(),
    "networks": set(),
    "results": {"psutil"},
    "checks": {"numpy", "scipy"},
    "symmetry": {"numpy", "scipy"},
    "postprocess": {"numpy", "scipy"},
    "lesions": {"numpy", "scipy"},
    "metrics": {"numpy", "scipy"},
    "volume": {"numpy", "scipy"},
    "case": {"numpy", "scipy"},
    "evaluation": {"numpy", "scipy"},
    "prepare": {"numpy", "scipy"},
    "runtime": {"numpy", "scipy"},
    "predict": {"numpy", "scipy"},
    "report": {"numpy", "scipy", "jinja2", "markupsafe"},
    "segmentation": {"numpy", "scipy", "jinja2", "markupsafe", "psutil"},
    "cli": {"typer", "rich", "shellingham", "annotated_doc"},
}
PANEL = ("errors", "events", "models", "checks", "postprocess", "lesions", "metrics")


def room_of(path):
    return path.relative_to(ENGINE).parts[0].removesuffix(".py")


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative imports hide arrows"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def turned_arrows(files):
    wrong = []
    for path in files:
        room = room_of(path)
        for module in imported_modules(path):
            parts = module.split(".")
            if parts[0] == "strokeseg_training":
                wrong.append(f"{path.name}: the engine imports the training package")
            if parts[0] != "strokeseg" or len(parts) == 1 or not is_room(parts[1]):
                continue
            if parts[1] != room and parts[1] not in ALLOWED[room]:
                wrong.append(f"{path.relative_to(ENGINE)}: {room} imports {parts[1]}")
    return wrong


def is_room(name):
    return (ENGINE / name).is_dir() or (ENGINE / f"{name}.py").is_file()


def engine_files():
    return sorted(p for p in ENGINE.rglob("*.py") if "_resources" not in p.parts)


def test_every_room_has_its_arrows_declared():
    assert {room_of(p) for p in engine_files()} <= set(ALLOWED)


def test_no_arrow_is_turned():
    assert turned_arrows(engine_files()) == []


def test_the_declared_arrows_have_no_circle():
    order, left = [], {room: set(to) & set(ALLOWED) for room, to in ALLOWED.items()}
    while left:
        free = [room for room, to in left.items() if not to]
        assert free, f"a circle among {sorted(left)}"
        order += free
        left = {room: to - set(free) for room, to in left.items() if room not in free}


def test_a_turned_arrow_is_noticed(tmp_path, monkeypatch):
    (tmp_path / "strokeseg" / "volume").mkdir(parents=True)
    (tmp_path / "strokeseg" / "prepare").mkdir()
    bad = tmp_path / "strokeseg" / "volume" / "grid.py"
    bad.write_text("def f():\n    from strokeseg.prepare import prepare\n")
    monkeypatch.setitem(globals(), "ENGINE", tmp_path / "strokeseg")
    assert turned_arrows([bad]) == ["volume/grid.py: volume imports prepare"] * 2


def test_the_training_package_never_imports_the_module():
    for path in (ROOT / "Training").rglob("*.py"):
        tops = {m.split(".")[0] for m in imported_modules(path)}
        assert not tops & {"StrokeSeg", "StrokeSegLib", "slicer", "qt", "ctk"}, path.name


def loaded_by(module):
    """Top-level names of the third-party packages that importing `module` loads, in a fresh interpreter."""
    code = (
        "import sys, json; before = set(sys.modules); import importlib; importlib.import_module(sys.argv[1]);"
        "print(json.dumps(sorted({m.split('.')[0] for m in set(sys.modules) - before})))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ENGINE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code, module], capture_output=True, text=True, check=True, env=environment
    )
    names = {n for n in json.loads(done.stdout) if not n.startswith("_")}
    # numpy.f2py, which scipy loads, takes charset_normalizer where it happens to be installed.
    return names - STANDARD - {"strokeseg", "cython_runtime", "charset_normalizer"}


@pytest.mark.parametrize("room", sorted(AT_IMPORT))
def test_a_room_loads_no_more_than_it_may_when_imported(room):
    assert loaded_by(f"strokeseg.{room}") <= AT_IMPORT[room]


def test_the_panels_rooms_run_with_everything_but_numpy_and_scipy_blocked():
    code = f"""
import sys, importlib.abc
allowed = set(sys.stdlib_module_names) | {{"numpy", "scipy", "strokeseg"}}
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in allowed and not top.startswith("_"):
            raise ImportError(f"blocked: {{name}}")
sys.meta_path.insert(0, Block())
for room in {PANEL!r}:
    __import__("strokeseg." + room)
print("all loaded")
"""
    environment = {**os.environ, "PYTHONPATH": str(ENGINE.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.strip() == "all loaded", done.stderr
