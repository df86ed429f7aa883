"""Runs that are stopped in their midst, in forked processes: what `kills.py` needs to start, stop and judge them.

The patient is simulated (`small_brain.py`). Three results of it that differ in their threshold are told apart by their
bytes: `earlier` lies at the place, `new` is being written when the run is stopped, `next` is written afterwards.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from small_brain import save_nifti, small_brain

from strokeseg import results
from strokeseg.case import Case
from strokeseg.cli import main
from strokeseg.errors import InputError
from strokeseg.report import canvas  # noqa: F401  loaded before the fork, so that a run is quick
from strokeseg.results import SUMMARY, check_place, is_complete
from strokeseg.segmentation import Segmentation, segment

THRESHOLDS = {"earlier": 0.9, "new": 0.5, "next": 0.2}
SAME_BYTES = ("lesion_mask.nii.gz", "lesion_probability.nii.gz", "lesions.csv", "overlay.png", SUMMARY)
HUNG_S = 120.0
# A process number that no process has, and a start time: a folder of a run that is long dead.
DEAD_RUN = "4194000-1600000000000"


@dataclass
class Runs:
    """The patient's files and the three results.

    Args:
        folder: Where the patient and one copy of each result are kept.
    """

    folder: Path
    results: dict[str, Segmentation] = field(default_factory=dict)
    hashes: dict[str, dict[str, str]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        brain = small_brain()
        self.folder.mkdir(parents=True)
        for role in ("dwi", "adc"):
            save_nifti(self.folder / f"{role}.nii.gz", getattr(brain, role), brain.affine)
        case = Case.from_files(dwi=self.folder / "dwi.nii.gz", adc=self.folder / "adc.nii.gz")
        for name, threshold in THRESHOLDS.items():
            result = segment(case, "adc-threshold", threshold=threshold)
            picture = result.overlay()
            # Drawing takes most of the time and writes nothing.
            object.__setattr__(result, "overlay", lambda picture=picture: picture)
            self.results[name] = result
            result.save(self.folder / name)
            self.hashes[name] = {file: _sha256(self.folder / name / file) for file in SAME_BYTES}
            self.files = sorted(p.name for p in (self.folder / name).iterdir())
        if len({hashes["lesion_mask.nii.gz"] for hashes in self.hashes.values()}) != len(THRESHOLDS):
            raise RuntimeError("the three results must differ")

    def save(self, name: str, place: Path) -> None:
        """What the command does with the file system: look at the place, then write."""
        check_place(place)
        self.results[name].save(place)

    def command(self, name: str, place: Path) -> None:
        """The whole command, from files to files."""
        scans = ["--dwi", str(self.folder / "dwi.nii.gz"), "--adc", str(self.folder / "adc.nii.gz")]
        how = ["--model", "adc-threshold", "--threshold", str(THRESHOLDS[name])]
        sys.argv = ["strokeseg", "segment", *scans, *how, "--out", str(place)]
        main()

    def which(self, folder: Path) -> str:
        """Name of the result that a folder holds whole; "" when it is none, or not whole."""
        if not folder.is_dir() or sorted(p.name for p in folder.iterdir()) != self.files:
            return ""
        seen = {file: _sha256(folder / file) for file in SAME_BYTES}
        readable = all(np.isfinite(nib.load(p).get_fdata()).all() for p in folder.glob("*.nii.gz"))
        page = (folder / "report.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
        run = (folder / "run.json").read_text(encoding="utf-8").endswith("}\n")
        names = [name for name, hashes in self.hashes.items() if hashes == seen]
        return names[0] if names and readable and page and run else ""


def forked(work: Callable[[], None], log: Path) -> int:
    """Start `work` in a forked process; exit code 3 for an `InputError`, 99 for any other error, else its own."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        number = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(number, 1)
        os.dup2(number, 2)
        work()
        code = 0
    except InputError as error:
        code = error.exit_code
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:  # noqa: BLE001  a forked child never returns into the parent's program
        traceback.print_exc()
    os._exit(code)


def ended(pid: int) -> int:
    """Wait for a process; its exit code, or the negative number of the signal that ended it."""
    end = time.monotonic() + HUNG_S
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise RuntimeError(f"a run did not end within {HUNG_S:.0f} s")


