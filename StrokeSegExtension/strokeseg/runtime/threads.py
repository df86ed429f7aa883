"""How many threads a network runs on: as many as the process may use, and one left for the person at the desk."""

from __future__ import annotations

import os
from pathlib import Path

from strokeseg.errors import InputError
from strokeseg.runtime.cgroup import cpu_quota

_ROOT = Path("/")


def usable_threads(root: Path = _ROOT) -> int:
    """Threads for a network.

    ``$STROKESEG_THREADS`` where it is set. Else the least of the machine's processors, those that the process is
    bound to and the quota of its control groups, rounded down, since threads that are halted in turn wait for each
    other at every layer; from four on one less.

    Args:
        root: Folder that holds ``proc`` and the control groups.

    Raises:
        InputError: ``$STROKESEG_THREADS`` is no whole number from 1 to 1024.
    """
    asked = os.environ.get("STROKESEG_THREADS", "").strip()
    if asked:
        if not asked.isdecimal() or not 1 <= int(asked) <= 1024:
            raise InputError(
                "The number of threads cannot be used.",
                f"STROKESEG_THREADS is '{asked[:40]}'.",
                "Set it to a whole number from 1 to 1024, or unset it.",
            )
        return int(asked)
    limits = [os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):
        limits.append(len(os.sched_getaffinity(0)))
    quota = cpu_quota(root)
    if quota is not None:
        limits.append(int(quota))
    threads = max(min(limits), 1)
    return threads - 1 if threads >= 4 else threads
