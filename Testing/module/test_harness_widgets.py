"""Doubles of CTK's and Slicer's widgets show what the real headers declare, and nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest


def _volume(name: str) -> Any:
    import slicer

    return slicer.util.addVolumeFromArray(np.zeros((2, 3, 4), np.float32), name=name)


def test_a_double_has_no_public_name_beyond_the_real_class(slicerEnvironment: Any) -> None:
    from PySide6 import QtCore
    from slicer_harness import native_application, native_files, native_segments
    from slicer_harness.allow_lists import STAND_INS

    extra = []
    modules = (vars(native_application), vars(native_files), native_segments.CLASSES)
    classes = {c for m in modules for c in m.values() if isinstance(c, type) and c.__name__ in STAND_INS}
    assert len(classes) >= 20
    for cls in classes:
        allowed = STAND_INS[cls.__name__]
        known = allowed.properties | allowed.methods | set(allowed.signals.values()) | {"name"}
        for name, value in vars(cls).items():
            if (
                name.startswith("_")
                or name in known
                or any(name in vars(b) for b in cls.__mro__ if b.__module__.startswith("PySide6"))
            ):
                continue
            if any(hasattr(base, name) for base in cls.__mro__[1:] if base.__module__.startswith("PySide6")):
                continue  # a reimplemented virtual function
            if isinstance(value, QtCore.Property | QtCore.Signal):
                extra.append(f"{cls.__name__}.{name}")
    assert not extra


def test_only_invokable_functions_of_a_ctk_widget_can_be_called(slicerEnvironment: Any) -> None:
    import ctk

    slider = ctk.ctkSliderWidget()
    slider.minimum, slider.maximum, slider.singleStep, slider.decimals = 0.0, 1.0, 0.01, 2
    seen: list[float] = []
    slider.connect("valueChanged(double)", seen.append)
    slider.value = 0.25
    slider.setValue(2.0)
    assert seen == [0.25, 1.0]
    with pytest.raises(AttributeError, match="no attribute named 'setRange'"):
        slider.setRange(0, 2)


def test_what_the_double_lacks_is_told_apart_from_what_slicer_lacks(slicerEnvironment: Any) -> None:
    import slicer
    from slicer_harness.class_info import NotInHarnessError

    table = slicer.qMRMLTableView()
    with pytest.raises(NotInHarnessError, match="plotSelection"):
        table.plotSelection()
    with pytest.raises(AttributeError, match="qMRMLTableView has no attribute"):
        table.frobnicate()


def test_a_collapsible_button_hides_what_was_visible(slicerEnvironment: Any) -> None:
    import ctk
    import qt

    button = ctk.ctkCollapsibleButton()
    layout = qt.QVBoxLayout(button)
    shown, hidden = qt.QLabel("a"), qt.QLabel("b")
    layout.addWidget(shown)
    layout.addWidget(hidden)
    button.show()
    hidden.hide()
    folds: list[bool] = []
    button.connect("contentsCollapsed(bool)", folds.append)
    button.collapsed = True
    assert not shown.visible
    button.collapsed = False
    assert (shown.visible, hidden.visible, folds) == (True, False, [True, False])


def test_a_path_line_edit_keeps_its_history_in_the_settings(slicerEnvironment: Any) -> None:
    import ctk

    first = ctk.ctkPathLineEdit()
    first.settingKey = "StrokeSeg/test"
    first.filters = ctk.ctkPathLineEdit.Dirs | ctk.ctkPathLineEdit.Readable
    seen: list[str] = []
    first.currentPathChanged.connect(seen.append)
    first.currentPath = "/tmp"
    first.addCurrentPathToHistory()
    assert seen == ["/tmp"]
    second = ctk.ctkPathLineEdit()
    second.settingKey = "StrokeSeg/test"
    assert second.currentPath == ""


def test_a_node_selector_needs_a_scene_and_follows_it(slicerEnvironment: Any) -> None:
    import slicer

    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.noneEnabled = True
    assert not selector.enabled
    first = _volume("DWI")
    selector.setMRMLScene(slicer.mrmlScene)
    assert selector.enabled
    assert selector.currentNode() is None
    seen: list[Any] = []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", seen.append)
    selector.setCurrentNode(first)
    second = _volume("ADC")
    assert (selector.nodeCount(), selector.currentNodeID) == (2, first.GetID())
    slicer.mrmlScene.RemoveNode(first)
    assert (seen[0], seen[-1], selector.currentNode()) == (first, None, None)
    selector.setCurrentNodeID(second.GetID())
    slicer.mrmlScene.Clear(0)
    assert (selector.currentNode(), selector.nodeCount()) == (None, 0)


def test_a_selector_without_none_takes_the_first_node(slicerEnvironment: Any) -> None:
    import slicer

    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ("vtkMRMLScalarVolumeNode",)
    selector.setMRMLScene(slicer.mrmlScene)
    first = _volume("DWI")
    assert selector.currentNode() is first


def test_3d_on_demand_makes_the_surface(slicerEnvironment: Any) -> None:
    import slicer

    volume = _volume("DWI")
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segment = segmentation.GetSegmentation().AddEmptySegment("lesion", "Infarct")
    slicer.util.updateSegmentBinaryLabelmapFromArray(np.ones((2, 3, 4), np.uint8), segmentation, segment, volume)
    button = slicer.qMRMLSegmentationShow3DButton()
    assert not button.enabled
    button.setSegmentationNode(segmentation)
    button.click()
    assert segmentation.GetSegmentation().ContainsRepresentation("Closed surface")
    button.click()
    assert not segmentation.GetSegmentation().ContainsRepresentation("Closed surface")


UI = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0"><class>Panel</class>
<widget class="qMRMLWidget" name="Panel"><layout class="QVBoxLayout" name="column">
<item><widget class="qMRMLNodeComboBox" name="dwi">
<property name="PROPERTY"><bool>true</bool></property></widget></item>
<item><widget class="ctkPathLineEdit" name="path">
<property name="filters"><set>ctkPathLineEdit::Dirs|ctkPathLineEdit::Readable</set></property></widget></item>
</layout></widget>
<customwidgets><customwidget><class>qMRMLWidget</class><extends>QWidget</extends><header>qMRMLWidget.h</header></customwidget>
<customwidget><class>CUSTOM</class><extends>QWidget</extends><header>x.h</header></customwidget>
<customwidget><class>ctkPathLineEdit</class><extends>QWidget</extends><header>x.h</header></customwidget></customwidgets>
<connections><connection><sender>Panel</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
<receiver>dwi</receiver><slot>SLOT</slot></connection></connections>
</ui>"""


