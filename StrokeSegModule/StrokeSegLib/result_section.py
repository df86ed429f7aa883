"""The section Result: the figures, the live threshold, and the way back. Its table and its looks have own files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from strokeseg.errors import StrokeSegError

from .display_controls import DisplayControls
from .lesion_list import LesionList
from .lesion_table import totals
from .panel_logic import PanelLogic, isInSlices, showInSlices
from .result_nodes import Memory, ResultNodes, results
from .results import SceneResults
from .threshold import LiveThreshold
from .widget_text import paragraphs, say, show

_BELOW = (
    "thresholdLabel",
    "thresholdSlider",
    "minimumLabel",
    "minimumSlider",
    "resetButton",
    "undoButton",
    "lesionTable",
    "sortLabel",
    "sortCombo",
    "descendingCheck",
    "showCheck",
    "fillCheck",
    "outlineCheck",
    "show3DButton",
    "opacityLabel",
    "opacitySlider",
    "mapLabel",
    "mapCombo",
    "mapOpacityLabel",
    "mapOpacitySlider",
    "editorButton",
)


class ResultSection:
    """Shows a result and lets its threshold be moved.

    Args:
        ui: The panel's widgets by name.
        logic: What the sections share.
        parameters: Gives the parameter node; None while there is none.
    """

    def __init__(self, ui: Any, logic: PanelLogic, parameters: Callable[[], Any]) -> None:
        self._ui, self._logic, self._parameters = ui, logic, parameters
        self._table = LesionList(ui)
        self._display = DisplayControls(ui)
        self._nodes: ResultNodes | None = None
        self._live: LiveThreshold | None = None
        self._problem = ""
        self._filling = False
        self._waiting = False
        self._choices: list[tuple[str, str]] = []

    def connect(self) -> None:
        """Connect the widgets."""
        self._ui.resultCombo.connect("activated(int)", self._onChosen)
        self._ui.thresholdSlider.connect("valueChanged(double)", self._onMoved)
        self._ui.minimumSlider.connect("valueChanged(double)", self._onMoved)
        self._ui.resetButton.connect("clicked()", self._onReset)
        self._ui.undoButton.connect("clicked()", self._onUndo)
        self._table.connect()
        self._display.connect()

    @property
    def nodes(self) -> ResultNodes | None:
        """The result that is shown."""
        return self._nodes

    def onShown(self, nodes: ResultNodes) -> None:
        """A run has given a result."""
        parameters = self._parameters()
        if parameters is not None:
            parameters.result = nodes.segmentation
        if nodes.reference is not None and not isInSlices(nodes.reference):
            showInSlices(nodes.reference)
        self._nodes = None  # the same segmentation may hold another result now
        self._logic.onRefresh()
        qt.QTimer.singleShot(0, self._prepare)

    def refresh(self) -> None:
        """Show how things are."""
        parameters = self._parameters()
        nodes = self._logic.shown(parameters) if parameters is not None else None
        memory = None if nodes is None else Memory.read(nodes.segmentation)
        if nodes is None or memory is None:
            nodes, memory = None, None
        if _differ(nodes, self._nodes):
            self._nodes, self._problem = nodes, ""
            self._live = None if nodes is None else LiveThreshold(nodes)
        self._fillChoices(nodes)
        self._table.refresh(nodes)
        self._display.refresh(nodes)
        for name in _BELOW:
            show(getattr(self._ui, name), nodes is not None)
        if nodes is None or memory is None:
            say(self._ui.summaryLabel, _("There is no result yet."))
            say(self._ui.thresholdLine, "")
            say(self._ui.warningsText, "")
            return
        say(self._ui.summaryLabel, _summary(nodes, memory))
        warnings = list(memory.warnings)
        if memory.synthetic:
            warnings.insert(0, _("The patient is synthetic: simulated, no patient's image."))
        say(self._ui.warningsText, paragraphs(warnings))
        self._fillSliders(memory)
        self._ui.undoButton.enabled = nodes.previous is not None and not self._logic.run.busy

    def clear(self) -> None:
        """Let go of all nodes: the scene is being closed."""
        self._nodes = self._live = None
        self._table.refresh(None)
        self._display.refresh(None)

    def leave(self) -> None:
        """The user goes to another module: the outlined lesion belongs to this one."""
        self._table.clear()

    def _fillChoices(self, nodes: ResultNodes | None) -> None:
        found = [(n.segmentation.GetName(), n.segmentation.GetID()) for n in results()]
        if found != self._choices:
            self._choices = found
            self._ui.resultCombo.clear()
            for text, _identifier in found:
                self._ui.resultCombo.addItem(text)
        several = len(found) > 1
        show(self._ui.resultLabel, several)
        show(self._ui.resultCombo, several)
        if nodes is not None:
            identifiers = [identifier for _text, identifier in found]
            if nodes.segmentation.GetID() in identifiers:
                self._ui.resultCombo.currentIndex = identifiers.index(nodes.segmentation.GetID())

    def _fillSliders(self, memory: Memory) -> None:
        assert self._live is not None
        reason = self._live.whyNot() or (_("A run is going on.") if self._logic.run.busy else "")
        self._filling = True
        try:
            if not self._waiting:
                self._ui.minimumSlider.maximum = max(2.0, memory.minimum_ml, memory.model_minimum_ml)
                self._ui.thresholdSlider.value = memory.threshold
                self._ui.minimumSlider.value = memory.minimum_ml
        finally:
            self._filling = False
        for name in ("thresholdSlider", "minimumSlider", "resetButton"):
            getattr(self._ui, name).enabled = not reason
        hint = _("Moving a slider draws the lesions anew; corrections by hand are lost.")
        if memory.peak:
            hint += " " + _("Lesions that reach {peak:.3g} nowhere are left out.").format(peak=memory.peak)
        say(self._ui.thresholdLine, self._problem or reason or hint)

    def _prepare(self) -> None:
        if self._live is not None and self._nodes is not None and self._nodes.alive:
            self._live.prepare()

    def _onMoved(self, _value: float) -> None:
        if self._filling or self._waiting or self._live is None:
            return
        # Moves that come while the last one is being drawn become one.
        self._waiting = True
        qt.QTimer.singleShot(0, self._apply)

    def _apply(self) -> None:
        self._waiting = False
        if self._live is not None:
            live, ui = self._live, self._ui
            self._try(lambda: live.apply(ui.thresholdSlider.value, ui.minimumSlider.value))

    def _onReset(self) -> None:
        if self._live is not None:
            self._try(self._live.reset)

    def _onUndo(self) -> None:
        if self._nodes is not None:
            nodes = self._nodes
            self._try(lambda: SceneResults(nodes.segmentation.GetScene()).undo(nodes))
            self._nodes = None
            self._logic.onRefresh()

    def _try(self, call: Callable[[], Any]) -> None:
        self._problem = ""
        try:
            call()
        except StrokeSegError as error:
            self._problem = f"{error.title} {error.cause} {error.next_step}"
        self.refresh()

    def _onChosen(self, index: int) -> None:
        parameters = self._parameters()
        if parameters is not None and 0 <= index < len(self._choices):
            found = [n for n in results() if n.segmentation.GetID() == self._choices[index][1]]
            if found:
                parameters.result = found[0].segmentation
                if found[0].reference is not None:
                    showInSlices(found[0].reference)


def _differ(one: ResultNodes | None, other: ResultNodes | None) -> bool:
    if one is None or other is None:
        return one is not other
    return one != other


def _summary(nodes: ResultNodes, memory: Memory) -> str:
    if nodes.table is None:
        return _("{model}. The table of lesions was deleted; run again to have it.").format(model=memory.title)
    numbers = totals(nodes.table)
    if numbers["count"] == 0:
        return _("No lesion found by {model}.").format(model=memory.title)
    lesions = _("1 lesion") if numbers["count"] == 1 else _("{count:.0f} lesions").format(count=numbers["count"])
    sides = {"left": _("left"), "right": _("right"), "midline": _("midline")}
    parts = [f"{word} {numbers[side]:.1f} ml" for side, word in sides.items() if numbers[side] > 0]
    text = _("{volume:.1f} ml in {lesions} ({sides}), by {model}.")
    return text.format(volume=numbers["volume_ml"], lesions=lesions, sides=", ".join(parts), model=memory.title)
