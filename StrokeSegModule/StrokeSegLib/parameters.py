"""The parameter node: what belongs to a study and is saved with the scene.

What is shown (threshold, opacity, ...) is not here: the result's own nodes hold it. What belongs to the computer is in
`settings`.
"""

from enum import Enum
from typing import Annotated, Any

import slicer
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

ROLES = ("dwi", "adc", "t1", "flair", "b0")
AUTOMATIC = "auto"


class Precision(Enum):
    """How numbers are held during the computation; values are the engine's words."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"

    @staticmethod
    def label(member: "Precision") -> str:
        """What the user reads."""
        texts = {
            "fp32": _("fp32 (exact)"),
            "bf16": _("bf16 (faster on some CPUs)"),
            "fp16": _("fp16 (faster on a GPU)"),
        }
        return texts[member.value]


class Strategy(Enum):
    """How the volume is handed to the network; values are the engine's words."""

    AUTO = "auto"
    WHOLE = "whole"
    WINDOWS = "windows"
    SLICES = "slices"

    @staticmethod
    def label(member: "Strategy") -> str:
        """What the user reads."""
        texts = {
            "auto": _("the model's"),
            "whole": _("the whole brain at once"),
            "windows": _("in windows"),
            "slices": _("slice by slice"),
        }
        return texts[member.value]


@parameterNodeWrapper
class StrokeSegParameterNode:
    """Typed view of the scene's parameter node; names are in people's saved scenes and stay as they are."""

    dwi: slicer.vtkMRMLScalarVolumeNode
    adc: slicer.vtkMRMLScalarVolumeNode
    t1: slicer.vtkMRMLScalarVolumeNode
    flair: slicer.vtkMRMLScalarVolumeNode
    b0: slicer.vtkMRMLScalarVolumeNode
    result: slicer.vtkMRMLSegmentationNode
    model: str = AUTOMATIC
    device: str = AUTOMATIC
    precision: Precision = Precision.FP32
    strategy: Strategy = Strategy.AUTO
    # 0: the model's.
    windowX: Annotated[int, WithinRange(0, 2048)] = 0
    windowY: Annotated[int, WithinRange(0, 2048)] = 0
    windowZ: Annotated[int, WithinRange(0, 2048)] = 0
    # -1: the model's.
    overlapPercent: Annotated[int, WithinRange(-1, 90)] = -1
    tta: bool = False
    uncertainty: bool = False


# Views are never let go: they observe their nodes, and Python's collector does not see that a node, which lives in the
# scene, still calls them. There is one a scene.
_views: list[Any] = []


def typed(node: Any) -> Any:
    """The typed view of a scene's parameter node, the same one for the same node."""
    for view in _views:
        if view.parameterNode is node:
            node.Modified()  # nodes that it names may have come after it, when a scene was loaded
            return view
    make: Any = StrokeSegParameterNode
    _views.append(make(node))
    return _views[-1]


def nodesByRole(parameters: Any) -> dict[str, Any]:
    """Role to the volume node that is chosen for it; roles without one are left out."""
    found = {role: getattr(parameters, role) for role in ROLES}
    return {role: node for role, node in found.items() if node is not None}


def engineOptions(parameters: Any) -> dict[str, Any]:
    """The engine's options of a run, without those that are at their default; the model is named by the caller."""
    window = windowOf(parameters)
    options = {
        "device": None if parameters.device == AUTOMATIC else parameters.device,
        "precision": None if parameters.precision is Precision.FP32 else parameters.precision.value,
        "strategy": None if parameters.strategy is Strategy.AUTO else parameters.strategy.value,
        "window": list(window) if all(window) else None,
        "overlap": None if parameters.overlapPercent < 0 else parameters.overlapPercent / 100,
        "tta": parameters.tta or None,
        "uncertainty": parameters.uncertainty or None,
    }
    return {name: value for name, value in options.items() if value is not None}


def windowOf(parameters: Any) -> tuple[int, int, int]:
    """Voxels of a window along x, y, z; 0 where it is the model's."""
    return parameters.windowX, parameters.windowY, parameters.windowZ
