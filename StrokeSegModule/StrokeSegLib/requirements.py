"""What the worker's Python must have, what of it is missing, and the command that installs it.

Nothing is installed here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from slicer.i18n import tr as _

from . import engine_path

# Name to import -> what pip is asked for; the same as in pyproject.toml.
REQUIREMENTS = {
    "numpy": "numpy>=1.26",
    "scipy": "scipy>=1.11",
    "nibabel": "nibabel>=5.2",
    "SimpleITK": "SimpleITK>=2.3",
    "openvino": "openvino>=2025.4",
    "safetensors": "safetensors>=0.4.3",
    "platformdirs": "platformdirs>=4.0",
    "psutil": "psutil>=5.9",
    "matplotlib": "matplotlib>=3.8",
    "PIL": "pillow>=10.1",
    "jinja2": "jinja2>=3.1.2",
    "typer": "typer>=0.12",
    "rich": "rich>=13.0",
}
# openvino's last version for Slicer on macOS declares numpy < 2.4, though it runs on newer ones: with its dependencies
# pip would replace the numpy that Slicer itself has loaded.
_WITHOUT_DEPENDENCIES = ("openvino",)
ENGINE = "strokeseg"
_PROBE_SECONDS = 60.0
# Really imported, for half-installed packages look installed; openvino and PIL open their own libraries on import,
# openvino also looks for a companion that reports the import over the network, which must not happen.
_PROBE = """
import importlib, json, sys
sys.modules["openvino_telemetry"] = None
missing = []
for name in json.loads(sys.argv[1]):
    try:
        importlib.import_module(name)
    except Exception:
        missing.append(name)
print("\\nmissing:" + json.dumps(missing))
"""


def missing(pythonPath: str | None = None) -> list[str]:
    """Names to import that fail in the worker's Python; empty when the worker can run.

    Starts a process of that Python and waits for it, a few seconds at first; a Python with everything is asked once.

    Args:
        pythonPath: The Python that the user chose; None or "": Slicer's own.

    Returns:
        Names as they are imported, ``strokeseg`` among them; all of them when this Python cannot be started.
    """
    chosen = pythonPath or ""
    command = str(engine_path.pythonExecutable(chosen))
    if command in _complete:
        return []
    found = _ask(command, chosen)
    if not found:
        _complete.add(command)
    return found


def missingHere() -> list[str]:
    """Names to import that this very Python does not find; looks for them only, without importing: milliseconds."""
    return [name for name in (*REQUIREMENTS, ENGINE) if name not in sys.modules and find_spec(name) is None]


def consoleCommand(names: list[str] | None = None) -> str:
    """The line for Slicer's Python console that installs what is missing in Slicer's own Python.

    Args:
        names: Names to import, as `missing` gives them; None: those that this Python does not find.
    """
    names = missingHere() if names is None else names
    bare = [REQUIREMENTS[name] for name in names if name in _WITHOUT_DEPENDENCIES]
    if (place := engine_path.extensionFolder()) is not None:
        bare.append(str(place))
    full = [REQUIREMENTS[name] for name in names if name in REQUIREMENTS and name not in _WITHOUT_DEPENDENCIES]
    calls = [f"slicer.util.pip_install({full!r})"] if full else []
    # Where a part of Slicer is no pip package, --no-deps leaves it alone.
    calls += [f"slicer.util.pip_install({['--no-deps', *bare]!r})"] if bare else []
    return "; ".join(calls)


def terminalCommand(pythonPath: str) -> str:
    """The line for a terminal that installs the engine with all it needs into a Python that the user chose."""
    place = engine_path.extensionFolder()
    packages = [f'"{place}"'] if place is not None else [f'"{text}"' for text in REQUIREMENTS.values()]
    return " ".join([f'"{Path(pythonPath)}"', "-m", "pip", "install", *packages])


def howToInstall(names: list[str], pythonPath: str | None = None) -> str:
    """The sentence that tells the user what to do about missing names."""
    if pythonPath:
        text = _("Type this in a terminal, then try again: {command}")
        return text.format(command=terminalCommand(pythonPath))
    return _("Paste this line into Slicer's Python console, then try again: {command}").format(
        command=consoleCommand(names)
    )


_complete: set[str] = set()


def _ask(command: str, chosen: str) -> list[str]:
    names = [*REQUIREMENTS, ENGINE]
    try:
        done = subprocess.run(
            [command, "-c", _PROBE, json.dumps(names)],
            env=engine_path.workerEnvironment(chosen),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=False,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        answer = done.stdout.decode("utf-8", "replace").rpartition("\nmissing:")[2]
        found = json.loads(answer)
    except (OSError, ValueError, subprocess.TimeoutExpired):  # no Python, or one that does not answer
        return names
    return [str(name) for name in found]
