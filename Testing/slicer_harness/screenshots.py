"""Pictures of the panel in every state, and of the slice views with the overlay, made in the double of Slicer.

    python Testing/slicer_harness/screenshots.py --out pictures
    python Testing/slicer_harness/screenshots.py --out pictures --state result --width 400 --look dark
    python Testing/slicer_harness/screenshots.py --out Resources/Screenshots --gallery

Everything is shown on the synthetic patient; each picture says that it was made here and not in Slicer. Needs the extra
`module-tests`; slice views also need EGL (Debian: libegl1 and libgl1).
"""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TESTING = Path(__file__).resolve().parents[1]
LOOKS = ("light", "dark")
WIDTHS = (400, 640)
_SECONDS = 120.0


class Stage:
    """The panel in one running double of Slicer, brought into a state."""

    def __init__(self, environment: Any) -> None:
        import panel_driver

        self.environment, self.drive = environment, panel_driver
        self.widget: Any = None

    def open(self, model: str = "adc-threshold") -> None:
        """The panel, with a model that is always there; "auto" is as a user finds it."""
        self.widget = self.drive.openPanel(self.environment, model)
        # Devices are listed once the worker has answered.
        self.wait(lambda: self.widget.panel is None or self.widget.panel.logic.run.link.greeting is not None)
        self.turn()

    @property
    def run(self) -> Any:
        return self.widget.panel.logic.run

    @property
    def ui(self) -> Any:
        return self.widget.ui

    def sample(self) -> dict[str, Any]:
        """The synthetic patient, loaded and chosen."""
        found = self.widget.panel.logic.loadSample(self.widget.panel.parameters)
        self.turn()
        return dict(found)

    def turn(self) -> None:
        self.environment.processEvents(0.1)

    def wait(self, condition: Callable[[], bool]) -> None:
        self.environment.waitUntil(condition, _SECONDS)

    def fold(self, *names: str) -> None:
        for name in names:
            getattr(self.ui, name).collapsed = True

    def unfold(self, *names: str) -> None:
        for name in names:
            getattr(self.ui, name).collapsed = False

    def lesions(self) -> list[tuple[float, float, float]]:
        """Centres of the lesions in the table's order, RAS in mm."""
        from StrokeSegLib import lesion_table

        rows = lesion_table.readRows(self.widget.panel.result.nodes.table)
        return [(r["centroid_r_mm"], r["centroid_a_mm"], r["centroid_s_mm"]) for r in rows]

    def choose(self, row: int) -> None:
        """Choose a lesion of the table."""
        self.ui.lesionTable.selectRow(row)
        self.turn()

    def views(self, names: tuple[str, ...]) -> list[Any]:
        """Slice views through the largest lesion, the whole brain in them."""
        from slicer_harness.slice_view import SliceView

        made = [SliceView(self.environment, name, (300, 300)) for name in names]
        for view in made:
            view.fit()
            view.zoom(1.35)  # the synthetic field of view is wide
            view.jump(self.lesions()[0])
        return made

    def atStage(self, name: str) -> None:
        """Start a run and hold the worker at a stage, so that there is time for pictures."""
        self.ui.runButton.click()
        self.wait(lambda: bool(self.run.stage == name))
        os.kill(self.run.link.greeting["pid"], signal.SIGSTOP)
        self.turn()

    def goOn(self) -> None:
        os.kill(self.run.link.greeting["pid"], signal.SIGCONT)


def empty(stage: Stage) -> Iterator[None]:
    """Nothing is loaded."""
    stage.open("auto")
    yield


def loaded(stage: Stage) -> Iterator[None]:
    """Loaded, with something that the reader should know."""
    import numpy as np
    import slicer

    stage.open()
    found = stage.sample()
    array = slicer.util.arrayFromVolume(found["adc"])
    slicer.util.updateVolumeFromArray(found["adc"], (array * np.float32(1000.0)).astype(np.float32))
    stage.widget.panel.input.tell("")
    stage.widget.panel.refresh()
    stage.turn()
    yield


def forbidden(stage: Stage) -> Iterator[None]:
    """A finding that forbids the run."""
    import slicer
    import vtk

    stage.open()
    found = stage.sample()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Shear")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 1, 0.3)
    transform.SetMatrixTransformToParent(matrix)
    found["dwi"].SetAndObserveTransformNodeID(transform.GetID())
    stage.widget.panel.refresh()
    stage.turn()
    yield


def running(stage: Stage) -> Iterator[None]:
    """In the middle of a run."""
    stage.open()
    stage.sample()
    stage.atStage("prepare")
    yield
    stage.goOn()
    stage.wait(lambda: not stage.run.busy)


def cancelled(stage: Stage) -> Iterator[None]:
    """After Cancel."""
    stage.open()
    stage.sample()
    stage.ui.runButton.click()
    stage.wait(lambda: bool(stage.run.stage == "prepare"))
    stage.ui.runButton.click()
    stage.wait(lambda: not stage.run.busy)
    stage.turn()
    yield


def error(stage: Stage) -> Iterator[None]:
    """A run that failed, with its log."""
    stage.open()
    stage.sample()
    stage.unfold("logBox")
    stage.atStage("prepare")
    os.kill(stage.run.link.greeting["pid"], signal.SIGKILL)
    stage.wait(lambda: not stage.run.busy)
    stage.turn()
    yield


def result(stage: Stage, model: str = "adc-threshold") -> Iterator[None]:
    """A result with its table."""
    stage.open(model)
    stage.drive.tryIt(stage.environment, stage.widget)
    stage.fold("inputSection", "modelSection")
    stage.turn()
    yield


