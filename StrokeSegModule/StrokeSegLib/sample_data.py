"""The synthetic patient in Slicer's Sample Data, and loaded at once for "Try it": from the extension's own files.

The patient is simulated; nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from strokeseg.errors import InputError
from strokeseg.resources import resource_path

from .result_nodes import nodesOf

CATEGORY = "StrokeSeg"
SAMPLE = "StrokeSegSyntheticPatient"
ROLES = ("dwi", "adc", "t1")
# Of the pictures of results none is installed.
_ICON = Path(__file__).resolve().parents[1] / "Resources" / "Icons" / "StrokeSeg.png"
SYNTHETIC, B_VALUE = "StrokeSeg.Synthetic", "StrokeSeg.BValue"


def nodeNames() -> dict[str, str]:
    """Role to the name that the volume gets; every name says that the patient is none."""
    return {role: f"synthetic {role.upper()}" for role in ROLES}


def register() -> None:
    """Offer the patient in the module Sample Data; twice does no harm.

    Raises:
        DependencyError: The files are missing.
    """
    import SampleData

    files = [_file(role) for role in ROLES]
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=SAMPLE,
        uris=[file.as_uri() for file in files],
        # Slicer copies them into one folder for the samples of all modules.
        fileNames=[f"{SAMPLE}-{file.name}" for file in files],
        nodeNames=list(nodeNames().values()),
        checksums=[f"SHA256:{hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files],
        loadFileType="VolumeFile",
        thumbnailFileName=str(_ICON),
    )


def load() -> dict[str, Any]:
    """Load the patient into the scene; volumes that are there from an earlier call are taken again.

    Returns:
        Role to volume node. Their attributes tell that the patient is simulated, and the b-value of the DWI.

    Raises:
        DependencyError: The files are missing.
        InputError: Slicer cannot read them.
    """
    known = json.loads(resource_path("Samples", "synthetic-patient", "sample.json").read_text(encoding="utf-8"))
    return {role: _loaded(role, known["b_value_s_per_mm2"]) for role in ROLES}


def _loaded(role: str, bValue: float) -> Any:
    for node in nodesOf("vtkMRMLScalarVolumeNode"):
        if node.GetAttribute(SYNTHETIC) == role and node.GetImageData() is not None:
            return node
    path = _file(role)
    try:
        node = slicer.util.loadVolume(str(path), {"name": nodeNames()[role], "show": False, "singleFile": True})
    except RuntimeError as error:
        raise InputError(
            _("The synthetic patient cannot be loaded."),
            _("Slicer could not read '{file}'.").format(file=path.name),
            _("Install StrokeSeg again; the log has the details."),
        ) from error
    # As Slicer does with its own samples: saving the scene must not write into the extension's folder.
    storage = node.GetStorageNode()
    if storage is not None:
        slicer.mrmlScene.RemoveNode(storage)
        node.SetAndObserveStorageNodeID(None)
    node.SetAttribute(SYNTHETIC, role)
    if role == "dwi":
        node.SetAttribute(B_VALUE, f"{bValue:g}")
    return node


def _file(role: str) -> Path:
    return resource_path("Samples", "synthetic-patient", f"{role}.nii.gz")
