"""The panel comes, goes, is reloaded, and says what is missing."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import panel_driver as drive
import psutil
import pytest


def results() -> Any:
    """The results in the scene."""
    from StrokeSegLib import result_nodes

    return result_nodes.results()


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


def _gone(*pids: int) -> bool:
    """Whether processes have ended, with a moment for the system to clear them away."""

    def alive(pid: int) -> bool:
        return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE

    end = time.monotonic() + 10.0
    while any(alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(alive(pid) for pid in pids)


def _running(environment: Any, widget: Any) -> tuple[int, Path]:
    """Try it, until the worker is at work: its pid, and the folder of the run."""
    run = widget.panel.logic.run
    widget.ui.tryButton.click()
    environment.waitUntil(lambda: run.stage == "prepare", drive.SECONDS)
    assert psutil.pid_exists(run.link.greeting["pid"])
    assert run._exchange.folder.is_dir()
    return run.link.greeting["pid"], run._exchange.folder


def test_a_module_that_is_reloaded_during_a_run_leaves_no_worker_and_no_folder(slicerEnvironment: Any) -> None:
    import slicer

    old = drive.openPanel(slicerEnvironment)
    run = old.panel.logic.run
    pid, folder = _running(slicerEnvironment, old)
    old.onReload()
    assert not folder.exists()
    assert _gone(pid)
    slicerEnvironment.processEvents(0.2)  # what the old run had still in the queue
    assert not run.busy
    assert results() == []
    new = slicer.modules.StrokeSegWidget
    new.enter()
    slicerEnvironment.processEvents()
    assert not new.panel.logic.run.busy
    new.ui.runButton.click()
    drive.finish(slicerEnvironment, new)
    assert "lesion" in new.ui.summaryLabel.text


def test_a_scene_that_is_closed_during_a_run_leaves_no_worker_and_no_folder(slicerEnvironment: Any) -> None:
    import slicer

    widget = drive.openPanel(slicerEnvironment)
    pid, folder = _running(slicerEnvironment, widget)
    slicer.mrmlScene.Clear()
    assert not folder.exists()
    assert _gone(pid)
    slicerEnvironment.processEvents(0.2)
    assert results() == []


@pytest.mark.parametrize("loss", ["scene", "reference"])
def test_what_goes_while_a_result_is_being_read_is_not_drawn_on(slicerEnvironment: Any, loss: str) -> None:
    import slicer

    widget = drive.openPanel(slicerEnvironment)
    run = widget.panel.logic.run
    widget.ui.tryButton.click()
    folders = []

    def look() -> None:
        changed()
        if run.state == "showing" and not folders:
            folders.append(run._exchange.folder)
            run.link._transport.later(0.0, lose)

    def lose() -> None:
        assert run.state == "showing"
        if loss == "scene":
            slicer.mrmlScene.Clear()
        else:
            slicer.mrmlScene.RemoveNode(widget.panel.parameters.dwi)

    changed, run.onChanged = run.onChanged, look
    slicerEnvironment.waitUntil(lambda: bool(folders) and not run.busy, drive.SECONDS)
    slicerEnvironment.processEvents(0.1)
    assert results() == []
    assert not folders[0].exists()
    if loss == "reference":
        assert "was removed from the scene during the run" in widget.ui.messageText.toPlainText()


def test_a_scan_that_is_only_measured_may_go_during_a_run(slicerEnvironment: Any) -> None:
    import slicer

    widget = drive.openPanel(slicerEnvironment)
    _running(slicerEnvironment, widget)
    slicer.mrmlScene.RemoveNode(widget.panel.parameters.adc)
    drive.finish(slicerEnvironment, widget)
    assert widget.panel.logic.run.error is None
    (nodes,) = results()
    assert nodes.segmentation.GetNodeReferenceID("StrokeSeg.image.adc") is None  # nor to whoever gets its id next
    assert nodes.image("dwi") is nodes.reference
    assert "ml in 4 lesions" in widget.ui.summaryLabel.text


def test_a_worker_that_is_killed_leaves_nothing_of_its_run(slicerEnvironment: Any) -> None:
    import slicer

    widget = drive.openPanel(slicerEnvironment)
    pid, folder = _running(slicerEnvironment, widget)
    before = slicer.mrmlScene.GetNumberOfNodes()
    psutil.Process(pid).kill()
    drive.finish(slicerEnvironment, widget)
    assert widget.panel.logic.run.error is not None
    assert not folder.exists()
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    widget.ui.runButton.click()
    drive.finish(slicerEnvironment, widget)
    assert widget.panel.logic.run.error is None
    assert widget.panel.logic.run.link.greeting["pid"] != pid


SLICER = """
import sys, time
sys.path[:] = PATHS
import panel_driver as drive
from slicer_harness.start import start
environment = start(FOLDER)
widget = drive.openPanel(environment)
run = widget.panel.logic.run
widget.ui.tryButton.click()
environment.waitUntil(lambda: run.stage == "prepare", drive.SECONDS)
print(run.link.greeting["pid"], run._exchange.folder, flush=True)
END
"""


@pytest.mark.parametrize("end", ["environment.quit(); sys.exit()", "sys.exit()", "time.sleep(60)"])
def test_a_slicer_that_ends_during_a_run_leaves_no_worker_and_no_folder(tmp_path: Path, end: str) -> None:
    (tmp_path / "home").mkdir()
    code = SLICER.replace("PATHS", repr(sys.path)).replace("FOLDER", repr(str(tmp_path / "home"))).replace("END", end)
    slicer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert slicer.stdout is not None
    said = [line for line in slicer.stdout.readline().strip().split(" ", 1) if line]
    pid, folder = int(said[0]), Path(said[1])
    if end == "time.sleep(60)":
        assert folder.is_dir()
        slicer.kill()  # as a crash does: nothing of ours is called any more
    slicer.wait(60)
    slicer.stdout.close()
    assert _gone(pid)
    if end == "time.sleep(60)":
        from slicer_harness.start import start

        (tmp_path / "next").mkdir()
        environment = start(tmp_path / "next")
        drive.forget()
        sys.path.insert(0, str(drive.MODULE))
        from StrokeSegLib import exchange

        exchange.Exchange().close()  # the next start clears away
        environment.stop()
    assert not folder.exists()


def test_a_closing_slicer_ends_worker_and_folder_at_once(slicerEnvironment: Any) -> None:
    widget = drive.openPanel(slicerEnvironment)
    pid, folder = _running(slicerEnvironment, widget)
    slicerEnvironment.quit()
    assert not folder.exists()
    assert _gone(pid)