def network(stage: Stage) -> Iterator[None]:
    """A result of the bundled network, as a user gets it who changes nothing."""
    yield from result(stage, "auto")


def everything(stage: Stage) -> Iterator[None]:
    """Nothing folded away."""
    stage.open()
    stage.drive.tryIt(stage.environment, stage.widget)
    stage.unfold("advancedBox", "settingsBox", "logBox", "aboutSection", "cardBox")
    stage.turn()
    yield


def threshold(stage: Stage) -> Iterator[None]:
    """The threshold was moved, a lesion chosen, a map shown, and there is an earlier result."""
    stage.open()
    stage.drive.tryIt(stage.environment, stage.widget)
    stage.ui.runButton.click()
    stage.drive.finish(stage.environment, stage.widget)
    stage.fold("inputSection", "modelSection", "runSection")
    stage.ui.thresholdSlider.value = 0.9
    stage.turn()
    stage.choose(0)
    stage.ui.mapCombo.setCurrentIndex(1)
    stage.ui.mapCombo.activated.emit(1)
    stage.turn()
    yield


def setup(stage: Stage) -> Iterator[None]:
    """Packages are missing."""
    module = str(stage.drive.MODULE)
    stage.drive.forget()
    sys.path.insert(0, module)
    from StrokeSegLib import requirements

    there = requirements.missingHere
    requirements.missingHere = lambda: ["openvino", "nibabel", "safetensors"]
    try:
        stage.environment.loadModule(stage.drive.MODULE / "StrokeSeg.py")
        stage.widget = stage.environment.openModule("StrokeSeg")
        stage.turn()
        yield
    finally:
        requirements.missingHere = there


def about(stage: Stage) -> Iterator[None]:
    """The section About with the model's card."""
    stage.open()
    stage.sample()
    stage.fold("inputSection", "modelSection", "runSection", "resultSection")
    stage.unfold("aboutSection", "cardBox")
    stage.turn()
    yield


STATES: dict[str, Callable[[Stage], Iterator[None]]] = {
    made.__name__: made
    for made in (
        empty,
        loaded,
        forbidden,
        running,
        cancelled,
        error,
        result,
        network,
        threshold,
        everything,
        setup,
        about,
    )
}


@contextmanager
def staged(name: str, look: str = "light") -> Iterator[Stage]:
    """A panel in a state and a look, in a Slicer double of its own."""
    from slicer_harness import pictures
    from slicer_harness.start import start

    with tempfile.TemporaryDirectory(prefix="strokeseg-pictures-") as folder:
        environment = start(folder)
        try:
            stage = Stage(environment)
            with pictures.look(look):
                steps = STATES[name](stage)
                next(steps)
                yield stage
                next(steps, None)
        finally:
            environment.stop()


def panelPictures(
    name: str, folder: Path, widths: tuple[int, ...] = WIDTHS, looks: tuple[str, ...] = LOOKS
) -> list[Path]:
    """The panel in one state, in every width and look; gives the files."""
    from slicer_harness import pictures

    made = []
    for look in looks:
        with staged(name, look) as stage:
            for width in widths:
                path = folder / f"{name}-{width}-{look}.png"
                made.append(pictures.grab(stage.widget, path, width=width, palette_name=look))
    return made


def slicePictures(folder: Path, names: tuple[str, ...] = ("Red", "Yellow", "Green")) -> list[Path]:
    """The three slice views through the largest lesion: as shown after a run, chosen, and with the probability."""
    from slicer_harness.slice_view import row

    made = []
    with staged("result") as stage:
        views = stage.views(names)
        made.append(row(views, folder / "slices-overlay.png"))
        stage.choose(0)
        for view in views:
            view.zoom(1.5)
        made.append(row(views, folder / "slices-chosen.png"))
        stage.widget.panel.result.leave()
        stage.ui.mapCombo.setCurrentIndex(1)
        stage.ui.mapCombo.activated.emit(1)
        stage.turn()
        made.append(row(views, folder / "slices-probability.png"))
    return made


def gallery(folder: Path) -> list[Path]:
    """The two pictures of the README."""
    from slicer_harness import pictures
    from slicer_harness.slice_view import row

    with staged("network") as stage:
        stage.choose(0)
        views = stage.views(("Red", "Yellow", "Green"))
        return [
            pictures.grab(stage.widget, folder / "slicer-panel.png", width=400),
            row(views, folder / "slicer-slices.png"),
        ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Pictures of the StrokeSeg panel, made in the double of Slicer")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--state", nargs="+", choices=[*STATES, "slices"], default=[*STATES, "slices"])
    parser.add_argument("--width", nargs="+", type=int, default=WIDTHS, help="pixels")
    parser.add_argument("--look", nargs="+", choices=LOOKS, default=LOOKS)
    parser.add_argument("--gallery", action="store_true", help="only the two pictures of the README")
    chosen = parser.parse_args()
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    sys.path[:0] = [str(TESTING), str(TESTING / "module")]
    for name in ["gallery"] if chosen.gallery else chosen.state:
        if name == "gallery":
            made = gallery(chosen.out)
        elif name == "slices":
            made = slicePictures(chosen.out)
        else:
            made = panelPictures(name, chosen.out, tuple(chosen.width), tuple(chosen.look))
        for path in made:
            print(path)
    return 0


if __name__ == "__main__":
    # The folder of this file would hide the standard library's names.
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]
    raise SystemExit(main())
