"""The module's self-test passes on a whole panel, says what it did, and fails on what is broken."""

from __future__ import annotations

import json
import re
import sys
import time
from typing import Any

import panel_driver as drive
import pytest


def part(name: str) -> Any:
    """A module of the panel as it is loaded now."""
    return sys.modules[f"StrokeSegLib.{name}"]


def selfTest() -> Any:
    """The self-test of the panel that is loaded now."""
    from StrokeSegLib.self_test import SelfTest

    return SelfTest()


def test_it_passes_without_main_window_within_a_minute_and_says_what_it_did(
    headlessSlicer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    import slicer

    widget = drive.openPanel(headlessSlicer)
    began = time.monotonic()
    slicer.selfTests["StrokeSeg"]()
    assert time.monotonic() - began < 60.0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("StrokeSeg self-test: ")]
    figure = r"(\d+\.\d+)"
    sample = drive.ROOT / "Resources" / "Samples" / "synthetic-patient" / "sample.json"
    drawn = json.loads(sample.read_text(encoding="utf-8"))["lesion_volume_ml"]
    largest = r"the largest on the right, \d+ mm from its place"
    patterns = (
        rf"run: {figure} ml of {drawn:.1f} ml in \d+ lesions, {largest}, {figure} s",
        rf"threshold 0.9: {figure} ml instead of {figure} ml; reset: {figure} ml",
        rf"scene saved and loaded: {figure} ml are there, the slider works",
        rf"cancelled within {figure} s",
        "scene closed during a run: the run and its worker have ended",
        rf"done, {figure} s in all",
    )
    told = [re.fullmatch(f"StrokeSeg self-test: {p}", line) for p, line in zip(patterns, said, strict=True)]
    assert all(told), said
    run, threshold, loaded = (tuple(map(float, match.groups())) for match in told[:3] if match is not None)
    higher, before, reset = threshold
    assert run[0] == before == reset == loaded[0]
    assert higher < before
    # Nothing stays behind: neither nodes of the patient nor a run or a worker.
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == []
    assert not widget.panel.logic.run.busy
    assert not widget.panel.logic.run.link.running


def test_reload_and_test_tests_the_panel_that_was_reloaded(
    slicerEnvironment: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    import slicer

    old = drive.openPanel(slicerEnvironment)
    old.onReloadAndTest()
    new = slicer.modules.strokeseg.widgetRepresentation().self()
    assert new is slicer.modules.StrokeSegWidget is not old
    assert old.panel is None
    assert "self-test: done" in capsys.readouterr().out
    assert new.panel.logic.run.log  # it was the new panel that ran


def test_it_says_what_is_missing_before_it_begins(slicerEnvironment: Any) -> None:
    widget = drive.openPanel(slicerEnvironment)
    widget.panel.logic.missing = ["openvino"]
    with pytest.raises(AssertionError, match=r"Packages are missing.*pip_install\(.*openvino"):
        selfTest().all()


def test_it_tells_the_error_of_a_run_instead_of_waiting(slicerEnvironment: Any) -> None:
    widget = drive.openPanel(slicerEnvironment)
    widget.panel.logic.usePython("/nowhere/python")
    began = time.monotonic()
    with pytest.raises(AssertionError, match=r"The worker cannot be started\..*'/nowhere/python' is not there"):
        selfTest().all()
    assert time.monotonic() - began < 30.0


def test_it_fails_on_a_wrong_table_a_dead_slider_and_runs_that_do_not_end(
    slicerEnvironment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    widget = drive.openPanel(slicerEnvironment)
    test = selfTest()
    own, run = part("self_test"), widget.panel.logic.run
    with monkeypatch.context() as broken:
        broken.setattr(own, "totals", lambda _node: {"count": 1, "volume_ml": 1.0})
        with pytest.raises(AssertionError, match=r"the table has 1\.00 ml, not \d+"):
            test.run()
    nodes = widget.panel.result.nodes
    with monkeypatch.context() as broken:
        broken.setattr(own, "_SHARE_FOUND", (1.2, 1.3))
        with pytest.raises(AssertionError, match=r"ml were found of 23\.8 ml that are there"):
            test.run()
    for name in ("_RUN_SECONDS", "_OTHER_SECONDS"):
        monkeypatch.setattr(own, name, 1.0)
    with monkeypatch.context() as broken:
        broken.setattr(part("threshold").LiveThreshold, "apply", lambda *_arguments: [])
        broken.setattr(type(test)._wait, "__defaults__", (1.0,))
        with pytest.raises(AssertionError, match="in vain until the lesions shrink"):
            test.threshold(nodes)
    with monkeypatch.context() as broken:
        broken.setattr(run, "cancel", lambda: None)
        broken.setattr(own, "_OTHER_SECONDS", 0.3)
        with pytest.raises(AssertionError, match="cancelled"):
            test.cancel()
    run.abandon()
    with monkeypatch.context() as broken:
        broken.setattr(run, "abandon", lambda: None)
        broken.setattr(own, "_OTHER_SECONDS", 0.3)
        with pytest.raises(AssertionError, match="in vain until the run ends with its scene"):
            test.sceneClosed()
    run.abandon()
