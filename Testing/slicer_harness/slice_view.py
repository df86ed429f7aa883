"""A slice view rendered offscreen by Slicer's own displayable managers (VTK on EGL: Debian's libegl1 and libgl1)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from PySide6 import QtGui
from slicer_harness import pictures
from vtk.util import numpy_support

_MANAGERS = (
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager",
)


class SliceView:
    """One slice view of a running environment (see start.py): `Red`, `Yellow` or `Green`."""

    def __init__(self, environment: Any, name: str = "Red", size: tuple[int, int] = (400, 400)) -> None:
        if environment.layout_manager is None:
            raise ValueError("a Slicer without main window has no slice views")
        self._logic = environment.layout_manager.sliceWidget(name).sliceLogic()
        self._size = size
        self._logic.ResizeSliceNode(*size)
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        factory.SetMRMLApplicationLogic(environment.application_logic)
        for manager in _MANAGERS:
            if not factory.IsDisplayableManagerRegistered(manager):
                factory.RegisterDisplayableManager(manager)
        self._renderer = vtk.vtkRenderer()
        self._renderer.GetActiveCamera().ParallelProjectionOn()
        self._window = vtk.vtkRenderWindow()
        self._window.SetOffScreenRendering(1)
        self._window.SetMultiSamples(0)
        self._window.SetSize(*size)
        self._window.AddRenderer(self._renderer)
        self._interactor = vtk.vtkRenderWindowInteractor()
        self._interactor.SetRenderWindow(self._window)
        # Before the actors of the displayable managers, which it would hide otherwise.
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        actor = vtk.vtkActor2D()
        actor.SetMapper(self._mapper)
        actor.GetProperty().SetDisplayLocationToBackground()
        self._renderer.AddViewProp(actor)
        self._group = slicer.vtkMRMLDisplayableManagerGroup()
        self._group.SetRenderer(self._renderer)
        self._group.Initialize(factory, self._renderer)
        self._group.SetMRMLDisplayableNode(self._logic.GetSliceNode())

    def show(self, volume: Any, *, foreground: Any = None, opacity: float = 0.5) -> None:
        """Put a volume (and another above it) into the view and fit it."""
        composite = self._logic.GetSliceCompositeNode()
        composite.SetBackgroundVolumeID(volume.GetID())
        composite.SetForegroundVolumeID(foreground.GetID() if foreground is not None else None)
        composite.SetForegroundOpacity(opacity)
        self.fit()

    def fit(self) -> None:
        """Show all of the volume."""
        self._logic.FitSliceToBackground()

    def zoom(self, factor: float) -> None:
        """Show a part of the field of view, larger."""
        node = self._logic.GetSliceNode()
        x, y, z = node.GetFieldOfView()
        node.SetFieldOfView(x / factor, y / factor, z)

    def jump(self, ras_mm: tuple[float, float, float]) -> None:
        """Move the slice through a point of the world, RAS in mm."""
        self._logic.GetSliceNode().JumpSliceByOffsetting(*ras_mm)

    def pixels(self) -> Any:
        """The rendered view as a (row, column, RGB) uint8 array, first row on top."""
        self._mapper.SetInputConnection(self._logic.GetImageDataConnection())
        self._window.Render()
        grabber = vtk.vtkWindowToImageFilter()
        grabber.SetInput(self._window)
        grabber.ReadFrontBufferOff()
        grabber.Update()
        image = grabber.GetOutput()
        width, height, _ = image.GetDimensions()
        flat = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
        return flat.reshape(height, width, -1)[::-1, :, :3].copy()

    def save(self, path: Path | str) -> Path:
        """Write the marked view as PNG."""
        return row([self], path)


def row(views: Sequence[SliceView], path: Path | str) -> Path:
    """Write views of one height side by side as one marked PNG."""
    shown = np.ascontiguousarray(np.hstack([view.pixels() for view in views]))
    height, width, _ = shown.shape
    image = QtGui.QImage(shown.data, width, height, 3 * width, QtGui.QImage.Format.Format_RGB888).copy()
    return pictures.save(image, path)
