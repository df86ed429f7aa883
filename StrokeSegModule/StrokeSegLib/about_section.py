"""The section About: what it is for, how to cite it, the model's card, and details for a bug report."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import qt
from slicer.i18n import tr as _

from . import bug_report, card_text
from .panel_logic import PanelLogic
from .widget_text import paragraphs, say

HOMEPAGE = "https://github.com/StrokeSeg/SlicerStrokeSeg"


class AboutSection:
    """Tells about the extension.

    Args:
        ui: The panel's widgets by name.
        logic: What the sections share.
        parameters: Gives the parameter node; None while there is none.
    """

    def __init__(self, ui: Any, logic: PanelLogic, parameters: Callable[[], Any]) -> None:
        self._ui, self._logic, self._parameters = ui, logic, parameters

    def connect(self) -> None:
        """Connect the widgets."""
        self._ui.copyDetailsButton.connect("clicked()", self._onCopy)

    def refresh(self) -> None:
        """Show how things are."""
        say(self._ui.aboutText, aboutText())
        parameters = self._parameters()
        card = None if parameters is None else self._logic.card(parameters)
        html = paragraphs([_("No model is chosen.")]) if card is None else card_text.full(card)
        say(self._ui.cardText, html)

    def _onCopy(self) -> None:
        parameters = self._parameters()
        options = {} if parameters is None else {name: parameters.getValue(name) for name in bug_report.OPTIONS}
        qt.QApplication.clipboard().setText(bug_report.details(self._logic, options))
        self._ui.copyDetailsButton.text = _("Details are copied")
        qt.QTimer.singleShot(2000, self._restore)

    def _restore(self) -> None:
        if self._ui.copyDetailsButton:
            self._ui.copyDetailsButton.text = _("Copy details for a bug report")


def aboutText() -> str:
    """HTML."""
    from strokeseg import __version__

    cite = _(
        "The StrokeSeg developers: StrokeSeg {version}, stroke lesion segmentation in brain MRI for 3D Slicer; and the "
        "publication of the model that was used, see its card."
    )
    sentences = [
        _("StrokeSeg {version} finds stroke lesions in brain MRI.").format(version=__version__),
        _("Research use only. It is not a medical device; every result must be checked by an expert."),
        _("How to cite: {reference}").format(reference=cite.format(version=__version__)),
    ]
    return f'{paragraphs(sentences)}<br><a href="{HOMEPAGE}">{escape(HOMEPAGE)}</a>'
