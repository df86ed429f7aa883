"""The worker's process: its pipes, the signals it hears, and how it ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable

from strokeseg.worker.listening import Worker, end_children


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
    end_children()
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
