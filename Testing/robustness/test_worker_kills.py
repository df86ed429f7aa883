"""Workers and command lines ended at any moment leave no process and no half result, and the next run is fine."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("worker_kills.py")
# The whole list has a hundred. These few hold a worker and a command that are killed while the result is written, and a
# command that is killed while a compiled network is.
COUNT, SEED = 6, 5


@pytest.mark.parametrize("options", [[], ["--network"]], ids=["rule", "network kept compiled"])
def test_ended_workers_and_commands_keep_every_promise(options: list[str]) -> None:
    if options and (importlib.util.find_spec("torch") is None or importlib.util.find_spec("onnx") is None):
        pytest.skip("the network is exported by the test: 'pip install strokeseg[torch]' brings what that needs")
    choice = [] if os.environ.get("STROKESEG_SOAK") == "1" else ["--count", str(COUNT), "--seed", str(SEED)]
    run = subprocess.run(
        [sys.executable, str(PROGRAM), *options, *choice],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        timeout=1800,
        check=False,
    )
    print(run.stdout)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    tried, broken = (int(n) for n in re.findall(r"^(\d+) ended runs, (\d+) with a broken promise", run.stdout, re.M)[0])
    assert broken == 0
    assert tried == COUNT if choice else tried == 100
    moments = (r" result \+", *([r" cache \+"] if options else []))
    assert all(re.search(moment, run.stdout) for moment in moments)
    assert all(re.search(f"^{what}", run.stdout, re.M) for what in ("cold worker", "warm worker", "command line"))
