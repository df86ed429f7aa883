"""The nodes of one result, how they know each other, and what they remember: all of it is saved with the scene.

The segmentation node is the head: it refers to the table, the volumes, the scans and the result before this one, and
its attributes hold the numbers of the decision. Nothing that a loaded scene needs lives in Python only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import slicer
import vtk

from strokeseg.models import ModelCard
from strokeseg.postprocess import peak_at

# Node reference roles and attributes; they are in people's saved scenes and stay as they are.
TABLE, PROBABILITY, UNCERTAINTY = "StrokeSeg.table", "StrokeSeg.probability", "StrokeSeg.uncertainty"
REFERENCE, PREVIOUS, IMAGE = "StrokeSeg.reference", "StrokeSeg.previous", "StrokeSeg.image."
KIND, MEMORY = "StrokeSeg.Result", "StrokeSeg.Memory"
CURRENT, EARLIER, PART = "current", "previous", "part"
CLASS_TAG = "StrokeSeg.Class"
# Nodes besides the segmentation: reference role to class.
PARTS = {
    TABLE: "vtkMRMLTableNode",
    PROBABILITY: "vtkMRMLScalarVolumeNode",
    UNCERTAINTY: "vtkMRMLScalarVolumeNode",
}


@dataclass
class ResultNodes:
    """The nodes of a result; those that the user deleted, or that the model does not give, are None.

    Attributes:
        segmentation: vtkMRMLSegmentationNode.
        table: vtkMRMLTableNode with a row a lesion.
        probability: vtkMRMLScalarVolumeNode, 0 to 1.
        uncertainty: The same, where it was asked for.
    """

    segmentation: Any
    table: Any = None
    probability: Any = None
    uncertainty: Any = None

    @classmethod
    def of(cls, segmentation: Any) -> ResultNodes:
        """The result that a segmentation node of ours heads, as it is in the scene now."""
        return cls(segmentation, *(segmentation.GetNodeReference(role) for role in (TABLE, PROBABILITY, UNCERTAINTY)))

    @property
    def alive(self) -> bool:
        """Whether the segmentation node is still in a scene."""
        return self.segmentation.GetScene() is not None

    @property
    def reference(self) -> Any:
        """The volume on whose grid the result lies; None where it was deleted."""
        return self.segmentation.GetNodeReference(REFERENCE)

    @property
    def previous(self) -> ResultNodes | None:
        """The hidden result that this one replaced."""
        node = self.segmentation.GetNodeReference(PREVIOUS)
        return None if node is None else ResultNodes.of(node)

    def image(self, role: str) -> Any:
        """The scan of this role that the result was made from; None where it is not at hand."""
        return self.segmentation.GetNodeReference(IMAGE + role)

    def parts(self) -> dict[str, Any]:
        """Reference role to node, of the nodes besides the segmentation that are there."""
        named = {TABLE: self.table, PROBABILITY: self.probability, UNCERTAINTY: self.uncertainty}
        return {role: node for role, node in named.items() if node is not None}


@dataclass(frozen=True)
class Memory:
    """What a result remembers of the run that made it, and of the decision that is shown.

    Attributes:
        model: Name of the model.
        title: Its title.
        version: Its version.
        rule: ``threshold``, ``cascade`` (a threshold that the case decides) or ``argmax``.
        threshold: Of the mask that is shown.
        minimum_ml: Of the mask that is shown.
        model_threshold: What "reset to the model's" goes back to.
        model_minimum_ml: The same.
        midplane: Of the brain, as `placement.localCovector` gives it for the probability map's voxels.
        adc_factor: Multiply the ADC volume by this to have 1e-3 mm²/s; None: not known.
        warnings: What the reader of the result must know.
        synthetic: The patient is simulated.
        engine: Version of the engine.
        model_peak: What lesions must reach at the model's threshold, see `strokeseg.postprocess.peak_at`; 0: nothing.
    """

    model: str
    title: str
    version: str
    rule: str
    threshold: float
    minimum_ml: float
    model_threshold: float
    model_minimum_ml: float
    midplane: tuple[float, ...] = ()
    adc_factor: float | None = None
    warnings: tuple[str, ...] = field(default=())
    synthetic: bool = False
    engine: str = ""
    model_peak: float = 0.0

    @property
    def peak(self) -> float:
        """What lesions must reach at the threshold of the mask that is shown; 0: nothing."""
        return peak_at(self.threshold, own_threshold=self.model_threshold, own_peak=self.model_peak)

    @classmethod
    def ofRun(cls, summary: Mapping[str, Any], card: ModelCard, midplane: tuple[float, ...]) -> Memory:
        """From the content of a run's summary.json and the model's card."""
        used = summary["model"]
        units = [f["numbers"]["factor"] for f in summary.get("findings", ()) if f["code"] == "adc_unit"]
        return cls(
            model=used["name"],
            title=used["title"],
            version=used["version"],
            rule=used["rule"],
            threshold=float(used["threshold"]),
            minimum_ml=float(used["minimum_lesion_ml"]),
            model_threshold=float(used["own_threshold"]),
            model_minimum_ml=card.minimum_lesion_ml,
            midplane=midplane,
            adc_factor=float(units[0]) if units else None,
            warnings=tuple(w["message"] for w in summary["warnings"]),
            synthetic=bool(summary.get("synthetic", False)),
            engine=summary["strokeseg_version"],
            model_peak=float(used.get("own_peak", 0.0)),
        )

    @classmethod
    def read(cls, segmentation: Any) -> Memory | None:
        """What a segmentation node remembers; None where it is none of ours or was made by another format of it."""
        text = segmentation.GetAttribute(MEMORY)
        if not text:
            return None
        try:
            known = {f.name for f in fields(cls)}
            kept: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(text).items() if k in known
            }
            return cls(**kept)
        except (ValueError, TypeError, AttributeError):
            return None

    def write(self, segmentation: Any) -> None:
        """Keep these in a segmentation node."""
        segmentation.SetAttribute(MEMORY, json.dumps(asdict(self)))


def isOurs(node: Any) -> bool:
    """Whether a node is part of a result, and hence no input."""
    return bool(node.GetAttribute(KIND))


def nodesOf(className: str, scene: Any = None) -> list[Any]:
    """All nodes of a class in a scene; None: Slicer's, the only one that `slicer.util.getNodesByClass` looks at."""
    where = slicer.mrmlScene if scene is None else scene
    return [where.GetNthNodeByClass(n, className) for n in range(where.GetNumberOfNodesByClass(className))]


def results(scene: Any = None) -> list[ResultNodes]:
    """All current results of a scene, in the order of their making."""
    found = nodesOf("vtkMRMLSegmentationNode", scene)
    return [ResultNodes.of(node) for node in found if node.GetAttribute(KIND) == CURRENT]


def resultFor(referenceNode: Any, scene: Any = None) -> ResultNodes | None:
    """The current result on this volume."""
    for nodes in reversed(results(scene)):
        if nodes.reference is not None and nodes.reference.GetID() == referenceNode.GetID():
            return nodes
    return None


def ownSegments(segmentation: Any) -> Iterator[tuple[str, int]]:
    """Id and class of every segment that a run of ours made; what the user added is not among them."""
    inside = segmentation.GetSegmentation()
    for number in range(inside.GetNumberOfSegments()):
        value = tagOf(inside.GetNthSegment(number), CLASS_TAG)
        if value.isdecimal():
            yield inside.GetNthSegmentID(number), int(value)


def tagOf(segment: Any, name: str) -> str:
    """A segment's tag; "" where it has none."""
    value = vtk.mutable("")
    return str(value) if segment.GetTag(name, value) else ""
