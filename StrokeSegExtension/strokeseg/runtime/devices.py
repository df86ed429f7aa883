"""The devices at hand with their memory; no library of a runtime is imported for it."""

from __future__ import annotations

import csv
import os
import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass
from importlib import util

import psutil

from strokeseg.runtime.cgroup import memory_left_bytes

_MB = 2**20
_NVIDIA_SMI_SECONDS = 5.0


@dataclass(frozen=True)
class Device:
    """A device that a network can run on.

    Attributes:
        name: As ``--device`` takes it: ``cpu``, ``cuda:0``, ``mps``.
        kind: ``cpu``, ``cuda`` or ``mps``.
        title: For people.
        memory_total_mb: MiB; None where it is not known.
        memory_free_mb: MiB that are free now; None where it is not known.
    """

    name: str
    kind: str
    title: str
    memory_total_mb: int | None
    memory_free_mb: int | None


def devices() -> list[Device]:
    """The devices at hand, the CPU first. Whether the library for a GPU is installed is another question."""
    total, free = psutil.virtual_memory().total // _MB, free_cpu_memory_bytes() // _MB
    found = [Device("cpu", "cpu", platform.processor() or platform.machine() or "CPU", total, free), *nvidia_gpus()]
    if platform.system() == "Darwin" and platform.machine() == "arm64" and util.find_spec("torch") is not None:
        # The GPU of these machines works in the computer's own memory.
        found.append(Device("mps", "mps", "Apple GPU", total, free))
    return found


def free_cpu_memory_bytes() -> int:
    """Memory that this process can still take: the machine's, or what its control groups leave."""
    available = int(psutil.virtual_memory().available)
    left = memory_left_bytes()
    return available if left is None else min(available, left)


def nvidia_gpus() -> list[Device]:
    """NVIDIA's GPUs as nvidia-smi tells them; empty without one, or where it does not answer in time.

    Numbers follow ``CUDA_VISIBLE_DEVICES``, as CUDA counts. With several unlike GPUs CUDA may count the fastest first
    where nvidia-smi counts by slot; ``CUDA_DEVICE_ORDER=PCI_BUS_ID`` makes them agree.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = "--query-gpu=index,uuid,memory.total,memory.free,name"
    try:
        done = subprocess.run(  # noqa: S603  the program of this name on the user's own path, fixed arguments
            [program, query, "--format=csv,noheader,nounits"],
            capture_output=True,
            timeout=_NVIDIA_SMI_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode != 0:
        return []
    lines = done.stdout.decode("utf-8", errors="replace").splitlines()
    # A name may hold a comma; it comes last.
    rows = [[w.strip() for w in row[:4]] + [",".join(row[4:]).strip()] for row in csv.reader(lines) if len(row) >= 5]
    rows = [row for row in rows if row[0].isdecimal()]
    return [
        Device(f"cuda:{number}", "cuda", row[4] or "NVIDIA GPU", _megabytes(row[2]), _megabytes(row[3]))
        for number, row in enumerate(_visible(rows))
    ]


def _visible(rows: list[list[str]]) -> list[list[str]]:
    """Rows in CUDA's own order; it stops at the first entry that names no GPU."""
    variable = os.environ.get("CUDA_VISIBLE_DEVICES")
    if variable is None:
        return rows
    shown: list[list[str]] = []
    for entry in (e.strip() for e in variable.split(",")):
        row = next((r for r in rows if entry and (r[0] == entry or r[1].startswith(entry))), None)
        if row is None:
            break
        shown.append(row)
    return shown


def _megabytes(text: str) -> int | None:
    """A number of MiB; some GPUs answer ``[N/A]``."""
    return int(text) if text.isdecimal() else None


def describe_devices() -> list[dict[str, str | int | None]]:
    """The devices as plain data, for JSON."""
    return [asdict(device) for device in devices()]


def runtimes_at_hand() -> list[str]:
    """Names of the runtimes whose library is installed; nothing is imported to see it."""
    return ["threshold", *(name for name in ("openvino", "torch") if util.find_spec(name) is not None)]
