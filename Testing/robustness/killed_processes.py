"""Real processes that are ended in their midst: what `worker_kills.py` starts, ends, and looks for afterwards.

Written without fork, for Windows and macOS as well, where it could not be tried yet.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from strokeseg.models import ModelStore
from strokeseg.runtime import open_runtime

HUNG_S = 120.0
# A worker whose input ended and a command that was interrupted end by themselves: within a second, and then the
# grace of a run that does not notice. Ten times as long on a machine that is busy.
_ENDS_BY_ITSELF_S = 20.0
_MARK = "STROKESEG_TEST_RUN"
_ENTRY_MARK = b"STROKESEG-BLOB-1"


def start(arguments: list[str], mark: str, *, piped: bool = False) -> subprocess.Popen[bytes]:
    """Start ``python -m strokeseg``; every process that comes of it inherits the mark."""
    pipe = subprocess.PIPE if piped else subprocess.DEVNULL
    return subprocess.Popen(
        [sys.executable, "-m", "strokeseg", *arguments],
        stdin=pipe,
        stdout=pipe,
        stderr=subprocess.DEVNULL,
        env={**os.environ, _MARK: mark},
    )


def alive_with(mark: str, patience_s: float = 3.0) -> list[str]:
    """Names of processes that carry a mark and are still there after some time; their parents may be long gone."""
    end = time.monotonic() + patience_s
    while True:
        names = []
        for process in psutil.process_iter():
            # Others' processes do not show their environment, and any may end meanwhile.
            with suppress(psutil.Error, OSError):
                if process.environ().get(_MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                    names.append(f"{process.name()} {process.pid}")
        if not names or time.monotonic() > end:
            return names
        time.sleep(0.02)


class Worker:
    """A worker in a process of its own.

    Args:
        mark: Carried by it and all that it starts.
    """

    def __init__(self, mark: str) -> None:
        self.process = start(["worker"], mark, piped=True)

    def send(self, request: dict[str, Any]) -> None:
        """Send a request; the worker may be gone already."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """The next last event."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] in ("hello", "result", "error"):
                return dict(event)
        return {"event": "none"}

    def close(self) -> None:
        """End it, and wait."""
        self.process.kill()
        self.process.wait(HUNG_S)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdout.close()
        with suppress(OSError):  # what is left in the pipe goes nowhere
            self.process.stdin.close()


Ending = Callable[[subprocess.Popen[bytes]], list[str]]
"""Ends a process; what was wrong with how it ended."""


def kill(process: subprocess.Popen[bytes]) -> list[str]:
    """SIGKILL, or TerminateProcess on Windows."""
    process.kill()
    process.wait(HUNG_S)
    return []


def end_input(process: subprocess.Popen[bytes]) -> list[str]:
    """The worker's caller is gone: its input ends."""
    assert process.stdin is not None
    with suppress(OSError):
        process.stdin.close()
    return _ends_by_itself(process, "after the end of its input", {0, 130})


def interrupt(process: subprocess.Popen[bytes]) -> list[str]:
    """Ctrl+C, or on Windows, where a program cannot send that, a kill."""
    if os.name == "nt":
        return kill(process)
    process.send_signal(signal.SIGINT)
    # Before the command has begun, the signal ends the interpreter itself.
    return _ends_by_itself(process, "after SIGINT", {0, 130, -signal.SIGINT})


def terminate(process: subprocess.Popen[bytes]) -> list[str]:
    """SIGTERM, or TerminateProcess on Windows."""
    process.terminate()
    if os.name == "nt":
        process.wait(HUNG_S)
        return []
    return _ends_by_itself(process, "after SIGTERM", {0, 130, -signal.SIGTERM})


def _ends_by_itself(process: subprocess.Popen[bytes], when: str, codes: set[int]) -> list[str]:
    try:
        code = process.wait(_ENDS_BY_ITSELF_S)
    except subprocess.TimeoutExpired:
        kill(process)
        return [f"still there {_ENDS_BY_ITSELF_S:.0f} s {when}"]
    return [] if code in codes else [f"exit code {code} {when}"]


@dataclass(frozen=True)
class Moment:
    """When a run is ended.

    Attributes:
        what: For the table.
        wait: Waits until then; takes the run's process.
    """

    what: str
    wait: Callable[[subprocess.Popen[bytes]], None]


def after(delay_s: float) -> Moment:
    """A time after the start."""
    return Moment(f"after {delay_s:.2f} s", lambda _: time.sleep(delay_s))


def while_written(folder: Path, what: str, delay_s: float) -> Moment:
    """A time after something half written appeared in a folder; at the latest when the run has ended."""

    def wait(process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + HUNG_S
        while process.poll() is None and time.monotonic() < end:
            if partial_in(folder):
                time.sleep(delay_s)
                return
            time.sleep(0.0003)

    return Moment(f"{what} + {1000 * delay_s:.0f} ms", wait)


def partial_in(folder: Path) -> list[str]:
    """Names of what is being written, or was when its process was killed."""
    try:
        return [path.name for path in folder.iterdir() if path.name.startswith(".partial-")]
    except FileNotFoundError:
        return []


class Cache:
    """The compiled networks of one model, in the test's own ``$STROKESEG_HOME``.

    Args:
        model: Its name.
        folder: Where compiled networks are kept.
    """

    def __init__(self, model: str, folder: Path) -> None:
        self.folder = folder
        self._card = ModelStore().card(model)
        self._batch = np.random.default_rng(0).standard_normal(
            (1, len(self._card.preparation.channels), 32, 32, 32), dtype=np.float32
        )
        self._expected = self._logits()

    def empty(self) -> None:
        """Delete all entries, so that the next run writes one."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def torn(self) -> list[str]:
        """Entries that are not whole. Read here by hand: the engine would delete what is broken."""
        wrong = []
        for path in self.folder.glob("*.blob"):
            content = path.read_bytes()
            head = len(_ENTRY_MARK) + 32
            if content[:head] != _ENTRY_MARK + hashlib.sha256(content[head:]).digest():
                wrong.append(f"the cache entry {path.name[:8]}... of {len(content)} bytes is not whole")
        return wrong

    def faults(self) -> list[str]:
        """What is wrong with a network that is opened from the cache as it is now."""
        if self._logits() != self._expected:
            return ["a network from the cache gives other logits"]
        if len(list(self.folder.glob("*.blob"))) != 1:
            return ["one model with one setting has other than one entry in the cache"]
        return []

    def _logits(self) -> bytes:
        opened = open_runtime(self._card, "cpu")
        logits = opened.run(self._batch)["lesion"].tobytes()
        assert not opened.notes, opened.notes
        opened.close()
        return logits
