"""Seconds a step with one process and with two, and what that would mean for more GPUs and patients.

    python Testing/benchmarks/ranks.py [--steps 30] [--size 48] [--threads 1] [--rounds 2] [--epochs 300]
        [--json FILE]

Each run is the command itself, `strokeseg-train fit --device cpu`, with the residual U-Net at its usual width, one
patient a process and step, cubes of `--size` voxels of random blobs, and no validation. The median of the steps after
the first five counts, and the least of all rounds, in which the ways take turns. Two processes share the computer: give
`--threads` half of its cores. Where two are faster than one, the computer was busy with something else, and the program
ends with an error.

What is printed for more than two processes was NOT measured. It is t(n) = t(1) + 2 (n - 1) / n * (t(2) - t(1)): each
process computes as long as one alone, and the gradients' way around a ring grows as 2 (n - 1) / n. Between machines
their network counts, not the memory through which two processes on one computer talk; data that are read too slowly,
validation and saving come on top.
"""

import argparse
import csv
import json
import os
import platform
import runpy
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

PHANTOM = Path(__file__).resolve().parents[1] / "training" / "fit_phantom.py"
UNCOUNTED = 5
PROCESSES = (1, 2, 4, 8, 16, 32)
PATIENTS = (250, 1000, 4000)


def write_inputs(folder, size, threads, steps):
    """A bank of eight patients and a recipe in which a row of the log is a step."""
    from strokeseg_training.bank_writing import write_bank
    from strokeseg_training.recipe import recipe_of

    phantom = SimpleNamespace(**runpy.run_path(str(PHANTOM)))
    write_bank((phantom.patient(s, (size,) * 3) for s in range(1, 9)), folder / "bank", about={}, shard_size=8)
    data = phantom.recipe_data(
        network={"name": "residual-unet", "arguments": {"in_channels": 2, "out_channels": 1}},
        # All crops are of one size.
        preparation={"spacing_mm": [4, 4, 4], "margin_voxels": 0, "multiple": size, "channels": ["dwi_ratio", "adc"]},
        data={"bank": "bank", "workers": 1, "flips": True},
        loss={"dice": 1.0, "bce": 1.0},
        threads=threads,
        checkpoint={"every": 10 * steps},
        stages=[{"steps": steps}],
    )
    (folder / "recipe.yaml").write_text(recipe_of(data, "benchmark").to_yaml())


def seconds_a_step(folder, name, *options, threads):
    """The median of a run."""
    command = [sys.executable, "-m", "strokeseg_training.cli", "fit", "--recipe", "recipe.yaml", "--out", name]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [*command, "--device", "cpu", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)
    with (folder / name / "train.csv").open() as file:
        rows = [float(row["seconds_per_step"]) for row in csv.DictReader(file)]
    return statistics.median(rows[UNCOUNTED:])


def step(alone, both, processes):
    """Seconds a step of so many processes, extrapolated beyond two."""
    return alone + 2 * (processes - 1) / processes * (both - alone)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder, given.size, given.threads, given.steps)
        ways = {"one": (), "two": ("--devices", "2"), "double": ("--set", "batch=2")}
        found = [
            {way: seconds_a_step(folder, f"{way}{n}", *options, threads=given.threads) for way, options in ways.items()}
            for n in range(given.rounds)
        ]
    alone, both, double = (min(each[way] for each in found) for way in ways)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {given.threads} thread(s) a process")
    print(f"one process, 1 patient a step:  {alone:.3f} s a step, {1 / alone:.2f} patients/s")
    print(f"one process, 2 patients a step: {double:.3f} s a step, {2 / double:.2f} patients/s")
    print(
        f"two processes, 1 patient each:  {both:.3f} s a step, {2 / both:.2f} patients/s, {alone / both:.0%} of twice"
    )
    if both < alone:
        sys.exit("Two processes were faster than one: the computer was busy, take the figures again.")
    print(f"\nHours of {given.epochs} passes; from 4 processes on extrapolated, not measured:")
    print("processes  efficiency" + "".join(f"{p:>9} patients" for p in PATIENTS))
    table = []
    for n in PROCESSES:
        seconds = step(alone, both, n)
        hours = [given.epochs * p / n * seconds / 3600 for p in PATIENTS]
        table.append({"processes": n, "efficiency": alone / seconds, "hours": hours, "measured": n <= 2})
        print(f"{n:>9}  {alone / seconds:>10.0%}" + "".join(f"{h:>18.1f}" for h in hours))
    if given.json:
        measured = {"one": alone, "two": both, "double_batch": double}
        given.json.write_text(json.dumps({"seconds_a_step": measured, "patients": PATIENTS, "table": table}, indent=2))


if __name__ == "__main__":
    main()
