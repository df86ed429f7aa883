"""How lines reach the worker's process and come back: `QtTransport` in Slicer, `PlainTransport` where no Qt runs.

Both have the same interface and call back in the thread of their owner only: `QtTransport` from Qt's event loop,
`PlainTransport` from within `PlainTransport.poll` and `PlainTransport.wait`. Nothing here waits for the process.
``qt`` is imported when a `QtTransport` is made.
"""

from __future__ import annotations

import heapq
import itertools
import queue
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

from slicer.i18n import tr as _

from .process_tree import endTree
from .transport_base import LONGEST_LINE, Lines, Transport, howItEnded

_SLICE_SECONDS = 0.02  # of the event loop's time at once
_MOST_AT_ONCE = 100
_LEAVE_MILLISECONDS = 1000


__all__ = ["PlainTransport", "QtTransport", "Transport"]


class PlainTransport(Transport):
    """The interface over ``subprocess``, for scripts without an event loop: call `poll` often, or `wait`."""

    def __init__(self) -> None:
        super().__init__()
        # Bounded: a process that prints without end waits for its reader instead of filling the memory.
        self._heard: queue.Queue[tuple[subprocess.Popen[bytes] | None, str, Any]] = queue.Queue(maxsize=1000)
        self._toWrite: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    @property
    def running(self) -> bool:
        return self._process is not None

    def start(self, command: list[str], environment: dict[str, str]) -> None:
        if self._process is not None:
            raise RuntimeError("the process before has not ended")
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except (OSError, ValueError) as error:
            text = _("It could not be started: {reason}.").format(reason=error)
            self.later(0.0, lambda: self.onEnded(text))
            return
        self._process = process
        self._hasStarted()
        self._toWrite = queue.SimpleQueue()
        pipes = [(process.stdout, "line"), (process.stderr, "stderr")]
        readers = [threading.Thread(target=self._read, args=(process, *pipe), daemon=True) for pipe in pipes]
        for thread in (
            *readers,
            threading.Thread(target=_feed, args=(process.stdin, self._toWrite), daemon=True),
            threading.Thread(target=self._reap, args=(process, readers), daemon=True),
        ):
            thread.start()

    def write(self, line: bytes) -> None:
        self._toWrite.put(line)

    def terminate(self) -> None:
        self._toWrite.put(None)

    def kill(self) -> None:
        self._killed = True
        if self._process is not None and self._process.poll() is None:
            endTree(self._process.pid)
            self._process.kill()  # where it did not let itself be listed

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._count), call))

    def poll(self) -> None:
        """Call back for everything that has come and every time that is over."""
        self.wait(0.0)

    def wait(self, seconds: float) -> None:
        """Wait until something has come or a time is over, at most `seconds`; then call back as `poll` does."""
        end = time.monotonic() + seconds
        if not self._next(end):
            return
        # What else is there already, but not for ever: a process may print faster than it is read.
        end = time.monotonic() + _SLICE_SECONDS
        while time.monotonic() < end and self._next(0.0):
            pass

    def _next(self, end: float) -> bool:
        """Call back once, waiting for it until the time `end` at most; False when nothing came."""
        while True:
            now = time.monotonic()
            if self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2]()
                return True
            until = min([end, *(timer[0] for timer in self._timers[:1])])
            try:
                heard = self._heard.get(timeout=until - now) if until > now else self._heard.get_nowait()
            except queue.Empty:
                if now >= end:
                    return False
                continue
            self._handOn(*heard)
            return True

    def _handOn(self, process: subprocess.Popen[bytes] | None, what: str, content: Any) -> None:
        if process is not self._process:
            return  # the last words of one that was given up
        if what == "ended":
            self._process = None
            self._hasEnded()
            self._toWrite.put(None)
            self.onEnded(content)
        elif self._killed:
            pass  # it was taken so that who puts it there does not wait
        elif what == "line":
            self.onLine(content)
        else:
            self.onStderr(content.decode("utf-8", "replace"))

    def _read(self, process: subprocess.Popen[bytes], pipe: IO[bytes], what: str) -> None:
        with suppress(OSError, ValueError), pipe:  # closed while it was read
            while line := pipe.readline(LONGEST_LINE):
                self._heard.put((process, what, line.rstrip(b"\r\n")))

    def _reap(self, process: subprocess.Popen[bytes], readers: list[threading.Thread]) -> None:
        code = process.wait()
        for reader in readers:
            reader.join(0.5)  # a process that it has left behind may hold the pipe for ever
        self._heard.put((process, "ended", howItEnded(code)))


