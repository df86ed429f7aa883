"""The panel needs nothing that a Slicer may lack, and speaks the words of numpy that 1.26 and 2 both know."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "StrokeSegModule"
ENGINE = ROOT / "StrokeSegExtension" / "strokeseg"
# docs/architecture.md, Arrows; `resources` stands behind `models`.
ROOMS = ("errors", "events", "models", "checks", "postprocess", "lesions", "metrics", "resources")

# What a Slicer is made of. Its numpy is there as surely as its vtk, but takes a while to load.
SLICER = {"slicer", "qt", "ctk", "vtk"}
STANDARD = set(sys.stdlib_module_names)

# Names that numpy 2 brought, below `numpy` and its parts, and keyword arguments that 1.26 does not know.
_NUMPY_2_ONLY = """
acos acosh asin asinh atan atan2 atanh astype bitwise_count bitwise_invert bitwise_left_shift bitwise_right_shift
bool concat cumulative_prod cumulative_sum isdtype long matrix_norm matrix_transpose matvec permute_dims pow
trapezoid ulong unique_all unique_counts unique_inverse unique_values unstack vecdot vecmat vector_norm
"""
NUMPY_2_ARGUMENTS = {("asarray", "copy"), ("reshape", "copy"), ("reshape", "shape"), ("unique", "sorted")}
NUMPY_2_MODULES = {"numpy.strings", "numpy.exceptions.", "numpy.lib.array_utils", "numpy.lib.introspect", "numpy._core"}
# And those that numpy 2 took away, which would end with the next Slicer.
_NUMPY_1_ONLY = """
add_newdoc alltrue asfarray byte_bounds cast cfloat compat complex_ cumproduct deprecate disp DataSource
find_common_type float_ geterrobj in1d infty Inf issctype issubclass_ issubsctype longcomplex longfloat mat
maximum_sctype msort NaN nbytes NINF NZERO obj2sctype PINF product PZERO recfromcsv recfromtxt round_
safe_eval sctype2char sctypes set_string_function seterrobj singlecomplex sometrue source string_ trapz
unicode_ who
"""
NUMPY_2_ONLY, NUMPY_1_ONLY = set(_NUMPY_2_ONLY.split()), set(_NUMPY_1_ONLY.split())


def panelFiles() -> list[Path]:
    return sorted({*MODULE.glob("*.py"), *MODULE.glob("StrokeSegLib/**/*.py")})


def roomFiles() -> list[Path]:
    return sorted(p for room in ROOMS for p in (ENGINE / f"{room}.py", *(ENGINE / room).rglob("*.py")) if p.is_file())


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=path.name)


def atFileScope(nodes: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that are carried out when a file is imported; not those of functions, nor of type checkers."""
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from atFileScope(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for part in ("body", "orelse", "finalbody", "handlers"):
                yield from atFileScope(getattr(node, part, []))


def names(node: ast.Import | ast.ImportFrom, package: str = "StrokeSegLib") -> list[str]:
    """The modules that an import statement may load."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    module = node.module or ""
    if node.level:
        module = f"{package}.{module}".rstrip(".")
    return [module, *(f"{module}.{alias.name}" for alias in node.names)]


def reached(path: Path) -> set[str]:
    """Modules that importing `path` loads at file scope, through the panel's own files, but for these themselves."""
    found: set[str] = set()
    waiting, seen = [path], set()
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        for node in atFileScope(tree(current).body):
            for name in names(node):
                own = MODULE / (name.replace(".", "/") + ".py")
                if own.is_file():
                    waiting.append(own)
                elif name == "StrokeSegLib":
                    waiting.append(MODULE / "StrokeSegLib" / "__init__.py")
                elif not name.startswith("StrokeSegLib"):
                    found.add(name)
    return found


def tops(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def test_what_slicer_loads_at_its_start_needs_only_slicer() -> None:
    assert tops(reached(MODULE / "StrokeSeg.py")) <= STANDARD | SLICER


def test_no_file_of_the_panel_imports_more_than_slicer_numpy_and_the_engines_rooms_at_file_scope() -> None:
    wrong = []
    for path in panelFiles():
        for node in atFileScope(tree(path).body):
            module = names(node)[0]
            top, _, rest = module.partition(".")
            if top == "strokeseg" and rest:
                good = rest.partition(".")[0] in ROOMS
            elif top == "strokeseg":
                good = isinstance(node, ast.ImportFrom) and {a.name for a in node.names} <= {*ROOMS, "__version__"}
            else:
                good = top in STANDARD | SLICER | {"numpy", "StrokeSegLib"}
            if not good:
                wrong.append(f"{path.name}: {module}")
    assert wrong == []


WHOLE_PANEL = """
import importlib.abc, sys, time
from pathlib import Path
sys.path[:0] = [{testing!r}, {module_tests!r}]
import panel_driver as drive
from slicer_harness.start import start
environment = start(sys.argv[1])

# What the double of Slicer itself is made of stays with it; nobody else gets at it any more.
allowed = set(sys.stdlib_module_names) | {allowed!r}
rooms = {rooms!r}
for name in list(sys.modules):
    top = name.partition(".")[0]
    if top not in allowed and not top.startswith("_"):
        del sys.modules[name]
refused = []
class Held(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top, _, rest = name.partition(".")
        room = rest.partition(".")[0]
        if (top in allowed or top.startswith("_")) and not (top == "strokeseg" and rest and room not in rooms):
            return None
        refused.append(name)
        raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Held())

# Slicer itself has what the worker needs in this test; the worker is a process of its own.
sys.path.insert(0, {module!r})
drive.forget()
environment.loadModule(drive.MODULE / "StrokeSeg.py")
from StrokeSegLib import requirements
requirements.missingHere = list
environment.announceStartup()
widget = environment.openModule("StrokeSeg")
environment.processEvents(0.05)
ui = widget.ui
drive.tryIt(environment, widget)
print("ran:", widget.panel.logic.run.error, ui.summaryLabel.text)
ui.thresholdSlider.value = 0.9
environment.processEvents(0.05)
print("moved:", ui.summaryLabel.text)
ui.lesionTable.selectRow(0)
ui.runButton.click()
drive.finish(environment, widget)
ui.undoButton.click()
ui.copyDetailsButton.click()
environment.processEvents(0.05)
print("undone:", ui.summaryLabel.text)
print("unhandled:", environment.takeUnhandled())
print("refused:", sorted(set(refused)))
environment.stop()
"""


def test_the_whole_panel_works_with_every_other_package_blocked(tmp_path: Path) -> None:
    allowed = SLICER | {"vtkmodules", "numpy", "scipy", "SampleData", "DICOMLib", "PythonQt"}
    allowed |= {"StrokeSeg", "StrokeSegLib", "strokeseg", "PySide6", "shiboken6", "slicer_harness", "panel_driver"}
    code = WHOLE_PANEL.format(
        testing=str(ROOT / "Testing"),
        module_tests=str(ROOT / "Testing" / "module"),
        module=str(MODULE),
        allowed=allowed | {"slicer_core", "mrml", "vtkMRMLCorePython"},
        rooms=set(ROOMS),
    )
    # What is on the path of this run stays on it: so another numpy is tried.
    path = os.pathsep.join(filter(None, (str(ENGINE.parent), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "STROKESEG_HOME": str(tmp_path / "home")}
    (tmp_path / "slicer").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "slicer")],
        capture_output=True, text=True, env=environment, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    found = re.match(r"None ([\d.]+) ml in \d lesions", said["ran"])
    assert found, done.stdout + done.stderr
    fewer = re.match(r"([\d.]+) ml in \d lesion", said["moved"])
    assert fewer, done.stdout + done.stderr
    assert 0.0 < float(fewer[1]) < float(found[1])
    assert said["undone"] == said["moved"]
    assert said["unhandled"] == "[]"
    # psutil is taken where it is there, without it the system's own means do; numpy and scipy look for the other two.
    assert set(ast.literal_eval(said["refused"])) <= {"psutil", "charset_normalizer", "cython"}


def numpyAliases(module: ast.Module) -> set[str]:
    found = {"np"}
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found |= {a.asname or a.name.partition(".")[0] for a in node.names if a.name.partition(".")[0] == "numpy"}
    return found


def rootOf(node: ast.expr) -> str:
    """The first word of a dotted name; "" where it is something else, as what a call gives."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def numpyMisuse(source: str) -> list[str]:
    """Uses of names that not every numpy from 1.26 to the newest has."""
    module = ast.parse(source)
    aliases = numpyAliases(module)
    wrong = []
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and rootOf(node.value) in aliases:
            if node.attr in NUMPY_2_ONLY | NUMPY_1_ONLY:
                wrong.append(ast.unparse(node))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "numpy":
            wrong += [a.name for a in node.names if a.name in NUMPY_2_ONLY | NUMPY_1_ONLY]
            wrong += [node.module or "" for part in NUMPY_2_MODULES if f"{node.module}.".startswith(f"{part}.")]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            for word in node.keywords:
                nothing = isinstance(word.value, ast.Constant) and word.value.value is None
                if (called, word.arg) in NUMPY_2_ARGUMENTS or (word.arg == "copy" and nothing):
                    wrong.append(f"{called}({word.arg}=...)")
            if called == "isinstance" and "np.bool" in ast.unparse(node).replace("np.bool_", ""):
                wrong.append("isinstance(..., np.bool)")
    return wrong


@pytest.mark.parametrize("path", [*panelFiles(), *roomFiles()], ids=lambda p: f"{p.parent.name}/{p.name}")
def test_only_words_of_numpy_that_1_26_and_2_both_have_are_used(path: Path) -> None:
    assert numpyMisuse(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\nnp.trapezoid([1])",
        "import numpy as np\nnp.bool",
        "import numpy\nnumpy.linalg.vector_norm(x)",
        "from numpy import unique_values",
        "import numpy as np\nnp.array(x, copy=None)",
        "import numpy as np\nnp.asarray(x, copy=False)",
        "import numpy as np\nnp.trapz([1])",
        "from numpy.strings import upper",
    ],
)
def test_words_of_one_numpy_only_are_noticed(source: str) -> None:
    assert numpyMisuse(source)


def test_the_lists_of_words_are_right_for_the_numpy_that_is_here() -> None:
    import numpy as np

    # Not dir(): libraries that other tests have imported put old words such as Inf back.
    places = (np.__all__, np.linalg.__all__)
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        assert [n for n in NUMPY_1_ONLY if any(n in place for place in places)] == []
    else:
        assert [n for n in NUMPY_2_ONLY if any(n in place for place in places)] == []
