"""The commands ``strokeseg models``: what they say, how they end, and that only one of them opens a connection."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import model_folders as folders
import pytest
from typer.testing import CliRunner

from strokeseg import cli_models
from strokeseg.models import ModelStore

ENGINE = Path(cli_models.__file__).parents[1]
BUNDLED = Path(__file__).parents[2] / "Resources" / "Models"
OURS = sorted(card.parent.name for card in BUNDLED.glob("*/card.json"))


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self):
        assert self.out.count("\n") == 1, self.out
        assert not self.err
        return json.loads(self.out)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("STROKESEG_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "models"


@pytest.fixture
def say(home, monkeypatch):
    """Runs the command within this process."""
    monkeypatch.setattr(cli_models.console.out, "width", 400)

    def run(*arguments):
        with (
            cli_models.console.out.capture() as out,
            cli_models.console.err.capture() as err,
        ):
            result = CliRunner().invoke(cli_models.app, [str(a) for a in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return Said(result.exit_code, out.get() + result.stdout, err.get())

    return run


@pytest.fixture
def source(tmp_path):
    return folders.write_model(tmp_path / "from" / "tiny")


def test_a_model_is_added_listed_shown_verified_and_removed(say, source, home):
    assert say("add", source) == (0, "Added: tiny (Tiny).\n", "")
    listed = say("list").out
    assert "adc-threshold" in listed
    assert f"Yours: tiny, in {home}" in listed
    assert say().out == listed
    assert "network: graph" in say("show", "tiny").out
    assert say("verify", "tiny").out == "The model 'tiny' is as it should be.\n"
    assert say("verify").out == f"As they should be: {', '.join([*OURS, 'tiny'])}.\n"
    assert say("remove", "tiny") == (0, "Removed: tiny.\n", "")
    assert "tiny" not in say("list").out


def test_the_same_for_machines(say, source, tmp_path):
    card = json.loads((source / "card.json").read_text())
    added = say("add", folders.zip_of(source, tmp_path / "a.zip"), "--format", "json").json
    assert added == {"event": "result", "model": card}
    listed = say("list", "--format", "json").json
    assert [m["name"] for m in listed["models"]] == [*OURS, "tiny"]
    assert (listed["own"], listed["broken"], listed["downloadable"]) == (["tiny"], [], [])
    assert say("show", "tiny", "--format", "json").json["model"] == card
    assert say("verify", "--format", "json").json["sound"] == [*OURS, "tiny"]
    assert say("remove", "tiny", "--format", "json").json == {"event": "result", "removed": "tiny"}


def test_a_broken_model_is_listed_with_the_reason_and_hides_no_other(say, source, home):
    say("add", source)
    folders.write_model(home / "ruined")
    (home / "ruined" / "card.json").write_text("{")
    listed = say("list")
    assert (listed.code, listed.err) == (0, "")
    assert "Not usable: ruined. The card of the model 'ruined' cannot be read." in listed.out
    assert "Yours: tiny" in listed.out
    data = say("list", "--format", "json").json
    assert [m["name"] for m in data["models"]] == [*OURS, "tiny"]
    assert (data["own"], data["broken"][0]["name"]) == (["ruined", "tiny"], "ruined")
    assert data["broken"][0]["next_step"]


def test_verifying_all_tells_of_every_damage(say, source, home):
    say("add", source)
    for name in ("one", "two"):
        folders.write_model(home / name)
        (home / name / "weights.safetensors").write_bytes(b"")
    said = say("verify")
    assert said.code == 4
    assert said.out == f"As they should be: {', '.join([*OURS, 'tiny'])}.\n"
    assert "The model 'one' is damaged." in said.err
    assert "The model 'two' is damaged." in said.err
    machine = say("verify", "--format", "json")
    assert machine.code == 4
    assert [b["name"] for b in machine.json["broken"]] == ["one", "two"]
    assert say("verify", "one").code == 4
    assert say("verify", "tiny").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["add", "absent"], 3, "There is no model at 'absent'."),
        (["add", BUNDLED / "adc-threshold"], 4, "There is a model 'adc-threshold' already."),
        (["remove", "adc-threshold"], 4, "It comes with StrokeSeg."),
        (["remove", "nothing"], 4, "There is no model 'nothing'."),
        (["show", "nothing"], 4, "There is no model 'nothing'."),
        (["verify", "adc-treshold"], 4, "Did you mean 'adc-threshold'?"),
        (["fetch", "nothing"], 4, "There is no model 'nothing' to download."),
        (["fetch", "adc-threshold"], 4, "There is no model 'adc-threshold' to download."),
    ],
)
def test_what_cannot_be_done_ends_in_three_sentences_and_a_code(say, arguments, code, said):
    ended = say(*arguments)
    assert (ended.code, ended.out) == (code, "")
    lines = ended.err.removeprefix(f"download: {arguments[1]}\n").splitlines()
    assert lines[0].startswith("Error: ")
    assert lines[1].startswith("  Why: ")
    assert lines[2].startswith("  What to do: ")
    assert said in ended.err
    machine = say(*arguments, "--format", "json")
    assert machine.code == code
    assert machine.json["exit_code"] == code


@pytest.mark.parametrize(
    "arguments", [["add"], ["remove"], ["fetch"], ["show"], ["list", "x"], ["sing"], ["add", "a", "b"]]
)
def test_a_wrong_command_line_ends_with_2(say, arguments):
    assert say(*arguments).code == 2


def test_help_names_every_command(say):
    said = say("--help").out
    for command in ("list", "show", "verify", "add", "remove", "fetch"):
        assert command in said


def test_brackets_in_a_title_are_only_brackets(say, tmp_path):
    say("add", folders.write_model(tmp_path / "x" / "tiny", title="[bold]T[/bold] [link=file:///etc]"))
    assert "[bold]T[/bold] [link=file:///etc]" in say("list").out


# --- processes of their own

GUARD = """
import socket, sys, time
time.sleep = lambda seconds: None  # between the attempts of the download
def refuse(*arguments, **_):
    raise OSError("a connection")