class QtTransport(Transport):
    """The interface over ``QProcess``; needs Qt's event loop."""

    def __init__(self) -> None:
        super().__init__()
        import qt

        self._qt = qt
        self._process: Any = None
        self._lines: deque[bytes] = deque()
        self._output, self._errors = Lines(), Lines()
        self._ending = ""
        self._timerIsSet = False

    @property
    def running(self) -> bool:
        return self._process is not None

    def start(self, command: list[str], environment: dict[str, str]) -> None:
        if self._process is not None:
            raise RuntimeError("the process before has not ended")
        process = self._qt.QProcess()
        variables = self._qt.QProcessEnvironment()
        for name, value in environment.items():
            variables.insert(name, value)
        process.setProcessEnvironment(variables)
        process.connect("readyReadStandardOutput()", self._onOutput)
        process.connect("readyReadStandardError()", self._onErrors)
        process.connect("finished(int,QProcess::ExitStatus)", self._onFinished)
        process.connect("errorOccurred(QProcess::ProcessError)", self._onError)
        self._process = process
        self._hasStarted()
        self._lines, self._output, self._errors, self._ending = deque(), Lines(), Lines(), ""
        process.start(command[0], command[1:])

    def write(self, line: bytes) -> None:
        if self._process is not None:
            self._process.write(line)

    def terminate(self) -> None:
        if self._process is not None:
            self._process.closeWriteChannel()

    def kill(self) -> None:
        self._killed = True
        self._lines.clear()
        if self._process is not None:
            endTree(int(self._process.processId()))
            self._process.kill()

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        self._qt.QTimer.singleShot(round(1000 * seconds), call)

    def leave(self) -> None:
        super().leave()
        if self._process is not None:
            self._process.waitForFinished(_LEAVE_MILLISECONDS)

    def _onOutput(self) -> None:
        if self._process is not None:
            lines = self._output.take(_bytes(self._process.readAllStandardOutput()))
            self._lines += [] if self._killed else lines
            self._handOn()

    def _handOn(self) -> None:
        """Hand lines on, a little at a time: a process that prints without end must not hold up Slicer."""
        end = time.monotonic() + _SLICE_SECONDS
        while self._lines and time.monotonic() < end:
            self.onLine(self._lines.popleft())  # who may turn Qt's loop meanwhile and so come here again
        if self._lines and not self._timerIsSet:
            self._timerIsSet = True
            self.later(0.001, self._goOn)
        elif not self._lines and self._ending:
            self._tellEnd()

    def _goOn(self) -> None:
        self._timerIsSet = False
        self._handOn()

    def _onErrors(self) -> None:
        self._takeErrors(b"")

    def _takeErrors(self, last: bytes) -> None:
        if self._process is not None:
            lines = self._errors.take(_bytes(self._process.readAllStandardError()) + last)
            for line in lines[-_MOST_AT_ONCE:]:  # of a flood its end tells most, and the log has no room for the rest
                if not self._killed:
                    self.onStderr(line.decode("utf-8", "replace"))

    def _onFinished(self, code: int, status: int) -> None:
        crashed = int(status) != int(self._qt.QProcess.NormalExit)
        self._takeErrors(b"\n")  # its last line may have no break
        self._ending = howItEnded(-int(code) if crashed else int(code))
        self._onOutput()

    def _onError(self, error: int) -> None:
        if self._process is not None and int(error) == int(self._qt.QProcess.FailedToStart):
            # Never from within `start`: nobody expects an answer there.
            reason = self._process.errorString()
            self._ending = _("It could not be started: {reason}.").format(reason=reason)
            self.later(0.0, self._handOn)

    def _tellEnd(self) -> None:
        text, self._ending = self._ending, ""
        process, self._process = self._process, None
        self._hasEnded()
        # Qt may be in the middle of a call into it, so it must not be gone before the next turn.
        self.later(0.0, process.deleteLater)
        self.onEnded(text)


def _feed(pipe: IO[bytes], lines: queue.SimpleQueue[bytes | None]) -> None:
    """Write lines in a thread of its own: a process that does not read must not hold up its owner."""
    with suppress(OSError), pipe:  # the process has ended
        while (line := lines.get()) is not None:
            pipe.write(line)
            pipe.flush()


def _bytes(content: Any) -> bytes:
    # A QByteArray; in Slicer an empty one gives None.
    return bytes(content.data() or b"")
