"""The form: bound to the parameter node, complete in the package, reachable by keyboard, wide enough."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import panel_driver as drive
import pytest


def _properties(name: str) -> dict[str, str]:
    root = ElementTree.parse(drive.UI_FILE).getroot()
    return {
        widget.get("name", ""): (found[0].findtext("string") or "")
        for widget in root.iter("widget")
        if (found := [p for p in widget.findall("property") if p.get("name") == name])
    }


def test_every_binding_of_the_form_is_a_parameter(slicerEnvironment: Any) -> None:
    widget = drive.openPanel(slicerEnvironment)
    bound = set(_properties("SlicerParameterName").values())
    known = set(widget.panel.parameters.allParameters)
    assert bound <= known
    # Their lists are not known before the worker answers; the panel fills them.
    assert known - bound == {"model", "device", "result"}


def test_the_package_lists_every_file() -> None:
    listed = set(re.findall(r"^  (\S+\.(?:py|ui|svg|png))$", (drive.MODULE / "CMakeLists.txt").read_text(), re.M))
    there = {
        str(p.relative_to(drive.MODULE).as_posix())
        for p in drive.MODULE.rglob("*")
        if p.suffix in (".py", ".ui", ".svg", ".png")
    }
    assert listed == there
    assert [p.name for p in drive.MODULE.glob("*.py")] == ["StrokeSeg.py"]


def test_no_letter_is_the_key_of_two_widgets() -> None:
    letters = [m[1].lower() for text in _properties("text").values() if (m := re.search("&(.)", text))]
    assert sorted(letters) == sorted(set(letters))
    assert "c" not in letters  # Cancel


@pytest.mark.parametrize("look", ["light", "dark"])
def test_the_panel_fits_into_400_pixels(slicerEnvironment: Any, tmp_path: Path, look: str) -> None:
    from slicer_harness import pictures

    widget = drive.openPanel(slicerEnvironment)
    drive.tryIt(slicerEnvironment, widget)
    for name in ("advancedBox", "settingsBox", "logBox", "cardBox", "aboutSection"):
        getattr(widget.ui, name).collapsed = False
    assert widget.parent._native.minimumSizeHint().width() <= 400
    pictures.grab(widget, tmp_path / "panel.png", width=400, palette_name=look)
    assert pictures.cut_texts(widget) == []


def test_every_control_is_reached_by_the_tab_key(slicerEnvironment: Any) -> None:
    from PySide6 import QtCore, QtWidgets

    widget = drive.openPanel(slicerEnvironment)
    drive.tryIt(slicerEnvironment, widget)
    for name in ("advancedBox", "settingsBox", "logBox", "cardBox", "aboutSection"):
        getattr(widget.ui, name).collapsed = False
    widget.ui.StrokeSeg.show()
    slicerEnvironment.processEvents()
    native = widget.ui.StrokeSeg._native
    chain, current = set(), native
    while current not in chain:
        chain.add(current)
        current = current.nextInFocusChain()
    kinds = (QtWidgets.QAbstractButton, QtWidgets.QComboBox, QtWidgets.QAbstractSpinBox, QtWidgets.QTableView)
    unreachable = [
        w.objectName()
        for w in native.findChildren(QtWidgets.QWidget)
        if isinstance(w, kinds)
        and w.isVisibleTo(native)
        and not (w in chain and w.focusPolicy() & QtCore.Qt.FocusPolicy.TabFocus)
        and not isinstance(w.parentWidget(), QtWidgets.QAbstractItemView)
    ]
    assert unreachable == []
    # Neither the table nor the log keeps the key to itself.
    assert not widget.ui.lesionTable.tabKeyNavigation
    assert widget.ui.logText.tabChangesFocus


def test_ctrl_enter_runs_and_cancels(slicerEnvironment: Any) -> None:
    widget = drive.openPanel(slicerEnvironment)
    widget.panel.logic.loadSample(widget.panel.parameters)
    slicerEnvironment.processEvents()
    assert [s.key.toString() for s in widget.panel.run._shortcuts] == ["Ctrl+Return", "Ctrl+Enter"]
    widget.panel.run._shortcuts[0].activated.emit()
    assert widget.panel.logic.run.busy
    widget.panel.run._shortcuts[1].activated.emit()
    slicerEnvironment.waitUntil(lambda: not widget.panel.logic.run.busy, 10)
    assert widget.panel.logic.run.cancelled


def test_texts_of_the_panel_go_through_translation(slicerEnvironment: Any) -> None:
    from slicer_harness import i18n

    i18n.MARKER.append(lambda text: f"«{text}»")
    widget = drive.openPanel(slicerEnvironment)
    drive.tryIt(slicerEnvironment, widget)
    for name in ("runButton", "statusLabel", "summaryLabel", "dwiNeed", "inputMessage", "thresholdLine", "aboutText"):
        assert "«" in getattr(widget.ui, name).text, name
