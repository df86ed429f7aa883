"""The section Model: which model, on which device, and how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from . import card_text
from .panel_logic import PanelLogic
from .parameters import AUTOMATIC
from .widget_text import paragraphs, say


class ModelSection:
    """Chooses model and device.

    Args:
        ui: The panel's widgets by name.
        logic: What the sections share.
        parameters: Gives the parameter node; None while there is none.
    """

    def __init__(self, ui: Any, logic: PanelLogic, parameters: Callable[[], Any]) -> None:
        self._ui, self._logic, self._parameters = ui, logic, parameters
        self._filling = False

    def connect(self) -> None:
        """Connect the widgets."""
        self._ui.pythonEdit.currentPath = self._logic.settings.value("pythonExecutable")
        self._ui.keepWorkerCheck.checked = self._logic.settings.value("keepWorker")
        self._ui.modelCombo.connect("activated(int)", self._onModel)
        self._ui.deviceCombo.connect("activated(int)", self._onDevice)
        self._ui.pythonEdit.connect("currentPathChanged(QString)", self._onPython)
        self._ui.keepWorkerCheck.connect("toggled(bool)", self._onKeepWorker)

    def refresh(self) -> None:
        """Show how things are."""
        parameters = self._parameters()
        busy = self._logic.run.busy
        for widget in (self._ui.modelCombo, self._ui.deviceCombo, self._ui.precisionCombo, self._ui.advancedBox):
            widget.enabled = parameters is not None and not busy
        self._ui.settingsBox.enabled = not busy
        if parameters is None:
            return
        card = self._logic.card(parameters)
        models = [(_("Automatic"), AUTOMATIC), *((c.title, name) for name, c in self._logic.models.cards.items())]
        self._fill(self._ui.modelCombo, models, parameters.model)
        self._fill(self._ui.deviceCombo, self._deviceRows(), parameters.device)
        if card is not None:
            # Said here, for the box is too narrow for a title.
            taken = paragraphs([_("Takes: {title}.").format(title=card.title)]) + "<br>"
            say(self._ui.modelText, (taken if parameters.model == AUTOMATIC else "") + card_text.summary(card))
        else:
            fitting = [_("No model fits the chosen volumes yet.")] if not self._logic.models.problems else []
            say(self._ui.modelText, paragraphs([*fitting, *self._logic.models.problems]))
        self._ui.uncertaintyCheck.enabled = self._ui.ttaCheck.enabled = card is None or card.runtime != "threshold"
        say(self._ui.pythonLine, self._pythonLine())

    def _deviceRows(self) -> list[tuple[str, str]]:
        rows = [(_("Automatic"), AUTOMATIC)]
        for device in self._logic.run.devices:
            name, title = str(device.get("name")), str(device.get("title"))
            total = device.get("memory_total_mb")
            memory = _("{size:.0f} GB").format(size=total / 1024) if isinstance(total, int) else _("memory not known")
            rows.append((f"{name}: {title}, {memory}", name))
        return rows if len(rows) > 1 else [*rows, (_("cpu"), "cpu")]

    def _pythonLine(self) -> str:
        greeting = self._logic.run.link.greeting
        if greeting is None:
            return ""
        # The rule without weights needs no library.
        names = ", ".join(str(name) for name in greeting.get("runtimes") or () if name != "threshold")
        return _("The worker has: {runtimes}.").format(runtimes=names) if names else ""

    def _fill(self, combo: Any, rows: list[tuple[str, str]], current: str) -> None:
        if current not in [value for _text, value in rows]:
            rows = [*rows, (_("{name} (not at hand)").format(name=current), current)]
        texts = [text for text, _value in rows]
        if [combo.itemText(n) for n in range(combo.count)] != texts:
            combo.clear()
            for text, value in rows:
                combo.addItem(text, value)
        place = [value for _text, value in rows].index(current)
        if combo.currentIndex != place:
            combo.currentIndex = place
        combo.toolTip = texts[place]

    def _onModel(self, index: int) -> None:
        self._parameters().model = str(self._ui.modelCombo.itemData(index))

    def _onDevice(self, index: int) -> None:
        self._parameters().device = str(self._ui.deviceCombo.itemData(index))

    def _onPython(self, path: str) -> None:
        self._logic.usePythonSoon(path)

    def _onKeepWorker(self, keep: bool) -> None:
        self._logic.settings.setValue("keepWorker", bool(keep))
