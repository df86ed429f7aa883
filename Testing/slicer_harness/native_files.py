"""Double of qSlicerCoreIOManager: reads and writes with the scene's own storage nodes."""

from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore
from PySide6.QtCore import Signal

_VOLUMES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
_TABLES = (".csv", ".tsv")


def _stem(path: str) -> str:
    name = Path(path).name
    for extension in (".seg.nrrd", ".nii.gz"):
        if name.lower().endswith(extension):
            return name[: -len(extension)]
    return Path(name).stem


class qSlicerCoreIOManager(QtCore.QObject):
    """Loads and saves volumes, segmentations, tables and scenes; everything else it does not know."""

    newFileLoaded = Signal(object)

    def fileType(self, path: str) -> str:
        lower = path.lower()
        if lower.endswith((".mrml", ".mrb")):
            return "SceneFile"
        if lower.endswith(".seg.nrrd"):
            return "SegmentationFile"
        if lower.endswith(_TABLES):
            return "TableFile"
        return "VolumeFile" if lower.endswith(_VOLUMES) else "NoFile"

    def loadNodes(self, kind: str, properties: dict[str, Any], loaded: Any = None, messages: Any = None) -> bool:
        path = str(properties["fileName"])
        if not Path(path).is_file():
            return False
        if kind == "SceneFile":
            return self._load_scene(path, clear=bool(properties.get("clear", False)))
        readers = {"VolumeFile": self._volume, "SegmentationFile": self._segmentation, "TableFile": self._table}
        node = readers[kind](path, properties) if kind in readers else None
        if node is None:
            return False
        if loaded is not None:
            loaded.AddItem(node)
        return True

    def _load_scene(self, path: str, *, clear: bool) -> bool:
        scene = slicer.mrmlScene
        if path.lower().endswith(".mrb"):
            return bool(scene.ReadFromMRB(path, clear))
        scene.SetURL(path)
        return bool(scene.Connect() if clear else scene.Import())

    def _volume(self, path: str, properties: dict[str, Any]) -> Any:
        logic = slicer.modules.volumes.logic()
        options = (1 if properties.get("labelmap") else 0) | (8 if properties.get("singleFile") else 0)
        node = logic.AddArchetypeVolume(path, properties.get("name") or _stem(path), options)
        if node is not None and properties.get("show", True) and not properties.get("labelmap"):
            app_logic = slicer.app._native.applicationLogic()
            if app_logic.GetSelectionNode() is not None:
                app_logic.GetSelectionNode().SetActiveVolumeID(node.GetID())
                app_logic.PropagateVolumeSelection()
        return node

    def _read(self, kind: str, path: str, properties: dict[str, Any]) -> Any:
        node = slicer.mrmlScene.AddNewNodeByClass(kind, properties.get("name") or _stem(path))
        node.AddDefaultStorageNode(path)
        if not node.GetStorageNode().ReadData(node):
            slicer.mrmlScene.RemoveNode(node)
            return None
        if hasattr(node, "CreateDefaultDisplayNodes"):
            node.CreateDefaultDisplayNodes()
        return node

    def _segmentation(self, path: str, properties: dict[str, Any]) -> Any:
        return self._read("vtkMRMLSegmentationNode", path, properties)

    def _table(self, path: str, properties: dict[str, Any]) -> Any:
        return self._read("vtkMRMLTableNode", path, properties)

    def fileWriterFileType(self, node: Any) -> str:
        return "NodeFile" if isinstance(node, slicer.vtkMRMLStorableNode) else "NoFile"

    def saveNodes(self, kind: str, properties: dict[str, Any], messages: Any = None) -> bool:
        path = str(properties["fileName"])
        scene = slicer.mrmlScene
        if kind != "SceneFile":
            node = scene.GetNodeByID(properties["nodeID"])
            node.AddDefaultStorageNode(path)
            node.GetStorageNode().SetFileName(path)
            return bool(node.GetStorageNode().WriteData(node))
        if path.lower().endswith(".mrb"):
            return bool(scene.WriteToMRB(path, None))
        if path.lower().endswith(".mrml"):
            scene.SetURL(path)
            return bool(scene.Commit(path))
        return bool(scene.SaveSceneToSlicerDataBundleDirectory(path, None))

    def extractKnownExtension(self, path: str, _node: Any) -> str:
        known = (".seg.nrrd", *_VOLUMES, *_TABLES)
        return next((extension for extension in known if path.lower().endswith(extension)), Path(path).suffix)

    def fileWriterExtensions(self, node: Any) -> list[str]:
        storage = node.CreateDefaultStorageNode()
        formats = storage.GetSupportedWriteFileTypes()
        told = [formats.GetValue(i) for i in range(formats.GetNumberOfValues())]
        # The wheel's storage node of volumes names none, although it writes them.
        return told or [f"Volume ({extension})" for extension in _VOLUMES]

    def exportNodes(
        self, node_ids: list[str], paths: list[str], _properties: Any, harden: bool, _messages: Any = None
    ) -> bool:
        if harden:
            raise NotImplementedError("exporting in world coordinates is not doubled")
        for node_id, path in zip(node_ids, paths, strict=True):
            node = slicer.mrmlScene.GetNodeByID(node_id)
            storage = node.CreateDefaultStorageNode()
            slicer.mrmlScene.AddNode(storage)
            storage.SetFileName(path)
            ok = storage.WriteData(node)
            slicer.mrmlScene.RemoveNode(storage)
            if not ok:
                return False
        return True
