"""The module ring: the real panel against slicer-core's real MRML and the test double of Slicer's application.

Needs the extra `module-tests` (slicer-core, PySide6). Where it is missing every test of this folder is skipped, loudly;
with CI=true, as in continuous integration, it is a failure instead.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HARNESS = ROOT / "Testing"
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
if str(HARNESS) not in sys.path:
    sys.path.append(str(HARNESS))


def _missing() -> str:
    reasons = []
    for name in ("slicer", "PySide6.QtWidgets"):
        try:
            __import__(name)
        except ImportError as error:
            reasons.append(f"{name}: {error}")
    return "; ".join(reasons)


_REASON = _missing()
_REQUIRED = os.environ.get("CI") == "true"
_SENTENCE = (
    "The module tests need slicer-core and PySide6 (pip install '.[module-tests]'; on Debian also libegl1 and libgl1): "
    + _REASON
)
if _REASON and _REQUIRED:
    raise RuntimeError(_SENTENCE)
if _REASON:
    sys.stderr.write(f"\nNOT RUN: {_SENTENCE}\n")
    collect_ignore_glob = ["test_*.py"]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say once more at the end what was not run."""
    if _REASON:
        terminalreporter.write_line(f"NOT RUN: {_SENTENCE}", red=True)


@pytest.fixture
def slicerEnvironment(tmp_path: Path) -> Iterator[Any]:
    """A fresh, empty Slicer double with main window; fails the test when a slot let an exception through."""
    yield from _environment(tmp_path, main_window=True)


@pytest.fixture
def headlessSlicer(tmp_path: Path) -> Iterator[Any]:
    """As `slicerEnvironment`, started without main window."""
    yield from _environment(tmp_path, main_window=False)


def _environment(folder: Path, *, main_window: bool) -> Iterator[Any]:
    if _REASON:
        pytest.skip(_SENTENCE)
    from slicer_harness import dialogs
    from slicer_harness.start import start

    home = folder / "slicer double"
    home.mkdir()
    environment = start(home, main_window=main_window)
    environment.takeUnhandled()
    yield environment
    environment.stop()
    unasked, unhandled = dialogs.forget(), environment.takeUnhandled()
    assert not unasked, f"planned answers nobody asked for: {unasked}"
    assert not unhandled, f"slots let exceptions through: {unhandled!r}"
