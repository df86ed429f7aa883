"""The section Run: one button that becomes Cancel, progress, messages and the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from . import run as states
from .panel_logic import PanelLogic
from .widget_text import paragraphs, say, show, threeParts, write

_TICK_MILLISECONDS = 250


class RunSection:
    """Starts, shows and cancels a run.

    Args:
        ui: The panel's widgets by name.
        logic: What the sections share.
        parameters: Gives the parameter node; None while there is none.
    """

    def __init__(self, ui: Any, logic: PanelLogic, parameters: Callable[[], Any]) -> None:
        self._ui, self._logic, self._parameters = ui, logic, parameters
        self._logged = 0
        self._refusal = ""
        self._tick = qt.QTimer()
        self._tick.setInterval(_TICK_MILLISECONDS)
        self._shortcuts: list[Any] = []

    def connect(self) -> None:
        """Connect the widgets."""
        self._ui.runButton.connect("clicked()", self.onButton)
        self._tick.connect("timeout()", self.refresh)
        for keys in ("Ctrl+Return", "Ctrl+Enter"):
            shortcut = qt.QShortcut(self._ui.StrokeSeg)
            shortcut.setKey(qt.QKeySequence(keys))
            # Elsewhere in Slicer, as in the Python console, the keys mean something else.
            shortcut.setContext(qt.Qt.WidgetWithChildrenShortcut)
            shortcut.connect("activated()", self.onShortcut)
            self._shortcuts.append(shortcut)

    def disconnect(self) -> None:
        """Let go of timers."""
        self._tick.stop()

    def onShortcut(self) -> None:
        """Run, or cancel; nothing where the button can do nothing."""
        if self._ui.runButton.enabled:
            self.onButton()

    def onButton(self) -> None:
        """Run, or cancel the run."""
        run = self._logic.run
        if run.busy:
            run.cancel()
            return
        parameters = self._parameters()
        self._refusal = self._logic.start(parameters) if parameters is not None else ""
        self.refresh()

    def refresh(self) -> None:
        """Show how things are."""
        run, parameters = self._logic.run, self._parameters()
        if run.busy:
            reason = ""
        elif parameters is None:
            reason = _("The scene is being closed.")
        else:
            reason = self._logic.whyNot(parameters)
        button = self._ui.runButton
        button.text = _("&Cancel") if run.busy else _("&Run")
        button.enabled = run.state != states.CANCELLING and not reason
        button.toolTip = reason or (
            _("Stop the run (Ctrl+Enter)") if run.busy else _("Segment the stroke lesions (Ctrl+Enter)")
        )
        say(self._ui.reasonLabel, reason)
        show(self._ui.progressBar, run.busy)
        self._ui.progressBar.value = run.percent
        say(self._ui.statusLabel, self._status())
        write(self._ui.messageText, self._messages())
        self._log()
        if run.busy != self._tick.isActive():
            self._tick.start() if run.busy else self._tick.stop()

    def _status(self) -> str:
        run = self._logic.run
        seconds = _("{seconds:.0f} s").format(seconds=run.seconds)
        if run.state == states.CANCELLING:
            return _("Cancelling, {time}").format(time=seconds)
        if run.busy:
            return _("{stage}, {time}").format(stage=stageText(run.stage), time=seconds)
        if run.cancelled:
            return _("Cancelled. Nothing was changed.")
        if run.result is not None:
            return _("Done in {seconds:.1f} s.").format(seconds=run.seconds)
        return ""

    def _messages(self) -> str:
        run = self._logic.run
        parts = [threeParts(*run.error)] if run.error is not None else []
        # Those of a result that is shown stand there.
        if run.warnings and (run.busy or run.error is not None):
            parts.append(paragraphs(run.warnings))
        return "<br>".join(parts)

    def _log(self) -> None:
        new = self._logic.run.logged - self._logged
        if new > 0:
            lines = list(self._logic.run.log)[-new:]
            self._logged = self._logic.run.logged
            self._ui.logText.appendPlainText("\n".join(lines))


def stageText(stage: str) -> str:
    """A stage for people."""
    texts = {
        states.SENDING: _("Handing over the volumes"),
        states.RUNNING: _("Starting the worker"),
        "read": _("Reading the scans"),
        "prepare": _("Checking and preparing the scans"),
        "load": _("Loading the model"),
        "model": _("Running the model"),
        "postprocess": _("Deciding"),
        "lesions": _("Describing the lesions"),
        "write": _("Writing masks and tables"),
        "report": _("Drawing the report"),
        states.SHOWING: _("Showing the result"),
    }
    return texts.get(stage, stage)
