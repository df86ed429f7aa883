"""`WorkerLink`: asks the engine's worker and tells the panel what it answers; never waits for it.

The worker is started with the first request, kept for the next ones, and started again when it has died. Every request
ends with exactly one ``onEnded``, whatever the process on the other side does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _

from . import engine_path, requirements
from .transports import Transport
from .worker_events import LAST, Listener, parsed

PROTOCOL = 1
"""The protocol that the panel speaks; the same number as `strokeseg.protocol.PROTOCOL`."""
CANCEL_SECONDS = 0.5
"""How long a cancelled request may take to end; then the worker is killed.

The other half of the second that a cancel may take is for the killing, and for computers that have much else to do.
"""
HELLO_SECONDS = 60.0
"""How long a Python may take to start and answer; a virus scanner that meets the packages first takes half of it."""
_MOST_RUBBISH = 1000  # lines in a row
_LONGEST_ENTRY = 500
_NO_MODULE = re.compile(r"No module named '?([\w.]+)'?")

DONE, FAILED, CANCELLED = "done", "failed", "cancelled"
__all__ = ["CANCELLED", "DONE", "FAILED", "PROTOCOL", "Listener", "WorkerLink"]


@dataclass(eq=False)
class _Request:
    id: str
    kind: str
    fields: dict[str, Any]
    listener: Listener
    sent: bool = False
    cancelled: bool = False

    def line(self) -> bytes:
        """As it is sent: one line, ASCII, whatever is in a path."""
        return json.dumps({"id": self.id, "kind": self.kind, **self.fields}).encode("ascii") + b"\n"


class WorkerLink:
    """The panel's end of the worker's protocol.

    Args:
        transport: Carries the lines; used by nobody else.
        listener: Hears of requests that bring no listener of their own, and of what belongs to no request.
        python: The Python that the user chose, asked at every start of the worker; "": Slicer's own.
        command: The worker's command; None: ``-m strokeseg worker`` of that Python.
        helloSeconds: See `HELLO_SECONDS`.
        cancelSeconds: See `CANCEL_SECONDS`.

    Attributes:
        greeting: The last answer to ``hello`` (version, runtimes, devices); None while no worker has answered.
    """

    def __init__(
        self,
        transport: Transport,
        listener: Listener | None = None,
        *,
        python: Callable[[], str] = lambda: "",
        command: list[str] | None = None,
        helloSeconds: float = HELLO_SECONDS,
        cancelSeconds: float = CANCEL_SECONDS,
    ) -> None:
        self._transport = transport
        self._listener = listener or Listener()
        self._python = python
        self._command = command
        self._helloSeconds = helloSeconds
        self._cancelSeconds = cancelSeconds
        self._count = 0
        self._open: dict[str, _Request] = {}
        # Of the worker that runs now:
        self._starts = 0
        self._chosen = ""
        self._hello = ""  # id of the question that opens the conversation
        self._greeted = False
        self._ending = False  # by our wish
        self._rubbish = 0
        self._missing = ""
        self._lastWords = ""
        self.greeting: dict[str, Any] | None = None
        transport.onLine = self._onLine
        transport.onStderr = self._onStderr
        transport.onEnded = self._onWorkerEnded

    # --- asking: each returns the request's id at once, and nobody is called before that

    @property
    def running(self) -> bool:
        """Whether there is a worker."""
        return self._transport.running

    @property
    def busy(self) -> bool:
        """Whether a request has not ended."""
        return bool(self._open)

    def hello(self, listener: Listener | None = None) -> str:
        """Ask which devices and runtimes there are."""
        return self._ask("hello", {"protocol": PROTOCOL}, listener)

    def segment(
        self,
        inputs: dict[str, str],
        out: str,
        options: dict[str, Any] | None = None,
        listener: Listener | None = None,
    ) -> str:
        """Segment a case: role to path, the folder for the result, and the engine's options."""
        return self._ask("segment", {"inputs": inputs, "out": out, "options": options or {}}, listener)

    def relabel(
        self,
        result: str,
        threshold: float,
        minimumMl: float | None = None,
        out: str | None = None,
        listener: Listener | None = None,
    ) -> str:
        """Decide anew from the probabilities of a result folder."""
        fields = {"result": result, "threshold": threshold, "min_lesion_ml": minimumMl, "out": out}
        return self._ask("relabel", fields, listener)

    def evaluate(self, prediction: str, reference: str, listener: Listener | None = None) -> str:
        """Compare a mask with a reference mask, both files."""
        return self._ask("evaluate", {"prediction": prediction, "reference": reference}, listener)

    def cancel(self, target: str) -> str:
        """End a request within a second; one that has ended already stays as it is.

        A worker that has not noticed after ``cancelSeconds`` is killed; the requests behind go to the next worker.
        """
        number = self._next()
        request = self._open.get(target)
        if request is not None and not request.cancelled:
            request.cancelled = True
            if request.sent:
                self._write(_Request(number, "cancel", {"target": target}, self._listener))
                self._transport.later(self._cancelSeconds, lambda: self._seeToTheEnd(request))
            else:
                self._transport.later(0.0, lambda: self._end(request, CANCELLED))
        return number

    def shutdown(self) -> str:
        """Let the worker end by itself, within a second; open requests are cancelled. The next one starts another."""
        number = self._next()
        for request in self._open.values():
            request.cancelled = True
        if self._transport.running:
            self._write(_Request(number, "shutdown", {}, self._listener))
            self._transport.terminate()
            self._ending = True
        start = self._starts
        self._transport.later(self._cancelSeconds, lambda: self._seeToItsEnd(start))
        return number

    def close(self) -> None:
        """End the worker and all that it has started, now; nobody is called any more. A new request starts another."""
        self._open.clear()
        self._kill()

    def _ask(self, kind: str, fields: dict[str, Any], listener: Listener | None) -> str:
        given = {name: value for name, value in fields.items() if value is not None}
        request = _Request(self._next(), kind, given, listener or self._listener)
        self._open[request.id] = request
        self._transport.later(0.0, self._go)
        return request.id

    def _next(self) -> str:
        self._count += 1
        return str(self._count)

    # --- the worker's life

    def _go(self) -> None:
        """Send what waits, or start a worker for it."""
        waiting = [request for request in self._open.values() if not request.sent and not request.cancelled]
        if waiting and not self._transport.running:
            self._start()
        elif self._greeted and not self._ending:
            for request in waiting:
                self._write(request)

    def _start(self) -> None:
        self._greeted = self._ending = False
        self._rubbish, self._missing, self._lastWords = 0, "", ""
        try:
            self._chosen = self._python()
            command = self._command or engine_path.workerCommand(self._chosen)
            environment = engine_path.workerEnvironment(self._chosen)
        except OSError as error:
            self._failAll(_("The worker cannot be started."), str(error), _choose())
            return
        self._starts += 1
        start = self._starts
        self._transport.start(command, environment)
        self._hello = self._next()
        self._write(_Request(self._hello, "hello", {"protocol": PROTOCOL}, self._listener))
        self._transport.later(self._helloSeconds, lambda: self._giveUp() if start == self._starts else None)

    def _write(self, request: _Request) -> None:
        request.sent = True
        self._transport.write(request.line())

    def _kill(self) -> None:
        self._greeted = False
        self._ending = self._transport.running
        self._transport.kill()

    def _giveUp(self) -> None:
        if self._transport.running and not self._greeted and not self._ending:
            cause = _("It was started {count} seconds ago and has not said what it can do.")
            self._refuseWorker(
                _("The worker does not answer."), cause.format(count=f"{self._helloSeconds:g}"), _choose()
            )

    def _refuseWorker(self, title: str, cause: str, nextStep: str) -> None:
        self._kill()
        self._failAll(title, cause, nextStep)

    def _seeToTheEnd(self, request: _Request) -> None:
        if request.id in self._open:
            self._kill()
            self._endCancelled()

    def _seeToItsEnd(self, start: int) -> None:
        if start == self._starts:
            self._kill()
        self._endCancelled()

    def _onWorkerEnded(self, how: str) -> None:
        wished, greeted = self._ending, self._greeted
        self._greeted = self._ending = False
        # A worker that could not end a cancelled request ends itself: so it was wished, too.
        wished = self._endCancelled() or wished
        if wished:
            for request in self._open.values():
                request.sent = False
            self._transport.later(0.0, self._go)
            return
        self._listener.onLog(_("The worker has ended. {how}").format(how=how))
        if greeted:
            again = _(
                "Run again: another worker is started. If it ends again, choose the device 'cpu' or a smaller model, "
                "and copy the details for a bug report."
            )
            self._failAll(_("The worker ended while it was working."), f"{how} {self._lastWords}".strip(), again)
        elif self._missing:
            self._failAll(*self._packageIsMissing())
        else:
            self._failAll(_("The worker does not start."), f"{how} {self._lastWords}".strip(), _choose())

    # --- hearing

    def _onLine(self, line: bytes) -> None:
        if not line.strip():
            return
        event = parsed(line)
        if event is None:
            self._onRubbish(line)
            return
        self._rubbish = 0
        if event["id"] == self._hello:
            self._onGreeting(event)
            return
        request = self._open.get(event["id"])
        if request is None:
            if event["event"] == "error" and not self._ending:
                self._listener.onLog(f"{event['title']} {event['cause']}")
        elif request.cancelled:
            if event["event"] in LAST:
                self._end(request, CANCELLED)
        else:
            self._tell(request, event)

    def _tell(self, request: _Request, event: dict[str, Any]) -> None:
        heard = request.listener
        kind = event["event"]
        if kind == "progress":
            heard.onProgress(event["stage"], event["done"], event["total"], event["message"])
        elif kind == "warning":
            heard.onWarning(event["message"])
        elif kind == "log":
            heard.onLog(event["message"])
        elif kind != "error":
            self.greeting = event if kind == "hello" else self.greeting
            self._end(request, DONE, lambda: heard.onResult(event))
        elif event["kind"] == "Cancelled":
            self._end(request, CANCELLED)
        elif event["cause"].startswith(("ModuleNotFoundError", "ImportError")):
            self._fail(request, *self._packageIsMissing())
        else:
            self._fail(request, event["title"], event["cause"], event["next_step"])

    def _onGreeting(self, event: dict[str, Any]) -> None:
        if event["event"] == "error":
            self._refuseWorker(event["title"], event["cause"], event["next_step"])
        elif event["event"] == "hello" and event.get("protocol") != PROTOCOL:
            self._refuseWorker(
                _("The panel and the engine do not fit each other."),
                _("The panel speaks protocol {ours}, the engine (version {version}) speaks {theirs}.").format(
                    ours=PROTOCOL, version=event.get("version"), theirs=event.get("protocol")
                ),
                _("Update StrokeSeg, or choose a Python into which the matching version is installed."),
            )
        elif event["event"] == "hello" and not self._ending:
            self._greeted = True
            self.greeting = event
            self._sayOtherVersion(event.get("version"))
            for request in [x for x in self._open.values() if x.kind == "hello" and not x.cancelled]:
                self._tell(request, event)
            self._go()

    def _sayOtherVersion(self, version: Any) -> None:
        from strokeseg import __version__

        if version != __version__:
            text = _("The worker is StrokeSeg {theirs}, the panel is {ours}: results are those of {theirs}.")
            self._listener.onLog(text.format(theirs=version, ours=__version__))

    def _onRubbish(self, line: bytes) -> None:
        self._rubbish += 1
        if self._ending:
            return
        if self._rubbish > _MOST_RUBBISH:
            cause = _("It printed {count} lines in a row that are none of its events.").format(count=_MOST_RUBBISH)
            self._refuseWorker(_("The worker answers with something else."), cause, _choose())
        else:
            text = line[:_LONGEST_ENTRY].decode("utf-8", "replace")
            self._log(_("Not understood: {text}").format(text=text))

    def _onStderr(self, line: str) -> None:
        line = line[:_LONGEST_ENTRY].strip()
        if line and not self._ending:
            found = _NO_MODULE.search(line)
            self._missing = found[1].partition(".")[0] if found else self._missing
            self._lastWords = line
            self._log(line)

    def _log(self, text: str) -> None:
        # The first is the one that is being carried out.
        first = next(iter(self._open.values()), None)
        (self._listener if first is None else first.listener).onLog(text)

    # --- ending

    def _end(self, request: _Request, reason: str, before: Callable[[], None] = lambda: None) -> None:
        if self._open.pop(request.id, None) is not None:
            try:
                before()
            finally:  # also where the listener fails: it must not wait for ever
                request.listener.onEnded(reason)

    def _fail(self, request: _Request, title: str, cause: str, nextStep: str) -> None:
        self._end(request, FAILED, lambda: request.listener.onError(title, cause, nextStep))

    def _failAll(self, title: str, cause: str, nextStep: str) -> None:
        self._endCancelled()
        for request in list(self._open.values()):
            self._fail(request, title, cause, nextStep)

    def _endCancelled(self) -> bool:
        """End the requests that were cancelled; says whether there were any."""
        cancelled = [request for request in self._open.values() if request.cancelled]
        for request in cancelled:
            self._end(request, CANCELLED)
        return bool(cancelled)

    def _packageIsMissing(self) -> tuple[str, str, str]:
        name = self._missing
        names = sorted({*requirements.missingHere(), *([name] if name else [])})
        return (
            _("Packages that the worker needs are missing."),
            _("Its Python has no '{name}'.").format(name=name)
            if name
            else _("Its Python lacks a package; the log names it."),
            requirements.howToInstall(names, self._chosen),
        )


def _choose() -> str:
    return _("In the settings, choose another Python in which StrokeSeg is installed.")
