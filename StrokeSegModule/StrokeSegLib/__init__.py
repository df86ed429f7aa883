"""The panel's parts: the only place that talks to Slicer and Qt.

``from StrokeSegLib import segmentVolumes`` is what scripts use (see `StrokeSegLib.console_api`). Nothing is imported
before it is used, so that the module loads in a Slicer that has none of StrokeSeg's packages.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from StrokeSegLib.console_api import Result, closeWorker, segmentVolumes

__all__ = ["Result", "closeWorker", "segmentVolumes"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("StrokeSegLib.console_api"), name)
    raise AttributeError(f"module 'StrokeSegLib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
