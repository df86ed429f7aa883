"""Workers and command lines killed at any moment leave no process and no half result, and the next run is fine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("worker_kills.py")
COUNT = 10


def test_killed_workers_and_commands_keep_every_promise() -> None:
    choice = [] if os.environ.get("STROKESEG_SOAK") == "1" else ["--count", str(COUNT)]
    run = subprocess.run(
        [sys.executable, str(PROGRAM), *choice],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        timeout=1800,
        check=False,
    )
    print(run.stdout)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    tried, broken = (int(n) for n in re.findall(r"^(\d+) kills, (\d+) with a broken promise", run.stdout, re.M)[0])
    assert broken == 0
    assert tried == COUNT if choice else tried == 100
    assert all(re.search(f"^{what}", run.stdout, re.M) for what in ("cold worker", "warm worker", "command line"))
