"""Ends a process with everything that it has started. Standard library; psutil where it is installed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress


def endTree(pid: int) -> None:
    """Kill a process and its descendants; says nothing when they have ended already.

    Slicer's Python starts through a launcher: to kill only the process that was started would leave the real one.
    """
    if pid <= 0:
        return
    try:
        import psutil
    except ImportError:
        _endTreeBySystem(pid)
        return
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        family = [*process.children(recursive=True), process]
        for member in family:
            with suppress(psutil.Error):
                member.kill()


def _endTreeBySystem(pid: int) -> None:
    if sys.platform == "win32":
        command = ["taskkill", "/F", "/T", "/PID", str(pid)]
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                command, capture_output=True, timeout=5, check=False, creationflags=subprocess.CREATE_NO_WINDOW
            )
        return
    for member in (*_descendants(pid), pid):
        with suppress(OSError):
            os.kill(member, signal.SIGKILL)


def _descendants(pid: int) -> list[int]:
    try:
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="],
            capture_output=True,
            timeout=5,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    pairs = [tuple(map(int, line.split())) for line in listed.decode("ascii", "replace").splitlines()]
    children: dict[int, list[int]] = {}
    for child, parent in pairs:
        children.setdefault(parent, []).append(child)
    found: list[int] = []
    waiting = [pid]
    while waiting:
        news = children.get(waiting.pop(), [])
        found += news
        waiting += news
    return found
