"""StrokeSeg: stroke lesion segmentation in brain MRI. The parts are in `StrokeSegLib`."""

import logging
import sys
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin
from StrokeSegLib import engine_path, requirements
from StrokeSegLib.setup_notice import SetupNotice


class StrokeSeg(ScriptedLoadableModule):
    """Describes the module to Slicer."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "StrokeSeg"
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.contributors = ["The StrokeSeg developers"]
        parent.helpText = _(
            "Finds stroke lesions in brain MRI (diffusion-weighted images and ADC maps, T1-weighted images) and shows "
            "them as overlay and table. Research use only, not a medical device. "
            '<a href="https://github.com/StrokeSeg/SlicerStrokeSeg">Documentation</a>'
        )
        parent.acknowledgementText = _("StrokeSeg stands on 3D Slicer, OpenVINO, PyTorch and MONAI.")
        slicer.app.connect("startupCompleted()", offer)


_offered = False


def offer() -> None:
    """Offer the sample and the terms of segments, once; an incomplete installation is told by the panel."""
    global _offered  # noqa: PLW0603  of this Slicer, not of one panel
    if _offered:
        return
    try:
        engine_path.add()
        from StrokeSegLib import sample_data, terminology

        terminology.loadTerminologies()
        sample_data.register()
        _offered = True
    except Exception:  # Slicer's start must not end here
        logging.exception("StrokeSeg is not complete; its panel says what is missing.")


class StrokeSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel's life: made, entered, left, its scene closed, reloaded, ended."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: Any = None
        self.panel: Any = None
        self.notice: Any = None
        self.ui: Any = None
        self._entered = False
        self._observed: Any = None

    def setup(self) -> None:
        """Build the panel; without the packages only what is missing."""
        ScriptedLoadableModuleWidget.setup(self)
        offer()  # a module that was added to a running Slicer has missed its start
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/StrokeSeg.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        self.ui.StrokeSeg = uiWidget
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = StrokeSegLogic()
        self.notice = SetupNotice(self.ui, self.onCheckAgain)
        self.notice.connect()
        scene = slicer.mrmlScene
        for event, slot in (
            (scene.StartCloseEvent, self.onSceneStartClose),
            (scene.StartImportEvent, self.onSceneStartImport),
            (scene.EndCloseEvent, self.onSceneReady),
            (scene.EndImportEvent, self.onSceneReady),
            (scene.NodeAddedEvent, self.onNodesChanged),
            (scene.NodeRemovedEvent, self.onNodesChanged),
        ):
            self.addObserver(scene, event, slot)
        self._makePanel()

    def _makePanel(self) -> None:
        problem = self.logic.prepare()
        sections = ("inputSection", "modelSection", "runSection", "resultSection", "aboutSection")
        usable = self.logic.panel is not None
        for name in sections:
            getattr(self.ui, name).setVisible(usable)
        if not usable:
            self.notice.refresh(requirements.missingHere(), problem)
            return
        from StrokeSegLib.panel import Panel

        self.panel = Panel(self.ui, self.logic.panel, self.notice)
        self.panel.connect()
        self.useParameterNode()

    def onCheckAgain(self) -> None:
        """Packages may have been installed."""
        if self.panel is None:
            self._makePanel()
        else:
            self.logic.panel.lookForPackages()
        if self.panel is not None and self._entered:
            self.panel.enter()

    def enter(self) -> None:
        """The user comes to the module."""
        self._entered = True
        if self.panel is not None:
            self.useParameterNode()
            self.panel.enter()

    def exit(self) -> None:
        """The user goes to another module; a run goes on."""
        self._entered = False
        if self.panel is not None:
            self.panel.leave()

    def cleanup(self) -> None:
        """The module is reloaded, or Slicer ends."""
        self._observe(None)
        self.removeObservers()
        if self.panel is not None:
            self.panel.close()
            self.panel = None

    def onSceneStartClose(self, _caller: Any, _event: Any) -> None:
        """A run belongs to its scene: it ends, with its worker."""
        if self.panel is not None:
            self.logic.panel.run.abandon()
            self.letParameterNodeGo()

    def onSceneStartImport(self, _caller: Any, _event: Any) -> None:
        """The parameter node may be replaced, and the nodes that it names come later."""
        if self.panel is not None:
            self.letParameterNodeGo()

    def onSceneReady(self, _caller: Any, _event: Any) -> None:
        """The scene is empty, or another one was loaded."""
        if self.panel is not None:
            self.useParameterNode()

    def onNodesChanged(self, _caller: Any, _event: Any) -> None:
        """A node came or went."""
        if self.panel is not None:
            self.panel.onNodesChanged()

    def useParameterNode(self) -> None:
        """Take the scene's parameter node, which a loaded scene may have replaced."""
        node = ScriptedLoadableModuleLogic.getParameterNode(self.logic)
        if self.panel.parameters is None or self.panel.parameters.parameterNode is not node:
            self.panel.setParameters(self.logic.getParameterNode())
            self._observe(node)
        else:
            self.panel.refreshSoon()

    def letParameterNodeGo(self) -> None:
        """Until the scene is whole again."""
        self._observe(None)
        self.panel.setParameters(None)

    def _observe(self, node: Any) -> None:
        modified = vtk.vtkCommand.ModifiedEvent
        if self._observed is not None:
            self.removeObserver(self._observed, modified, self.onParameters)
        self._observed = node
        if node is not None:
            self.addObserver(node, modified, self.onParameters)

    def onParameters(self, _caller: Any, _event: Any) -> None:
        """Something was chosen."""
        if self.panel is not None:
            self.panel.refreshSoon()

    def onReload(self) -> None:
        """Reload the parts, too, not this file only."""
        forgetParts()
        ScriptedLoadableModuleWidget.onReload(self)


