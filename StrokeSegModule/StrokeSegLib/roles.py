"""Which volume is what: roles guessed from DICOM tags and names, and what the engine's checks say before a run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from strokeseg.checks import Finding, check_inputs
from strokeseg.errors import InputError

from .placement import arrayOf, ijkToWorld
from .result_nodes import isOurs
from .sample_data import B_VALUE

ROLES = ("dwi", "adc", "t1", "flair", "b0")

_SERIES, _PROTOCOL, _IMAGE_TYPE, _MODALITY, _B = "0008,103E", "0018,1030", "0008,0008", "0008,0060", "0018,9087"
# Words of names, the same as the engine's for files. An exponential ADC is dark in fluid: no ADC map. Masks and maps
# of tissue, of the field or of a model are no input at all.
_NO_INPUT = re.compile(
    r"eadc|expadc|exponential|eapp|pred|predicted|predictions?|prob|probability|probabilities|probseg|uncertainty|entropy"
    r"|overlay|fieldmap|phase|phasediff|sbref|inv[12]?|t1map|wm|gm|csf|tissue|ventricles?|aseg|aparc|affine"
    r"|\w*mask|msk|labels?|seg|dseg|segmentation|gt|groundtruth|truth|annotations?|reference|roi|\w*(lesion|infarct)\w*"
)
_WORDS = {
    "adc": re.compile(r"d?adc(map)?\d*|apparent"),
    "b0": re.compile(r"b=?0+|s0|nodif|lowb"),
    "dwi": re.compile(r"(iso|s)?dwi\d*|trace\d*|tracew\d*|diff|diffusion|b=?[1-9]\d{2,3}"),
    "flair": re.compile(r"(t2)?flair\d*|tirm"),
    "t1": re.compile(r"t1(w|wi)?|unit1|(me)?mprage|mpr|mp2rage|f?spgr|bravo"),
}
_HIGH_B = re.compile(r"b=?[1-9]\d{2,3}")
_FREE_ENTITIES = re.compile(r"(?:^|(?<=_))(?:sub|ses|space|run)-[a-z0-9+]+(?:_|$)")
_SEVERITIES = ("info", "warning", "error")


def guessRole(node: Any) -> str | None:
    """The role of a volume node; None where nothing tells, or tags and name tell several.

    DICOM tags come first: the image type and the b-value say what a scanner made, names what somebody wrote.
    """
    if not node.IsA("vtkMRMLScalarVolumeNode") or node.IsA("vtkMRMLLabelMapVolumeNode") or isOurs(node):
        return None
    tags = _dicomTags(node)
    if tags.get(_MODALITY, "MR") not in ("MR", ""):
        return None
    byName = _roleOfWords(_words(node.GetName() or ""))
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
    words = _words(" ".join((tags.get(_IMAGE_TYPE, ""), tags.get(_SERIES, ""), tags.get(_PROTOCOL, ""))))
    if any(_NO_INPUT.fullmatch(w) for w in words):
        return ""
    kind = _words(tags.get(_IMAGE_TYPE, ""))
    if "adc" in kind:
        return "adc"
    b = _number(tags.get(_B, ""))
    byWords = _roleOfWords(words)
    if byWords == "adc" or b is None:
        return byWords
    return "b0" if b < 100 else "dwi"


def _roleOfWords(words: list[str]) -> str | None:
    if any(_NO_INPUT.fullmatch(w) for w in words):
        return None
    found = {role for role, pattern in _WORDS.items() if any(pattern.fullmatch(w) for w in words)}
    # An ADC map is often named after the DWI that it was computed from.
    if "adc" in found:
        found -= {"dwi", "b0"}
    if {"b0", "dwi"} <= found:
        found.discard("b0" if any(_HIGH_B.fullmatch(w) for w in words) else "dwi")
    if "b0" in found and "map" in words:  # a map of the main field
        found.discard("b0")
    return found.pop() if len(found) == 1 else None


def _words(text: str) -> list[str]:
    return [w for w in re.split(r"[_\-.,()\[\]\s\\:/]+", _FREE_ENTITIES.sub("", text.lower())) if w]


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
