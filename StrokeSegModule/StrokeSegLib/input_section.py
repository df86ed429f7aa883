"""The section Input: loading, roles, and what the checks say about the chosen volumes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from strokeseg.errors import StrokeSegError

from . import loading
from . import parameters as fields
from .drop_files import DropFiles
from .model_choice import listed, rolesUsed
from .panel_logic import PanelLogic, showInSlices
from .widget_text import say


class InputSection:
    """Loads volumes and shows the roles.

    Args:
        ui: The panel's widgets by name.
        logic: What the sections share.
        parameters: Gives the parameter node; None while there is none.
        onTry: Called when the user wants to try it.
    """

    def __init__(
        self, ui: Any, logic: PanelLogic, parameters: Callable[[], Any], onTry: Callable[[], None] = lambda: None
    ) -> None:
        self._ui, self._logic, self._parameters, self._onTry = ui, logic, parameters, onTry
        self._message = ""
        self._drop: DropFiles | None = None

    def connect(self) -> None:
        """Connect the widgets."""
        self._ui.loadFilesButton.connect("clicked()", self._onLoadFiles)
        self._ui.loadFolderButton.connect("clicked()", self._onLoadFolder)
        self._ui.tryButton.connect("clicked()", self._onTry)
        self._ui.guessButton.connect("clicked()", self._onGuess)
        self._drop = DropFiles(self._ui.inputSection, self.load)

    def refresh(self) -> None:
        """Show how things are."""
        parameters = self._parameters()
        busy = self._logic.run.busy
        for name in ("loadFilesButton", "loadFolderButton", "tryButton", "guessButton"):
            getattr(self._ui, name).enabled = parameters is not None and not busy
        self._ui.tryButton.enabled = parameters is not None and not busy and not self._logic.missing
        if parameters is None:
            return
        if not busy:
            self._logic.refreshFindings(parameters)
        given = fields.nodesByRole(parameters)
        card = self._logic.card(parameters)
        # What is wrong with a volume that the model does not look at is no news.
        told = set(given) if card is None else rolesUsed(card, given)
        for role in fields.ROLES:
            severity, sentences = self._logic.findings.get(role, ("", ""))
            marks = {"warning": _("Note: {text}"), "error": _("Not usable: {text}")}
            text = marks.get(severity, "{text}").format(text=sentences)
            say(getattr(self._ui, f"{role}Line"), text if role in told else "")
            say(getattr(self._ui, f"{role}Need"), self._logic.models.need(parameters.model, given, role))
        say(self._ui.inputMessage, self._message)

    def load(self, paths: list[str]) -> None:
        """Load files and folders, and choose what they seem to be."""
        parameters = self._parameters()
        if parameters is None or self._logic.run.busy:
            return
        with slicer.util.WaitCursor():
            nodes, problems = loading.load(paths)
            before = set(fields.nodesByRole(parameters))
            found = self._logic.guess(parameters, nodes)
        if nodes:
            showInSlices(found.get("dwi") or next(iter(found.values()), nodes[0]))
        said = [_("Loaded {count} volumes.").format(count=len(nodes)) if len(nodes) != 1 else _("Loaded 1 volume.")]
        if found:
            said.append(_("Recognised: {roles}; change it below if it is wrong.").format(roles=listed(found)))
        elif nodes:
            said.append(_("Neither names nor tags tell what they are: choose them below."))
        if gone := sorted(before - set(fields.nodesByRole(parameters))):
            said.append(_("Cleared, for it may be another patient: {roles}.").format(roles=listed(gone)))
        self.tell(" ".join([*(said if nodes else []), *problems]))

    def tell(self, text: str) -> None:
        """Show a message about what was loaded."""
        self._message = text
        self._logic.onRefresh()

    def _onGuess(self) -> None:
        found = self._logic.guess(self._parameters())
        text = _("Recognised: {roles}.") if found else _("No volume of the scene tells by its name or tags what it is.")
        self.tell(text.format(roles=listed(found)))

    def _onLoadFiles(self) -> None:
        paths = qt.QFileDialog.getOpenFileNames(
            self._ui.inputSection, _("Load volumes"), self._lastFolder(), loading.fileFilter()
        )
        self._remember(paths)

    def _onLoadFolder(self) -> None:
        path = qt.QFileDialog.getExistingDirectory(self._ui.inputSection, _("Load a folder"), self._lastFolder())
        self._remember([path] if path else [])

    def _lastFolder(self) -> str:
        return str(self._logic.settings.value("lastInputFolder"))

    def _remember(self, paths: Any) -> None:
        # Qt gives a list of paths, or one of paths and the filter.
        chosen = list(paths[0]) if paths and not isinstance(paths[0], str) else list(paths or ())
        if chosen:
            self._logic.settings.setValue("lastInputFolder", str(Path(chosen[0]).parent))
            self.load(chosen)

    def trySample(self) -> bool:
        """Load the synthetic patient; says whether it is there."""
        try:
            self._logic.loadSample(self._parameters())
        except StrokeSegError as error:
            self.tell(str(error))
            return False
        self.tell(_("This is the synthetic patient: simulated, no patient's image."))
        return True
