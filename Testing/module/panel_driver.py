"""Opens the panel in the double of Slicer and does what a user does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "StrokeSegModule"
UI_FILE = MODULE / "Resources" / "UI" / "StrokeSeg.ui"
SECONDS = 120.0
AUTOMATIC = "auto"
# Needs no weights, so that no figure changes with those that are bundled.
RULE = "adc-threshold"


def openPanel(environment: Any, model: str = RULE) -> Any:
    """Load the module anew and enter it; the Python widget.

    Args:
        environment: The double of Slicer.
        model: What is chosen where nothing was; "auto" leaves the choice to the panel, that is to the weights at hand.
    """
    forget()
    environment.loadModule(MODULE / "StrokeSeg.py")
    environment.announceStartup()
    widget = environment.openModule("StrokeSeg")
    if widget.panel is not None and widget.panel.parameters is not None and widget.panel.parameters.model == AUTOMATIC:
        widget.panel.parameters.model = model
    environment.processEvents()
    return widget


def forget() -> None:
    """As in a Slicer that was just started."""
    for name in [n for n in sys.modules if n.partition(".")[0] == "StrokeSegLib"]:
        del sys.modules[name]


def tryIt(environment: Any, widget: Any) -> None:
    """Press Try it and wait for the end."""
    widget.ui.tryButton.click()
    finish(environment, widget)


def finish(environment: Any, widget: Any) -> None:
    """Wait for the end of the run, and until all is shown."""
    environment.waitUntil(lambda: not widget.panel.logic.run.busy, SECONDS)
    environment.processEvents(0.05)


def volume(name: str, array: Any = None, spacing: float = 2.0) -> Any:
    """A volume node of the scene."""
    import slicer

    voxels = np.ones((4, 5, 6), np.float32) if array is None else array
    return slicer.util.addVolumeFromArray(voxels, ijkToRAS=np.diag([spacing, spacing, spacing, 1.0]), name=name)
