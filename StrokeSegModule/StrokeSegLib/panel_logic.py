"""What the panel's sections share and do without a widget: models, roles, checks, the run, and the results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from strokeseg.errors import InputError
from strokeseg.models import ModelCard

from . import parameters as fields
from . import requirements, roles, sample_data
from .model_choice import ModelChoice, missingRoles, rolesUsed, whyNot
from .placement import ijkToWorld
from .result_nodes import ResultNodes, nodesOf, resultFor
from .run import Run
from .settings import Settings

_TYPING_MILLISECONDS = 500  # after the last letter of a path


class PanelLogic:
    """One for a panel.

    Attributes:
        settings: Of this computer and user.
        models: The models at hand.
        run: The run.
        findings: Role to (severity, sentences), as `refreshFindings` found them.
        missing: Names of packages that the worker's Python lacks, as far as known without asking it.
        onRefresh: Called with nothing when sections must look at everything anew.
    """

    def __init__(self) -> None:
        self.settings = Settings()
        self.models = ModelChoice()
        self.run = Run(self.settings)
        self.findings: dict[str, tuple[str, str]] = {}
        self._lookedAt: tuple[Any, ...] = ()
        self.onRefresh: Callable[[], None] = lambda: None
        self.missing: list[str] = []
        self._python: str | None = None
        self._typing = qt.QTimer()
        self._typing.setSingleShot(True)
        self._typing.setInterval(_TYPING_MILLISECONDS)
        self._typing.connect("timeout()", self.settle)
        self.lookForPackages()

    def lookForPackages(self) -> None:
        """Look again which packages are missing; of another Python only the worker itself can tell."""
        self.missing = [] if self.settings.value("pythonExecutable") else requirements.missingHere()

    def usePythonSoon(self, path: str) -> None:
        """`usePython` once the path has stayed as it is for a while: each letter would end the worker."""
        self._python = path
        self._typing.start()

    def settle(self) -> None:
        """Do now what waits for the end of typing."""
        self._typing.stop()
        path, self._python = self._python, None
        if path is not None:
            self.usePython(path)

    def usePython(self, path: str) -> None:
        """Change the worker's Python; "" is Slicer's own."""
        if path != self.settings.value("pythonExecutable"):
            self.settings.setValue("pythonExecutable", path)
            self.run.abandon()
            self.run.error = None
            self.run.link.greeting = None
            self.lookForPackages()
            self.onRefresh()

    def card(self, parameters: Any) -> ModelCard | None:
        """The card of the model that would run; None where none fits."""
        return self.models.card(parameters.model, fields.nodesByRole(parameters))

    def whyNot(self, parameters: Any) -> str:
        """Why a run is not possible; "" where it is."""
        if self.missing:
            return _("Packages are missing: {names}. See the top of the panel.").format(names=", ".join(self.missing))
        return whyNot(
            self.models,
            parameters.model,
            fields.nodesByRole(parameters),
            self.findings,
            fields.windowOf(parameters),
        )

    def refreshFindings(self, parameters: Any) -> bool:
        """Check the chosen volumes again where they have changed; says whether anything was looked at."""
        nodes = fields.nodesByRole(parameters)
        now = tuple((role, *_stamp(node)) for role, node in sorted(nodes.items()))
        if now == self._lookedAt:
            return False
        self._lookedAt = now
        self.findings = roles.inputFindings(nodes)
        return True

    def start(self, parameters: Any) -> str:
        """Run on what is chosen.

        Returns:
            Why it was not begun; "" where it was.
        """
        self.settle()
        self.refreshFindings(parameters)
        reason = _("A run is going on.") if self.run.busy else self.whyNot(parameters)
        if reason:
            return reason
        nodes = fields.nodesByRole(parameters)
        card = self.models.card(parameters.model, nodes)
        assert card is not None
        nodes = {role: nodes[role] for role in rolesUsed(card, nodes)}
        options = fields.engineOptions(parameters)
        if "dwi" in nodes and (b := roles.bValue(nodes["dwi"])):
            options["b_value"] = b
        if all(node.GetAttribute(sample_data.SYNTHETIC) for node in nodes.values()):
            options["synthetic"] = True
        self.run.start(nodes, card, options)
        return ""

    def choose(self, parameters: Any, found: Mapping[str, Any]) -> None:
        """Put volumes to their roles.

        Volumes of a role that is filled begin a new patient: what is chosen for other roles is then let go, for two
        patients must not be mixed.
        """
        old = fields.nodesByRole(parameters)
        if any(role in old and old[role] is not node for role, node in found.items()):
            for role in set(old) - set(found):
                setattr(parameters, role, None)
        for role, node in found.items():
            setattr(parameters, role, node)

    def guess(self, parameters: Any, nodes: Iterable[Any] | None = None) -> dict[str, Any]:
        """Choose by names and tags; None: among all volumes of the scene."""
        found = roles.guessAll(nodesOf("vtkMRMLScalarVolumeNode") if nodes is None else nodes)
        self.choose(parameters, found)
        return found

    def loadSample(self, parameters: Any) -> dict[str, Any]:
        """Load the synthetic patient and choose it; raises as `sample_data.load` does.

        The model stays as it is where it can run on the patient.
        """
        found = sample_data.load()
        self.choose(parameters, found)
        card = self.models.card(parameters.model, found)
        if card is None or missingRoles(card, found):
            parameters.model = fields.AUTOMATIC
        showInSlices(found["dwi"])
        return found

    def shown(self, parameters: Any) -> ResultNodes | None:
        """The result that the section Result is about: the chosen one, else that on a chosen volume."""
        node = parameters.result
        if node is not None:
            return ResultNodes.of(node)
        for volume in fields.nodesByRole(parameters).values():
            nodes = resultFor(volume)
            if nodes is not None:
                return nodes
        return None


def showInSlices(volume: Any) -> None:
    """Show a volume in all slice views, and all of it; without main window there are none."""
    if volume is not None and slicer.app.layoutManager() is not None:
        slicer.util.setSliceViewerLayers(background=volume, foreground=None, label=None, fit=True)


def isInSlices(volume: Any) -> bool:
    """Whether a volume is shown in a slice view."""
    shown = nodesOf("vtkMRMLSliceCompositeNode")
    return any(volume.GetID() in (c.GetBackgroundVolumeID(), c.GetForegroundVolumeID()) for c in shown)


def _stamp(node: Any) -> tuple[Any, ...]:
    """What the checks depend on."""
    image = node.GetImageData()
    try:
        place = ijkToWorld(node).tobytes()
    except InputError as error:  # what is wrong with the place is the checks' to say
        place = str(error).encode()
    return node.GetID(), 0 if image is None else image.GetMTime(), place
