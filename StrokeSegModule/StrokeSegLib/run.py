"""One run after the other: from nodes to files, to the worker, and back into the scene. No widget is touched here."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from typing import Any

import qt
from slicer.i18n import tr as _

from strokeseg.errors import StrokeSegError
from strokeseg.models import ModelCard

from .exchange import Exchange, VolumesWriting
from .result_nodes import ResultNodes
from .results import SceneResults
from .settings import Settings
from .transports import QtTransport, Transport
from .worker_link import CANCELLED, DONE, Listener, WorkerLink

IDLE, SENDING, RUNNING, CANCELLING, SHOWING = "idle", "sending", "running", "cancelling", "showing"
# Where each stage begins and ends on the bar, in percent; the engine's order.
_SPANS = {
    SENDING: (0, 5),
    "read": (5, 10),
    "prepare": (10, 35),
    "load": (35, 40),
    "model": (40, 75),
    "postprocess": (75, 80),
    "lesions": (80, 85),
    "write": (85, 90),
    "report": (90, 98),
    SHOWING: (98, 100),
}
_LOG_LINES = 2000


class Run:
    """The state of the present run, or of the last one.

    Args:
        settings: Says which Python runs the worker.
        transport: For tests; None: a `QtTransport`.

    Attributes:
        state: One of the constants above.
        stage: Name of the engine's stage.
        percent: Of the whole run.
        error: (title, cause, next step) of the last run, or of the last question which devices there are.
        warnings: Of the run, in order.
        cancelled: The last run was cancelled.
        result: What the last run gave.
        timing: Stage to seconds of the last run, as the worker measured them.
        log: The last lines.
        onChanged: Called with nothing whenever something of this has changed.
        onShown: Called with the nodes when a result was shown.
    """

    def __init__(self, settings: Settings, transport: Transport | None = None) -> None:
        self._settings = settings
        self.link = WorkerLink(
            transport or QtTransport(),
            Listener(onLog=self._onLog),
            python=lambda: str(self._settings.value("pythonExecutable")),
        )
        self.onChanged: Callable[[], None] = lambda: None
        self.onShown: Callable[[ResultNodes], None] = lambda _nodes: None
        self.log: deque[str] = deque(maxlen=_LOG_LINES)
        self.logged = 0
        self.state, self.stage, self.percent = IDLE, "", 0
        self.error: tuple[str, str, str] | None = None
        self.warnings: list[str] = []
        self.cancelled = False
        self.result: ResultNodes | None = None
        self.timing: dict[str, float] = {}
        self._began = self._ended = 0.0
        self._number = 0
        self._request = ""
        self._exchange: Exchange | None = None
        self._writing: VolumesWriting | None = None
        self._event: dict[str, Any] | None = None
        self._showing: Generator[None, None, ResultNodes] | None = None
        self._nodes: dict[str, Any] = {}
        self._card: ModelCard | None = None
        self._options: dict[str, Any] = {}

    @property
    def busy(self) -> bool:
        """Whether a run has not ended."""
        return self.state != IDLE

    @property
    def seconds(self) -> float:
        """How long the present or the last run took."""
        return (time.monotonic() if self.busy else self._ended) - self._began

    @property
    def devices(self) -> list[dict[str, Any]]:
        """As the worker lists them; empty while it has not answered."""
        return list((self.link.greeting or {}).get("devices", ()))

    def askDevices(self) -> None:
        """Ask the worker, which starts it; a wrong Python is told by `error`."""
        if not self.link.busy:
            self.link.hello(
                Listener(onLog=self._onLog, onError=self._onError, onEnded=lambda _reason: self.onChanged())
            )

    def start(self, nodes: Mapping[str, Any], card: ModelCard, options: Mapping[str, Any]) -> None:
        """Begin; everything else is told by `onChanged`.

        Args:
            nodes: Role to volume node.
            card: The model.
            options: The engine's options.

        Raises:
            RuntimeError: A run is going on.
        """
        if self.busy:
            raise RuntimeError("a run is going on")
        self._number += 1
        self._nodes, self._card = dict(nodes), card
        self._options = {"model": card.name, **options}
        self.error, self.warnings, self.cancelled, self.result = None, [], False, None
        self._event, self._showing, self._request, self.timing = None, None, "", {}
        self._began = time.monotonic()
        self._go(SENDING)
        self._onLog(_("Run with {model}: {roles}.").format(model=card.name, roles=", ".join(sorted(nodes))))
        self._later(self._prepare)

    def cancel(self) -> None:
        """End the run; it takes a second at most."""
        if self.state == SENDING or (self.state == SHOWING and self.result is None):
            self.cancelled = True
            self._finish()
        elif self.state == RUNNING:
            self.state = CANCELLING
            self.link.cancel(self._request)
            self.onChanged()

    def abandon(self) -> None:
        """Give up everything at once, the worker, too: the scene was closed, the module is reloaded, Slicer ends."""
        self._number += 1
        self.link.close()
        if self.busy:
            self.cancelled = True
            self._finish()
        self._nodes, self.result = {}, None

    def _later(self, call: Callable[[], None]) -> None:
        """In Slicer's next turn, unless the run is another one by then."""
        number = self._number

        def now() -> None:
            if number != self._number or not self.busy:
                return
            try:
                call()
            except StrokeSegError as error:
                self._fail(error.title, error.cause, error.next_step)
            except Exception as error:
                self._fail(
                    _("Something went wrong inside StrokeSeg."),
                    f"{type(error).__name__}: {error}",
                    _("Please report it with the details that About copies, and run again."),
                )
                raise  # Slicer's log keeps where it was

        qt.QTimer.singleShot(0, now)

    def _go(self, state: str) -> None:
        self.state = self.stage = state
        self.percent = _SPANS.get(state, (self.percent, 0))[0]
        self.onChanged()

    def _prepare(self) -> None:
        try:
            self._exchange = Exchange()
            self._writing = VolumesWriting(self._nodes, self._exchange)
        except OSError as error:
            self._fail(
                _("The volumes cannot be handed over."),
                _("The folder for temporary files refuses: {reason}.").format(reason=error.strerror),
                _("Make room on the disk, or set another temporary folder in Slicer's settings."),
            )
        else:
            self._later(self._write)

    def _write(self) -> None:
        assert self._writing is not None
        assert self._exchange is not None
        if not self._writing.step():
            self._later(self._write)
            return
        number = self._number
        # Of a run that was given up nothing is heard: the link is closed then.
        listener = Listener(
            onProgress=self._onProgress,
            onWarning=self._onWarning,
            onLog=self._onLog,
            onResult=self._onResult,
            onError=self._onError,
            onEnded=lambda reason: self._onEnded(reason) if number == self._number else None,
        )
        self._go(RUNNING)
        self._request = self.link.segment(self._writing.paths, str(self._exchange.out), self._options, listener)

    def _onProgress(self, stage: str, done: int, total: int, message: str) -> None:
        if stage != self.stage:
            self._onLog(message or stage)
        self.stage = stage
        low, high = _SPANS.get(stage, (self.percent, self.percent))
        share = done / total if total > 0 else 0.0
        self.percent = max(self.percent, round(low + (high - low) * min(1.0, share)))
        self.onChanged()

    def _onWarning(self, text: str) -> None:
        self.warnings.append(text)
        self.onChanged()

    def _onLog(self, text: str, *_more: Any) -> None:
        self.log.append(text)
        self.logged += 1
        self.onChanged()

    def _onResult(self, event: dict[str, Any]) -> None:
        self._event = event

    def _onError(self, title: str, cause: str, nextStep: str) -> None:
        self.error = (title, cause, nextStep)
        self._onLog(f"{title} {cause} {nextStep}")

    def _onEnded(self, reason: str) -> None:
        if reason == DONE and self.state == RUNNING:
            self._go(SHOWING)
            self._later(self._show)
        else:
            self.cancelled = reason in (CANCELLED, DONE)
            self._finish()

    def _show(self) -> None:
        card, event = self._card, self._event
        assert card is not None
        assert event is not None
        reference = self._nodes[card.reference_role]
        self.timing = {stage: float(seconds) for stage, seconds in (event.get("seconds") or {}).items()}
        self._showing = SceneResults(reference.GetScene()).showing(event, reference, card, self._nodes)
        self._showOn()

    def _showOn(self) -> None:
        """A piece at a time; only the last one touches the scene."""
        assert self._showing is not None
        try:
            next(self._showing)
        except StopIteration as shown:
            self.result = shown.value
            self._later(self._hasShown)
        else:
            self._later(self._showOn)

    def _hasShown(self) -> None:
        """In a turn of its own: to remove the files takes its time, too."""
        result = self.result
        assert result is not None
        if self.timing:
            stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in self.timing.items())
            self._onLog(_("Seconds in the worker's stages: {stages}.").format(stages=stages))
        self._onLog(_("Done in {seconds:.1f} s.").format(seconds=self.seconds))
        self._finish()
        self.onShown(result)

    def _fail(self, title: str, cause: str, nextStep: str) -> None:
        self._onError(title, cause, nextStep)
        self._finish()

    def _finish(self) -> None:
        self._ended = time.monotonic()
        self.state, self.stage, self.percent = IDLE, "", 0
        if self._writing is not None:
            self._writing.close()
        if self._showing is not None:
            self._showing.close()
        if self._exchange is not None:
            self._exchange.close()
        self._writing = self._exchange = self._event = self._showing = None
        if not self._settings.value("keepWorker") and self.link.running:
            self.link.shutdown()
        self.onChanged()
