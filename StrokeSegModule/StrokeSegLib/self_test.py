"""The module's self-test: what a user does, in a running Slicer, with or without a main window."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer

from .lesion_table import totals
from .result_nodes import ResultNodes, ownSegments, results

_RUN_SECONDS = 40.0


class SelfTest:
    """Steps of the self-test; each says what it did."""

    def __init__(self) -> None:
        self._widget = slicer.modules.strokeseg.widgetRepresentation().self()
        self._began = time.monotonic()

    def all(self) -> None:
        """All steps."""
        self._widget.enter()
        nodes = self.run()
        self.threshold(nodes)
        self.sceneSavedAndLoaded()
        self.cancel()
        self.sceneClosed()
        self._say(f"done, {time.monotonic() - self._began:.1f} s in all")

    def run(self) -> ResultNodes:
        """Try it: the sample is loaded and segmented; volume and table agree with each other."""
        self._widget.ui.tryButton.click()
        self._wait(lambda: not self._panel.logic.run.busy, "the run ends")
        assert self._panel.logic.run.error is None, self._panel.logic.run.error
        self._wait(lambda: self._panel.result.nodes is not None, "the result is shown")
        nodes: ResultNodes = self._panel.result.nodes
        numbers = totals(nodes.table)
        assert numbers["count"] > 0
        assert abs(self._millilitres(nodes) - numbers["volume_ml"]) < 0.05
        self._say(f"run: {numbers['volume_ml']:.1f} ml in {numbers['count']:.0f} lesions, {self._seconds()}")
        return nodes

    def threshold(self, nodes: ResultNodes) -> None:
        """A higher threshold draws less, the model's own draws the same again."""
        before = self._millilitres(nodes)
        self._widget.ui.thresholdSlider.value = 0.9
        self._wait(lambda: self._millilitres(nodes) < before, "the lesions shrink")
        self._say(f"threshold 0.9: {self._millilitres(nodes):.1f} ml instead of {before:.1f} ml")
        self._widget.ui.resetButton.click()
        assert abs(self._millilitres(nodes) - before) < 0.001

    def sceneSavedAndLoaded(self) -> None:
        """A scene that was saved and loaded has the result, and the slider works."""
        before = self._millilitres(results()[0])
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "self-test.mrb")
            assert slicer.util.saveScene(path)
            slicer.mrmlScene.Clear()
            slicer.util.loadScene(path)
        self._turn(0.2)
        nodes = results()[0]
        assert abs(self._millilitres(nodes) - before) < 0.001
        self._widget.ui.thresholdSlider.value = 0.9
        self._wait(lambda: self._millilitres(nodes) < before, "the slider works on the loaded scene")
        self._say("scene saved and loaded: the result is there, the slider works")

    def cancel(self) -> None:
        """A cancelled run ends within two seconds and leaves the scene as it was."""
        count = len(results())
        self._start()
        began = time.monotonic()
        self._widget.ui.runButton.click()
        self._wait(lambda: not self._panel.logic.run.busy, "the cancelled run ends", 5.0)
        assert self._panel.logic.run.cancelled
        assert len(results()) == count
        self._say(f"cancelled within {time.monotonic() - began:.2f} s")

    def sceneClosed(self) -> None:
        """A scene that is closed during a run ends it."""
        self._start()
        slicer.mrmlScene.Clear()
        self._turn(0.2)
        assert not self._panel.logic.run.busy
        assert not results()
        self._say("scene closed during a run: the run has ended")

    @property
    def _panel(self) -> Any:
        return self._widget.panel

    def _start(self) -> None:
        self._turn(0.05)
        self._widget.ui.tryButton.click()
        self._wait(lambda: bool(self._panel.logic.run.state == "running"), "the run begins")

    def _millilitres(self, nodes: ResultNodes) -> float:
        """Of the segment itself, from its own geometry."""
        segmentId = next(i for i, _value in ownSegments(nodes.segmentation))
        voxels = slicer.util.arrayFromSegmentInternalBinaryLabelmap(nodes.segmentation, segmentId)
        value = nodes.segmentation.GetSegmentation().GetSegment(segmentId).GetLabelValue()
        spacing = nodes.reference.GetSpacing()
        return float((voxels == value).sum() * spacing[0] * spacing[1] * spacing[2] / 1000.0)

    def _wait(self, condition: Callable[[], bool], what: str, seconds: float = _RUN_SECONDS) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"waited in vain: {what}"
            self._turn(0.02)

    def _turn(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            slicer.app.processEvents()
            time.sleep(0.005)

    def _seconds(self) -> str:
        return f"{self._panel.logic.run.seconds:.1f} s"

    def _say(self, text: str) -> None:
        logging.info("StrokeSeg self-test: %s", text)
        print(f"StrokeSeg self-test: {text}")  # noqa: T201  the self-test's output
