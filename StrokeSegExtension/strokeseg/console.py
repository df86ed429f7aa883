"""How the command line shows events: a progress bar on a terminal, plain lines in a pipe, one JSON object for machines.

Results go to standard output, everything said on the way to standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from strokeseg.errors import StrokeSegError
from strokeseg.events import Event, Log, WarningEvent
from strokeseg.events import Progress as ProgressEvent

# A pipe has no width: a row of a table stays one line there.
out = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else 400)
err = Console(stderr=True, soft_wrap=True, highlight=False)


class Narrator:
    """Shows the events of one run.

    Args:
        quiet: Only errors are shown (for ``--format json``: its warnings are in the JSON object).
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bar: Progress | None = None
        self._task: Any = None
        self._stage = ""

    @contextmanager
    def showing(self) -> Iterator[Narrator]:
        """Progress is shown inside the block; on a terminal as a bar that vanishes at the end."""
        if self._quiet or not err.is_terminal:
            yield self
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=err, transient=True) as bar:
            self._bar, self._task = bar, bar.add_task("starting", total=None)
            yield self
            self._bar = None

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if self._quiet:
            return
        if isinstance(event, WarningEvent):
            err.print(f"[yellow]Warning:[/yellow] {_plain(event.message)}")
        elif isinstance(event, Log):
            err.print(_plain(event.message))
        elif isinstance(event, ProgressEvent):
            self._progress(event)

    def _progress(self, event: ProgressEvent) -> None:
        text = f"{event.stage}: {event.message}" if event.message else event.stage
        if self._bar is not None:
            self._bar.update(self._task, description=_plain(text), total=event.total or None, completed=event.done)
        elif event.stage != self._stage:
            err.print(_plain(text))
        self._stage = event.stage


def show_error(error: StrokeSegError, *, as_json: bool) -> None:
    """The three parts of an error: for people on standard error, for machines as JSON on standard output."""
    if as_json:
        print_json({"event": "error", **error.as_dict()})
        return
    err.print(f"[red bold]Error:[/red bold] {_plain(error.title)}")
    err.print(f"  Why:        {_plain(error.cause)}")
    err.print(f"  What to do: {_plain(error.next_step)}")


def print_json(data: Any) -> None:
    """One JSON object on one line of standard output."""
    sys.stdout.write(json.dumps(data, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def _plain(text: str) -> str:
    """Text in which square brackets are only brackets."""
    return text.replace("[", r"\[")
