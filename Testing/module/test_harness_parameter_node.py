"""Parameter nodes: typed, tied to widgets both ways, alive after saving, closing and loading the scene."""

import enum
from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
import pytest


class Device(enum.Enum):
    auto = "auto"
    cpu = "cpu"


def _make() -> tuple[Any, Any]:
    import slicer
    from slicer.parameterNodeWrapper import Default, WithinRange, parameterNodeWrapper, parameterPack

    @parameterPack
    class Window:
        size: int = 3
        overlap: Annotated[float, WithinRange(0, 1)] = 0.5

    @parameterNodeWrapper
    class Parameters:
        dwi: slicer.vtkMRMLScalarVolumeNode
        threshold: Annotated[float, WithinRange(0, 1), Default(0.5)]
        fill: bool = True
        device: Device = Device.auto
        minimumMl: Optional[float]  # noqa: UP045 - Slicer's serializers know no other spelling
        names: list[str]
        window: Window

    from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

    class DemoLogic(ScriptedLoadableModuleLogic):
        pass

    return Parameters, DemoLogic().getParameterNode()


def test_defaults_are_written_and_values_checked(slicerEnvironment: Any) -> None:
    wrapper, node = _make()
    parameters = wrapper(node)
    assert node.GetParameter("threshold") == "0.5"
    assert (parameters.fill, parameters.device, parameters.minimumMl, parameters.names) == (True, Device.auto, None, [])
    with pytest.raises(ValueError, match="within range"):
        parameters.threshold = 1.5
    with pytest.raises(TypeError):
        parameters.threshold = "high"
    parameters.window.overlap = 0.25
    assert node.GetParameter("window.overlap") == "0.25"


def test_widgets_and_parameters_follow_each_other(slicerEnvironment: Any) -> None:
    import ctk
    import qt

    wrapper, node = _make()
    parameters = wrapper(node)
    slider, box, combo = ctk.ctkSliderWidget(), qt.QCheckBox("Fill"), qt.QComboBox()
    tag = parameters.connectParametersToGui({"threshold": slider, "fill": box, "device": combo})
    assert (slider.maximum, slider.value, box.checked, combo.count) == (1.0, 0.5, True, 2)
    slider.value = 0.75
    combo.currentIndex = 1
    assert (parameters.threshold, parameters.device) == (0.75, Device.cpu)
    parameters.fill = False
    assert not box.checked
    parameters.disconnectGui(tag)
    slider.value = 0.1
    assert parameters.threshold == 0.75


def test_a_wrapper_that_nobody_holds_lets_go_of_its_node(slicerEnvironment: Any) -> None:
    import gc
    import weakref

    import qt
    import vtk

    wrapper, node = _make()
    observers = []
    for connected in (False, True):
        parameters = wrapper(node)
        if connected:
            parameters.connectParametersToGui({"fill": qt.QCheckBox()})
        seen = weakref.ref(parameters)
        del parameters
        gc.collect()
        observers.append(seen() is not None)
        assert bool(node.HasObserver(vtk.vtkCommand.ModifiedEvent)) is connected
    assert observers == [False, True]


def test_widgets_are_found_by_their_dynamic_property(slicerEnvironment: Any) -> None:
    import qt

    wrapper, node = _make()
    panel = qt.QWidget()
    box = qt.QCheckBox("Fill", panel)
    box.setProperty("SlicerParameterName", "fill")
    parameters = wrapper(node)
    assert parameters.connectGui(panel) is None
    box.click()
    assert parameters.fill is False
    box.setProperty("SlicerParameterName", "full")
    with pytest.raises(ValueError, match="full"):
        parameters.connectGui(panel)


def test_pairs_slicer_does_not_know_are_refused(slicerEnvironment: Any) -> None:
    import ctk
    import qt
    import slicer
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    wrapper, node = _make()
    for widget in (ctk.ctkDoubleSpinBox(), slicer.qMRMLSliderWidget(), qt.QLineEdit()):
        with pytest.raises(RuntimeError, match="Unable to create GUI connector"):
            wrapper(node).connectParametersToGui({"threshold": widget})
    with pytest.raises(TypeError, match="typing\\.Optional"):

        @parameterNodeWrapper
        class Modern:
            size: int | None


def test_parameters_survive_saving_closing_and_loading(slicerEnvironment: Any, tmp_path: Path) -> None:
    import slicer

    wrapper, node = _make()
    parameters = wrapper(node)
    parameters.dwi = slicer.util.addVolumeFromArray(np.full((2, 3, 4), 7.0, np.float32), name="DWI")
    parameters.threshold, parameters.names, parameters.minimumMl = 0.25, ["a", "b"], 0.05
    path = str(tmp_path / "Ärzte 空.mrb")
    assert slicer.util.saveScene(path)
    slicer.mrmlScene.Clear(0)
    assert (parameters.threshold, parameters.dwi) == (0.5, None)
    slicer.util.loadScene(path)
    wrapper, node = _make()
    again = wrapper(node)
    assert (again.threshold, again.names, again.minimumMl, again.dwi.GetName()) == (0.25, ["a", "b"], 0.05, "DWI")
    assert float(slicer.util.arrayFromVolume(again.dwi)[1, 1, 1]) == 7.0
