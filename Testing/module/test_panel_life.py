"""The panel comes, goes, is reloaded, and says what is missing."""

from __future__ import annotations

import sys
from typing import Any

import panel_driver as drive
import pytest


def test_the_empty_panel_says_why_nothing_can_be_run(slicerEnvironment: Any) -> None:
    widget = drive.openPanel(slicerEnvironment)
    assert not widget.ui.runButton.enabled
    assert widget.ui.reasonLabel.text == "Nothing is chosen yet. Load files, or choose the volumes under Input."
    assert widget.ui.runButton.toolTip == widget.ui.reasonLabel.text
    assert widget.ui.setupFrame.isHidden()


def test_what_is_missing_is_said_with_the_line_that_installs_it(
    slicerEnvironment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import qt

    drive.forget()
    sys.path.insert(0, str(drive.MODULE))
    from StrokeSegLib import requirements

    monkeypatch.setattr(requirements, "missingHere", lambda: ["openvino", "nibabel"])
    slicerEnvironment.loadModule(drive.MODULE / "StrokeSeg.py")
    widget = slicerEnvironment.openModule("StrokeSeg")
    said = widget.ui.setupText.toPlainText()
    assert not widget.ui.setupFrame.isHidden()
    assert "openvino, nibabel" in said
    assert "slicer.util.pip_install(['nibabel>=5.2'])" in said
    assert not widget.ui.runButton.enabled
    widget.ui.copyCommandButton.click()
    assert "pip_install" in qt.QApplication.clipboard().text()
    monkeypatch.setattr(requirements, "missingHere", list)
    widget.ui.checkAgainButton.click()
    slicerEnvironment.processEvents()
    assert widget.ui.setupFrame.isHidden()


def test_a_slicer_without_scipy_shows_only_what_is_missing(
    slicerEnvironment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive.forget()
    for name in [n for n in sys.modules if n.partition(".")[0] in ("scipy", "strokeseg")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "scipy", None)
    sys.path.insert(0, str(drive.MODULE))
    from StrokeSegLib import requirements

    monkeypatch.setattr(requirements, "missingHere", lambda: ["scipy"])
    slicerEnvironment.loadModule(drive.MODULE / "StrokeSeg.py")
    widget = slicerEnvironment.openModule("StrokeSeg")
    assert widget.panel is None
    assert "scipy>=1.11" in widget.ui.setupText.toPlainText()
    assert widget.ui.inputSection.isHidden()
    drive.forget()


def test_an_installation_without_engine_says_so(slicerEnvironment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    drive.forget()
    sys.path.insert(0, str(drive.MODULE))
    from StrokeSegLib import engine_path

    def none() -> None:
        raise FileNotFoundError("The engine of StrokeSeg is missing. Install StrokeSeg again.")

    monkeypatch.setattr(engine_path, "add", none)
    slicerEnvironment.loadModule(drive.MODULE / "StrokeSeg.py")
    slicerEnvironment.announceStartup()
    widget = slicerEnvironment.openModule("StrokeSeg")
    assert "Install StrokeSeg again" in widget.ui.setupText.toPlainText()
    assert widget.ui.copyCommandButton.isHidden()
    drive.forget()


def test_the_panel_works_without_main_window(headlessSlicer: Any) -> None:
    widget = drive.openPanel(headlessSlicer)
    drive.tryIt(headlessSlicer, widget)
    assert widget.panel.logic.run.error is None
    assert "lesion" in widget.ui.summaryLabel.text
    assert not widget.ui.editorButton.enabled


def test_a_reloaded_module_is_whole_and_leaves_no_worker(slicerEnvironment: Any) -> None:
    import slicer

    old = drive.openPanel(slicerEnvironment)
    slicerEnvironment.waitUntil(lambda: old.panel.logic.run.link.greeting is not None, drive.SECONDS)
    link = old.panel.logic.run.link
    old.onReload()
    slicerEnvironment.waitUntil(lambda: not link.running, 10)
    new = slicer.modules.StrokeSegWidget
    assert new is not old
    assert old.panel is None
    new.enter()
    drive.tryIt(slicerEnvironment, new)
    assert "lesion" in new.ui.summaryLabel.text


def test_the_self_test_passes(headlessSlicer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    import slicer

    drive.openPanel(headlessSlicer)
    slicer.selfTests["StrokeSeg"]()
    said = capsys.readouterr().out
    for word in ("run:", "threshold 0.9:", "saved and loaded", "cancelled within", "closed during a run", "done"):
        assert word in said


def test_a_closing_slicer_ends_the_worker_and_the_temporary_folder(slicerEnvironment: Any) -> None:
    widget = drive.openPanel(slicerEnvironment)
    run = widget.panel.logic.run
    widget.ui.tryButton.click()
    slicerEnvironment.waitUntil(lambda: run.state == "running", drive.SECONDS)
    folder = run._exchange.folder
    assert folder.is_dir()
    slicerEnvironment.quit()
    slicerEnvironment.waitUntil(lambda: not run.link.running, 10)
    assert not folder.exists()
