"""The module's self-test: what a user does, in a running Slicer, with or without a main window."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from strokeseg.resources import resource_path

from . import requirements
from .lesion_table import CENTROID, SIDE, VOLUME, readRows, totals
from .result_nodes import ResultNodes, ownSegments, results

_RUN_SECONDS = 40.0
_OTHER_SECONDS = 10.0
_CANCEL_SECONDS = 2.0  # of a computer that may be busy with something else; the panel's own bar is one second
_ALL_SECONDS = 60.0
# How much of what was drawn into the synthetic patient the simplest model finds at least, and any model at most; and
# how far from the middle of the drawn lesion the middle of the found one may lie.
_SHARE_FOUND = (0.4, 1.3)
_APART_MM = 15.0


class SelfTest:
    """Steps of the self-test; each says what it did, and raises an AssertionError that says what went wrong."""

    def __init__(self) -> None:
        self._widget = slicer.modules.strokeseg.widgetRepresentation().self()
        self._began = time.monotonic()

    def all(self) -> None:
        """All steps."""
        self.complete()
        self._widget.enter()
        try:
            self.threshold(self.run())
            self.sceneSavedAndLoaded()
            self.cancel()
            self.sceneClosed()
        finally:
            self._panel.logic.run.abandon()
        took = time.monotonic() - self._began
        self._say(f"done, {took:.1f} s in all")
        assert took < _ALL_SECONDS, f"the self-test took {took:.0f} s, more than {_ALL_SECONDS:.0f} s"

    def complete(self) -> None:
        """Everything that a run needs is installed."""
        assert self._panel is not None, f"StrokeSeg is not complete. {self._widget.ui.setupText.toPlainText()}"
        missing = self._panel.logic.missing
        assert not missing, f"Packages are missing. {requirements.howToInstall(missing)}"

    def run(self) -> ResultNodes:
        """Try it: the sample is loaded and segmented; volume, place and table are those of the drawn lesions."""
        self._widget.ui.tryButton.click()
        self._wait(lambda: not self._panel.logic.run.busy, "the run ends")
        self._wait(lambda: self._panel.result.nodes is not None, "the result is shown")
        nodes: ResultNodes = self._panel.result.nodes
        drawn = json.loads(resource_path("Samples", "synthetic-patient", "sample.json").read_text(encoding="utf-8"))
        numbers, rows = totals(nodes.table), readRows(nodes.table)
        found, wanted = self._millilitres(nodes), float(drawn["lesion_volume_ml"])
        low, high = (share * wanted for share in _SHARE_FOUND)
        assert low < found < high, f"{found:.1f} ml were found of {wanted:.1f} ml that are there"
        assert abs(found - numbers["volume_ml"]) < 0.05, f"the table has {numbers['volume_ml']:.2f} ml, not {found:.2f}"
        largest = max(rows, key=lambda row: float(row[VOLUME]))
        apart = math.dist([largest[c] for c in CENTROID], drawn["lesions"][0]["centroid_ras_mm"])
        assert apart < _APART_MM, f"the largest lesion lies {apart:.0f} mm from where it was drawn"
        assert largest[SIDE] == "right", f"the largest lesion is told to be on the side '{largest[SIDE]}'"
        self._say(
            f"run: {found:.1f} ml of {wanted:.1f} ml in {len(rows)} lesions, the largest on the right, {apart:.0f} mm "
            f"from its place, {self._panel.logic.run.seconds:.1f} s"
        )
        return nodes

    def threshold(self, nodes: ResultNodes) -> None:
        """A higher threshold draws less, in the table, too; the model's own draws the same again."""
        before = self._millilitres(nodes)
        self._widget.ui.thresholdSlider.value = 0.9
        self._wait(lambda: self._millilitres(nodes) < before, "the lesions shrink")
        after, told = self._millilitres(nodes), totals(nodes.table)["volume_ml"]
        assert abs(after - told) < 0.05, f"the table has {told:.2f} ml, not {after:.2f}"
        self._widget.ui.resetButton.click()
        again = self._millilitres(nodes)
        assert abs(again - before) < 0.001, f"reset gives {again:.2f} ml, not {before:.2f}"
        self._say(f"threshold 0.9: {after:.1f} ml instead of {before:.1f} ml; reset: {again:.1f} ml")

    def sceneSavedAndLoaded(self) -> None:
        """A scene that was saved and loaded has the result, and the slider works."""
        before = self._millilitres(results()[0])
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "self-test.mrb")
            assert slicer.util.saveScene(path), "the scene was not saved"
            slicer.mrmlScene.Clear()
            assert not results(), "a result outlives its scene"
            slicer.util.loadScene(path)
        self._wait(lambda: self._panel.result.nodes is not None, "the loaded result is shown", _OTHER_SECONDS)
        nodes: ResultNodes = self._panel.result.nodes
        after = self._millilitres(nodes)
        assert abs(after - before) < 0.001, f"the loaded scene has {after:.2f} ml, not {before:.2f}"
        self._widget.ui.thresholdSlider.value = 0.9
        self._wait(lambda: self._millilitres(nodes) < before, "the slider works on the loaded scene", _OTHER_SECONDS)
        self._say(f"scene saved and loaded: {after:.1f} ml are there, the slider works")

    def cancel(self) -> None:
        """A cancelled run ends at once and leaves the scene as it was."""
        count = len(results())
        self._start()
        began = time.monotonic()
        self._widget.ui.runButton.click()
        self._wait(lambda: not self._panel.logic.run.busy, "the cancelled run ends", _OTHER_SECONDS)
        took = time.monotonic() - began
        assert self._panel.logic.run.cancelled, "the run came to its end instead of being cancelled"
        assert took < _CANCEL_SECONDS, f"to cancel took {took:.1f} s"
        assert len(results()) == count, "a cancelled run left a result"
        self._say(f"cancelled within {took:.2f} s")

    def sceneClosed(self) -> None:
        """A scene that is closed during a run ends it, and its worker."""
        self._start()
        run = self._panel.logic.run
        slicer.mrmlScene.Clear()
        self._wait(lambda: not run.busy, "the run ends with its scene", _OTHER_SECONDS)
        self._wait(lambda: not run.link.running, "the worker ends with the scene", _OTHER_SECONDS)
        assert not results(), "a closed scene has a result"
        self._say("scene closed during a run: the run and its worker have ended")

    @property
    def _panel(self) -> Any:
        return self._widget.panel

    def _start(self) -> None:
        self._turn(0.05)
        self._widget.ui.tryButton.click()
        self._wait(lambda: bool(self._panel.logic.run.state == "running"), "the run begins", _OTHER_SECONDS)

    def _millilitres(self, nodes: ResultNodes) -> float:
        """Of the segment itself, from its own geometry."""
        segmentId = next(i for i, _value in ownSegments(nodes.segmentation))
        voxels = slicer.util.arrayFromSegmentInternalBinaryLabelmap(nodes.segmentation, segmentId)
        value = nodes.segmentation.GetSegmentation().GetSegment(segmentId).GetLabelValue()
        return float(np.count_nonzero(voxels == value) * np.prod(nodes.reference.GetSpacing()) / 1000.0)

    def _wait(self, condition: Callable[[], bool], what: str, seconds: float = _RUN_SECONDS) -> None:
        end = time.monotonic() + seconds
        while not condition():
            error = self._panel.logic.run.error
            assert error is None, f"while waiting until {what}: {' '.join(error)}"
            assert time.monotonic() < end, f"waited {seconds:.0f} s in vain until {what}"
            self._turn(0.02)

    def _turn(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            slicer.app.processEvents()
            time.sleep(0.005)

    def _say(self, text: str) -> None:
        print(f"StrokeSeg self-test: {text}")  # noqa: T201  the self-test's output
