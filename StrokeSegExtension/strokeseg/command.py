"""What commands have in common: options, errors in words, and a run that Ctrl+C ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated

import typer

from strokeseg import console
from strokeseg.errors import Cancelled, StrokeSegError, out_of_memory
from strokeseg.events import Monitor


class Format(StrEnum):
    """For whom the output is."""

    text = "text"
    json = "json"


FormatOption = Annotated[
    Format, typer.Option("--format", help="Output for people (text) or machines (one JSON object).")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda:0 (or another number) or mps.")]


@contextmanager
def in_words(output: Format) -> Iterator[None]:
    """Every error ends as three sentences and an exit code, never as a traceback."""
    try:
        yield
    except StrokeSegError as error:
        console.show_error(error, as_json=output is Format.json)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        cancelled = Cancelled()
        console.show_error(cancelled, as_json=output is Format.json)
        raise typer.Exit(cancelled.exit_code) from error
    except MemoryError as error:
        full = out_of_memory()
        console.show_error(full, as_json=output is Format.json)
        raise typer.Exit(full.exit_code) from error


@contextmanager
def cancellable(output: Format) -> Iterator[Monitor]:
    """A monitor whose run ends at the next step when the user presses Ctrl+C or the system asks to terminate."""
    stop = threading.Event()
    narrator = console.Narrator(quiet=output is Format.json)
    previous = {s: signal.signal(s, lambda *_: stop.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        with narrator.showing():
            yield Monitor(narrator, stop.is_set)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
