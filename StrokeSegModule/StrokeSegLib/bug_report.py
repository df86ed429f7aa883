"""Details for a bug report, without names of patients, volumes or folders."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import slicer

from .panel_logic import PanelLogic
from .result_nodes import nodesOf

OPTIONS = ("model", "device", "precision", "strategy", "windowX", "windowY", "windowZ", "overlapPercent", "tta")
_LAST_LINES = 60
# Whatever looks like a path: names of folders are often those of patients.
_PATH = re.compile(r"(?:[A-Za-z]:)?(?:[/\\][^\s/\\'\":;,]+){2,}[/\\]?")


def details(logic: PanelLogic, options: Mapping[str, Any]) -> str:
    """Versions, choices, devices, the last error and the end of the log, as plain text."""
    from strokeseg import __version__

    greeting = logic.run.link.greeting or {}
    chosen = "own choice" if logic.settings.value("pythonExecutable") else "Slicer's"
    devices = "; ".join(
        f"{d.get('name')} {d.get('title')} {d.get('memory_total_mb')} MB" for d in greeting.get("devices", ())
    )
    rows = {
        "StrokeSeg": __version__,
        "Slicer": f"{slicer.app.majorVersion}.{slicer.app.minorVersion} revision {slicer.app.revision}",
        "System": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Python": f"{sys.version.split()[0]}, worker: {chosen}",
        "Worker": f"{greeting.get('version', 'not asked')}, runtimes {greeting.get('runtimes', '-')}",
        "Devices": devices or "not asked",
        "Missing": ", ".join(logic.missing) or "nothing known",
        "Choices": ", ".join(f"{name}={value}" for name, value in options.items()),
        "Models": ", ".join(f"{c.name} {c.version}" for c in logic.models.cards.values()),
        "Error": " ".join(logic.run.error or ("none",)),
        "Warnings": " ".join(logic.run.warnings) or "none",
    }
    head = [f"{name}: {value}" for name, value in rows.items()]
    return withoutNames("\n".join([*head, "Log:", *list(logic.run.log)[-_LAST_LINES:]]))


def withoutNames(text: str) -> str:
    """The text without names of nodes, paths and the user."""
    nodes = [*nodesOf("vtkMRMLStorableNode"), *nodesOf("vtkMRMLSubjectHierarchyNode")]
    names = {node.GetName() or "" for node in nodes if not node.GetHideFromEditors()} | _hierarchyNames()
    for name in sorted(names, key=len, reverse=True):
        # Shorter ones are parts of words.
        if len(name) > 2:
            text = text.replace(name, "[name]")
    text = _PATH.sub("[path]", text)
    return text.replace(Path.home().name, "[user]") if len(Path.home().name) > 2 else text


def _hierarchyNames() -> set[str]:
    """Patients and studies as they stand in the subject hierarchy."""
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    if tree is None:
        return set()
    import vtk

    found = vtk.vtkIdList()
    tree.GetItemChildren(tree.GetSceneItemID(), found, True)
    return {tree.GetItemName(found.GetId(n)) for n in range(found.GetNumberOfIds())}
