"""Stops runs at many moments and looks at what is left: by SIGKILL at each single step, and by signals at random times.

    python Testing/robustness/kills.py [--count N] [--seed S]

Prints a table of all moments and ends with exit code 1 when a promise was broken. Without `--count` every moment is
tried: before every change to the file system and in the midst of every file, from five states of the place; then by
time, by SIGTERM and SIGINT, and two runs at once. The patient is simulated. Needs `os.fork`.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "phantoms"))  # of `small_brain`

from stopped_runs import Runs, contents, ended, faults, faults_of_next, forked, meet, neighbours, shown, step_by_step

BY_TIME, BY_SIGNAL, TOGETHER = 20, 12, 30
_DEAD = "4194001-1600000000000"


@dataclass(frozen=True)
class Trial:
    """One stopped run: the state of the place, the moment, what was left, and what was wrong with it."""

    state: str
    moment: str
    left: str
    wrong: tuple[str, ...]


def absent(runs: Runs, place: Path) -> bool:
    """Nothing is there. Each state says whether an earlier result was there."""
    return False


def empty(runs: Runs, place: Path) -> bool:
    """An empty folder is there."""
    place.mkdir()
    return False


def earlier(runs: Runs, place: Path) -> bool:
    """An earlier result is there."""
    shutil.copytree(runs.folder / "earlier", place)
    return True


def interrupted(runs: Runs, place: Path) -> bool:
    """A run was killed between its two renames."""
    shutil.copytree(runs.folder / "next", place.with_name(f"{place.name}.previous-{_DEAD}"))
    shutil.copytree(runs.folder / "earlier", place.with_name(f".partial-{place.name}-{_DEAD}"))
    return True


def half_deleted(runs: Runs, place: Path) -> bool:
    """A run was killed while it deleted the previous result, another one while it wrote its first file."""
    shutil.copytree(runs.folder / "earlier", place)
    previous = place.with_name(f"{place.name}.previous-{_DEAD}")
    partial = place.with_name(f".partial-{place.name}-{_DEAD}")
    for folder, name in ((previous, "report.html"), (partial, ".part-lesion_mask.nii.gz")):
        folder.mkdir()
        (folder / name).write_bytes(b"half")
    return True


STATES = (absent, empty, earlier, interrupted, half_deleted)


class Laboratory:
    """Places to try on, each fresh.

    Args:
        folder: An empty folder for everything.
    """

    def __init__(self, folder: Path) -> None:
        self.runs = Runs(folder / "patient")
        self.log = folder / "log.txt"
        self._folder = folder
        self._number = 0

    def place(self) -> tuple[Path, dict[str, bytes]]:
        """A place with somebody's things beside it."""
        self._number += 1
        place = self._folder / str(self._number) / "out"
        place.parent.mkdir()
        return place, neighbours(place)

    def judged(
        self, state: str, moment: str, place: Path, theirs: dict[str, bytes], had_earlier: bool, extra: list[str]
    ) -> Trial:
        """Look at what was left, run again, look again, and clear the place away."""
        wrong = extra + faults(self.runs, place, theirs, had_earlier=had_earlier)
        left = self.runs.which(place) or ("empty" if place.exists() else "nothing")
        wrong += faults_of_next(self.runs, place, theirs)
        shutil.rmtree(place.parent)
        return Trial(state, moment, left, tuple(wrong))

    def steps(self, state: Callable[[Runs, Path], bool]) -> list[str]:
        """The steps of an undisturbed run from a state."""
        place, _ = self.place()
        state(self.runs, place)
        told = self._folder / "steps.txt"
        told.unlink(missing_ok=True)
        with told.open("a", encoding="utf-8") as file:

            def work() -> None:
                step_by_step(place.parent, lambda name: print(shown(name), file=file))
                self.runs.save("new", place)
                file.flush()

            code = ended(forked(work, self.log))
        if code != 0:
            raise RuntimeError(f"the undisturbed run ended with {code}:\n{self.log.read_text(encoding='utf-8')}")
        shutil.rmtree(place.parent)
        return told.read_text(encoding="utf-8").splitlines()

    def kill_at(self, state: Callable[[Runs, Path], bool], number: int, name: str) -> Trial:
        """SIGKILL before step `number`."""
        place, theirs = self.place()
        had_earlier = state(self.runs, place)
        left = [number]

        def at_step(_: str) -> None:
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1

        def work() -> None:
            step_by_step(place.parent, at_step)
            self.runs.save("new", place)

        code = ended(forked(work, self.log))
        extra = [] if code == -signal.SIGKILL else [f"the run was not killed but ended with {code}"]
        return self.judged(state.__name__, name, place, theirs, had_earlier, extra)

    def signal_after(self, state: Callable[[Runs, Path], bool], number: signal.Signals, share: float) -> Trial:
        """A signal to the whole command after a share of the time that it takes."""
        place, theirs = self.place()
        had_earlier = state(self.runs, place)
        before = contents(place.parent)
        said = self.log.stat().st_size
        pid = forked(lambda: self.runs.command("new", place), self.log)
        if number != signal.SIGKILL:
            self._wait_for_first_stage(said)
        time.sleep(share * self.seconds)
        os.kill(pid, number)
        code = ended(pid)
        extra = []
        if number != signal.SIGKILL and code == 130 and contents(place.parent) != before:
            extra.append("a cancelled run changed something")
        if code not in ({0, -number} if number == signal.SIGKILL else {0, 130}):
            extra.append(f"ended with {code}")
        moment = f"{number.name} after {share:.2f} of the time (exit {code})"
        return self.judged(state.__name__, moment, place, theirs, had_earlier, extra)

    def _wait_for_first_stage(self, said: int) -> None:
        """Until the run has begun, a signal ends it without a word; and nothing is lost by that."""
        end = time.monotonic() + 30.0
        while time.monotonic() < end:
            with self.log.open("rb") as file:
                file.seek(said)
                if b"read: " in file.read():
                    return
            time.sleep(0.002)
        raise RuntimeError("the run did not begin within 30 s")

    def together(self, state: Callable[[Runs, Path], bool], delay_s: float, meeting: str) -> Trial:
        """Two runs write to one place at the same time: each ends whole, or is refused in words.

        Left to themselves the second is nearly always refused at the door. With a `meeting` both wait there for the
        other, so that they race from the moment at which both found the place free.
        """
        place, theirs = self.place()
        state(self.runs, place)
        door = self._folder / f"door-{self._number}"
        door.mkdir()

        def work(mine: str, other: str, late_s: float) -> None:
            if meeting:
                meet("_make_with_parents", door / mine, door / other, 0.0)
            if meeting == "swap":
                meet("_swap_in", door / f"{mine}-2", door / f"{other}-2", late_s)
            self.runs.save(mine, place)

        first = forked(lambda: work("new", "earlier", 0.0), self.log)
        time.sleep(0.0 if meeting else delay_s)
        second = forked(lambda: work("earlier", "new", delay_s / 50), self.log)
        codes = ended(first), ended(second)
        extra = [] if set(codes) <= {0, 3} and 0 in codes else ["neither ended well, or one not in words"]
        if self.runs.which(place) not in ("new", "earlier"):
            extra.append("no whole result stands at the place")
        how = f"meeting before {meeting}" if meeting else f"{1000 * delay_s:.0f} ms apart"
        moment = f"two runs, {how} (exit {codes[0]} and {codes[1]})"
        return self.judged(state.__name__, moment, place, theirs, False, extra)

    def measure(self) -> None:
        """How long the command takes in a forked process, after one run that warms the caches."""
        for _ in range(2):
            place, _ = self.place()
            start = time.monotonic()
            code = ended(forked(partial(self.runs.command, "new", place), self.log))
            self.seconds = time.monotonic() - start
            if code != 0 or self.runs.which(place) != "new":
                raise RuntimeError(f"an undisturbed run ended with {code}:\n{self.log.read_text(encoding='utf-8')}")
            shutil.rmtree(place.parent)


