"""The other processes of a run on one machine: started by the first, and ended with it, whoever dies.

Lightning can start them, too, but ends everything without a word where one dies. It leaves it to us where it finds
``LOCAL_RANK``, as it does with torchrun and SLURM.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from strokeseg.errors import InputError, StrokeSegError
from strokeseg_training.fit.ranks import Ranks

_VARIABLES = ("LOCAL_RANK", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE")
_PARENT = "STROKESEG_FIRST_PROCESS"
# A process that is lost shows as a broken connection within a moment, but a GPU's library may wait for half an hour.
_GRACE_SECONDS = 5.0
# Of the others, when the first has done its last step.
_END_SECONDS = 60.0
_TITLE = "Another process of the training was lost."
_NEXT_STEP = (
    "What it said, if anything, stands above. Go on with --resume: the last checkpoint is whole. Where none was "
    "written yet, start again in another folder."
)


@contextmanager
def together(ranks: Ranks) -> Iterator[None]:
    """All processes of a run are there inside the block; where one is lost, the others end with a message.

    Args:
        ranks: This process among them.

    Raises:
        InputError: Processes are needed and cannot be started from here.
        StrokeSegError: Another process was lost.
    """
    if ranks.world == 1:
        yield
        return
    kept = {name: os.environ.get(name) for name in _VARIABLES}
    guard = _Guard(ranks)
    try:
        guard.begin()
        yield
    except RuntimeError as error:
        if not _is_lost(error):
            guard.end(within=0.0)
            raise
        sentence = guard.who()
        guard.end(within=0.0)
        raise StrokeSegError(_TITLE, sentence, _NEXT_STEP) from error
    except BaseException:
        guard.end(within=0.0)
        raise
    else:
        guard.end(within=_END_SECONDS)
    finally:
        if torch.distributed.is_initialized() and torch.distributed.get_backend() == "gloo":
            # The next run of this program is another group.
            torch.distributed.destroy_process_group()
        for name, value in kept.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


class _Guard:
    """Starts the other processes of a machine and looks after them, or after the one that started this one.

    Args:
        ranks: This process among them.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._children: list[subprocess.Popen[bytes]] = []
        self._parent = int(os.environ.get(_PARENT, "0"))
        self._over = threading.Event()

    def begin(self) -> None:
        """Start what has to be started, and watch."""
        if self._ranks.starts_others:
            _refuse_interactive()
            os.environ.update(LOCAL_RANK="0", NODE_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(_free_port()))
            command = [sys.executable, *sys.orig_argv[1:]]
            for number in range(1, self._ranks.here):
                environment = {**os.environ, "LOCAL_RANK": str(number), _PARENT: str(os.getpid())}
                # Standard output is for the result, which the first process alone has.
                self._children.append(
                    subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=2)  # noqa: S603
                )
        if self._children or self._parent:
            threading.Thread(target=self._watch, daemon=True).start()

    def end(self, within: float) -> None:
        """Wait so many seconds for the others, and end those that are left."""
        self._over.set()
        limit = time.monotonic() + within
        for child in self._children:
            try:
                child.wait(max(0.1, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def who(self) -> str:
        """Which process was lost, as far as it can be seen from here."""
        limit = time.monotonic() + _GRACE_SECONDS / 2
        while (self._children or self._parent) and time.monotonic() < limit:
            lost = self._lost()
            if lost:
                return lost
            time.sleep(0.05)
        return f"Process {self._ranks.number} of {self._ranks.world} cannot reach another one any more."

    def _lost(self) -> str:
        if self._parent and os.getppid() != self._parent:
            return "The first process has ended."
        for number, child in enumerate(self._children, start=1):
            code = child.poll()
            if code:
                how = f"was ended by the signal {_signal(-code)}" if code < 0 else f"ended with the exit code {code}"
                return f"Process {number} of {self._ranks.world} (counted from 0) {how}."
        return ""

    def _watch(self) -> None:
        """End this process where another is lost and the training does not notice."""
        while not self._over.wait(0.25):
            lost = self._lost()
            if lost and not self._over.wait(_GRACE_SECONDS):
                # The main thread may stand in a library for long, and raises nothing.
                sys.stderr.write(f"Error: {_TITLE} {lost} {_NEXT_STEP}\n")
                sys.stderr.flush()
                for child in self._children:
                    child.kill()
                os._exit(StrokeSegError.exit_code)


def _is_lost(error: RuntimeError) -> bool:
    """Whether an error of PyTorch is that of a connection between processes."""
    text = str(error).lower()
    words = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "broken pipe", "socket")
    return isinstance(error, torch.distributed.DistError) or any(word in text for word in words)


def _signal(number: int) -> str:
    return signal.Signals(number).name if number in {int(s) for s in signal.Signals} else str(number)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _refuse_interactive() -> None:
    if hasattr(sys, "ps1") or len(sys.orig_argv) < 2:
        raise InputError(
            "Several processes cannot be started from here.",
            "In an interactive session or a notebook there is no program that could be started once more.",
            "Use 'strokeseg-train fit --devices ...' in a terminal, or a single process here.",
        )
