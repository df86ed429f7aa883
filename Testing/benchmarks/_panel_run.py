"""Whole runs of the real panel with the real worker: `panel.py` prints how long the GUI thread was held up.

What is measured is the length of turns of Qt's event loop: while one lasts, Slicer answers nobody. Slice views draw
nothing in the harness, so what the graphics take comes on top in Slicer.
"""

import os
import sys
from pathlib import Path

import numpy as np
from _panel_turns import Turns

MODULE_TESTS = Path(__file__).resolve().parents[1] / "module"
# Phase to the longest turn that is promised, milliseconds; None: nothing is promised.
AIMS = {"opening": None, "run": 50, "cancel": 50, "result": 200, "slider": 100, "undo": 200}
REAL = "isles22_0001"
SLIDERS_VOXELS = 112 * 112 * 73  # what the slider's aim is for
RUNS = 3
SLIDER = (0.55, 0.6, 0.65, 0.7, 0.6, 0.5, 0.45, 0.5)


class Panel:
    """The panel with what a user does, every turn of the loop measured."""

    def __init__(self, environment):
        self._environment = environment
        self._phase = "opening"
        self._turns = Turns(self._now)
        self.widget = None

    def __enter__(self):
        self._turns.__enter__()
        return self

    def __exit__(self, *error):
        self._turns.__exit__(*error)
        if self.widget is not None:
            self.run.abandon()
            self._environment.waitUntil(lambda: not self.run.link.running, 10)

    @property
    def run(self):
        return self.widget.panel.logic.run

    def _now(self):
        if self._phase == "run" and self.run.state == "showing":
            self._phase = "result"
        return self._phase

    def open(self):
        """Open the module and wait for its worker."""
        import panel_driver

        self._in("opening", lambda: setattr(self, "widget", panel_driver.openPanel(self._environment)))
        self._turns.until(lambda: self.run.link.greeting is not None)

    def segment(self):
        """Press Run and wait until all is shown; milliseconds from the worker's last word to that."""
        before = len(self._turns.all)
        self._in("run", self.widget.ui.runButton.click)
        self._turns.until(lambda: not self.run.busy)
        self._turns.turns(20)
        if self.run.error or self._phase != "result":
            raise RuntimeError(f"no result was shown: {self.run.error}")
        return 1000 * sum(t.held for t in self._turns.all[before:] if t.phase == "result")

    def move(self, threshold):
        """Move the slider and wait until the lesions are drawn."""
        self._in("slider", lambda: setattr(self.widget.ui.thresholdSlider, "value", threshold))
        self._turns.turns(5)

    def undo(self):
        """Back to the result before."""
        self._in("undo", self.widget.ui.undoButton.click)
        self._turns.turns(5)

    def cancel(self, stage="prepare"):
        """Run, and cancel in a stage; `stage` of a worker that does not hear ends with killing it."""
        self._in("run", self.widget.ui.runButton.click)
        self._turns.until(lambda: self.run.stage == stage)
        self._in("cancel", self.widget.ui.runButton.click)
        self._turns.until(lambda: not self.run.busy)
        self._turns.turns(20)

    def _in(self, phase, call):
        """Do what a click does, in a turn of its own."""
        from PySide6 import QtCore

        self._turns.turns(5)
        self._phase = phase
        QtCore.QTimer.singleShot(0, call)
        self._turns.turns(1)

    def longest(self, phase):
        return self._turns.longest(phase)


def everything(environment, case):
    """Phase to its longest turn, what showing took together in each run, and the size of the reference volume."""
    sys.path.append(str(MODULE_TESTS))
    with Panel(environment) as panel:
        panel.open()
        case(panel.widget)
        environment.processEvents(0.5)  # the checks of the volumes, which come before any run
        together = [panel.segment() for _run in range(RUNS)]
        size = panel.widget.panel.result.nodes.reference.GetImageData().GetDimensions()
        for threshold in SLIDER:
            panel.move(threshold)
        panel.undo()
        panel.cancel()
        # As if it were caught in a library: it must be killed, with all that it has started.
        import psutil

        panel.segment()
        worker = psutil.Process(panel.run.link.greeting["pid"])
        worker.suspend()
        panel.cancel("running")
        return {phase: panel.longest(phase) for phase in AIMS}, together, size


def sample(widget):
    """The bundled synthetic patient."""
    widget.panel.logic.loadSample(widget.panel.parameters)


def eightfold(widget):
    """The synthetic patient with each voxel cut into eight: as large as a T1-weighted scan of the whole head."""
    import slicer

    found = widget.panel.logic.loadSample(widget.panel.parameters)
    for role in ("dwi", "adc"):
        node = found[role]
        array = slicer.util.arrayFromVolume(node)
        for axis in range(3):
            array = array.repeat(2, axis=axis)
        corner = np.eye(4)
        corner[:3, :3] *= 0.5
        corner[:3, 3] = -0.25
        matrix = slicer.util.arrayFromVTKMatrix(_ijkToRas(node)) @ corner
        slicer.util.updateVolumeFromArray(node, array)
        node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))


def real(widget):
    """A real case of `STROKESEG_CASES`."""
    folder = Path(os.environ["STROKESEG_CASES"]) / REAL
    widget.panel.input.load([str(folder / "dwi.nii.gz"), str(folder / "adc.nii.gz")])


def _ijkToRas(node):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix


def report(restart):
    """Print the figures; `restart` gives a Slicer that was just started."""
    cases = [("the synthetic patient", sample), ("the same with eight times the voxels", eightfold)]
    if os.environ.get("STROKESEG_CASES"):
        cases.insert(1, (REAL, real))
    else:
        print("STROKESEG_CASES is not set: no real case")
    for title, case in cases:
        longest, together, size = everything(restart(), case)
        print(f"{title}, {' x '.join(str(n) for n in size)} voxels; the longest turn of Slicer's loop, milliseconds")
        for phase, turn in longest.items():
            held, aim = 1000 * turn.held, None if phase == "slider" and np.prod(size) > SLIDERS_VOXELS else AIMS[phase]
            verdict = "" if aim is None else f"(aim: {aim})" + (" MISSED" if held > aim else "")
            rest = f"computing {1000 * turn.computed:.1f}; besides, other programs took {1000 * turn.others:.1f}"
            print(f"  {phase:8s} {held:7.1f} {verdict:19s} {rest}")
            print(f"           {turn.doing or 'nothing of the panel'}")
        shown = ", ".join(f"{milliseconds:.0f}" for milliseconds in together)
        print(f"  showing a result, all its turns together, run after run: {shown} ms")
