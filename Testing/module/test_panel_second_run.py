"""A second run in the panel meets a warm worker: it imports nothing and compiles nothing, by the worker's own word."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import panel_driver as drive
import pytest
from tiny_model import make_tiny_model

COMPILING_S = 3.0
# The engine's worker, whose compiler tells of itself and takes its time, longer than the scans take to be prepared.
SLOW_COMPILER = f"""
import sys, time
import openvino
compile_model = openvino.Core.compile_model
def slowly(*arguments, **named):
    print("compiling", file=sys.stderr, flush=True)
    time.sleep({COMPILING_S})
    return compile_model(*arguments, **named)
openvino.Core.compile_model = slowly
from strokeseg.worker import main
main()
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A network with random weights, in a place of its own."""
    monkeypatch.setenv("STROKESEG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STROKESEG_THREADS", "1")
    make_tiny_model(tmp_path / "home" / "models" / "tiny", name="tiny")
    return "tiny"


def test_the_second_run_imports_and_compiles_nothing(
    slicerEnvironment: Any, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setenv("PYTHONVERBOSE", "1")  # Python tells on standard error what it imports
    widget = drive.openPanel(slicerEnvironment)
    logic = widget.panel.logic
    run = logic.run
    run.abandon()
    slicerEnvironment.waitUntil(lambda: not run.link.running, 10)
    run.link._command = [sys.executable, "-c", SLOW_COMPILER]
    logic.loadSample(widget.panel.parameters)
    widget.panel.parameters.model = model
    slicerEnvironment.processEvents(0.05)
    said: list[list[str]] = []
    timings, pids = [], []
    for _number in range(2):
        run.log.clear()
        before = run.logged
        widget.ui.runButton.click()
        lines: list[str] = []
        changed = run.onChanged

        def keep(changed: Any = changed, lines: list[str] = lines) -> None:
            lines.extend(run.log)  # it holds only the last ones, and Python has much to tell
            run.log.clear()
            changed()

        run.onChanged = keep
        drive.finish(slicerEnvironment, widget)
        run.onChanged = changed
        assert run.error is None
        assert run.logged - before == len(lines)
        said.append(lines)
        timings.append(run.timing)
        pids.append(run.link.greeting["pid"])
    imported = [[line for line in lines if line.startswith("import '")] for lines in said]
    assert any("'nibabel'" in line for line in imported[0])
    assert imported[1] == []
    assert [lines.count("compiling") for lines in said] == [1, 0]
    assert pids[0] == pids[1] != os.getpid()
    first, second = timings
    assert {"read", "prepare", "load", "model", "postprocess", "lesions", "write", "report"} <= set(second)
    # The network is compiled while the scans are prepared; what is waited for is what is left of it then.
    assert first["load"] + first["prepare"] > COMPILING_S
    assert second["load"] < 0.25
    assert second["load"] < first["load"]
