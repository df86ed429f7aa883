"""The table of lesions as a table node, sorted as the reader wants it, and from a row to the lesion in the slices."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from strokeseg.lesions import Lesion, find_lesions

from .placement import parentToWorld
from .result_nodes import KIND, ResultNodes, nodesOf
from .segments import imageOf, ownMask

# Names of columns are the same as in lesions.csv; they are in people's saved scenes and scripts.
LABEL, VOLUME, SIDE, HINT = "label", "volume_ml", "side", "hint"
_ADC_MEAN, _ADC_MIN = "adc_mean_1e-3_mm2_per_s", "adc_min_1e-3_mm2_per_s"
CENTROID = ("centroid_r_mm", "centroid_a_mm", "centroid_s_mm")
_DIGITS = {
    VOLUME: 3,
    _ADC_MEAN: 2,
    _ADC_MIN: 2,
    "adc_below_0.62_ml": 3,
    "dwi_mean": 1,
    "probability_mean": 2,
    **dict.fromkeys(CENTROID, 1),
}
_ORDER = "StrokeSeg.Sort"
_HIGHLIGHT = "highlight"
_YELLOW = (1.0, 0.9, 0.1)


def columnTitles() -> dict[str, str]:
    """Column to what the reader sees above it, in the order of the columns."""
    return {
        LABEL: _("#"),
        VOLUME: _("Volume (ml)"),
        SIDE: _("Side"),
        _ADC_MEAN: _("ADC mean"),
        "probability_mean": _("Probability"),
        HINT: _("Hint"),
        _ADC_MIN: _("ADC min"),
        "adc_below_0.62_ml": _("ADC < 0.62 (ml)"),
        "dwi_mean": _("DWI mean"),
        "voxels": _("Voxels"),
        "centroid_r_mm": _("Centre R (mm)"),
        "centroid_a_mm": _("Centre A (mm)"),
        "centroid_s_mm": _("Centre S (mm)"),
    }


def writeRows(tableNode: Any, lesions: Sequence[Lesion]) -> None:
    """Fill a table node, in the order that was chosen for it; numbers that are not known are NaN."""
    ordered = _sorted([_valuesOf(lesion) for lesion in lesions], *sortOrder(tableNode))
    titles = columnTitles()
    modified = tableNode.StartModify()
    tableNode.RemoveAllColumns()
    for name, title in titles.items():
        tableNode.AddColumn(_column(name, [row[name] for row in ordered]))
        tableNode.SetColumnTitle(name, title)
        if name in (_ADC_MEAN, _ADC_MIN):
            # In the tool tip: in the heads it would leave no room for the other columns.
            tableNode.SetColumnUnitLabel(name, "10⁻³ mm²/s")
    tableNode.SetUseColumnTitleAsColumnHeader(True)
    tableNode.EndModify(modified)


def readRows(tableNode: Any) -> list[dict[str, Any]]:
    """Column to value for every row, in the table's order; None where a number is not known."""
    table = tableNode.GetTable()
    known = columnTitles()
    rows: list[dict[str, Any]] = [{} for _row in range(table.GetNumberOfRows())]
    for number in range(table.GetNumberOfColumns()):
        column = table.GetColumn(number)
        name = column.GetName()
        for row, values in enumerate(rows if name in known else ()):
            values[name] = _read(name, column.GetVariantValue(row))
    return rows


def totals(tableNode: Any) -> dict[str, float]:
    """``count``, ``volume_ml``, and the ml of the sides ``left``, ``right`` and ``midline``."""
    rows = readRows(tableNode)
    sides = {side: math.fsum(r[VOLUME] for r in rows if r[SIDE] == side) for side in ("left", "right", "midline")}
    return {"count": len(rows), "volume_ml": math.fsum(r[VOLUME] for r in rows), **sides}


def sortOrder(tableNode: Any) -> tuple[str, bool]:
    """(column, whether the highest comes first); the engine's order, largest lesion first, where none was chosen."""
    column, _colon, direction = (tableNode.GetAttribute(_ORDER) or f"{LABEL}:up").partition(":")
    return (column, direction == "down") if column in columnTitles() else (LABEL, False)


def sortBy(tableNode: Any, column: str, descending: bool = False) -> None:
    """Sort the rows now and whenever the table is filled again; values that are not known come last.

    Raises:
        KeyError: The table has no such column.
    """
    if column not in columnTitles():
        raise KeyError(column)
    tableNode.SetAttribute(_ORDER, f"{column}:{'down' if descending else 'up'}")
    rows = readRows(tableNode)
    ordered = _sorted(rows, column, descending)
    modified = tableNode.StartModify()
    for name in rows[0] if rows else ():
        target = tableNode.GetTable().GetColumnByName(name)
        for number, row in enumerate(ordered):
            target.SetVariantValue(number, vtk.vtkVariant(_stored(row[name], name)))
        target.Modified()
    tableNode.GetTable().Modified()
    tableNode.EndModify(modified)
    tableNode.Modified()


