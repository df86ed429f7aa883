"""The result folder: its files appear together or not at all, and nobody else's file is ever replaced or deleted.

A run writes into ``.partial-NAME-RUN`` beside its place; ``summary.json`` is written last and means complete. An
earlier result is renamed to ``NAME.previous-RUN``, the new one renamed in, the earlier one deleted. What a killed run
leaves is finished or undone by the next command on the same place. RUN is process number and start time: it tells
whether the run is still alive. Imports the standard library, psutil and `strokeseg.errors`.
"""

from __future__ import annotations

import errno
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from strokeseg.errors import InputError

SUMMARY = "summary.json"
FILES = frozenset(
    {
        "lesion_mask.nii.gz",
        "lesion_probability.nii.gz",
        "uncertainty.nii.gz",
        "lesions.csv",
        SUMMARY,
        "run.json",
        "overlay.png",
        "report.html",
        "metrics.json",
    }
)
"""Every file that a result can have, beside one probability map a class; anything else is not ours."""
_PROBABILITY_OF_CLASS = re.compile(r"lesion_probability_[\w-]+\.nii\.gz")
_UNFINISHED = ".part-"  # the file writers' prefix for a file that is not whole yet
_RUN = r"(\d+)-(\d{13})"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_USUAL_PLACES = "Give --out a new folder, an empty one, or one with an earlier result of StrokeSeg."

# Places that this process is writing to; the process number keeps a forked child from taking its parent's for its own.
_writing: set[tuple[int, Path]] = set()
_writing_lock = threading.Lock()


def is_result(folder: Path) -> bool:
    """Whether a folder is a complete result of StrokeSeg and holds nothing else."""
    return is_complete(folder) and not _foreign(folder)


def is_complete(folder: Path) -> bool:
    """Whether a folder holds a result whose last file was written."""
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(summary, dict) and "strokeseg_version" in summary


@contextmanager
def writing(place: Path) -> Iterator[Path]:
    """A new folder to write a result into; it becomes `place` when the block ends well, and vanishes otherwise.

    The block must write ``summary.json`` last.

    Args:
        place: Where the result shall be: absent, empty, or an earlier result.

    Raises:
        InputError: The place cannot be used, another run is writing there, or the disk is full.
    """
    check_place(place)
    with _failures_in_words(place):
        place = _absolute(place)
        with _claimed(place):
            partial = place.parent / (_partial_prefix(place) + _me())
            made = _make_with_parents(partial)
            try:
                yield partial
                _flush(partial)
                _swap_in(partial, place)
            except BaseException:
                _delete(partial)
                with suppress(OSError):  # somebody else uses the parent by now
                    for folder in made:
                        folder.rmdir()
                raise


def check_place(place: Path) -> None:
    """Repair what a killed run left at `place`, then make sure that a result may go there.

    Raises:
        InputError: It is no folder or cannot be replaced, another run is writing there, or it holds what is not ours.
    """
    with _failures_in_words(place):
        place = _absolute(place)
        _refuse_irreplaceable(place)
        _repair(place)
        _refuse_foreign(place)


def require_result(folder: Path) -> None:
    """Repair what a killed run left at `folder`, then make sure that it holds a complete result.

    Raises:
        InputError: It does not, or a run is writing there.
    """
    recover(folder)
    if not is_complete(folder):
        raise InputError(
            f"'{folder.name}' is no result of StrokeSeg.",
            f"It has no complete {SUMMARY}.",
            "Segment the case first, or name a folder that 'strokeseg segment --out FOLDER' wrote.",
        )


def recover(place: Path) -> None:
    """Finish or undo the swap of a run that was killed, and delete what dead runs left unfinished.

    Raises:
        InputError: A run that is still alive is writing to the same place, or the folder around it cannot be used.
    """
    with _failures_in_words(place):
        _repair(_absolute(place))


def abandon(place: Path) -> None:
    """Delete what this process has begun to write for a place, for a process that is about to be ended from outside.

    Renamed first: a run that wakes up after all must not find it half deleted and put it in its place. What cannot be
    deleted now stays for the next run to delete.
    """
    with suppress(OSError):
        place = _absolute(place)
        for (pid, started_ms), folder in _of_runs(place.parent, re.escape(_partial_prefix(place))).items():
            if pid == os.getpid():
                away = folder.with_name(f"{_partial_prefix(place)}{pid}-{started_ms + 1:013d}")
                folder.rename(away)
                _delete(away)


