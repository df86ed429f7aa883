"""What the transports of `transports` share: their interface, and that no process outlives the Python it belongs to."""

from __future__ import annotations

import atexit
from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

LONGEST_LINE = 2**23
"""Bytes; a longer line is handed on in pieces. A result with a thousand lesions has less than a tenth of it."""

# Those with a process: none is forgotten before it has ended, nor when Slicer runs this file again to reload it.
_running: set[Transport] = globals().get("_running", set())
for _transport in list(_running):
    _transport.kill()


class Transport:
    """A process with lines in and lines out.

    Attributes:
        onLine: Called with each line of its standard output, bytes without line break.
        onStderr: Called with each line of its standard error, text.
        onEnded: Called once per process, after its last line, with a sentence that says how it ended.
    """

    def __init__(self) -> None:
        self.onLine: Callable[[bytes], None] = _ignore
        self.onStderr: Callable[[str], None] = _ignore
        self.onEnded: Callable[[str], None] = _ignore
        self._killed = False

    @property
    def running(self) -> bool:
        """Whether there is a process, or will be as soon as the system has started it."""
        raise NotImplementedError

    def start(self, command: list[str], environment: dict[str, str]) -> None:
        """Start a process; one that cannot be started is told by `onEnded`, later."""
        raise NotImplementedError

    def write(self, line: bytes) -> None:
        """Send one line, with its line break; lost when the process has ended."""
        raise NotImplementedError

    def terminate(self) -> None:
        """Close its standard input: the worker cancels what it does and ends by itself."""
        raise NotImplementedError

    def kill(self) -> None:
        """End the process and all that it has started, now; lines that have come or still come are not handed on."""
        raise NotImplementedError

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call something after a time."""
        raise NotImplementedError

    def _hasStarted(self) -> None:
        _running.add(self)
        self._killed = False

    def _hasEnded(self) -> None:
        _running.discard(self)

    def leave(self) -> None:
        """`kill`, and wait for it a little: Python ends, and nobody turns the loop any more."""
        self.onLine = self.onStderr = self.onEnded = _ignore
        self.kill()


class Lines:
    """Cuts a stream of bytes into lines."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0

    def take(self, content: bytes) -> list[bytes]:
        """The lines that end with `content`, without their breaks."""
        if b"\n" not in content and self._length + len(content) < LONGEST_LINE:
            # Only kept: to join the parts each time would take the square of a line's length.
            self._parts.append(content)
            self._length += len(content)
            return []
        *lines, rest = b"".join([*self._parts, content]).split(b"\n")
        if len(rest) >= LONGEST_LINE:
            lines.append(rest)
            rest = b""
        self._parts, self._length = [rest], len(rest)
        return [line.rstrip(b"\r") for line in lines]


def howItEnded(code: int) -> str:
    """A sentence about an exit code; a negative one is the number of a signal, as `subprocess` has it."""
    if code == -9:
        return _("It was ended by the system or by a user, as happens when the memory is full (signal 9).")
    if code < 0:
        return _("It crashed (signal {number}).").format(number=-code)
    return _("It ended with exit code {number}.").format(number=code)


def _ignore(_content: Any) -> None:
    pass


@atexit.register
def endAll() -> None:
    """No process outlives the Python that has started it, whatever its owner forgot."""
    for transport in list(_running):
        transport.leave()
