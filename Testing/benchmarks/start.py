"""How long a user waits: the command line from a cold start, and the warm worker, files to files, side by side.

    python Testing/benchmarks/start.py [--repeats 5] [--model NAME] [--case FOLDER]

Runs on dwi.nii.gz and adc.nii.gz of a folder, by default the synthetic patient's; prints best and median, and what each
import costs. Figures are those of the computer.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "Resources" / "Samples" / "synthetic-patient"
LIBRARIES = (
    "numpy",
    "scipy",
    "nibabel",
    "openvino",
    "PIL",
    "jinja2",
    "typer",
    "rich",
    "SimpleITK",
    "matplotlib",
    "torch",
)


def cold(case, out, model):
    start = time.perf_counter()
    scans = [f"--{role}={case / f'{role}.nii.gz'}" for role in ("dwi", "adc")]
    command = [sys.executable, "-m", "strokeseg", "segment", *scans, f"--out={out}", f"--model={model}"]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


class Warm:
    """A worker that has served one request already."""

    def __init__(self):
        command = [sys.executable, "-m", "strokeseg", "worker"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def __call__(self, case, out, model):
        start = time.perf_counter()
        inputs = {role: str(case / f"{role}.nii.gz") for role in ("dwi", "adc")}
        request = {"id": "1", "kind": "segment", "inputs": inputs, "out": str(out), "options": {"model": model}}
        self.process.stdin.write((json.dumps(request) + "\n").encode())
        self.process.stdin.flush()
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == "error":
                sys.exit(f"{event['title']} {event['cause']}")
            if event["event"] == "result":
                return time.perf_counter() - start, event["seconds"]
        sys.exit("the worker ended without a result")

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=10)


def import_seconds(library):
    """Seconds that `import library` adds to a fresh interpreter; None where it is not installed."""
    code = f"import time; t = time.perf_counter(); import {library}; print(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--model", default="auto")
    parser.add_argument("--case", type=Path, default=SAMPLE)
    given = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} CPUs, load {os.getloadavg()[0]:.1f}, model {given.model}")
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out"
        colds = [cold(given.case, out, given.model) for _ in range(given.repeats)]
        worker = Warm()
        first, _ = worker(given.case, out, given.model)
        warms = [worker(given.case, out, given.model) for _ in range(given.repeats)]
        worker.close()
    seconds = [w[0] for w in warms]
    stages = min(warms)[1]
    without_report = min(w[0] - w[1]["report"] for w in warms)
    print(f"cold command line      best {min(colds):.2f} s, median {statistics.median(colds):.2f} s")
    print(f"worker, first request  {first:.2f} s")
    print(f"worker, warm           best {min(seconds):.2f} s, median {statistics.median(seconds):.2f} s")
    print(f"  without the report   best {without_report:.2f} s")
    print("  stages of the best:  " + ", ".join(f"{k} {v:.2f}" for k, v in stages.items()))
    print(f"warm is {min(colds) / min(seconds):.1f}x faster than cold")
    for library in LIBRARIES:
        spent = import_seconds(library)
        print(f"import {library:<12} " + ("not installed" if spent is None else f"{spent:.2f} s"))


if __name__ == "__main__":
    main()