def _repair(place: Path) -> None:
    partials = _of_runs(place.parent, re.escape(_partial_prefix(place)))
    previous = _of_runs(place.parent, re.escape(f"{place.name}.previous-"))
    for run, folder in (*partials.items(), *previous.items()):
        if _is_alive(run, place):
            raise _busy(place, f"'{folder.name}' belongs to a process that is still running.")
    whole = [run for run in sorted(previous, key=lambda run: run[1]) if is_complete(previous[run])]
    if not os.path.lexists(place) and previous:
        # Killed between the two renames. Both were ready and on the disk by then: the new result goes in, or, should
        # somebody have taken it away, the earlier one comes back.
        ready = [partials[run] for run in previous if run in partials and is_complete(partials[run])]
        ready = ready or [previous[run] for run in whole[-1:]]
        if ready:
            ready[-1].rename(place)
    # An earlier result is deleted only when a whole one stands; a half-deleted one has lost its summary.
    stands = is_complete(place)
    for run, folder in previous.items():
        if stands or run not in whole:
            _delete(folder)
    for folder in partials.values():
        _delete(folder)


def _refuse_irreplaceable(place: Path) -> None:
    """Refuse what no folder can be renamed to or from, before any work is done."""
    title = "The results cannot be written there."
    name = place.name or str(place)
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        kind = "link" if place.is_symlink() else "file"
        raise InputError(title, f"'{name}' is a {kind}, not a folder.", _USUAL_PLACES)
    inside = f"Give --out a folder inside it, for example '{place / 'result'}'."
    with suppress(FileNotFoundError):  # the working folder was deleted, so it is none of these
        if place in (Path.cwd(), *Path.cwd().parents):
            raise InputError(
                title, f"'{name}' is the working folder or holds it; a result replaces its folder.", inside
            )
    if place.is_dir() and os.path.ismount(place):
        raise InputError(title, f"'{name}' is a mount point; a result replaces its folder.", inside)
    around = next(p for p in place.parents if os.path.lexists(p))
    if not around.is_dir():
        raise InputError(title, f"'{around.name}' on the way to '{name}' is a file, not a folder.", _USUAL_PLACES)
    if not os.access(around, os.W_OK | os.X_OK):
        cause = (
            f"You may not write to '{around.name or around}', the folder around '{name}'; a result is prepared there."
        )
        writable = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
        raise InputError(title, cause, inside if writable else "Give --out a folder in which you may write.")
    if place.is_dir() and any(place.iterdir()) and not os.access(place, os.W_OK | os.X_OK):
        raise InputError(title, f"You may not change what is in '{name}', so it cannot be replaced.", _USUAL_PLACES)
    with suppress(FileNotFoundError):  # only asked because the system refuses a name that is too long
        (around / (_partial_prefix(place) + _me())).lstat()


def _refuse_foreign(place: Path) -> None:
    if not os.path.lexists(place) or (place.is_dir() and (not any(place.iterdir()) or is_result(place))):
        return
    others = [f"'{name}'" for name in _foreign(place)] if place.is_dir() else ["something that is no folder"]
    seen = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    raise InputError(
        "The results cannot be written there.",
        f"The folder '{place.name}' is not empty and not only a result of StrokeSeg: it holds "
        + (seen or "a result without a readable summary")
        + ".",
        "Give --out another folder; nothing in this one was touched.",
    )


def _swap_in(partial: Path, place: Path) -> None:
    """The new result takes the place; the earlier one goes only when the new one stands."""
    if not is_complete(partial):
        raise RuntimeError("a result was handed over without its summary")
    _refuse_foreign(place)  # a run takes time: somebody may have put a file there meanwhile
    previous = place.parent / f"{place.name}.previous-{_me()}"
    try:
        if place.exists():
            place.rename(previous)
        partial.rename(place)
    except BaseException:
        if previous.exists() and not os.path.lexists(place):
            previous.rename(place)
        raise
    _sync_folder(place.parent)
    _delete(previous)


def _partial_prefix(place: Path) -> str:
    return f".partial-{place.name}-"


