"""Which volume is what: roles guessed from DICOM tags and names, and what the engine's checks say before a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from strokeseg.checks import Finding, check_inputs
from strokeseg.errors import InputError
from strokeseg.models import INPUT_ROLES as ROLES
from strokeseg.models import names_no_scan, roles_in_name

from .placement import arrayOf, ijkToWorld
from .result_nodes import isOurs
from .sample_data import B_VALUE

_SERIES, _PROTOCOL, _IMAGE_TYPE, _MODALITY, _B = "0008,103E", "0018,1030", "0008,0008", "0008,0060", "0018,9087"
_SEVERITIES = ("info", "warning", "error")


def guessRole(node: Any) -> str | None:
    """The role of a volume node; None where nothing tells, or tags and name tell several.

    DICOM tags come first: the image type and the b-value say what a scanner made, names what somebody wrote.
    """
    if not isGrey(node) or node.IsA("vtkMRMLLabelMapVolumeNode") or isOurs(node):
        return None
    tags = _dicomTags(node)
    if tags.get(_MODALITY, "MR") not in ("MR", ""):
        return None
    byName = _roleInName(node.GetName() or "")
    if not tags:
        return byName
    byTags = _roleOfTags(tags)
    return byTags or (byName if byTags is None else None)


def guessAll(nodes: Iterable[Any]) -> dict[str, Any]:
    """Role to volume node; of several volumes of a role the one with most voxels, of equal ones the last loaded."""
    found: dict[str, Any] = {}
    for node in nodes:
        role = guessRole(node)
        if role is not None and (role not in found or _voxels(node) >= _voxels(found[role])):
            found[role] = node
    return {role: found[role] for role in ROLES if role in found}


def isGrey(node: Any) -> bool:
    """Whether a node is a volume of one value a voxel; MRML's classes do not tell: a vector volume is a scalar one."""
    if not node.IsA("vtkMRMLScalarVolumeNode"):
        return False
    return node.GetImageData() is None or node.GetImageData().GetNumberOfScalarComponents() == 1


def inputFindings(nodesByRole: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What is to be said under each selector.

    Args:
        nodesByRole: Role to volume node; None where none is chosen.

    Returns:
        Role to (``info``, ``warning`` or ``error``, sentences). What is about a pair of volumes stands at each of it.
    """
    lines: dict[str, tuple[str, str]] = {}
    usable: dict[str, Any] = {}
    for role, node in nodesByRole.items():
        if node is None:
            continue
        if node.GetImageData() is None or node.GetImageData().GetPointData().GetScalars() is None:
            lines[role] = ("error", _("The volume '{name}' is empty. Load it again.").format(name=node.GetName()))
            continue
        if node.GetImageData().GetNumberOfScalarComponents() != 1:
            lines[role] = ("error", _("The volume has several values a voxel. Choose a scalar volume."))
            continue
        try:
            usable[role] = (arrayOf(node), ijkToWorld(node))
        except InputError as error:
            lines[role] = ("error", f"{error.cause} {error.next_step}")
    findings = check_inputs(usable, stated_b=_statedB(nodesByRole.get("dwi")))
    for role, (array, affine) in usable.items():
        about = (role, "") if role in ("dwi", "adc") else (role,)
        lines[role] = _line([f for f in findings if f.role in about], array, affine)
    return lines


def bValue(node: Any) -> float | None:
    """The b-value of a volume in s/mm², from its DICOM tags or from the sample; None where nothing tells."""
    return _statedB(node)


def _line(findings: list[Finding], array: Any, affine: Any) -> tuple[str, str]:
    """The worst findings as sentences; the grid where there is nothing to say."""
    if not findings:
        size = " x ".join(str(n) for n in array.shape)
        spacing = " x ".join(f"{s:.3g}" for s in np.sqrt((np.asarray(affine)[:3, :3] ** 2).sum(axis=0)))
        return "info", _("{size} voxels of {spacing} mm.").format(size=size, spacing=spacing)
    worst = max((f.severity for f in findings), key=_SEVERITIES.index)
    said = [f for f in findings if f.severity == worst]
    return worst, " ".join(f"{f.message} {f.next_step}".strip() for f in said)


def _roleOfTags(tags: Mapping[str, str]) -> str | None:
    """The role that tags tell; "" where they tell that it is no input, None where they tell nothing."""
    text = " ".join((tags.get(_IMAGE_TYPE, ""), tags.get(_SERIES, ""), tags.get(_PROTOCOL, "")))
    if names_no_scan(text):
        return ""
    if roles_in_name(tags.get(_IMAGE_TYPE, "")) == ("adc",):
        return "adc"
    b = _number(tags.get(_B, ""))
    byText = _roleInName(text)
    # Only of diffusion images does a b-value tell which they are; some scanners write 0 into all.
    if b is None or byText in ("adc", "t1", "flair"):
        return byText
    return "b0" if b < 100 else "dwi"


def _roleInName(text: str) -> str | None:
    """The one role that a text tells; None where it tells none, several, or that it is no scan."""
    found = roles_in_name(text)
    return found[0] if len(found) == 1 and found[0] in ROLES else None


def _dicomTags(node: Any) -> dict[str, str]:
    """Tag to value of a volume's first instance; empty where it is in no DICOM database."""
    instances = (node.GetAttribute("DICOM.instanceUIDs") or "").split()
    database = getattr(slicer, "dicomDatabase", None)
    if not instances or database is None or not database.isOpen:
        return {}
    wanted = (_SERIES, _PROTOCOL, _IMAGE_TYPE, _MODALITY, _B)
    found = {tag: str(database.instanceValue(instances[0], tag) or "") for tag in wanted}
    return found if any(found.values()) else {}


def _statedB(node: Any) -> float | None:
    if node is None:
        return None
    return _number(node.GetAttribute(B_VALUE) or "") or _number(_dicomTags(node).get(_B, "")) or None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _voxels(node: Any) -> int:
    image = node.GetImageData()
    return 0 if image is None else int(image.GetNumberOfPoints())
