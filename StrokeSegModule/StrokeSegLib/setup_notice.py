"""What is missing, at the top of the panel, and the one step that helps. Needs none of the packages itself."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import qt
from slicer.i18n import tr as _

from . import requirements
from .widget_text import show, write


class SetupNotice:
    """Shown while something is missing.

    Args:
        ui: The panel's widgets by name.
        onCheckAgain: Called when the user says that it was installed.
    """

    def __init__(self, ui: Any, onCheckAgain: Callable[[], None]) -> None:
        self._ui, self._onCheckAgain = ui, onCheckAgain
        self._command = ""

    def connect(self) -> None:
        """Connect the widgets."""
        self._ui.copyCommandButton.connect("clicked()", self._onCopy)
        self._ui.checkAgainButton.connect("clicked()", self._onCheckAgain)

    def refresh(self, missing: list[str], problem: str = "") -> None:
        """Show what is missing.

        Args:
            missing: Names of packages.
            problem: What else is wrong: nothing works before that is mended.
        """
        self._command = requirements.consoleCommand(missing) if missing and not problem else ""
        html = ""
        if problem:
            html = f"<p><b>{escape(_('StrokeSeg is not complete.'))}</b></p><p>{escape(problem)}</p>"
        elif missing:
            title = _("Packages that the computation needs are missing: {names}.").format(names=", ".join(missing))
            step = _("Paste this line into Slicer's Python console (View, Python Console) and press Enter:")
            html = f"<p><b>{escape(title)}</b></p><p>{escape(step)}</p><p><code>{escape(self._command)}</code></p>"
        write(self._ui.setupText, html)
        show(self._ui.copyCommandButton, bool(self._command))
        show(self._ui.setupFrame, bool(html))

    def _onCopy(self) -> None:
        qt.QApplication.clipboard().setText(self._command)
