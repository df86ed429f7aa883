"""The panel: its sections, the parameter node that they share, and when they look at things anew."""

from __future__ import annotations

from typing import Any

import qt
import slicer

from .about_section import AboutSection
from .input_section import InputSection
from .model_section import ModelSection
from .panel_logic import PanelLogic
from .parameters import nodesByRole
from .result_nodes import ResultNodes
from .result_section import ResultSection
from .run_section import RunSection
from .setup_notice import SetupNotice

_GUESS_MILLISECONDS = 300  # after the last volume that came into the scene


class Panel:
    """Holds the sections together.

    Args:
        ui: The panel's widgets by name.
        logic: What the sections share.
        notice: Tells what is missing.
    """

    def __init__(self, ui: Any, logic: PanelLogic, notice: SetupNotice) -> None:
        self._ui, self._notice, self.logic = ui, notice, logic
        self.parameters: Any = None
        self._guiTag: Any = None
        self._closed = self._waiting = False
        self._busy = False
        self.input = InputSection(ui, logic, lambda: self.parameters, self.tryIt)
        self.model = ModelSection(ui, logic, lambda: self.parameters)
        self.run = RunSection(ui, logic, lambda: self.parameters)
        self.result = ResultSection(ui, logic, lambda: self.parameters)
        self.about = AboutSection(ui, logic, lambda: self.parameters)
        self._guessing = qt.QTimer()
        self._guessing.setSingleShot(True)
        self._guessing.setInterval(_GUESS_MILLISECONDS)

    @property
    def sections(self) -> tuple[Any, ...]:
        """In their order."""
        return self.input, self.model, self.run, self.result, self.about

    def connect(self) -> None:
        """Connect the widgets."""
        for section in self.sections:
            section.connect()
        self._guessing.connect("timeout()", self._guess)
        self.logic.run.onChanged = self._onRun
        self.logic.run.onShown = self._onShown
        self.logic.onRefresh = self.refreshSoon
        self.refresh()

    def setParameters(self, parameters: Any) -> None:
        """Use another parameter node; None while there is none."""
        if self.parameters is not None and self._guiTag is not None:
            self.parameters.disconnectGui(self._guiTag)
        self._guiTag = None
        self.parameters = parameters
        if parameters is None:
            self.result.clear()
        else:
            # Slicer's connectGui gives no tag, so that it could not be disconnected.
            self._guiTag = parameters.connectParametersToGui(_bound(self._ui))
        self.refresh()

    def enter(self) -> None:
        """The user comes to the module."""
        if self.parameters is not None and not nodesByRole(self.parameters):
            self.logic.guess(self.parameters)
        if not self.logic.missing and self.logic.run.link.greeting is None:
            self.logic.run.askDevices()
        self.refresh()

    def leave(self) -> None:
        """The user goes to another module."""
        self._guessing.stop()
        self.result.leave()

    def onNodesChanged(self) -> None:
        """A node came or went."""
        if self.parameters is not None and not self._closed:
            if not self.logic.run.busy and not nodesByRole(self.parameters):
                self._guessing.start()
            self.refreshSoon()

    def refreshSoon(self) -> None:
        """`refresh`, once, in Slicer's next turn."""
        if not self._waiting and not self._closed:
            self._waiting = True
            qt.QTimer.singleShot(0, self._refreshNow)

    def refresh(self) -> None:
        """All sections look at everything anew."""
        for section in self.sections:
            section.refresh()
        self._notice.refresh(self.logic.missing)

    def tryIt(self) -> None:
        """Load the synthetic patient and run."""
        if self.parameters is not None and self.input.trySample():
            self.run.onButton()

    def close(self) -> None:
        """End everything: the module goes."""
        self._closed = True
        self._guessing.stop()
        self.run.disconnect()
        self.logic.settle()
        self.logic.run.onChanged = lambda: None
        self.logic.run.onShown = lambda _nodes: None
        self.logic.onRefresh = lambda: None
        self.logic.run.abandon()
        if self.parameters is not None and self._guiTag is not None:
            self.parameters.disconnectGui(self._guiTag)
        self.parameters = None

    def _refreshNow(self) -> None:
        self._waiting = False
        if not self._closed:
            self.refresh()

    def _onRun(self) -> None:
        if self._closed:
            return
        if self._busy != self.logic.run.busy or (self.logic.run.link.greeting is not None and not self.logic.run.busy):
            self._busy = self.logic.run.busy
            self.refreshSoon()
        self.run.refresh()

    def _onShown(self, nodes: ResultNodes) -> None:
        if not self._closed:
            self.result.onShown(nodes)

    def _guess(self) -> None:
        free = self.parameters is not None and not self.logic.run.busy and not slicer.mrmlScene.IsBatchProcessing()
        if free and not nodesByRole(self.parameters):
            self.logic.guess(self.parameters)


def _bound(ui: Any) -> dict[str, Any]:
    """Parameter to the widget that the form ties to it."""
    found = {widget.property("SlicerParameterName"): widget for widget in vars(ui).values()}
    return {name: widget for name, widget in found.items() if name}
