"""What the worker says, checked, and who hears of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LAST = ("hello", "result", "error")
"""Each request has exactly one of these events, as its last."""
# Event -> its fields and their types, as far as the panel relies on them.
_FIELDS: dict[str, dict[str, type]] = {
    "progress": {"stage": str, "done": int, "total": int, "message": str},
    "log": {"message": str},
    "warning": {"message": str},
    "hello": {"protocol": int},
    "result": {},
    "error": {"kind": str, "title": str, "cause": str, "next_step": str},
}


@dataclass
class Listener:
    """Who hears of a request; each is called in the thread of the transport's owner, never from within a request.

    Attributes:
        onProgress: ``(stage, done, total, message)``; total 0: the number of steps is not known.
        onWarning: ``(text)``; something that the reader of the result must know.
        onLog: ``(text)``; a line for the log.
        onResult: ``(event)``; the worker's event ``result`` or ``hello`` as it came.
        onError: ``(title, cause, nextStep)``.
        onEnded: ``(reason)``: ``done`` after `onResult`, ``failed`` after `onError`, or ``cancelled`` after neither.
    """

    onProgress: Callable[[str, int, int, str], None] = lambda _stage, _done, _total, _message: None
    onWarning: Callable[[str], None] = lambda _text: None
    onLog: Callable[[str], None] = lambda _text: None
    onResult: Callable[[dict[str, Any]], None] = lambda _event: None
    onError: Callable[[str, str, str], None] = lambda _title, _cause, _nextStep: None
    onEnded: Callable[[str], None] = lambda _reason: None


def parsed(line: bytes) -> dict[str, Any] | None:
    """The event on a line, with its fields as they must be; None when it is none."""
    try:
        event = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("id"), str):
        return None
    kind = event.get("event")
    expected = _FIELDS.get(kind) if isinstance(kind, str) else None
    if expected is None or not all(isinstance(event.get(name), which) for name, which in expected.items()):
        return None
    return event