def _ui(folder: Path, **replaced: str) -> str:
    text = UI
    values = {
        "PROPERTY": "noneEnabled",
        "CUSTOM": "qMRMLNodeComboBox",
        "SLOT": "setMRMLScene(vtkMRMLScene*)",
        **replaced,
    }
    for key, value in values.items():
        text = text.replace(key, value)
    path = folder / "Panel.ui"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_ui_file_brings_scene_and_constants_to_its_widgets(slicerEnvironment: Any, tmp_path: Path) -> None:
    import slicer

    panel = slicer.util.loadUI(_ui(tmp_path))
    ui = slicer.util.childWidgetVariables(panel)
    assert ui.path.filters == 0x11
    assert not ui.dwi.enabled
    panel.setMRMLScene(slicer.mrmlScene)
    assert ui.dwi.enabled
    assert ui.dwi.noneEnabled


@pytest.mark.parametrize(
    ("replaced", "reason"),
    [
        ({"PROPERTY": "noneEnabeld"}, "no property 'noneEnabeld'"),
        ({"PROPERTY": "styleSheet"}, "style sheets"),
        ({"CUSTOM": "qMRMLSpinBox"}, "missing among <customwidgets>"),
        ({"SLOT": "setScene(vtkMRMLScene*)"}, "has no slot"),
        ({"qMRMLNodeComboBox": "qMRMLNodeCombo"}, "widget class 'qMRMLNodeCombo'"),
    ],
)
def test_a_ui_file_with_a_slip_is_refused(
    slicerEnvironment: Any, tmp_path: Path, replaced: dict[str, str], reason: str
) -> None:
    import slicer
    from slicer_harness.ui_loader import UiFileError

    with pytest.raises(UiFileError, match=reason):
        slicer.util.loadUI(_ui(tmp_path, **replaced))