def trials(laboratory: Laboratory, seed: int, count: int | None) -> Iterator[Trial]:
    """All trials, or a seeded choice of `count` that always holds the kill between the renames."""
    draw = random.Random(seed)
    planned: list[Callable[[], Trial]] = []
    between: list[Callable[[], Trial]] = []
    for state in STATES:
        for number, name in enumerate(laboratory.steps(state)):
            is_second_rename = state is earlier and name == "rename .partial-out-RUN"
            (between if is_second_rename else planned).append(partial(laboratory.kill_at, state, number, name))
    if not between:
        raise RuntimeError("no rename of the new result was seen")
    timed: list[Callable[[], Trial]] = [
        partial(laboratory.signal_after, STATES[number % 3], signal.SIGKILL, draw.uniform(0.0, 1.05))
        for number in range(BY_TIME)
    ]
    for number in range(BY_SIGNAL):
        kind = (signal.SIGTERM, signal.SIGINT)[number % 2]
        timed.append(partial(laboratory.signal_after, STATES[number // 2 % 3], kind, draw.uniform(0.0, 0.9)))
    for number in range(TOGETHER):
        delay = draw.uniform(0.0, 0.05)
        meeting = ("swap", "", "make")[number % 3]
        timed.append(partial(laboratory.together, STATES[number % 5], delay, meeting))
    if count is not None:
        half = max(0, count - len(between)) // 2
        timed = draw.sample(timed, min(half, len(timed)))
        planned = draw.sample(planned, min(max(0, count - len(between) - len(timed)), len(planned)))
    for trial in (*between, *planned, *timed):
        yield trial()


def main() -> int:
    """Run, print the table, and say whether every promise was kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=None, help="how many moments; default: all")
    parser.add_argument("--seed", type=int, default=1, help="seed of the choice and of the times; default: 1")
    options = parser.parse_args()
    start = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="strokeseg-kills-"))
    broken = tried = 0
    try:
        laboratory = Laboratory(folder)
        laboratory.measure()
        print(f"{'state of the place':<19} {'left there':<11} moment")
        for trial in trials(laboratory, options.seed, options.count):
            tried += 1
            broken += bool(trial.wrong)
            print(f"{trial.state:<19} {trial.left:<11} {trial.moment}")
            for sentence in trial.wrong:
                print(f"    BROKEN: {sentence}")
        if broken and laboratory.log.exists():
            print(laboratory.log.read_text(encoding="utf-8")[-4000:])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{tried} moments, {broken} with a broken promise, {time.monotonic() - start:.0f} s, seed {options.seed}")
    return 1 if broken or not tried else 0


if __name__ == "__main__":
    sys.exit(main())
