"""Ends workers and command lines at random moments and looks at what is left.

    python Testing/robustness/worker_kills.py [--count N] [--seed S] [--network | --model NAME]

Half of the runs are requests to a worker, half are command lines, with or without an earlier result at their place.
Most are killed, after a random share of the time that they take or while files are being written; some workers lose
their caller, some commands get Ctrl+C or SIGTERM. Afterwards no process of the run may be alive, no half result may
look whole, and the next run on the same place, in another process, must end well and leave nothing but its result.

Without options the threshold rule is run. `--network` makes a small network with random weights, exports and adds it
as a user would, and has it kept compiled in a cache, which is then killed over, too; it needs PyTorch. `--model` takes
another model by its name. Everything happens in a temporary folder of its own; the patient is simulated. Prints a line
for every run and ends with exit code 1 when a promise was broken.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "phantoms"))  # of `small_brain`

from killed_processes import (
    HUNG_S,
    Cache,
    Ending,
    Moment,
    Worker,
    after,
    alive_with,
    end_input,
    interrupt,
    kill,
    partial_in,
    start,
    terminate,
    while_written,
)
from stopped_runs import THRESHOLDS, Runs, faults

from strokeseg.models import ModelStore
from strokeseg.runtime.cache import cache_folder

DEFAULT_COUNT = 100
FRESH = "random-weights"
# What is killed and how, in turn: five of six are killed, and half of all are command lines.
_TURNS = ("warm worker", "command line", "cold worker", "command line", "warm worker", "told to end")
# Results of the small patient are written in about this time, a compiled network in this.
_RESULT_WRITTEN_S, _CACHE_WRITTEN_S = 0.15, 0.01


@dataclass(frozen=True)
class Ended:
    """One ended run: what it was, when it was ended, what it left, and what was wrong."""

    what: str
    moment: str
    left: str
    wrong: tuple[str, ...]


class Laboratory:
    """Ends runs and judges what is left.

    Args:
        folder: An empty folder for everything.
        model: Name of the model.
        cached: Whether it is a network that is kept compiled.
    """

    def __init__(self, folder: Path, model: str, *, cached: bool) -> None:
        self.runs = Runs(folder / "patient")
        self.cache = Cache(model, cache_folder()) if cached else None
        self._folder = folder
        self._model = model
        self._mark = f"{os.getpid()}-{time.time_ns()}"
        self._next = Worker(f"{self._mark}-next")
        self._number = 0
        # With another model than the default, the results are known only after its first runs.
        for name in THRESHOLDS:
            shutil.rmtree(self.runs.folder / name)
            self._must_succeed(name, self.runs.folder / name)
            self.runs.hashes[name] = {file: _sha256(self.runs.folder / name / file) for file in self.runs.hashes[name]}
        if len({hashes["lesion_mask.nii.gz"] for hashes in self.runs.hashes.values()}) != len(THRESHOLDS):
            raise RuntimeError("the three results must differ")
        begin = time.monotonic()
        self._must_succeed("new", folder / "warm")
        self.seconds_warm = time.monotonic() - begin
        begin = time.monotonic()
        code = self._command("new", folder / "cold").wait(HUNG_S)
        self.seconds_cold = time.monotonic() - begin
        if code != 0:
            raise RuntimeError(f"an undisturbed command line ended with {code}")

    def close(self) -> None:
        """End the worker of the next runs."""
        self._next.close()

    def orphans(self) -> list[str]:
        """Processes of any of the runs that are still there."""
        marks = [f"{self._mark}-{number}" for number in range(self._number + 1)]
        return [name for mark in (*marks, f"{self._mark}-next") for name in alive_with(mark, 0.0)]

    def place(self, *, earlier: bool) -> Path:
        """A fresh place for a run, with an earlier result or without."""
        self._number += 1
        place = self._folder / str(self._number) / "out"
        place.parent.mkdir()
        if earlier:
            shutil.copytree(self.runs.folder / "earlier", place)
        return place

    def worker(self, place: Path, moment: Moment, ending: Ending, *, warm: bool, earlier: bool) -> Ended:
        """End a worker during a run; `warm`: it has done one before."""
        worker = Worker(f"{self._mark}-{self._number}")
        worker.send({"id": "w", "kind": "hello"})
        if warm:
            worker.answer()
            worker.send(self._request("new", self._folder / f"{self._number}-before"))
            worker.answer()
        worker.send(self._request("new", place))
        moment.wait(worker.process)
        wrong = ending(worker.process)
        worker.close()
        what = f"{'warm' if warm else 'cold'} worker, {ending.__name__.replace('_', ' ')}"
        return self._judged(what, moment, place, earlier, wrong, by_worker=True)

    def command(self, place: Path, moment: Moment, ending: Ending, *, earlier: bool) -> Ended:
        """End a command line."""
        process = self._command("new", place)
        moment.wait(process)
        wrong = ending(process)
        if process.returncode == 130 and partial_in(place.parent):
            wrong.append("a cancelled run left something half written")
        return self._judged(f"command line, {ending.__name__}", moment, place, earlier, wrong, by_worker=False)

    def _judged(
        self, what: str, moment: Moment, place: Path, earlier: bool, wrong: list[str], *, by_worker: bool
    ) -> Ended:
        wrong += [f"an orphan is alive: {name}" for name in alive_with(f"{self._mark}-{self._number}")]
        wrong += faults(self.runs, place, {}, had_earlier=earlier)
        left = self.runs.which(place) or "nothing"
        left += "".join(f", {_shown(p.name)}" for p in sorted(place.parent.iterdir()) if p != place)
        if self.cache is not None:
            wrong += self.cache.torn()
            left += ", half of a cache entry" if partial_in(self.cache.folder) else ""
        # In another process of the same kind: a fresh command line looks into the cache again, a warm worker does not.
        if by_worker:
            answer = self._ask_next("next", place)
            if answer["event"] != "result":
                wrong.append(f"the next run was refused: {answer}")
        elif (code := self._command("next", place).wait(HUNG_S)) != 0:
            wrong.append(f"the next run ended with {code}")
        if self.runs.which(place) != "next":
            wrong.append("the next result is not whole")
        wrong += [f"left behind: {_shown(p.name)}" for p in place.parent.iterdir() if p != place]
        if self.cache is not None:
            wrong += self.cache.faults()
        shutil.rmtree(place.parent)
        return Ended(what, moment.what, left, tuple(wrong))

    def _request(self, name: str, place: Path) -> dict[str, Any]:
        inputs = {role: str(self.runs.folder / f"{role}.nii.gz") for role in ("dwi", "adc")}
        options = {"threshold": THRESHOLDS[name], "model": self._model}
        return {"id": name, "kind": "segment", "inputs": inputs, "out": str(place), "options": options}

    def _command(self, name: str, place: Path) -> subprocess.Popen[bytes]:
        scans = [f"--{role}={self.runs.folder / f'{role}.nii.gz'}" for role in ("dwi", "adc")]
        how = [f"--threshold={THRESHOLDS[name]}", f"--model={self._model}", f"--out={place}"]
        return start(["segment", *scans, *how], f"{self._mark}-{self._number}")

    def _ask_next(self, name: str, place: Path) -> dict[str, Any]:
        self._next.send(self._request(name, place))
        return self._next.answer()

    def _must_succeed(self, name: str, place: Path) -> None:
        answer = self._ask_next(name, place)
        if answer["event"] != "result":
            raise RuntimeError(f"an undisturbed run did not end well: {answer}")


def ended_runs(laboratory: Laboratory, seed: int, count: int) -> Iterator[Ended]:
    """As many as asked for; a seed gives always the same runs, ends and moments, as shares of a run's time."""
    draw = random.Random(seed)
    for number in range(count):
        turn = _TURNS[number % len(_TURNS)]
        share, fraction, chance, earlier = (draw.random(), draw.random(), draw.random(), draw.random() < 0.5)
        place = laboratory.place(earlier=earlier)
        seconds = laboratory.seconds_warm if turn == "warm worker" else laboratory.seconds_cold
        moment = after(1.05 * share * seconds)
        if chance < 0.3:
            moment = while_written(place.parent, "result", fraction * _RESULT_WRITTEN_S)
        elif chance < 0.6 and laboratory.cache is not None and turn != "warm worker":
            moment = while_written(laboratory.cache.folder, "cache", fraction * _CACHE_WRITTEN_S)
        if laboratory.cache is not None and (chance < 0.6 or fraction < 0.5):
            laboratory.cache.empty()
        if turn == "command line":
            yield laboratory.command(place, moment, kill, earlier=earlier)
        elif turn == "told to end" and number // len(_TURNS) % 3 < 2:
            ending = (interrupt, terminate)[number // len(_TURNS) % 3]
            yield laboratory.command(place, moment, ending, earlier=earlier)
        else:
            ending = end_input if turn == "told to end" else kill
            yield laboratory.worker(place, moment, ending, warm=turn == "warm worker", earlier=earlier)


def add_fresh_network(folder: Path) -> None:
    """A small network with random weights becomes a model by the commands that a user has."""
    import torch

    from strokeseg.networks import build, form_of

    arguments = {"in_channels": 2, "out_channels": 1, "channels": [4, 8, 8]}
    torch.manual_seed(0)
    network = build("residual-unet", **arguments)
    torch.save(network.state_dict(), folder / "weights.pt")
    card = json.loads((ModelStore().folder_of("adc-threshold") / "card.json").read_text(encoding="utf-8"))
    card |= {
        "name": FRESH,
        "inputs": [{"role": "dwi", "required": True}, {"role": "adc", "required": True}],
        "preparation": {
            "spacing_mm": [4, 4, 4],
            "margin_voxels": 2,
            "multiple": form_of(network).multiple,
            "channels": ["dwi_ratio", "adc"],
        },
        "network": "residual-unet",
        "network_arguments": arguments,
        "minimum_lesion_ml": 0.0,
    }
    del card["runtime"]
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    made = folder / FRESH
    export = ["--card", folder / "card.json", "--checkpoint", folder / "weights.pt", "--out", made]
    for command in (["strokeseg_training.cli", "export", *export], ["strokeseg", "models", "add", made]):
        done = subprocess.run(
            [sys.executable, "-m", *map(str, command)], capture_output=True, text=True, check=False, timeout=HUNG_S
        )
        if done.returncode != 0:
            raise RuntimeError(f"{command[:3]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def _shown(name: str) -> str:
    return re.sub(r"\d+-\d{13}", "RUN", name)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> int:
    """End runs, print, and say whether every promise was kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=DEFAULT_COUNT, help=f"how many runs; default: {DEFAULT_COUNT}")
    parser.add_argument("--seed", type=int, default=1, help="seed of the moments; default: 1")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--model", default="adc-threshold", help="name of the model; default: adc-threshold")
    which.add_argument("--network", action="store_true", help="a small network with random weights, kept compiled")
    options = parser.parse_args()
    begin = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="strokeseg-worker-kills-"))
    theirs = ModelStore().folder_of(options.model)
    # One thread, and a home of their own: the user's models and cache are not touched.
    os.environ |= {"OMP_NUM_THREADS": "1", "STROKESEG_THREADS": "1", "STROKESEG_HOME": str(folder / "home")}
    os.environ.pop("STROKESEG_COMPILED_CACHE", None)
    tried = broken = 0
    try:
        model, cached = (FRESH, True) if options.network else (options.model, False)
        if options.network:
            add_fresh_network(folder)
        elif theirs.parent != ModelStore().folder:
            shutil.copytree(theirs, folder / "home" / "models" / options.model)
            cached = ModelStore().card(options.model).runtime == "openvino"
        if cached:
            os.environ["STROKESEG_COMPILED_CACHE"] = "1"
        laboratory = Laboratory(folder, model, cached=cached)
        try:
            print(f"{'ended':<23} {'when':<16} left there")
            for run in ended_runs(laboratory, options.seed, options.count):
                tried += 1
                broken += bool(run.wrong)
                print(f"{run.what:<23} {run.moment:<16} {run.left}", flush=True)
                for sentence in run.wrong:
                    print(f"    BROKEN: {sentence}")
        finally:
            laboratory.close()
        for name in laboratory.orphans():
            broken += 1
            print(f"    BROKEN: {name} is left")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(
        f"{tried} ended runs, {broken} with a broken promise, {time.monotonic() - begin:.0f} s, seed {options.seed}, "
        f"model {model}"
    )
    return 1 if broken or not tried else 0


if __name__ == "__main__":
    sys.exit(main())
