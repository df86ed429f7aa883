"""What a run says while it works: typed events, one JSON line each, and the monitor that sends them.

Every stage of the engine is handed one `Monitor`: it reports progress, collects warnings, measures stages and notices a
cancellation. Imports only the standard library and `strokeseg.errors`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from strokeseg.errors import Cancelled, StrokeSegError

__all__ = ["Cancelled", "ErrorEvent", "Event", "Listener", "Log", "Monitor", "Progress", "Result", "WarningEvent"]


@dataclass(frozen=True)
class Event:
    """Base of all events; `event` is the name under which it travels."""

    event: ClassVar[str] = "event"

    def to_dict(self) -> dict[str, Any]:
        """The event as plain data, its name under ``event``."""
        return {"event": self.event, **asdict(self)}

    def to_json(self) -> str:
        """The event as one line of JSON without line break."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True)
class Progress(Event):
    """`done` of `total` steps of `stage`; `total` 0 means that the number of steps is not known."""

    event: ClassVar[str] = "progress"
    stage: str
    done: int
    total: int
    message: str = ""


@dataclass(frozen=True)
class Log(Event):
    """A line for the folded-away log."""

    event: ClassVar[str] = "log"
    message: str


@dataclass(frozen=True)
class WarningEvent(Event):
    """Something that the reader of the result must know; `code` is stable, `message` is for people."""

    event: ClassVar[str] = "warning"
    code: str
    message: str


@dataclass(frozen=True)
class Result(Event):
    """The run is complete; `files` maps a result's name to its path, `summary` is the content of summary.json."""

    event: ClassVar[str] = "result"
    files: dict[str, str]
    summary: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ErrorEvent(Event):
    """The run ended without a result."""

    event: ClassVar[str] = "error"
    kind: str
    title: str
    cause: str
    next_step: str
    exit_code: int

    @classmethod
    def of(cls, error: StrokeSegError) -> ErrorEvent:
        """The event that tells of `error`."""
        return cls(
            kind=type(error).__name__,
            title=error.title,
            cause=error.cause,
            next_step=error.next_step,
            exit_code=error.exit_code,
        )


Listener = Callable[[Event], None]


class Monitor:
    """The one thing handed through all stages of a run.

    Args:
        listener: Called with every event, in the thread of the run. None: nobody listens.
        cancelled: Asked often whether the user wants to stop.

    Attributes:
        warnings: Every warning so far, in order, each code and text once.
        seconds: Stage name to seconds spent in it.
    """

    def __init__(self, listener: Listener | None = None, cancelled: Callable[[], bool] | None = None) -> None:
        self._listener = listener
        self._cancelled = cancelled
        self._stage = ""
        self.warnings: list[WarningEvent] = []
        self.seconds: dict[str, float] = {}

    def send(self, event: Event) -> None:
        """Hand `event` to the listener."""
        if self._listener is not None:
            self._listener(event)

    def check(self) -> None:
        """Raise `Cancelled` if the user asked to stop."""
        if self._cancelled is not None and self._cancelled():
            raise Cancelled(self._stage)

    def progress(self, done: int, total: int, message: str = "") -> None:
        """Report progress within the current stage; notices a cancellation."""
        self.check()
        self.send(Progress(self._stage, done, total, message))

    def log(self, message: str) -> None:
        """A line for the log."""
        self.send(Log(message))

    def warn(self, code: str, message: str) -> None:
        """Collect and send a warning; the same one is said once."""
        warning = WarningEvent(code, message)
        if warning not in self.warnings:
            self.warnings.append(warning)
            self.send(warning)

    @contextmanager
    def stage(self, name: str, message: str = "") -> Iterator[None]:
        """A named stage: announced, measured, and a place where a cancellation is noticed. Stages do not nest."""
        self._stage = name
        self.progress(0, 0, message)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
