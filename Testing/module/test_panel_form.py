"""The form: bound to the parameter node, complete in the package, reachable by keyboard, wide enough."""

from __future__ import annotations

import re
from itertools import pairwise
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


def test_no_letter_is_the_key_of_two_things() -> None:
    letters = [m[1].lower() for text in _properties("text").values() if (m := re.search("&(.)", text))]
    assert sorted(letters) == sorted(set(letters))
    assert "c" not in letters  # Cancel
    assert not set(letters) & set("fevh")  # Slicer's menus File, Edit, View, Help


def _whole(environment: Any) -> Any:
    """The panel with a result, nothing folded away, as wide as Slicer's narrowest."""
    from slicer_harness import pictures

    widget = drive.openPanel(environment)
    drive.tryIt(environment, widget)
    for name in ("advancedBox", "settingsBox", "logBox", "cardBox", "aboutSection"):
        getattr(widget.ui, name).collapsed = False
    pictures.grab(widget, environment.folder / "whole.png", width=400)
    return widget


def test_every_control_is_reached_by_the_tab_key_in_the_order_of_reading(slicerEnvironment: Any) -> None:
    from PySide6 import QtCore, QtWidgets

    widget = _whole(slicerEnvironment)
    native = widget.ui.StrokeSeg._native
    chain, current = [], native
    while current not in chain:
        chain.append(current)
        current = current.nextInFocusChain()
    stops = [
        w
        for w in chain
        if native.isAncestorOf(w)
        and w.isVisibleTo(native)
        and w.isEnabled()
        and w.focusPolicy() & QtCore.Qt.FocusPolicy.TabFocus
        and w.focusProxy() is None
    ]
    kinds = (QtWidgets.QAbstractButton, QtWidgets.QComboBox, QtWidgets.QAbstractSpinBox, QtWidgets.QTableView)
    unreachable = [
        w.objectName()
        for w in native.findChildren(QtWidgets.QWidget)
        if isinstance(w, kinds)
        and w.isVisibleTo(native)
        and w.isEnabled()
        and w not in stops
        and w.focusProxy() not in stops
        and not isinstance(w.parentWidget(), QtWidgets.QAbstractItemView)
    ]
    assert unreachable == []
    places = {w: _head(w, native) for w in stops}
    backwards = [
        (one.objectName(), places[one], other.objectName(), places[other])
        for one, other in pairwise(stops)
        if not _follows(places[one], places[other])
    ]
    assert backwards == []
    # Neither the table nor the log keeps the key to itself.
    assert not widget.ui.lesionTable.tabKeyNavigation
    assert widget.ui.logText.tabChangesFocus


def _head(widget: Any, panel: Any) -> Any:
    """Where it stands in the panel; of a section only its head."""
    from PySide6 import QtCore

    place = QtCore.QRect(widget.mapTo(panel, QtCore.QPoint(0, 0)), widget.size())
    if "Collapsible" in type(widget).__name__:
        place.setHeight(24)
    return place


def _follows(one: Any, other: Any) -> bool:
    """Below it, or beside it to the right."""
    below = other.center().y() > one.bottom()
    beside = other.left() >= one.left() and other.bottom() > one.top()
    return below or beside


def test_every_control_has_a_name_that_can_be_read_aloud(slicerEnvironment: Any) -> None:
    root = ElementTree.parse(drive.UI_FILE).getroot()
    buddies = {b.text for b in root.iter("cstring")}
    silent = [
        widget.get("name")
        for widget in root.iter("widget")
        if widget.get("class") not in ("QLabel", "QFrame", "qMRMLWidget", "QProgressBar")
        and not {p.get("name") for p in widget.findall("property")} & {"text", "accessibleName"}
        and widget.get("name") not in buddies
    ]
    # The button brings its own text; the other windows stand behind the first one's label.
    assert silent == ["windowY", "windowZ", "show3DButton"]


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
    from PySide6 import QtWidgets
    from slicer_harness import i18n

    i18n.MARKER.append(lambda text: f"«{text}»")
    widget = _whole(slicerEnvironment)
    native = widget.ui.StrokeSeg._native
    # Qt translates what the form says; no text of it is left out of that.
    root = ElementTree.parse(drive.UI_FILE).getroot()
    assert [s.text for s in root.iter("string") if s.get("notr")] == []
    formed = {s.text for s in root.iter("string")} | {""}
    # Sentences of the engine, which speaks English only.
    spoken = ("dwiLine", "adcLine", "t1Line", "flairLine", "b0Line", "show3DButton")
    titles = {card.title for card in widget.panel.logic.models.cards.values()}
    plain = [
        f"{w.objectName()}: {text}"
        for w in native.findChildren(QtWidgets.QWidget)
        for text in _texts(w)
        if w.objectName() and w.objectName() not in spoken and text not in formed | titles and "«" not in text
    ]
    assert plain == []


def _texts(native: Any) -> list[str]:
    from PySide6 import QtWidgets

    texts = [native.toolTip()]
    if isinstance(native, QtWidgets.QLabel | QtWidgets.QAbstractButton):
        texts.append(native.text())
    if type(native) is QtWidgets.QComboBox:
        texts += [native.itemText(n) for n in range(native.count())]
    return texts


def test_the_panel_has_no_style_of_its_own() -> None:
    files = [*drive.MODULE.rglob("*.py"), drive.UI_FILE]
    own = re.compile(r"style[-_ ]?sheet|setPalette|QPalette|color\s*[:=]\s*[\"'#]|\bstyle=|<font", re.IGNORECASE)
    assert [(f.name, m[0]) for f in files if (m := own.search(f.read_text(encoding="utf-8")))] == []


def _contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Of two sRGB colours from 0 to 1, as WCAG 2.2 defines it: 1 to 21."""

    def luminance(colour: tuple[float, ...]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


def _rgb(colour: Any) -> tuple[float, ...]:
    return colour.redF(), colour.greenF(), colour.blueF()


@pytest.mark.parametrize("look", ["light", "dark"])
def test_the_icon_is_seen_on_both_palettes(slicerEnvironment: Any, look: str) -> None:
    from PySide6 import QtGui
    from slicer_harness import pictures

    ground = pictures.palette(look).color(QtGui.QPalette.ColorRole.Window)
    icon = QtGui.QImage(str(drive.MODULE / "Resources" / "Icons" / "StrokeSeg.png"))
    pixels = [icon.pixelColor(x, y) for x in range(0, icon.width(), 2) for y in range(0, icon.height(), 2)]
    drawn = [p for p in pixels if p.alphaF() > 0.5]
    seen = [p for p in drawn if _contrast(_rgb(p), _rgb(ground)) >= 3.0]  # WCAG 2.2, 1.4.11
    assert len(seen) > len(drawn) / 3


def test_the_outline_of_a_chosen_lesion_stands_out_from_the_scan_and_from_the_lesions(slicerEnvironment: Any) -> None:
    widget = drive.openPanel(slicerEnvironment)
    from StrokeSegLib import lesion_table

    yellow = lesion_table._YELLOW
    assert _contrast(yellow, (0.35, 0.35, 0.35)) >= 3.0  # brain on a usual window
    for card in widget.panel.logic.models.cards.values():
        for lesion in card.classes:
            assert _contrast(yellow, tuple(part / 255 for part in lesion.colour)) >= 3.0
