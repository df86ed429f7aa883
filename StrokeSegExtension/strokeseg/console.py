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
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from strokeseg.errors import StrokeSegError
from strokeseg.events import Event, Log, WarningEvent
from strokeseg.events import Progress as ProgressEvent

# A pipe has no width: a row of a table stays one line there. Square brackets in results are only brackets.
out = Console(soft_wrap=True, highlight=False, markup=False, width=None if sys.stdout.isatty() else 400)
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
            err.print(f"[yellow]Warning:[/yellow] {_shown(event.message)}")
        elif isinstance(event, Log):
            err.print(_shown(event.message))
        elif isinstance(event, ProgressEvent):
            self._progress(event)

    def _progress(self, event: ProgressEvent) -> None:
        text = f"{event.stage}: {event.message}" if event.message else event.stage
        if self._bar is not None:
            self._bar.update(self._task, description=_shown(text), total=event.total or None, completed=event.done)
        elif event.stage != self._stage:
            err.print(_shown(text))
        self._stage = event.stage


def show_error(error: StrokeSegError, *, as_json: bool) -> None:
    """The three parts of an error: for people on standard error, for machines as JSON on standard output."""
    if as_json:
        print_json({"event": "error", **error.as_dict()})
        return
    err.print(f"[red bold]Error:[/red bold] {_shown(error.title)}")
    err.print(f"  Why:        {_shown(error.cause)}")
    err.print(f"  What to do: {_shown(error.next_step)}")


def printable(text: str) -> str:
    """Text whose control characters, which a file name may hold, do nothing to a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _shown(text: str) -> str:
    """Printable text in which brackets are no markup."""
    return escape(printable(text))


def print_json(data: Any) -> None:
    """One JSON object on one line of standard output."""
    sys.stdout.write(json.dumps(data, ensure_ascii=True, allow_nan=False) + "\n")
    sys.stdout.flush()