class StrokeSegLogic(ScriptedLoadableModuleLogic):
    """What can be done without a window."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleLogic.__init__(self, parent)
        self.panel: Any = None

    def prepare(self) -> str:
        """Find the engine and what it needs inside Slicer.

        Returns:
            What is wrong with the installation, beside packages that are missing; then `panel` stays None.
        """
        if self.panel is None:
            try:
                engine_path.add()
                from StrokeSegLib.panel_logic import PanelLogic

                self.panel = PanelLogic()
            except ImportError:
                logging.exception("StrokeSeg cannot be used yet.")
                return "" if requirements.missingHere() else _("A part of it cannot be loaded; the log names it.")
            except Exception as error:  # an installation that is not whole must not look like an empty panel
                logging.exception("StrokeSeg cannot be used.")
                return str(error)
        return ""

    def getParameterNode(self) -> Any:
        """The scene's parameter node, typed."""
        from StrokeSegLib import parameters

        return parameters.typed(super().getParameterNode())

    def segmentVolumes(self, **inputs: Any) -> Any:
        """As `StrokeSegLib.segmentVolumes`, which says more."""
        from StrokeSegLib import segmentVolumes

        return segmentVolumes(**inputs)


class StrokeSegTest(ScriptedLoadableModuleTest):
    """To be run in Slicer by "Reload and Test" or ``--testing``; under a minute."""

    def runTest(self) -> None:
        """Everything, one step after the other."""
        self.setUp()
        self.test_StrokeSeg()

    def setUp(self) -> None:
        """An empty scene."""
        slicer.mrmlScene.Clear()

    def test_StrokeSeg(self) -> None:
        """Sample, run, table, threshold, cancel, scene saved and loaded, scene closed during a run."""
        from StrokeSegLib.self_test import SelfTest

        SelfTest().all()


def forgetParts() -> None:
    """Let Python load `StrokeSegLib` anew; no worker of the old one stays."""
    transports = sys.modules.get("StrokeSegLib.transport_base")
    if transports is not None:
        transports.endAll()
    for name in [n for n in sys.modules if n.partition(".")[0] == "StrokeSegLib"]:
        if name != "StrokeSegLib.parameters":  # the views of the scene's node live on
            del sys.modules[name]
