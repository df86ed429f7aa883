"""What is chosen in the panel belongs to a scene: it comes back with it, and goes with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import panel_driver as drive


def chosen(widget: Any) -> tuple[Any, ...]:
    """What the widgets show, and what the parameter node holds."""
    ui, parameters = widget.ui, widget.panel.parameters
    shown = (ui.precisionCombo.currentIndex, ui.strategyCombo.currentIndex, ui.windowX.value, ui.ttaCheck.checked)
    held = (parameters.precision.value, parameters.strategy.value, parameters.windowX, parameters.tta)
    return (*shown, *held, getattr(parameters.dwi, "GetName", lambda: None)())


def choose(widget: Any) -> None:
    widget.ui.precisionCombo.currentIndex = 1
    widget.ui.strategyCombo.currentIndex = 2
    widget.ui.windowX.value = 96
    widget.ui.ttaCheck.checked = True
    widget.panel.parameters.dwi = drive.volume("my scan")


DEFAULT = (0, 0, 0, False, "fp32", "auto", 0, False, None)
CHOSEN = (1, 2, 96, True, "bf16", "windows", 96, True, "my scan")


def test_choices_are_saved_with_the_scene_and_end_with_it(slicerEnvironment: Any, tmp_path: Path) -> None:
    import slicer

    widget = drive.openPanel(slicerEnvironment)
    assert chosen(widget) == DEFAULT
    choose(widget)
    assert chosen(widget) == CHOSEN
    slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    # Several times: what a panel that is not let go of keeps would add up.
    for _again in range(3):
        slicer.mrmlScene.Clear()
        slicerEnvironment.processEvents(0.05)
        assert chosen(widget) == DEFAULT
        slicer.util.loadScene(str(tmp_path / "scene.mrb"))
        slicerEnvironment.processEvents(0.05)
        assert chosen(widget) == CHOSEN


def test_choices_outlive_a_reload_of_the_module(slicerEnvironment: Any) -> None:
    import slicer

    widget = drive.openPanel(slicerEnvironment)
    choose(widget)
    widget.onReload()
    new = slicer.modules.StrokeSegWidget
    new.enter()
    slicerEnvironment.processEvents(0.05)
    assert chosen(new) == CHOSEN
    new.ui.precisionCombo.currentIndex = 2
    slicerEnvironment.processEvents(0.05)
    assert chosen(new)[4] == "fp16"
    assert widget.ui.precisionCombo.currentIndex == 1  # nobody moves the old one any more


def test_a_path_that_is_being_typed_ends_the_worker_once_it_is_complete(slicerEnvironment: Any) -> None:
    widget = drive.openPanel(slicerEnvironment)
    logic = widget.panel.logic
    link = logic.run.link
    slicerEnvironment.waitUntil(lambda: link.greeting is not None, drive.SECONDS)
    first = link.greeting["pid"]
    for letters in ("/", "/n", "/no", "/n", "/", ""):
        widget.ui.pythonEdit.currentPath = letters
        slicerEnvironment.processEvents(0.01)
        assert logic.settings.value("pythonExecutable") == ""
    slicerEnvironment.processEvents(0.8)
    assert link.running
    assert link.greeting["pid"] == first
    widget.ui.pythonEdit.currentPath = "/nowhere/python"
    slicerEnvironment.waitUntil(lambda: not link.running, 10)
    assert logic.settings.value("pythonExecutable") == "/nowhere/python"


def test_the_panel_chooses_the_model_and_says_which(slicerEnvironment: Any) -> None:
    widget = drive.openPanel(slicerEnvironment, drive.AUTOMATIC)
    assert widget.ui.modelText.text == "No model fits the chosen volumes yet."
    assert widget.ui.dwiNeed.text == "may be used"
    widget.panel.logic.loadSample(widget.panel.parameters)
    slicerEnvironment.processEvents()
    assert widget.ui.modelCombo.currentText == "Automatic"
    title = widget.panel.logic.card(widget.panel.parameters).title
    assert widget.ui.modelText.text.startswith(f"Takes: {title}.<br>Needs ")
    widget.panel.parameters.model = drive.RULE
    slicerEnvironment.processEvents()
    assert widget.ui.modelCombo.currentText == widget.panel.logic.models.cards[drive.RULE].title
    assert widget.ui.modelText.text.startswith("Needs DWI, ADC.")


def test_try_it_keeps_a_model_that_fits_and_leaves_one_that_does_not(slicerEnvironment: Any) -> None:
    widget = drive.openPanel(slicerEnvironment)
    logic, parameters = widget.panel.logic, widget.panel.parameters
    logic.loadSample(parameters)
    assert parameters.model == drive.RULE
    parameters.model = "gone"
    logic.loadSample(parameters)
    assert parameters.model == drive.AUTOMATIC


def test_nothing_is_noted_about_a_volume_that_the_model_does_not_use(slicerEnvironment: Any) -> None:
    widget = drive.openPanel(slicerEnvironment)
    widget.panel.logic.loadSample(widget.panel.parameters)
    slicerEnvironment.processEvents()
    assert widget.ui.t1Need.text == "not used"
    assert "t1" in widget.panel.logic.findings
    assert widget.ui.t1Line.text == ""
    assert widget.ui.adcLine.text.startswith("The ADC image is taken to be in 1e-3")
