"""`Worker`: hears requests while one is being carried out, keeps the others waiting, cancels, and writes events."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from strokeseg.errors import Cancelled
from strokeseg.events import ErrorEvent, Event, Monitor, Progress
from strokeseg.protocol import LONGEST_LINE, Request, RequestError, parse_request
from strokeseg.results import abandon
from strokeseg.worker.answers import Answers, result_event

GRACE_SECONDS = 1.0
"""How long a cancelled run may take to notice before the process ends."""
_LAST_WORDS_SECONDS = 0.5
_MOST_WAITING = 1000


@dataclass(eq=False)
class _Running:
    """The request that is being carried out.

    Attributes:
        place: Where its result is being written, if it writes one.
        stage: What it was last heard to do.
        ended: Its last event belongs to whoever set this.
        told: That event was written.
    """

    id: str
    place: Path | None
    stop: threading.Event
    stage: str = ""
    ended: bool = False
    told: threading.Event = field(default_factory=threading.Event)


class Worker:
    """Reads requests, carries them out one after the other, and writes events.

    Args:
        source: Where request lines come from.
        sink: Where event lines go; nothing else may write there.
        end_process: Called when a cancelled run does not end by itself; by default ends this process. Its children are
            gone by then.
    """

    def __init__(
        self, source: BinaryIO, sink: BinaryIO, end_process: Callable[[], None] = lambda: os._exit(Cancelled.exit_code)
    ) -> None:
        self._source = source
        self._sink = sink
        self._end_process = end_process
        self._writing = threading.Lock()
        # Guards what follows; never held while something is written, for a reader that does not read blocks that.
        self._changed = threading.Condition()
        self._waiting: deque[Request] = deque()
        self._running: _Running | None = None
        self._closing = False
        self._all_told = threading.Event()
        self._answers = Answers()

    def serve(self) -> None:
        """Work until ``shutdown``, the end of the source, or `stop`."""
        threading.Thread(target=self._listen, name="requests", daemon=True).start()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if self._closing:
                    break
                request = self._waiting.popleft()
                place = request.fields.get("out")
                running = _Running(request.id, None if place is None else Path(place).absolute(), threading.Event())
                self._running = running
            self._carry_out(request, running)
            with self._changed:
                self._running = None
        # Another thread may still be telling those who waited; the process ends when this returns.
        self._all_told.wait(_LAST_WORDS_SECONDS)

    def stop(self) -> None:
        """Cancel everything and let `serve` return."""
        with self._changed:
            self._closing = True
            dropped = list(self._waiting)
            self._waiting.clear()
            running = self._running
            self._changed.notify_all()
        if running is not None:
            self._end(running)
        for request in dropped:
            self._write(request.id, ErrorEvent.of(Cancelled()).to_dict())
        self._all_told.set()

    # --- listening: in a thread of its own, so that a cancellation is heard while a run is going on

    def _listen(self) -> None:
        try:
            while (line := self._source.readline(LONGEST_LINE + 1)) and self._hear(line):
                pass
        finally:
            self.stop()

    def _hear(self, line: bytes) -> bool:
        """Take in one line; False ends the worker."""
        if not line.strip():
            return True
        rest = line
        while len(line) > LONGEST_LINE and rest and not rest.endswith(b"\n"):
            rest = self._source.readline(LONGEST_LINE)
        try:
            request = parse_request(line)
            self._refuse_used_id(request)
        except RequestError as error:
            self._write("" if self._is_in_use(error.id) else error.id, ErrorEvent.of(error).to_dict())
            return True
        if request.kind == "shutdown":
            self._write(request.id, result_event({}, {}))
            return False
        if request.kind == "cancel":
            target = request.fields["target"]
            self._write(request.id, result_event({}, {}, target=target, found=self._cancel(target)))
            return True
        with self._changed:
            self._waiting.append(request)
            self._changed.notify_all()
        return True

    def _refuse_used_id(self, request: Request) -> None:
        if self._is_in_use(request.id):
            raise RequestError(f"The id '{request.id}' belongs to a request that has not ended yet.", request.id)
        if len(self._waiting) >= _MOST_WAITING and request.kind not in ("cancel", "shutdown"):
            raise RequestError(f"{_MOST_WAITING} requests are waiting already.", request.id)

    def _is_in_use(self, request_id: str) -> bool:
        with self._changed:
            running = self._running
            return (running is not None and running.id == request_id and not running.ended) or any(
                waiting.id == request_id for waiting in self._waiting
            )

    # --- cancelling

    def _cancel(self, target: str) -> str:
        """Cancel one request; says whether it was "running", "waiting", or "unknown": not heard of, or ended."""
        with self._changed:
            running = self._running
            waiting = next((request for request in self._waiting if request.id == target), None)
            if waiting is not None:
                self._waiting.remove(waiting)
        if waiting is not None:
            self._write(target, ErrorEvent.of(Cancelled()).to_dict())
            return "waiting"
        if running is None or running.id != target or running.ended:
            return "unknown"
        self._end(running)
        return "running"

    def _end(self, running: _Running) -> None:
        """Ask a run to end, and see to it."""
        if not running.stop.is_set():
            running.stop.set()
            threading.Thread(target=self._watch, args=(running,), name="watchdog", daemon=True).start()

    def _watch(self, running: _Running) -> None:
        end = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < end:
            if running.ended:
                return
            time.sleep(0.01)
        # Whoever does not read events, or a disk that does not answer, may block what follows, but not the end.
        claims = _within_seconds(_LAST_WORDS_SECONDS, lambda: self._claim(running))
        if claims == [False]:
            return
        end_children()
        if running.place is not None:
            place = running.place
            _within_seconds(_LAST_WORDS_SECONDS, lambda: abandon(place))
        if claims:
            words = ErrorEvent.of(Cancelled(running.stage)).to_dict()
            _within_seconds(_LAST_WORDS_SECONDS, lambda: self._write(running.id, words))
            running.told.set()
        with self._changed:
            self._closing = True
        self._all_told.set()
        self._end_process()

    # --- carrying out: in the main thread

    def _carry_out(self, request: Request, running: _Running) -> None:
        def listen(event: Event) -> None:
            if isinstance(event, Progress):
                running.stage = event.stage
            self._write(request.id, event.to_dict(), running)

        last = self._answers.to(request, Monitor(listen, running.stop.is_set))
        if self._claim(running):
            self._write(request.id, last)
        else:
            # The watchdog took the last word just now; the process may end when this returns.
            running.told.wait(2 * _LAST_WORDS_SECONDS)

    def _claim(self, running: _Running) -> bool:
        """Take the right to send a run's last event; after this nothing else of it is written."""
        with self._writing:
            mine = not running.ended
            running.ended = True
            return mine

    def _write(self, request_id: str, data: Mapping[str, Any], running: _Running | None = None) -> None:
        """Write one line; nothing when it belongs to a run that has ended. ASCII: no locale of a reader spoils it."""
        line = json.dumps({"id": request_id, **data}, ensure_ascii=True, allow_nan=False).encode("ascii") + b"\n"
        try:
            with self._writing:
                if running is None or not running.ended:
                    self._sink.write(line)
                    self._sink.flush()
        except (OSError, ValueError):  # the pipe is closed
            if not self._closing:
                self.stop()


def end_children() -> None:
    """End every process that this one has started, and theirs."""
    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()


def _within_seconds(seconds: float, work: Callable[[], Any]) -> list[Any]:
    """What `work` returned, or nothing when it has not ended in time; it is not waited for then."""
    answer: list[Any] = []
    thread = threading.Thread(target=lambda: answer.append(work()), daemon=True)
    thread.start()
    thread.join(seconds)
    return answer
