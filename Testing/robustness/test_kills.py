"""A run that is stopped at any moment leaves a whole result or none, and nobody's files are touched."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("kills.py")
COUNT = 24


@pytest.mark.skipif(
    not hasattr(os, "fork"), reason="runs are stopped in forked processes, which this system does not have"
)
def test_runs_stopped_at_any_moment_keep_every_promise() -> None:
    choice = [] if os.environ.get("STROKESEG_SOAK") == "1" else ["--count", str(COUNT)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, str(PROGRAM), *choice],
        capture_output=True,
        encoding="utf-8",
        env=environment,
        timeout=1800,
        check=False,
    )
    print(run.stdout)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    tried, broken = (int(n) for n in re.findall(r"^(\d+) moments, (\d+) with a broken promise", run.stdout, re.M)[0])
    assert broken == 0
    assert tried == COUNT if choice else tried > 300
    assert re.search(r"^earlier +nothing +rename \.partial-out-RUN$", run.stdout, re.M), "no kill between the renames"
