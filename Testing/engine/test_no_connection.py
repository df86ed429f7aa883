"""No command opens a connection but ``models fetch``: every command there is runs where any try is noted and refused.

The watch is an audit hook of the interpreter, which sees a connection whichever Python library opens it, also in child
processes and threads. ``CI`` is unset, since some libraries are silent only there.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import stroke_phantom as stroke
import typer
from tiny_model import make_tiny_model, tiny_card

from strokeseg import cli, cli_models

ROOT = Path(__file__).resolve().parents[2]
PATHS = (ROOT / "StrokeSegExtension", ROOT / "Training")

# Loaded by every interpreter that finds it, before anything else.
WATCH = """
import os, sys
_SEEN = ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo",
         "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo")
def _watch(event, arguments):
    if event in _SEEN:
        with open(os.environ["WATCH_LOG"], "a") as stream:
            stream.write(f"{os.environ.get('WATCH_COMMAND')}: {event}\\n")
        raise OSError("a connection was tried")
sys.addaudithook(_watch)
"""
RUN = """
import json, os, sys
from strokeseg.__main__ import main
for command in json.loads(sys.argv[1]):
    os.environ["WATCH_COMMAND"] = " ".join(command[:2])
    sys.argv = ["strokeseg", *command]
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    print("ENDED", json.dumps([" ".join(command[:2]), code]), flush=True)
"""


@pytest.fixture
def place(tmp_path):
    """Scans, an empty HOME and the watch."""
    scans = stroke.stroke_phantom()
    for role in ("dwi", "adc"):
        stroke.save_nifti(tmp_path / f"{role}.nii", getattr(scans, role), scans.affine)
    stroke.save_nifti(tmp_path / "reference.nii", (scans.right | scans.left).astype("uint8"), scans.affine)
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH)
    (tmp_path / "home").mkdir()
    (tmp_path / "log").touch()
    return tmp_path


def environment(place):
    hidden = ("CI", "GITHUB_ACTIONS", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
    kept = {k: v for k, v in os.environ.items() if k not in hidden and not k.lower().endswith("_proxy")}
    return kept | {
        "HOME": str(place / "home"), "USERPROFILE": str(place / "home"), "STROKESEG_HOME": str(place / "own"),
        "WATCH_LOG": str(place / "log"), "PYTHONPATH": os.pathsep.join(map(str, (place / "watch", *PATHS))),
        "OMP_NUM_THREADS": "1", "STROKESEG_THREADS": "1",
    }  # fmt: skip


def ended(place, commands):
    """Exit code of each command, all run in one process; and the tries that were noted."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(commands)],
        capture_output=True, encoding="utf-8", env=environment(place), check=False, timeout=300, cwd=place,
    )  # fmt: skip
    told = [json.loads(line.removeprefix("ENDED ")) for line in done.stdout.splitlines() if line.startswith("ENDED ")]
    assert len(told) == len(commands), done.stdout + done.stderr
    return dict(told), (place / "log").read_text().splitlines(), done.stderr


def names(app):
    """Every command of an application, those of its groups after the group's name."""
    command = typer.main.get_command(app)
    return {f"{n} {inner}" if hasattr(c, "commands") else n for n, c in command.commands.items() for inner in
            (c.commands if hasattr(c, "commands") else ("",))}  # fmt: skip