socket.socket.connect = socket.socket.connect_ex = socket.socket.bind = socket.socket.sendto = refuse
socket.getaddrinfo = socket.create_connection = refuse
from strokeseg.cli_models import app
for command in (["add", sys.argv[1]], ["list"], ["show", "tiny"], ["verify"], ["remove", "tiny"], ["fetch", "tiny"]):
    try:
        app(command)
    except SystemExit as end:
        print(command[0], "ended with", end.code)
"""
PLAIN = "import sys; from strokeseg.cli_models import app; app(sys.argv[1:])"


def environment(home, **more):
    kept = {k: v for k, v in os.environ.items() if k != "CI" and not k.lower().endswith("_proxy")}
    return {**kept, "PYTHONPATH": str(ENGINE), "STROKESEG_HOME": str(home.parent), **more}


def test_no_command_but_fetch_opens_a_connection(home, source, offered):
    resources = offered("fast")
    done = subprocess.run(
        [sys.executable, "-c", GUARD, str(source)],
        capture_output=True, encoding="utf-8", check=False,
        env=environment(home, STROKESEG_RESOURCES=str(resources)),
    )  # fmt: skip
    ended = [line.split(" ended with ") for line in done.stdout.splitlines() if " ended with " in line]
    quiet = ["add", "list", "show", "verify", "remove"]
    assert ended[:5] == [[command, "0"] for command in quiet], done.stderr
    # The guard itself holds: the one command that may try is stopped by it.
    assert ended[5][0] == "fetch"
    assert ended[5][1] != "0"
    assert "a connection" in done.stderr


BEGUN = 100_000


class Slow(BaseHTTPRequestHandler):
    content = b""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content[:BEGUN])
        self.wfile.flush()
        if "slow" in self.path:
            time.sleep(10)
        self.wfile.write(self.content[BEGUN:])

    def log_message(self, *_):
        pass


@pytest.fixture
def offered(tmp_path, source, monkeypatch):
    """Resources whose list offers 'tiny' on a server on this machine, to be fetched at once or slowly."""
    (source / "README").write_bytes(os.urandom(200_000))
    Slow.content = folders.zip_of(source, tmp_path / "tiny.zip").read_bytes()
    http = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    http.daemon_threads = True
    thread = threading.Thread(target=lambda: http.serve_forever(poll_interval=0.02))
    thread.start()
    resources = tmp_path / "resources"
    (resources / "Models").mkdir(parents=True)
    monkeypatch.setenv("STROKESEG_RESOURCES", str(resources))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def offer(path):
        entry = {
            "name": "tiny",
            "title": "Tiny",
            "url": f"http://127.0.0.1:{http.server_port}/{path}",
            "size_bytes": len(Slow.content),
            "sha256": hashlib.sha256(Slow.content).hexdigest(),
        }
        (resources / "Models" / "registry.json").write_text(json.dumps({"format": 1, "models": [entry]}))
        return resources

    yield offer
    http.shutdown()
    http.server_close()
    thread.join()


def test_an_offered_model_is_listed_and_fetched(say, offered):
    offered("fast")
    assert "Can be downloaded (0.2 MB): strokeseg models fetch tiny  (Tiny)" in say("list").out
    assert say("list", "--format", "json").json["downloadable"][0]["name"] == "tiny"
    fetched = say("fetch", "tiny")
    assert (fetched.code, fetched.out) == (0, "Downloaded and added: tiny (Tiny).\n")
    assert "download: tiny" in fetched.err
    assert "Can be downloaded" not in say("list").out
    assert ModelStore().check("tiny").name == "tiny"
    assert say("fetch", "tiny").code == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_a_slow_download_within_a_second(home, offered, number):
    resources = offered("slow")
    process = subprocess.Popen(
        [sys.executable, "-c", PLAIN, "fetch", "tiny"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(home, STROKESEG_RESOURCES=str(resources)),
    )  # fmt: skip
    try:
        downloads = home / ".downloads"
        deadline = time.monotonic() + 30
        while not any(p.stat().st_size for p in downloads.glob("*.part")) and time.monotonic() < deadline:
            time.sleep(0.02)
        asked = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        seconds = time.monotonic() - asked
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "The run was cancelled." in err
    assert out == ""
    assert seconds < 5
    assert [p.stat().st_size for p in downloads.glob("*.part")] == [BEGUN]
    assert not list(home.glob(".partial-*"))
