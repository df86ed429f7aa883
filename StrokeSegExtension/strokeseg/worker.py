"""The worker: a JSON request a line on standard input, a JSON event a line on standard output, one process kept warm.

Requests have ``id`` and ``kind``; every event has the request's ``id``, and the last event of every request is one of
``hello``, ``result`` and ``error``. A line that is no request, or whose id is in use, is answered under ``""`` where
its own id would be mistaken. What was imported, compiled and computed for one request stays for the next.

Cancelling is cooperative. A run that has not noticed after `GRACE_SECONDS` ends with the whole process tree, and its
caller, who sees the pipe end, starts another worker. So do the end of standard input, a closed event pipe, Ctrl+C and
SIGTERM, which cancel everything. Native code that keeps Python's own lock cannot be ended from inside.

Written for Linux, macOS and Windows (no fork, bytes in and out, psutil for the process tree); on macOS and Windows it
could not be tried yet. There, what happens when the parent is killed rests on the pipe's end alone, as here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import psutil

from strokeseg import __version__
from strokeseg.errors import Cancelled, InputError, StrokeSegError, out_of_memory
from strokeseg.events import ErrorEvent, Event, Monitor, Progress, Result
from strokeseg.protocol import LONGEST_LINE, PROTOCOL, Request, RequestError, parse_request

if TYPE_CHECKING:
    from strokeseg.relabel import Evidence

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
    """

    id: str
    place: Path | None
    stop: threading.Event
    stage: str = ""
    ended: bool = False


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
        self._kept: tuple[Path, tuple[int, ...], Evidence] | None = None

    def serve(self) -> None:
        """Work until ``shutdown``, the end of the source, or `stop`."""
        threading.Thread(target=self._listen, name="requests", daemon=True).start()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if self._closing:
                    return
                request = self._waiting.popleft()
                place = request.fields.get("out")
                running = _Running(request.id, None if place is None else Path(place).absolute(), threading.Event())
                self._running = running
            self._carry_out(request, running)
            with self._changed:
                self._running = None

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
            self._write(request.id, _result({}, {}))
            return False
        if request.kind == "cancel":
            target = request.fields["target"]
            self._write(request.id, _result({}, {}, target=target, found=self._cancel(target)))
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
        _end_children()
        if running.place is not None:
            place = running.place
            _within_seconds(_LAST_WORDS_SECONDS, lambda: _remove_partial(place))
        if claims:
            words = ErrorEvent.of(Cancelled(running.stage)).to_dict()
            _within_seconds(_LAST_WORDS_SECONDS, lambda: self._write(running.id, words))
        with self._changed:
            self._closing = True
        self._end_process()

    # --- carrying out: in the main thread

    def _carry_out(self, request: Request, running: _Running) -> None:
        def listen(event: Event) -> None:
            if isinstance(event, Progress):
                running.stage = event.stage
            self._write(request.id, event.to_dict(), running)

        try:
            last = _HANDLERS[request.kind](self, request, Monitor(listen, running.stop.is_set))
            json.dumps(last, allow_nan=False)  # what cannot be sent is an error of this request
        except StrokeSegError as error:
            last = ErrorEvent.of(error).to_dict()
        except MemoryError:
            last = ErrorEvent.of(out_of_memory()).to_dict()
        except Exception as error:  # noqa: BLE001  an unforeseen error must reach the user, and the worker must go on
            traceback.print_exc(file=sys.stderr)
            last = ErrorEvent.of(_unforeseen(error)).to_dict()
        if self._claim(running):
            self._write(request.id, last)

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

    # --- the kinds of requests

    def _hello(self, request: Request, _monitor: Monitor) -> dict[str, Any]:
        asked = request.fields.get("protocol", PROTOCOL)
        if asked != PROTOCOL:
            raise InputError(
                "The panel and the engine do not fit each other.",
                f"The panel speaks protocol {asked}, the engine (version {__version__}) speaks {PROTOCOL}.",
                "Update StrokeSeg, or choose the Python into which the matching version is installed.",
            )
        from strokeseg.runtime.devices import describe_devices, runtimes_at_hand  # noqa: PLC0415  only hello asks

        return {
            "event": "hello",
            "protocol": PROTOCOL,
            "version": __version__,
            "pid": os.getpid(),
            "runtimes": runtimes_at_hand(),
            "devices": describe_devices(),
        }

    def _segment(self, request: Request, monitor: Monitor) -> dict[str, Any]:
        from strokeseg.job import SegmentJob, SegmentOptions, run_segment  # noqa: PLC0415  loaded with the first run
        from strokeseg.relabel import evidence_of  # noqa: PLC0415

        options = SegmentOptions.checked(request.fields.get("options", {}))
        place = Path(request.fields["out"]).absolute()
        done = run_segment(SegmentJob(request.fields["inputs"], place, options), monitor)
        if done.result.card.decision.rule == "threshold":
            self._keep(place, evidence_of(done.result, place.name))
        return _result(
            done.files,
            done.result.summary,
            lesions=[asdict(x) for x in done.result.lesions],
            metrics=None if done.metrics is None else done.metrics.to_dict(),
            seconds=done.result.timing,
        )

    def _relabel(self, request: Request, _monitor: Monitor) -> dict[str, Any]:
        from strokeseg.relabel import read_evidence, relabel  # noqa: PLC0415  loaded with the first run

        place = Path(request.fields["result"]).absolute()
        if self._kept is None or self._kept[:2] != (place, _stamp(place)):
            self._keep(place, read_evidence(place))
        assert self._kept is not None
        done = relabel(
            self._kept[2],
            threshold=request.fields["threshold"],
            min_lesion_ml=request.fields.get("min_lesion_ml"),
            out=None if "out" not in request.fields else Path(request.fields["out"]).absolute(),
        )
        return _result(done.files, {}, lesions=[asdict(x) for x in done.lesions], volume_ml=done.volume_ml)

    def _keep(self, place: Path, evidence: Evidence) -> None:
        self._kept = (place, _stamp(place), evidence)

    def _evaluate(self, request: Request, _monitor: Monitor) -> dict[str, Any]:
        from strokeseg.evaluation import evaluate  # noqa: PLC0415  loaded with the first run

        metrics = evaluate(request.fields["prediction"], request.fields["reference"])
        return _result({}, {}, metrics=metrics.to_dict())


