"""One call from a script or Slicer's Python console: volumes in, segmentation and table out.

    import SampleData
    from StrokeSegLib import segmentVolumes

    dwi, adc, t1 = SampleData.downloadSamples("StrokeSegSyntheticPatient")  # or slicer.util.getNode("..."), ...
    result = segmentVolumes(dwi=dwi, adc=adc)
    print(f"{result.volumeMl:.1f} ml in {len(result.lesions)} lesions")

The sample comes from the extension's own files, nothing is downloaded.
No window ever opens. What cannot be done is raised as an error with three parts: what happened, why, what to do next.
Slicer goes on answering during a run. The worker is kept for the next call, see `closeWorker`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import slicer
from slicer.i18n import tr as _

from . import engine_path
from .settings import Settings
from .transports import PlainTransport
from .worker_link import CANCELLED, FAILED, Listener, WorkerLink

Progress = Callable[[str, int, int, str], None]
"""``(stage, done, total, message)``; total 0: the number of steps is not known."""

_TURN_SECONDS = 0.01  # between two looks at Slicer's own events


@dataclass(frozen=True)
class Result:
    """What a call gives.

    Attributes:
        segmentation: vtkMRMLSegmentationNode, on the grid of the model's reference volume.
        table: vtkMRMLTableNode, a row a lesion.
        probability: vtkMRMLScalarVolumeNode, 0 to 1; None where the model has none.
        uncertainty: The same, where it was asked for; else None.
        volumeMl: Volume of all lesions.
        lesions: The rows of the table as the engine gives them, e.g. ``volume_ml``, ``centroid_ras_mm``.
        warnings: What the reader of the result must know.
        seconds: Stage to seconds.
        model: Name of the model that was used.
    """

    segmentation: Any
    table: Any
    probability: Any
    uncertainty: Any
    volumeMl: float
    lesions: list[dict[str, Any]]
    warnings: list[str]
    seconds: dict[str, float]
    model: str


def segmentVolumes(
    dwi: Any = None,
    adc: Any = None,
    t1: Any = None,
    flair: Any = None,
    b0: Any = None,
    model: str = "auto",
    device: str = "auto",
    progress: Progress | None = None,
    **options: Any,
) -> Result:
    """Segment stroke lesions and show them in the scene.

    Args:
        dwi: Volume node of the role, as all to ``b0``; which of them a model needs is on its card.
        adc: See above.
        t1: See above.
        flair: See above.
        b0: See above.
        model: Name of a model, or ``auto``.
        device: ``auto``, ``cpu``, ``cuda:N`` or ``mps``.
        progress: Called with `Progress` arguments. What it raises cancels the run and reaches the caller.
        **options: The engine's further options, e.g. ``threshold=0.4``, ``min_lesion_ml=0.1``, ``tta=True``,
            ``uncertainty=True``, ``strategy="windows"``, ``window=[96, 96, 32]``, ``b_value=1000``.

    Returns:
        The nodes and the figures.

    Raises:
        strokeseg.errors.StrokeSegError: It cannot be done; ``title``, ``cause`` and ``next_step`` say why.
    """
    engine_path.add()
    from strokeseg.errors import InputError

    from .exchange import Exchange, VolumesWriting

    given = {"dwi": dwi, "adc": adc, "t1": t1, "flair": flair, "b0": b0}
    nodes = {role: node for role, node in given.items() if node is not None}
    _checkNodes(nodes)
    if _session.inUse:
        raise InputError(
            _("A run is going on already."),
            _("segmentVolumes was called while it was working."),
            _("Wait until it has ended."),
        )
    with _session, Exchange() as exchange:
        writing = VolumesWriting(nodes, exchange)
        while not writing.step():
            _letSlicerAnswer()
        answer = _Answer(progress)
        settings = {"model": model, "device": device, **options}
        event = _session.ask(
            lambda link: link.segment(writing.paths, str(exchange.out), settings, answer.listener), answer
        )
        return _shown(event, nodes)


def closeWorker() -> None:
    """End the worker that is kept for the next call; it also ends with Slicer."""
    _session.close()


class _Answer:
    """Collects what is heard of a request."""

    def __init__(self, progress: Progress | None) -> None:
        self.event: dict[str, Any] = {}
        self.error = ("", "", "")
        self.reason = ""
        self.listener = Listener(
            onProgress=progress or (lambda *_arguments: None),
            onResult=lambda event: setattr(self, "event", event),
            onError=lambda *parts: setattr(self, "error", parts),
            onEnded=lambda reason: setattr(self, "reason", reason),
        )


class _Session:
    """The worker between calls. As a context: while one call uses it."""

    def __init__(self) -> None:
        self.inUse = False
        self._transport = PlainTransport()
        self._link = WorkerLink(self._transport, python=self._python)
        self._startedWith = ""

    def __enter__(self) -> None:
        self.inUse = True
        if self._link.running and Settings().value("pythonExecutable") != self._startedWith:
            self._link.close()

    def __exit__(self, *_error: object) -> None:
        self.inUse = False
        if not Settings().value("keepWorker"):
            self._link.close()

    def ask(self, request: Callable[[WorkerLink], str], answer: _Answer) -> dict[str, Any]:
        """Make a request and wait for its end, Slicer's events in between."""
        from strokeseg.errors import Cancelled, StrokeSegError

        number = request(self._link)
        try:
            while not answer.reason:
                self._transport.wait(_TURN_SECONDS)
                _letSlicerAnswer()
        except BaseException:  # also Ctrl+C
            answer.listener.onProgress = lambda *_arguments: None
            self._link.cancel(number)
            while not answer.reason:
                self._transport.wait(_TURN_SECONDS)
            raise
        if answer.reason == FAILED:
            raise StrokeSegError(*answer.error)
        if answer.reason == CANCELLED:
            raise Cancelled
        return answer.event

    def close(self) -> None:
        self._link.close()
        self._transport.poll()

    def _python(self) -> str:
        self._startedWith = Settings().value("pythonExecutable")
        return self._startedWith