def jumpTo(nodes: ResultNodes, row: int) -> bool:
    """Bring all slice views to the lesion of a row and draw it with a bright outline.

    Args:
        nodes: The result.
        row: Its number in the table node, from 0.

    Returns:
        False where there is no such row or its lesion is no longer in the segmentation; the slices then only jump.
    """
    rows = readRows(nodes.table) if nodes.table is not None and nodes.table.GetScene() is not None else []
    if not (0 <= row < len(rows) and nodes.alive and all(rows[row].get(c) is not None for c in CENTROID)):
        return False
    centre = np.array([rows[row][c] for c in CENTROID])
    scene = nodes.segmentation.GetScene()
    slicer.vtkMRMLSliceNode.JumpAllSlices(scene, *(float(v) for v in centre), slicer.vtkMRMLSliceNode.CenteredJumpSlice)
    return _highlight(nodes, centre)


def clearHighlight(scene: Any = None) -> None:
    """Take the bright outline away."""
    node = highlightNode(scene)
    if node is not None:
        node.GetSegmentation().RemoveAllSegments()


def highlightNode(scene: Any = None) -> Any:
    """The node of the bright outline; None where there is none yet."""
    found = nodesOf("vtkMRMLSegmentationNode", scene)
    return next((node for node in found if node.GetAttribute(KIND) == _HIGHLIGHT), None)


def _highlight(nodes: ResultNodes, centre: np.ndarray[Any, Any]) -> bool:
    """Outline the lesion whose centroid is nearest to `centre` (RAS mm, world)."""
    scene = nodes.segmentation.GetScene()
    clearHighlight(scene)
    found = ownMask(nodes.segmentation)
    if found is None:
        return False
    mask, geometry = found
    labels, lesions = find_lesions(mask, parentToWorld(nodes.segmentation) @ geometry)
    nearest = min(lesions, key=lambda x: float(np.linalg.norm(np.array(x.centroid_ras_mm) - centre)))
    # An edited lesion has moved a little; one that was erased must not light up another.
    if np.linalg.norm(np.array(nearest.centroid_ras_mm) - centre) > max(5.0, max(nearest.extent_mm) / 4):
        return False
    node = highlightNode(scene) or _newHighlightNode(scene)
    node.SetAndObserveTransformNodeID(nodes.segmentation.GetTransformNodeID())
    node.AddSegmentFromBinaryLabelmapRepresentation(
        imageOf(labels == nearest.label, geometry), _("Selected lesion"), _YELLOW, "lesion"
    )
    return True


def _newHighlightNode(scene: Any) -> Any:
    node = slicer.vtkMRMLSegmentationNode()
    node.SetName(_("Selected lesion"))
    # It belongs to the moment: in no list, in no saved scene.
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    node.SetAttribute(KIND, _HIGHLIGHT)
    node = scene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetSaveWithScene(False)
    display.SetVisibility2DFill(False)
    display.SetVisibility2DOutline(True)
    display.SetSliceIntersectionThickness(3)
    display.SetVisibility3D(False)
    return node


def _valuesOf(lesion: Lesion) -> dict[str, Any]:
    r, a, s = lesion.centroid_ras_mm
    return {
        LABEL: lesion.label,
        VOLUME: lesion.volume_ml,
        SIDE: lesion.side,
        "adc_mean_1e-3_mm2_per_s": lesion.adc_mean,
        "adc_min_1e-3_mm2_per_s": lesion.adc_min,
        "adc_below_0.62_ml": lesion.adc_below_062_ml,
        "probability_mean": lesion.probability_mean,
        HINT: lesion.hint,
        "dwi_mean": lesion.dwi_mean,
        "voxels": lesion.voxels,
        **dict(zip(CENTROID, (r, a, s), strict=True)),
    }


def _sorted(rows: Iterable[dict[str, Any]], column: str, descending: bool) -> list[dict[str, Any]]:
    """Ties keep the engine's order."""
    byLabel = sorted(rows, key=lambda row: int(row[LABEL]))
    known = [row for row in byLabel if row.get(column) not in (None, "")]
    unknown = [row for row in byLabel if row.get(column) in (None, "")]
    return sorted(known, key=lambda row: row[column], reverse=descending) + unknown


def _column(name: str, values: list[Any]) -> Any:
    kinds = {LABEL: vtk.vtkIntArray, "voxels": vtk.vtkIntArray, SIDE: vtk.vtkStringArray, HINT: vtk.vtkStringArray}
    column = kinds.get(name, vtk.vtkDoubleArray)()
    column.SetName(name)
    for value in values:
        column.InsertNextValue(_stored(value, name))
    return column


def _stored(value: Any, name: str) -> Any:
    if name in (SIDE, HINT):
        # The table's file format has one line a row and no way to write a tab or a quotation mark.
        return " ".join(str(value or "").replace('"', "'").split())
    if name in (LABEL, "voxels"):
        return int(value)
    return math.nan if value is None else round(float(value), _DIGITS[name])


def _read(name: str, variant: Any) -> Any:
    if name in (SIDE, HINT):
        return variant.ToString()
    value = variant.ToDouble()
    if name in (LABEL, "voxels"):
        return int(value)
    return None if math.isnan(value) else value
