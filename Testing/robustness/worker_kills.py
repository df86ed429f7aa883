"""Kills workers and command lines at random moments and looks at what is left.

    python Testing/robustness/worker_kills.py [--count N] [--seed S] [--model NAME]

Half of the runs are requests to a worker, half are command lines; each is killed after a random share of the time that
it takes, with or without an earlier result at its place. Afterwards no process of it may be alive, and the next run on
the same place, in another process, must end well and leave nothing but its result. Prints a line for every kill and
ends with exit code 1 when a promise was broken. The patient is simulated. With `--model` another model than the
default is used (`$STROKESEG_HOME` tells where it is), so that a cache of compiled networks is killed over, too.

Written without fork, for Windows and macOS as well, where it could not be tried yet.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from stopped_runs import THRESHOLDS, Runs, faults

HUNG_S = 120.0
DEFAULT_COUNT = 100


@dataclass(frozen=True)
class Kill:
    """One killed run: what it was, when it was killed, what it left, and what was wrong."""

    what: str
    moment: str
    left: str
    wrong: tuple[str, ...]


class Worker:
    """A worker in a process of its own."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "strokeseg", "worker"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

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
                return event
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


class Laboratory:
    """Kills runs and judges what is left.

    Args:
        folder: An empty folder for everything.
        model: Name of the model.
    """

    def __init__(self, folder: Path, model: str) -> None:
        self.runs = Runs(folder / "patient")
        self._folder = folder
        self._model = model
        self._next = Worker()
        self._number = 0
        # With another model than the default, the results are known only after its first runs.
        for name in THRESHOLDS:
            shutil.rmtree(self.runs.folder / name)
            self._must_succeed(name, self.runs.folder / name)
            self.runs.hashes[name] = {file: _sha256(self.runs.folder / name / file) for file in self.runs.hashes[name]}
        start = time.monotonic()
        self._must_succeed("new", folder / "warm")
        self._seconds_warm = time.monotonic() - start
        start = time.monotonic()
        subprocess.run(self._command("new", folder / "cold"), check=True, capture_output=True, timeout=HUNG_S)
        self._seconds_cold = time.monotonic() - start

    def close(self) -> None:
        """End the worker of the next runs."""
        self._next.close()

    def kill_worker(self, share: float, *, earlier: bool, warm: bool) -> Kill:
        """Kill a worker after a share of the time of a run; `warm`: it has done one before."""
        place = self._place(earlier)
        worker = Worker()
        worker.send({"id": "w", "kind": "hello"})
        if warm:
            worker.answer()
            worker.send(self._request("new", self._folder / f"{self._number}-before"))
            worker.answer()
        worker.send(self._request("new", place))
        what = f"{'warm' if warm else 'cold'} worker"
        return self._killed(what, worker.process, share, warm, place, earlier, worker.close)

    def kill_command(self, share: float, *, earlier: bool) -> Kill:
        """Kill a command line after a share of the time of a run."""
        place = self._place(earlier)
        silent = subprocess.DEVNULL
        process = subprocess.Popen(self._command("new", place), stdin=silent, stdout=silent, stderr=silent)
        return self._killed("command line", process, share, False, place, earlier, lambda: None)

    def _killed(
        self,
        what: str,
        process: subprocess.Popen[bytes],
        share: float,
        warm: bool,
        place: Path,
        earlier: bool,
        close: Any,
    ) -> Kill:
        delay = share * (self._seconds_warm if warm else self._seconds_cold)
        time.sleep(delay)
        family = _family(process.pid)
        process.kill()
        process.wait(HUNG_S)
        _, alive = psutil.wait_procs(family, timeout=3.0)
        wrong = [f"an orphan is alive: {p.name()}" for p in alive if p.status() != psutil.STATUS_ZOMBIE]
        wrong += faults(self.runs, place, {}, had_earlier=earlier)
        left = self.runs.which(place) or "nothing"
        left += "".join(f", {_shown(p.name)}" for p in sorted(place.parent.iterdir()) if p != place)
        close()
        answer = self._ask_next("next", place)
        if answer["event"] != "result":
            wrong.append(f"the next run was refused: {answer}")
        if self.runs.which(place) != "next":
            wrong.append("the next result is not whole")
        wrong += [f"left behind: {_shown(p.name)}" for p in place.parent.iterdir() if p != place]
        shutil.rmtree(place.parent)
        return Kill(what, f"{delay:.2f} s ({share:.2f})", left, tuple(wrong))

    def _place(self, earlier: bool) -> Path:
        self._number += 1
        place = self._folder / str(self._number) / "out"
        place.parent.mkdir()
        if earlier:
            shutil.copytree(self.runs.folder / "earlier", place)
        return place

    def _request(self, name: str, place: Path) -> dict[str, Any]:
        inputs = {role: str(self.runs.folder / f"{role}.nii.gz") for role in ("dwi", "adc")}
        options = {"threshold": THRESHOLDS[name], "model": self._model}
        return {"id": name, "kind": "segment", "inputs": inputs, "out": str(place), "options": options}

    def _command(self, name: str, place: Path) -> list[str]:
        scans = [f"--{role}={self.runs.folder / f'{role}.nii.gz'}" for role in ("dwi", "adc")]
        how = [f"--threshold={THRESHOLDS[name]}", f"--model={self._model}", f"--out={place}"]
        return [sys.executable, "-m", "strokeseg", "segment", *scans, *how]

    def _ask_next(self, name: str, place: Path) -> dict[str, Any]:
        self._next.send(self._request(name, place))
        return self._next.answer()

    def _must_succeed(self, name: str, place: Path) -> None:
        answer = self._ask_next(name, place)
        if answer["event"] != "result":
            raise RuntimeError(f"an undisturbed run did not end well: {answer}")


def kills(laboratory: Laboratory, seed: int, count: int) -> Iterator[Kill]:
    """As many kills as asked for; a seed gives always the same moments, as shares of a run's time."""
    draw = random.Random(seed)
    for number in range(count):
        share, earlier = draw.uniform(0.0, 1.05), draw.random() < 0.5
        if number % 2:
            yield laboratory.kill_command(share, earlier=earlier)
        else:
            yield laboratory.kill_worker(share, earlier=earlier, warm=number % 4 == 0)


def _family(number: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(number)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _shown(name: str) -> str:
    return re.sub(r"\d+-\d{13}", "RUN", name)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> int:
    """Kill, print, and say whether every promise was kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=DEFAULT_COUNT, help=f"how many kills; default: {DEFAULT_COUNT}")
    parser.add_argument("--seed", type=int, default=1, help="seed of the moments; default: 1")
    parser.add_argument("--model", default="auto", help="name of the model; default: auto")
    options = parser.parse_args()
    start = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="strokeseg-worker-kills-"))
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    tried = broken = 0
    try:
        laboratory = Laboratory(folder, options.model)
        try:
            print(f"{'killed':<13} {'after':<14} left there")
            for kill in kills(laboratory, options.seed, options.count):
                tried += 1
                broken += bool(kill.wrong)
                print(f"{kill.what:<13} {kill.moment:<14} {kill.left}", flush=True)
                for sentence in kill.wrong:
                    print(f"    BROKEN: {sentence}")
        finally:
            laboratory.close()
        orphans = [p for p in psutil.Process().children(recursive=True) if p.pid not in before]
        if orphans:
            broken += 1
            print(f"    BROKEN: {len(orphans)} processes are left")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{tried} kills, {broken} with a broken promise, {time.monotonic() - start:.0f} s, seed {options.seed}")
    return 1 if broken or not tried else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