_session = _Session()


def _checkNodes(nodes: Mapping[str, Any]) -> None:
    from strokeseg.errors import InputError

    if not nodes:
        raise InputError(
            _("There is nothing to segment."),
            _("No volume was given."),
            _("Call segmentVolumes(dwi=..., adc=...) with volume nodes of the scene."),
        )
    for role, node in nodes.items():
        if not (hasattr(node, "IsA") and node.IsA("vtkMRMLScalarVolumeNode")):
            raise InputError(
                _("What was given as '{role}' is no volume.").format(role=role),
                _("It is {thing!r}.").format(thing=node),
                _("Give a scalar volume node, e.g. slicer.util.getNode('{role}').").format(role=role),
            )


def _shown(event: Mapping[str, Any], nodes: Mapping[str, Any]) -> Result:
    from strokeseg.errors import InputError
    from strokeseg.models import ModelStore

    from .results import SceneResults

    summary = event["summary"]
    card = ModelStore().card(summary["model"]["name"])
    reference = nodes[card.reference_role]
    if reference.GetScene() is None:
        raise InputError(
            _("The result cannot be shown."),
            _("The volume '{name}' was removed from the scene during the run.").format(name=reference.GetName()),
            _("Load it again, and run again."),
        )
    shown = SceneResults(reference.GetScene()).show(event, reference, card, nodes)
    lesions = list(event["lesions"])
    return Result(
        segmentation=shown.segmentation,
        table=shown.table,
        probability=shown.probability,
        uncertainty=shown.uncertainty,
        volumeMl=float(summary["result"]["volume_ml"]),
        lesions=lesions,
        warnings=[warning["message"] for warning in summary["warnings"]],
        seconds=dict(event["seconds"]),
        model=card.name,
    )


def _letSlicerAnswer() -> None:
    application = getattr(slicer, "app", None)
    if application is not None:
        application.processEvents()
