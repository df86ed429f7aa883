"""How processes that prepare samples are started: clean ones, never copies of a process that already works."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.context import BaseContext
from typing import Any

# What every worker needs is imported once, by the process of which all of them are copies.
_PRELOADED = ["strokeseg_training.fit.batches"]
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def worker_context() -> BaseContext:
    """How workers of a ``DataLoader`` are started.

    A copy of a process with threads or a GPU's context may stand still or die. On Linux, workers are copies of a
    process that has done nothing but import; elsewhere each begins afresh.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


@contextmanager
def starting(handed_over: object) -> Iterator[None]:
    """Workers are started inside the block.

    Args:
        handed_over: What they get.
    """
    with _main_left_out(handed_over):
        if sys.platform == "linux":
            # A signal to stop goes to all processes of a terminal. The process of which workers are copies keeps the
            # mask, and lives as long as the training does.
            from multiprocessing import forkserver  # noqa: PLC0415  not on every system

            before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            try:
                forkserver.ensure_running()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield


def start_worker() -> Callable[[int], None]:
    """What a worker does first: it works in this folder, and leaves it to the training to answer signals."""
    return partial(_start, os.getcwd())  # noqa: PTH109  a string, as os.chdir takes it back


def _start(folder: str, _: int) -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    os.chdir(folder)


@contextmanager
def _main_left_out(handed_over: object) -> Iterator[None]:
    """Workers do not run the user's script again: without a guard in it, each would begin the training once more.

    They do where something handed over is defined in it.
    """
    main: dict[str, Any] = vars(sys.modules["__main__"])
    if b"__main__" in pickle.dumps(handed_over):
        yield
        return
    # It looks as in an interactive session, which workers cannot repeat either.
    kept: dict[str, Any] = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    main.pop("__file__", None)
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(kept)