def test_no_command_but_fetch_opens_a_connection(place):
    scans = [f"--dwi={place / 'dwi.nii'}", f"--adc={place / 'adc.nii'}"]
    folder = place / "from" / "tiny"
    segment = ["segment", *scans, "--device=cpu"]
    commands = [
        ["version"],
        ["segment", *scans, f"--reference={place / 'reference.nii'}", f"--out={place / 'out'}"],
        ["evaluate", f"--prediction={place / 'out' / 'lesion_mask.nii.gz'}", f"--reference={place / 'reference.nii'}"],
        ["report", str(place / "out")],
        ["demo", str(place / "demo")],
    ]
    models = [["models", "list"], ["models", "show", "adc-threshold"], ["models", "verify"]]
    if importlib.util.find_spec("torch") and importlib.util.find_spec("onnx"):
        make_tiny_model(folder, channels=(4, 8), spacing_mm=5.0)
        models += [["models", "add", str(folder)]]
        with_network = [
            [*segment, "--model=tiny", f"--runtime={r}", f"--out={place / r}"] for r in ("openvino", "torch")
        ]
        models += [*with_network, ["models", "remove", "tiny"]]
    else:
        models += [["models", "add", str(folder)], ["models", "remove", "tiny"]]
    codes, tried, errors = ended(place, [*commands, *models])
    assert tried == []
    assert list((place / "home").rglob("*")) == []
    if folder.is_dir():
        assert set(codes.values()) == {0}, errors
    # Who adds a command adds it here.
    seen = {" ".join(c[: 1 + (c[0] == "models")]) for c in [*commands, *models]}
    assert seen | {"worker", "models fetch"} == names(cli.app)
    assert {n.removeprefix("models ") for n in seen if n.startswith("models ")} | {"fetch"} == names(cli_models.app)


def test_the_worker_opens_no_connection(place):
    inputs = {role: str(place / f"{role}.nii") for role in ("dwi", "adc")}
    out, reference = str(place / "out"), str(place / "reference.nii")
    requests = [
        {"id": "1", "kind": "hello"},
        {"id": "2", "kind": "segment", "inputs": inputs, "out": out, "options": {}},
        {"id": "3", "kind": "relabel", "result": out, "threshold": 0.3},
        {"id": "4", "kind": "evaluate", "prediction": str(Path(out, "lesion_mask.nii.gz")), "reference": reference},
        {"id": "5", "kind": "cancel", "target": "2"},
        {"id": "6", "kind": "shutdown"},
    ]
    done = subprocess.Popen(
        [sys.executable, "-m", "strokeseg", "worker"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(place),
    )  # fmt: skip
    last = {}
    with done:
        for request in requests:
            done.stdin.write(json.dumps(request).encode() + b"\n")
            done.stdin.flush()
            while request["id"] not in last:
                event = json.loads(done.stdout.readline())
                if event["event"] in ("hello", "result", "error"):
                    last[event["id"]] = event
    assert (place / "log").read_text() == ""
    assert [last[i]["event"] for i in ("1", "2", "3", "4")] == ["hello", "result", "result", "result"], last
    assert list((place / "home").rglob("*")) == []


def test_the_export_opens_no_connection(place):
    torch = pytest.importorskip("torch", reason="the export needs torch")
    pytest.importorskip("onnx", reason="the export needs onnx")
    from strokeseg.networks import build

    arguments = {"in_channels": 2, "channels": [4, 8]}
    torch.save(build("residual-unet", **arguments).state_dict(), place / "c.pt")
    card = tiny_card("mine", arguments=arguments, multiple=2)
    (place / "card.json").write_text(json.dumps(card))
    paths = ["--card", place / "card.json", "--checkpoint", place / "c.pt", "--out", place / "mine"]
    done = subprocess.run(
        [sys.executable, "-m", "strokeseg_training.cli", "export", *map(str, paths)],
        capture_output=True, encoding="utf-8", env=environment(place), check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (place / "log").read_text() == ""
    assert list((place / "home").rglob("*")) == []


def test_the_watch_sees_what_fetch_tries(place):
    resources = place / "resources" / "Models"
    resources.mkdir(parents=True)
    entry = {"name": "tiny", "title": "T", "url": "http://127.0.0.1:9/t.zip", "size_bytes": 9, "sha256": "0" * 64}
    (resources / "registry.json").write_text(json.dumps({"format": 1, "models": [entry]}))
    code = "import time; time.sleep = lambda _: None\n" + RUN
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps([["models", "fetch", "tiny"]])],
        capture_output=True, encoding="utf-8", check=False, timeout=300,
        env={**environment(place), "STROKESEG_RESOURCES": str(resources.parent)},
    )  # fmt: skip
    assert "What to do:" in done.stderr
    assert "models fetch: socket.getaddrinfo" in (place / "log").read_text()
