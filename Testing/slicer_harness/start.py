"""Starts the test double: after `start()` a program may import slicer, qt and ctk and load a scripted module.

One QApplication lives as long as the process; every `start()` gives a new empty scene, fresh settings and an own
folder, and `stop()` ends it. Two environments at the same time are not possible, as there is one `slicer.app`.
"""

from pathlib import Path

from slicer_harness import doubles
from slicer_harness.environment import SlicerEnvironment

_running: SlicerEnvironment | None = None


def start(folder: Path | str, *, main_window: bool = True, testing: bool = True) -> SlicerEnvironment:
    """Start an empty Slicer double.

    Args:
        folder: An existing empty folder for everything that is written.
        main_window: False as with `--no-main-window`: no layout manager, no slice views, `slicer.util.mainWindow()` is
        None. testing: What `slicer.app.testingEnabled()` says; True keeps `slicer.util` from opening message boxes.
    """
    global _running  # noqa: PLW0603 - one QApplication, one environment
    if _running is not None:
        _running.stop()
    doubles.offer()
    _running = SlicerEnvironment(Path(folder), main_window=main_window, testing=testing)
    return _running