def _of_runs(parent: Path, prefix: str) -> dict[tuple[int, int], Path]:
    """Folders of `parent` that are named as ours and hold nothing that is not ours, by the run that made them."""
    if not parent.is_dir():
        return {}
    found = {}
    for path in sorted(parent.iterdir()):
        match = re.fullmatch(prefix + _RUN, path.name)
        if match and path.is_dir() and not path.is_symlink() and not _foreign(path):
            found[int(match[1]), int(match[2])] = path
    return found


def _foreign(folder: Path) -> list[str]:
    """Names in a folder that no result has, sorted."""
    return sorted(p.name for p in folder.iterdir() if p.is_symlink() or not p.is_file() or not _is_our_name(p.name))


def _is_our_name(name: str) -> bool:
    whole = name.removeprefix(_UNFINISHED)
    return whole in FILES or _PROBABILITY_OF_CLASS.fullmatch(whole) is not None


def _delete(folder: Path) -> None:
    """Delete the files that are ours, the summary first, and the folder if nothing else is in it.

    What cannot be deleted now (somebody reads it, the disk is away) stays for the next run to delete.
    """
    with suppress(OSError):
        (folder / SUMMARY).unlink(missing_ok=True)
        for path in sorted(folder.iterdir()):
            if _is_our_name(path.name) and path.is_file() and not path.is_symlink():
                path.unlink()
        folder.rmdir()


def _make_with_parents(folder: Path) -> list[Path]:
    """Make a folder; the parents that had to be made, too, deepest first."""
    missing = [p for p in folder.parents if not p.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir()
    return missing


@contextmanager
def _claimed(place: Path) -> Iterator[None]:
    """Within one process, one run at a time writes to a place."""
    claim = (os.getpid(), place)
    with _writing_lock:
        if claim in _writing:
            raise _busy(place, "This program is already writing a result there.")
        _writing.add(claim)
    try:
        yield
    finally:
        _writing.discard(claim)


def _busy(place: Path, cause: str) -> InputError:
    return InputError(
        f"Another run is writing to '{place.name}'.", cause, "Wait until it is done, or give --out another folder."
    )


def _me() -> str:
    """Process number and start time in ms: numbers are used again, the pair is not."""
    return f"{os.getpid()}-{int(psutil.Process().create_time() * 1000):013d}"


def _is_alive(run: tuple[int, int], place: Path) -> bool:
    pid, started_ms = run
    if pid == os.getpid():
        return (pid, place) in _writing
    try:
        other = psutil.Process(pid)
        # Start times are reckoned from the boot time, which clock corrections shift a little.
        same = abs(int(other.create_time() * 1000) - started_ms) < 2000
        return same and other.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _absolute(place: Path) -> Path:
    """The place without links on the way to it; a link at the place itself stays, for it is the user's."""
    if place.name in ("", ".."):
        return Path(os.path.realpath(place))
    return Path(os.path.realpath(place.parent)) / place.name


def _flush(folder: Path) -> None:
    """Bytes reach the disk before the names do, so that a power cut cannot leave a complete-looking result of holes."""
    for path in sorted(folder.iterdir()):
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    with suppress(OSError):  # some network file systems cannot do this for folders
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


@contextmanager
def _failures_in_words(place: Path) -> Iterator[None]:
    """Errors of the file system as errors for people."""
    name = place.name or str(place)
    try:
        yield
    except BrokenPipeError:
        raise  # whoever read what the run says has gone; the files are not at fault
    except OSError as error:
        if error.errno in _FULL:
            raise InputError(
                "The results could not be written.",
                f"The disk that holds '{name}' is full, or a limit on file sizes was reached.",
                "Free some space or give --out a folder on another disk, and run again. Nothing was left behind.",
            ) from error
        if error.errno == errno.ENAMETOOLONG:
            length = len(os.fsencode(name))
            raise InputError(
                "The results cannot be written there.",
                f"The name '{name[:40]}...' has {length} bytes; with what writing adds to it, it is too long.",
                "Give --out a folder with a shorter name.",
            ) from error
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise InputError(
            "The results could not be written.",
            f"The system said about '{name}' or the folder around it: {reason}.",
            "Give --out a folder in which you may write.",
        ) from error
