"""StrokeSeg: stroke lesion segmentation in brain MRI. Research use only, not a medical device.

Public API: `Case`, `segment`, `Segmentation`, `list_models`, `evaluate`, `Metrics`. Everything is imported when it
is first used, so that the panel can import `strokeseg.checks` or `strokeseg.lesions` where only numpy and scipy are
installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from strokeseg.case import Case
    from strokeseg.evaluation import evaluate
    from strokeseg.metrics import Metrics
    from strokeseg.models import list_models
    from strokeseg.segmentation import Segmentation, segment

__all__ = ["Case", "Metrics", "Segmentation", "__version__", "evaluate", "list_models", "segment"]

_HOME = {
    "Case": "strokeseg.case",
    "Metrics": "strokeseg.metrics",
    "Segmentation": "strokeseg.segmentation",
    "evaluate": "strokeseg.evaluation",
    "list_models": "strokeseg.models",
    "segment": "strokeseg.segmentation",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'strokeseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
