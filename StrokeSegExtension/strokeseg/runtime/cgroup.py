"""What a container or a batch system leaves this process: processors and memory by Linux control groups, 1 and 2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")


def cpu_quota(root: Path = _ROOT) -> float | None:
    """Processors that the process may use at a time: the least of its group and all groups around it.

    Args:
        root: Folder that holds ``proc`` and the mounts.

    Returns:
        Processors, e.g. 1.5, or None where nothing limits them.
    """
    quotas = []
    for folder in _groups(root, "cpu"):
        words = _text(folder / "cpu.max").split() or [
            _text(folder / "cpu.cfs_quota_us"),
            _text(folder / "cpu.cfs_period_us"),
        ]
        quota, period = (_number(w) for w in (*words, "", "")[:2])
        if quota is not None and period is not None and quota > 0 and period > 0:
            quotas.append(quota / period)
    return min(quotas, default=None)


def memory_left_bytes(root: Path = _ROOT) -> int | None:
    """Bytes that the process may still take before a group's limit; None where nothing limits them.

    Args:
        root: Folder that holds ``proc`` and the mounts.
    """
    left = []
    for folder in _groups(root, "memory"):
        limit = _number(_text(folder / "memory.max") or _text(folder / "memory.limit_in_bytes"))
        used = _number(_text(folder / "memory.current") or _text(folder / "memory.usage_in_bytes"))
        # Version 1 writes "no limit" as nearly 2^63.
        if limit is not None and used is not None and limit < 2**60:
            left.append(max(limit - used + _cached_files(folder), 0))
    return min(left, default=None)


def _cached_files(folder: Path) -> int:
    """Bytes counted as used that the kernel gives back on demand: file pages not used lately."""
    numbers = dict(line.split(maxsplit=1) for line in _text(folder / "memory.stat").splitlines() if " " in line)
    return _number(numbers.get("total_inactive_file", numbers.get("inactive_file", ""))) or 0


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the process's group and of all around it, under every hierarchy that has the controller."""
    own = {}
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, names, path = (*line.split(":", 2), "", "")[:3]
        for name in names.split(","):
            own[name] = path
    for line in _text(root / "proc/self/mountinfo").splitlines():
        place, _, kind = line.partition(" - ")
        words, about = place.split(), kind.split()
        if len(words) < 5 or len(about) < 3:
            continue
        if about[0] == "cgroup2":
            name = ""
        elif about[0] == "cgroup" and controller in about[2].split(","):
            name = controller
        else:
            continue
        if name in own:
            mount = root / _unescaped(words[4]).lstrip("/")
            folder = mount / _below(own[name], _unescaped(words[3])).lstrip("/")
            while folder != mount:
                yield folder
                folder = folder.parent
            yield mount


def _below(path: str, mounted: str) -> str:
    """The part of a group's path that is below what is mounted.

    A container often sees the path that the machine outside gives its group, and only that group mounted.
    """
    if mounted != "/" and (path == mounted or path.startswith(mounted + "/")):
        return path[len(mounted) :]
    # A path of another name space leads out of what is mounted.
    return "" if mounted != "/" or ".." in path.split("/") else path


def _unescaped(text: str) -> str:
    r"""Mount tables write a blank as ``\040``."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def _text(path: Path) -> str:
    """A small file, empty where there is none: other systems and most groups lack it."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(text: str) -> int | None:
    """A whole number; ``max`` and absent ones are None."""
    try:
        return int(text)
    except ValueError:
        return None
