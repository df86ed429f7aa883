"""OpenVINO's companion reports that it was imported; in StrokeSeg nobody hears of it."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ENGINE = Path(__file__).resolve().parents[2] / "StrokeSegExtension"

# Every try to open a connection is written to the file LOG, also from threads, forked children and at exit.
WATCH = """
import json, os, socket, sys, threading
import numpy, psutil
LOG = os.environ["WATCH_LOG"]
def refuse(*args, **kwargs):
    with open(LOG, "a") as stream:
        stream.write("socket\\n")
    raise OSError("blocked")
class Refused:
    __init__ = refuse
socket.socket, socket.create_connection, socket.getaddrinfo = Refused, refuse, refuse
def spawned(event, args):
    if event in ("os.fork", "subprocess.Popen", "os.posix_spawn", "os.exec", "_thread.start_new_thread"):
        with open(LOG, "a") as stream:
            stream.write(event + "\\n")
sys.addaudithook(spawned)
def tasks():
    return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else threading.active_count()
before = tasks()
"""
TOLD = """
process = psutil.Process()
print(json.dumps({
    "tasks": tasks() - before,
    "python_threads": threading.active_count(),
    "children": len(process.children(recursive=True)),
    "connections": len(process.net_connections()),
    "telemetry_loaded": sys.modules.get("openvino_telemetry") is not None,
    "openvino_loaded": sys.modules.get("openvino") is not None,
}))
"""


def watched(code, tmp_path):
    """What `code` did in a fresh interpreter with an empty HOME and without CI: its own account, log, files in HOME."""
    home, log = tmp_path / "home", tmp_path / "log"
    home.mkdir()
    log.write_text("")
    hidden = ("CI", "HOME", "GITHUB_ACTIONS", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "STROKESEG_HOME")
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    environment |= {
        "HOME": str(home), "USERPROFILE": str(home), "WATCH_LOG": str(log), "PYTHONPATH": str(ENGINE),
        "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", WATCH + code + TOLD], capture_output=True, text=True, env=environment, check=False,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    files = sorted(str(p.relative_to(home)) for p in home.rglob("*"))
    return json.loads(done.stdout), log.read_text().split(), files


def test_importing_the_runtime_leaves_no_file_thread_process_or_connection(tmp_path):
    told, log, files = watched("import strokeseg.runtime.openvino\n", tmp_path)
    assert told == {
        "tasks": 0, "python_threads": 1, "children": 0, "connections": 0, "telemetry_loaded": False,
        "openvino_loaded": True,
    }  # fmt: skip
    assert log == []
    assert files == []


def test_running_a_model_leaves_no_file_process_or_connection(tmp_path):
    pytest.importorskip("onnx", reason="writing the test model needs onnx")
    import runtime_phantom as phantom

    phantom.write_model(tmp_path / "tiny")
    code = f"""
from pathlib import Path
from strokeseg.models import read_card
from strokeseg.runtime import open_runtime
runtime = open_runtime(read_card(Path({str(tmp_path / "tiny")!r})), threads=1)
assert runtime.name == "openvino"
assert runtime.run(numpy.zeros((1, 2, 8, 8, 8), numpy.float32))["lesion"].shape == (1, 1, 8, 8, 8)
runtime.close()
"""
    told, log, files = watched(code, tmp_path)
    # The library computes in threads of its own, so "tasks" says nothing here.
    assert (told["python_threads"], told["children"], told["connections"]) == (1, 0, 0)
    assert not told["telemetry_loaded"]
    assert log == []
    assert files == []


# Asked of the installed packages: once a test has loaded the runtime, this interpreter takes the module for absent.
COMPANION = any(d.name == "openvino-telemetry" for d in metadata.distributions())


@pytest.mark.skipif(not COMPANION, reason="the companion is not installed here")
def test_the_watch_would_notice_the_companion(tmp_path):
    """Without the rule the companion is loaded, and telling it of an event leaves traces that are seen."""
    code = """
import openvino_telemetry
t = openvino_telemetry.Telemetry(tid="G-0", app_name="a", app_version="1", backend="ga4", enable_opt_in_dialog=False,
                                 disable_in_ci=True)
t.consent = True
t.start_session("a")
t.send_event("a", "b", "c")
t.end_session("a")
"""
    told, log, files = watched(code, tmp_path)
    assert told["telemetry_loaded"]
    assert log or files


def test_no_other_file_imports_openvino():
    found = [
        path.relative_to(ENGINE).as_posix()
        for path in ENGINE.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip().startswith(("import openvino", "from openvino"))
    ]
    assert found == ["strokeseg/runtime/openvino.py"]