_HANDLERS: dict[str, Callable[[Worker, Request, Monitor], dict[str, Any]]] = {
    "hello": Worker._hello,
    "segment": Worker._segment,
    "relabel": Worker._relabel,
    "evaluate": Worker._evaluate,
}


def main() -> None:
    """``python -m strokeseg worker``."""
    # Libraries print to file descriptor 1 as they like, and children read from 0: requests and events get copies of
    # their own, which no child inherits. On Windows a library that asks for the kind of handle 0 while a thread waits
    # for a line on it would wait as long.
    while (nothing := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # a program without a console may start this one with 0, 1 or 2 closed; now they are not
    requests, events = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    worker = Worker(requests, events)
    _stop_on_signals(worker.stop)
    worker.serve()
    _end_children()
    if sys.stderr is not None:
        sys.stderr.flush()
    # Not the usual way out: it waits for the thread that waits for requests.
    os._exit(0)


def _stop_on_signals(stop: Callable[[], None]) -> None:
    """Ctrl+C and SIGTERM end the worker in order, also while the main thread is inside a library."""
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)

    def wait() -> None:
        os.read(heard, 1)
        stop()

    threading.Thread(target=wait, name="signals", daemon=True).start()


def _end_children() -> None:
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


def _remove_partial(place: Path) -> None:
    """Delete what this process has begun to write for a place, named as `strokeseg.results` does.

    Renamed first: a run that wakes up after all must not find it half deleted and put it in its place.
    """
    parent = Path(os.path.realpath(place.parent))
    with suppress(OSError):
        for folder in list(parent.iterdir()):
            mine = re.fullmatch(rf"(\.partial-{re.escape(place.name)}-{os.getpid()}-)(\d{{13}})", folder.name)
            if mine:
                away = parent / f"{mine[1]}{int(mine[2]) + 1:013d}"
                folder.rename(away)
                shutil.rmtree(away)


def _stamp(place: Path) -> tuple[int, ...]:
    """Which result lies at a place: another one, or none, has another stamp."""
    try:
        status = (place / "summary.json").stat()
    except OSError:
        return ()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _result(files: Mapping[str, Path], summary: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    event = Result({name: str(path) for name, path in files.items()}, dict(summary))
    return {**event.to_dict(), **more}


def _unforeseen(error: Exception) -> StrokeSegError:
    return StrokeSegError(
        "Something went wrong inside StrokeSeg.",
        f"{type(error).__name__}: this should not happen; the log has the details.",
        "Please report it with the log. The worker goes on; try again, or another model.",
    )
