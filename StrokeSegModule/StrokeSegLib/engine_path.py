"""Where the engine and its Python are, for the panel's own imports and for the worker's process.

Standard library only; Slicer is asked where there is one.
"""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from slicer.i18n import tr as _

_HERE = Path(__file__).resolve().parent
# The interpreter itself before its launcher, as Slicer starts its own scripted command-line modules: in the environment
# of a running Slicer it needs no launcher. That would stand between the panel and the worker's standard input, and put
# the packages that are installed in Slicer in front of the module's own engine.
_SLICERS_PYTHONS = ("python-real", "PythonSlicer")
# Of Slicer's variables those that lead another Python to Slicer's own libraries.
_SLICERS_OWN = ("PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def folder() -> Path:
    """The folder that holds the package ``strokeseg``.

    The module's own engine comes first, so that the panel and its worker are of one version: beside the module (an
    installed extension), then ``StrokeSegExtension`` of a checkout; else the one that Python finds.

    Raises:
        FileNotFoundError: There is none.
    """
    own = ownFolder()
    if own is not None:
        return own
    spec = find_spec("strokeseg")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            _(
                "The engine of StrokeSeg is missing: no folder 'strokeseg' beside the module, in 'StrokeSegExtension', "
                "or among Python's packages. Install StrokeSeg again."
            )
        )
    return Path(next(iter(spec.submodule_search_locations))).resolve().parent


def ownFolder() -> Path | None:
    """The folder of the engine that came with this module; None when it came alone."""
    for place in (_HERE.parent, _HERE.parent.parent / "StrokeSegExtension"):
        if (place / "strokeseg" / "__init__.py").is_file():
            return place
    return None


def extensionFolder() -> Path | None:
    """The folder that pip can install the engine from: a checkout; None in an installed extension."""
    root = _HERE.parent.parent
    return root if ownFolder() == root / "StrokeSegExtension" and (root / "pyproject.toml").is_file() else None


def add() -> None:
    """Make ``import strokeseg`` find the engine of `folder`."""
    place = str(folder())
    if "strokeseg" not in sys.modules and place not in sys.path:
        # In front: another version among Python's packages shall not answer for the module's own.
        sys.path.insert(0, place)


def pythonExecutable(chosen: str = "") -> Path:
    """The Python that runs the worker.

    Args:
        chosen: The user's choice; "": Slicer's own.

    Raises:
        FileNotFoundError: The chosen one is not there, or Slicer's own was not found; the text is for the user.
    """
    if chosen:
        path = Path(chosen).expanduser()
        if not path.is_file():
            text = _("The chosen Python '{path}' is not there. Choose another one, or leave it empty.")
            raise FileNotFoundError(text.format(path=chosen))
        return path
    for name in _SLICERS_PYTHONS:
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    if sys.executable and Path(sys.executable).stem.lower().startswith("python"):
        return Path(sys.executable)
    raise FileNotFoundError(_("Slicer's Python was not found. Choose a Python in which StrokeSeg is installed."))


def workerCommand(chosen: str = "") -> list[str]:
    """The command that starts the worker; raises as `pythonExecutable` does."""
    return [str(pythonExecutable(chosen)), "-m", "strokeseg", "worker"]


def workerEnvironment(chosen: str = "") -> dict[str, str]:
    """All variables for a process of the worker's Python.

    Args:
        chosen: The Python that the user chose; it gets the environment in which Slicer was started, for Slicer's own
            libraries must not reach it. "": Slicer's own Python, in Slicer's environment.
    """
    environment = _startupEnvironment() if chosen else dict(os.environ)
    # Only an engine that came with the module: a folder of packages made for one Python spoils another.
    own = ownFolder()
    if own is not None:
        rest = environment.get("PYTHONPATH", "")
        environment["PYTHONPATH"] = os.pathsep.join([str(own), rest] if rest else [str(own)])
    environment.update(PYTHONNOUSERSITE="1", PYTHONUTF8="1", PYTHONUNBUFFERED="1")
    return environment


def _startupEnvironment() -> dict[str, str]:
    try:
        import slicer.util

        return dict(slicer.util.startupEnvironment())
    except (ImportError, AttributeError):  # no Slicer, or no application around it
        return {name: value for name, value in os.environ.items() if name not in _SLICERS_OWN}