def step_by_step(around: Path, at_step: Callable[[str], None]) -> None:
    """Call `at_step` before every change that this process makes under a folder, and in the midst of every file.

    Audit events see each change however it is called: opening for writing, making, renaming, removing. `os.fsync` has
    none and is wrapped, before and after. Only ever called in a forked process: a hook cannot be taken away.
    """
    home = str(around)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                say("open", path)
        elif event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir"):
            say(event.removeprefix("os."), arguments[0])

    def say(what: str, path: Any) -> None:
        if isinstance(path, str | os.PathLike) and str(path).startswith(home):
            at_step(f"{what} {str(path)[len(home) + 1 :]}")

    def write_bytes(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            half = len(content) // 2
            file.write(content[:half])
            file.flush()
            say("half of", path)
            return half + file.write(content[half:])

    def write_text(path: Path, text: str, encoding: str = "utf-8", **_: Any) -> int:
        return write_bytes(path, text.encode(encoding))

    def fsync(number: int, original: Callable[[int], None] = os.fsync) -> None:
        at_step("before fsync")
        original(number)
        at_step("after fsync")

    setattr(Path, "write_bytes", write_bytes)  # noqa: B010  replaced in the child only
    setattr(Path, "write_text", write_text)  # noqa: B010
    setattr(os, "fsync", fsync)  # noqa: B010
    sys.addaudithook(hook)


def meet(function: str, mine: Path, other: Path, late_s: float) -> None:
    """Before a function of `strokeseg.results` runs, this process waits for the other one; only in a forked process."""
    original = getattr(results, function)

    def waiting(*arguments: Any) -> Any:
        mine.touch()
        end = time.monotonic() + HUNG_S / 4
        while not other.exists() and time.monotonic() < end:
            time.sleep(0.0002)
        time.sleep(late_s)
        return original(*arguments)

    setattr(results, function, waiting)


def neighbours(place: Path) -> dict[str, bytes]:
    """Somebody's things beside a place, named as ours or nearly so; their paths and contents."""
    around = place.parent
    treasure = around / "treasure"
    folders = {
        f"{place.name}.previous-123-456": ["notes.txt"],
        f".partial-{place.name}-1-2": ["lesions.csv"],
        f"{place.name}.previous-{DEAD_RUN}": ["lesion_mask.nii.gz", "notes.txt"],
        f".partial-{place.name}-{DEAD_RUN}": ["summary.json", "diary/page.txt"],
        treasure.name: ["summary.json", "lesion_mask.nii.gz"],
    }
    for folder, names in folders.items():
        for name in names:
            path = around / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{folder} {name}", encoding="utf-8")
    (around / f"{place.name}.previous-{DEAD_RUN[:-1]}1").symlink_to(treasure)
    (around / f".partial-{place.name}-{DEAD_RUN[:-1]}1").symlink_to(treasure)
    return contents(around)


def contents(folder: Path) -> dict[str, bytes]:
    """Every path below a folder with its bytes; links as links."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = b"link to " + os.fsencode(path.readlink())
        else:
            found[name] = b"folder" if path.is_dir() else path.read_bytes()
    return found


def faults(runs: Runs, place: Path, theirs: dict[str, bytes], *, had_earlier: bool) -> list[str]:
    """What is wrong after a run was stopped; empty when every promise was kept."""
    wrong = []
    here = contents(place.parent)
    if any(here.get(name) != content for name, content in theirs.items()):
        wrong.append("somebody's files were touched")
    stands = runs.which(place)
    if place.exists() and not stands and (had_earlier or any(place.iterdir())):
        wrong.append("no whole result stands at the place")
    folders = [p for p in place.parent.iterdir() if p.is_dir() and p.name not in theirs]
    wrong += [f"{shown(p.name)} looks complete and is not" for p in folders if is_complete(p) and not runs.which(p)]
    earlier_somewhere = any(runs.which(p) == "earlier" for p in folders)
    if had_earlier and stands != "new" and not earlier_somewhere:
        wrong.append("the earlier result is lost")
    return wrong


def faults_of_next(runs: Runs, place: Path, theirs: dict[str, bytes]) -> list[str]:
    """What is wrong with the next run on the same place: it must succeed and clean up."""
    try:
        runs.save("next", place)
    except InputError as error:
        return [f"the next run was refused: {error}"]
    wrong = [] if runs.which(place) == "next" else ["the next result is not whole"]
    left = set(contents(place.parent)) - set(theirs)
    extra = sorted({name.split("/")[0] for name in left} - {place.name})
    return wrong + [f"left behind: {shown(name)}" for name in extra]


def shown(text: str) -> str:
    """A text without the numbers of runs."""
    return re.sub(r"\d+-\d{13}", "RUN", text)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
