"""Cancel: in every stage within a second, nothing of the run stays, and the next run works."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import panel_driver as drive
import psutil
import pytest

HELLO, SENDING, SHOWING = "hello", "sending", "showing"
STAGES = ("read", "prepare", "model", "postprocess", "lesions", "write", "report")
PROMISED_S = 1.0

# The engine's worker, which stays in a stage, or before its first word, as long as a file names that.
PINNED = """
import time
from contextlib import contextmanager
from pathlib import Path
def stay(here):
    while PIN.exists() and PIN.read_text() == here:
        time.sleep(0.01)
PIN = Path({pin!r})
stay("hello")
from strokeseg.events import Monitor
whole = Monitor.stage
@contextmanager
def stage(self, name, message=""):
    with whole(self, name, message):
        stay(name)
        yield
Monitor.stage = stage
from strokeseg.worker import main
main()
"""


class Desk:
    """The panel with the synthetic patient, and the file that pins its worker."""

    def __init__(self, environment: Any, folder: Path) -> None:
        self.environment = environment
        self.pin = folder / "pin"
        self.widget = drive.openPanel(environment)
        self.run = self.widget.panel.logic.run
        self.run.abandon()
        environment.waitUntil(lambda: not self.run.link.running, 10)
        self.run.link._command = [sys.executable, "-c", PINNED.format(pin=str(self.pin))]
        self.widget.panel.logic.loadSample(self.widget.panel.parameters)
        environment.processEvents(0.05)

    def scene(self) -> Any:
        """What a cancelled run must leave as it is."""
        import slicer

        nodes = [slicer.mrmlScene.GetNthNode(n) for n in range(slicer.mrmlScene.GetNumberOfNodes())]
        kinds = ("vtkMRMLSegmentationNode", "vtkMRMLTableNode", "vtkMRMLVolumeNode")
        content = {n.GetID(): n.GetMTime() for n in nodes if any(n.IsA(kind) for kind in kinds)}
        return sorted((n.GetID(), n.GetName()) for n in nodes), content

    def cancelled(self, when: Any) -> float:
        """Begin a run and press Cancel as soon as `when` is true; seconds from that to the end of the run."""
        before, pressed, places = self.scene(), [], []

        def press() -> None:
            assert self.run.busy, "it was over before anybody could press"
            pressed.append(time.monotonic())
            if self.run._exchange is not None:
                places.append(self.run._exchange.folder)
            self.widget.ui.runButton.click()

        def look() -> None:
            shown()
            if not pressed and self.run.busy and when():
                pressed.append(0.0)
                self.run.link._transport.later(0.0, press)

        shown, self.run.onChanged = self.run.onChanged, look
        try:
            self.widget.ui.runButton.click()
            self.environment.waitUntil(lambda: len(pressed) == 2 and not self.run.busy, drive.SECONDS)
        finally:
            self.run.onChanged = shown
        seconds = time.monotonic() - pressed[1]
        assert self.run.cancelled
        assert self.run.error is None
        self.environment.processEvents(0.05)
        assert self.widget.ui.statusLabel.text == "Cancelled. Nothing was changed."
        assert self.scene() == before
        assert not any(place.exists() for place in places)
        return seconds

    def segment(self) -> None:
        """A run that goes through."""
        self.widget.ui.runButton.click()
        drive.finish(self.environment, self.widget)
        assert self.run.error is None
        assert "ml in 4 lesions" in self.widget.ui.summaryLabel.text


@pytest.fixture
def desk(slicerEnvironment: Any, tmp_path: Path) -> Any:
    return Desk(slicerEnvironment, tmp_path)


def test_a_run_is_cancelled_within_a_second_in_each_stage(desk: Desk) -> None:
    desk.segment()
    stages = (SENDING, *STAGES, SHOWING)
    seconds = {stage: desk.cancelled(lambda now=stage: desk.run.stage == now) for stage in stages}
    assert max(seconds.values()) < PROMISED_S, seconds
    desk.segment()
    assert desk.widget.panel.result.nodes.previous is not None


def test_a_run_that_hears_nothing_is_cancelled_within_a_second_in_each_stage(desk: Desk) -> None:
    seconds = {}
    for stage in STAGES:
        desk.pin.write_text(stage)
        seconds[stage] = desk.cancelled(lambda now=stage: desk.run.stage == now)
        pid = desk.run.link.greeting["pid"]
        desk.environment.waitUntil(lambda pid=pid: not psutil.pid_exists(pid), 10)
    assert max(seconds.values()) < PROMISED_S, seconds
    desk.pin.unlink()
    desk.segment()


def test_a_run_is_cancelled_within_a_second_before_the_worker_has_said_hello(desk: Desk) -> None:
    desk.pin.write_text(HELLO)
    assert desk.cancelled(lambda: desk.run.state == "running") < PROMISED_S
    assert desk.run.link.greeting is None
    desk.pin.unlink()
    desk.segment()


def test_results_are_read_in_pieces_and_shown_in_one(slicerEnvironment: Any, tmp_path: Path) -> None:
    import numpy as np
    import plain_mrml as mrml
    import slicer

    from strokeseg.models import ModelStore

    mrml.start()
    array = np.random.default_rng(0).random((110, 120, 100)).astype(np.float32)  # nothing that could be compressed
    volume = mrml.addVolume("dwi", array, mrml.PLAIN)
    mask = np.zeros(array.shape, np.uint8)
    mask[40:60, 50:60, 30:40] = 1
    mrml.writeResult(tmp_path / "result", mask, mrml.PLAIN, array)
    before = slicer.mrmlScene.GetNumberOfNodes()
    pieces, nodes = 0, None
    showing = mrml.panel.results.SceneResults().showing(
        tmp_path / "result", volume, ModelStore().card("adc-threshold"), {"dwi": volume}
    )
    while nodes is None:
        assert slicer.mrmlScene.GetNumberOfNodes() == before
        try:
            next(showing)
            pieces += 1
        except StopIteration as shown:
            nodes = shown.value
    assert pieces > 2  # one for each file where all were read at once
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(nodes.probability), array.T)


def test_a_half_read_result_leaves_no_open_file(slicerEnvironment: Any, tmp_path: Path) -> None:
    import numpy as np
    import plain_mrml as mrml

    from strokeseg.models import ModelStore

    mrml.start()
    array = np.zeros((20, 20, 20), np.uint8)
    volume = mrml.addVolume("dwi", array.astype(np.float32), mrml.PLAIN)
    mrml.writeResult(tmp_path / "result", array, mrml.PLAIN)
    showing = mrml.panel.results.SceneResults().showing(tmp_path / "result", volume, ModelStore().card("adc-threshold"))
    next(showing)
    showing.close()
    opened = [file.path for file in psutil.Process(os.getpid()).open_files()]
    assert not [path for path in opened if path.startswith(str(tmp_path))]
