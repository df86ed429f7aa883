"""The panel's link to the worker: with the engine's real worker, and with small ones that misbehave."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import plain_mrml as mrml
import psutil
import pytest

import strokeseg

panel = mrml.panel

ROOT = Path(__file__).resolve().parents[2]
PATIENT = ROOT / "Resources" / "Samples" / "synthetic-patient"
HUNG_S = 30.0
STAGES = ("read", "prepare", "model", "postprocess", "lesions", "write", "report")
SEGMENT = {"dwi": str(PATIENT / "dwi.nii.gz"), "adc": str(PATIENT / "adc.nii.gz")}
OPTIONS = {"model": "adc-threshold"}

# A worker of a few lines; what it does with a request is handed in.
FAKE = """
import json, os, subprocess, sys, time
def say(event, **fields):
    print(json.dumps({"id": i, "event": event, **fields}), flush=True)
def greet(protocol=1, version="VERSION"):
    say("hello", protocol=protocol, version=version, pid=os.getpid(), runtimes=[], devices=[])
def progress():
    say("progress", stage="read", done=1, total=2, message="half")
def result(**fields):
    say("result", files={}, summary={}, **fields)
def hang():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    say("warning", code="pids", message=f"{os.getpid()} {child.pid}")
    time.sleep(60)
for line in sys.stdin:
    request = json.loads(line)
    i, kind = request["id"], request["kind"]
    if kind == "hello":
        HELLO
    elif kind == "shutdown":
        break
    elif kind != "cancel":
        WORK
"""


@pytest.fixture(autouse=True)
def _slicer(slicerEnvironment):
    mrml.start()


class Heard:
    """Everything that a listener is told, in order."""

    def __init__(self):
        self.calls = []
        self.listener = panel.worker_link.Listener(
            *(self._keep(n) for n in ("onProgress", "onWarning", "onLog", "onResult", "onError", "onEnded"))
        )

    def _keep(self, name):
        return lambda *arguments: self.calls.append((name, *arguments))

    def of(self, name):
        return [call[1:] for call in self.calls if call[0] == name]

    @property
    def reason(self):
        """How it ended; "" while it has not. Fails when it ended twice, or something came afterwards."""
        names = [call[0] for call in self.calls]
        if "onEnded" not in names:
            return ""
        assert names.count("onEnded") == 1
        assert names[-1] == "onEnded"
        return self.calls[-1][1]

    @property
    def error(self):
        (parts,) = self.of("onError")
        assert all(parts)
        return parts


class Desk:
    """A link over one of the transports, and the loop that keeps it going."""

    def __init__(self, kind):
        self.plain = kind == "plain"
        self.transport = panel.transports.PlainTransport() if self.plain else panel.transports.QtTransport()
        self.links = []

    def link(self, **arguments):
        heard = Heard()
        self.links.append(panel.worker_link.WorkerLink(self.transport, heard.listener, **arguments))
        return self.links[-1], heard

    def fake(self, work="result()", hello="greet()", **arguments):
        code = FAKE.replace("WORK", work).replace("HELLO", hello).replace("VERSION", strokeseg.__version__)
        return self.link(command=[sys.executable, "-c", code], **arguments)

    def turn(self):
        if self.plain:
            self.transport.wait(0.005)
        else:
            import slicer

            slicer.app.processEvents()
            time.sleep(0.001)

    def until(self, true):
        end = time.monotonic() + HUNG_S
        while not true():
            assert time.monotonic() < end, "nothing came"
            self.turn()

    def ended(self, *heard):
        self.until(lambda: all(h.reason for h in heard))
        return [h.reason for h in heard]

    def segment(self, link, out="/nowhere", **arguments):
        heard = Heard()
        return link.segment(SEGMENT, str(out), OPTIONS, heard.listener, **arguments), heard

    def close(self):
        for link in self.links:
            link.close()
        self.until(lambda: not self.transport.running)


@pytest.fixture(params=["plain", "qt"])
def desk(request):
    desk = Desk(request.param)
    yield desk
    desk.close()


def alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def gone(*pids):
    """Whether processes have ended, with a moment for the system to clear them away."""
    end = time.monotonic() + 5.0
    while any(alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.01)
    return not any(alive(pid) for pid in pids)


# --- the engine's own worker


def test_the_panel_speaks_the_engines_protocol():
    from strokeseg.protocol import KINDS, PROTOCOL

    assert panel.worker_link.PROTOCOL == PROTOCOL
    assert {"hello", "segment", "relabel", "evaluate", "cancel", "shutdown"} == set(KINDS)


def test_hello_tells_version_and_devices(desk):
    link, heard = desk.link()
    link.hello()
    assert desk.ended(heard) == ["done"]
    ((event,),) = heard.of("onResult")
    assert event["version"] == strokeseg.__version__
    assert event["devices"]
    assert link.greeting == event
    assert event["pid"] != os.getpid()


def test_a_run_its_relabelling_and_its_evaluation(desk, tmp_path):
    link, _ = desk.link()
    _, heard = desk.segment(link, tmp_path / "out")
    assert desk.ended(heard) == ["done"]
    stages = [stage for stage, *_ in heard.of("onProgress")]
    assert list(dict.fromkeys(stages)) == list(STAGES)
    ((event,),) = heard.of("onResult")
    assert Path(event["files"]["lesion_mask.nii.gz"]).is_file()
    volume = event["summary"]["result"]["volume_ml"]
    assert event["summary"]["model"]["name"] == "adc-threshold"

    stricter, compared = Heard(), Heard()
    link.relabel(str(tmp_path / "out"), 0.9, minimumMl=0.0, listener=stricter.listener)
    mask = event["files"]["lesion_mask.nii.gz"]
    link.evaluate(mask, mask, compared.listener)
    assert desk.ended(stricter, compared) == ["done", "done"]
    assert 0 < stricter.of("onResult")[0][0]["volume_ml"] < volume
    assert compared.of("onResult")[0][0]["metrics"]["dice"] == 1.0


def test_an_error_of_the_engine_arrives_with_its_three_parts(desk, tmp_path):
    link, _ = desk.link()
    heard = Heard()
    link.segment({"dwi": str(tmp_path / "none.nii")}, str(tmp_path / "out"), {}, heard.listener)
    assert desk.ended(heard) == ["failed"]
    assert "none.nii" in " ".join(heard.error)


def test_options_arrive_as_chosen(desk):
    link, _ = desk.fake("result(request=request)")
    heard = Heard()
    options = {"model": "dwi-adc", "device": "cuda:1", "window": [96, 96, 32], "overlap": 0.5, "tta": True}
    link.segment({"dwi": "/a/Ärzte 空 x/dwi.nii"}, "/o", options, heard.listener)
    assert desk.ended(heard) == ["done"]
    request = heard.of("onResult")[0][0]["request"]
    assert request["options"] == options
    assert request["inputs"] == {"dwi": "/a/Ärzte 空 x/dwi.nii"}
    assert request["out"] == "/o"


def test_the_second_run_imports_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONVERBOSE", "1")  # Python says on standard error what it imports
    desk = Desk("plain")
    link, _ = desk.link()
    runs = []
    for number in range(2):
        runs.append(desk.segment(link, tmp_path / str(number))[1])
        assert desk.ended(runs[-1]) == ["done"]
    imports = [[line for (line,) in run.of("onLog") if line.startswith("import '")] for run in runs]
    desk.close()
    assert any("'nibabel'" in line for line in imports[0])
    assert imports[1] == []


def cancelledIn(desk, link, stage, out):
    """Seconds from asking for the end of a run, when it says that it is in a stage, to its end."""
    heard, asked = Heard(), []

    def cancel(now, *_):
        if now == stage and not asked:
            asked.append(time.monotonic())
            link.cancel(number)

    heard.listener.onProgress = cancel
    number = link.segment(SEGMENT, str(out), OPTIONS, heard.listener)
    assert desk.ended(heard) == ["cancelled"]
    return time.monotonic() - asked[0]


def test_a_run_is_cancelled_within_a_second_in_every_stage(desk, tmp_path):
    link, _ = desk.link()
    assert {stage: cancelledIn(desk, link, stage, tmp_path / "out") < 1.0 for stage in STAGES} == dict.fromkeys(
        STAGES, True
    )
    assert not link.busy


def test_a_run_is_cancelled_while_the_worker_starts(desk, tmp_path):
    link, _ = desk.link()
    number, heard = desk.segment(link, tmp_path / "out")
    desk.turn()
    link.cancel(number)
    start = time.monotonic()
    assert desk.ended(heard) == ["cancelled"]
    assert time.monotonic() - start < 1.0
    _, second = desk.segment(link, tmp_path / "out")
    assert desk.ended(second) == ["done"]


def test_a_run_goes_on_after_its_worker_was_killed_and_run_again(desk, tmp_path):
    link, _ = desk.link()
    first, second = Heard(), Heard()
    first.listener.onProgress = lambda *_: psutil.Process(link.greeting["pid"]).kill()
    link.segment(SEGMENT, str(tmp_path / "out"), OPTIONS, first.listener)
    assert desk.ended(first) == ["failed"]
    title, cause, next_step = first.error
    assert title == "The worker ended while it was working."
    assert "signal 9" in cause
    assert "Run again" in next_step
    link.segment(SEGMENT, str(tmp_path / "out"), OPTIONS, second.listener)
    assert desk.ended(second) == ["done"]


# --- workers that misbehave


def test_rubbish_between_events_is_logged_and_does_no_harm(desk):
    rubbish = r"""
        for text in (b"hello!", b"\xff\xfe\x00", b"[1, 2]", b'{"id": 3}', b'{"id": "2", "event": "progress"}', b"",
                     b'{"id": "2", "event": "result', b'{"id": "2", "event": ["result"]}', b"[" * 100000, b"nan"):
            os.write(1, text + b"\n")
        progress(); result(answer=42)
    """.strip()
    link, _ = desk.fake(rubbish)
    _, heard = desk.segment(link)
    assert desk.ended(heard) == ["done"]
    assert heard.of("onResult")[0][0]["answer"] == 42
    assert heard.of("onProgress") == [("read", 1, 2, "half")]
    logged = [text for (text,) in heard.of("onLog")]
    assert len(logged) == 9
    assert logged[0] == "Not understood: hello!"
    assert max(map(len, logged)) < 600


def test_a_program_that_prints_without_end_is_given_up(desk):
    link, _ = desk.link(command=[sys.executable, "-c", "while True: print('y')"])
    _, heard = desk.segment(link)
    assert desk.ended(heard) == ["failed"]
    assert "1000 lines" in heard.error[1]
    desk.until(lambda: not link.running)


def test_a_line_that_comes_in_pieces_is_one_line(desk):
    pieces = "say('log', message='x' * 300000); os.write(1, b'{\"id\": \"%s\", ' % i.encode()); time.sleep(0.05); "
    pieces += 'os.write(1, b\'"event": "result"}\\r\\n\')'
    link, _ = desk.fake(pieces)
    _, heard = desk.segment(link)
    assert desk.ended(heard) == ["done"]
    assert heard.of("onLog") == [("x" * 300000,)]


def test_what_is_printed_as_error_is_logged(desk):
    link, _ = desk.fake("print('Wärme', file=sys.stderr, flush=True); time.sleep(0.1); result()")
    _, heard = desk.segment(link)
    assert desk.ended(heard) == ["done"]
    assert heard.of("onLog") == [("Wärme",)]


def test_a_worker_that_dies_is_an_error_and_the_next_request_starts_another(desk, tmp_path):
    mark = tmp_path / "died"
    link, _ = desk.fake(f"os.path.exists({str(mark)!r}) or (open({str(mark)!r}, 'w'), os._exit(7)); result()")
    (_, first), (_, waiting) = desk.segment(link), desk.segment(link)
    assert desk.ended(first, waiting) == ["failed", "failed"]
    assert "exit code 7" in first.error[1]
    _, second = desk.segment(link)
    assert desk.ended(second) == ["done"]


def test_the_last_words_of_a_worker_that_dies_are_quoted_also_without_a_line_break(desk):
    link, _ = desk.fake("os.write(2, b'first\\nmalloc: no memory'); os._exit(3)")
    _, heard = desk.segment(link)
    assert desk.ended(heard) == ["failed"]
    assert heard.error[1] == "It ended with exit code 3. malloc: no memory"


def test_a_worker_that_dies_while_nobody_asks_is_started_again(desk):
    link, _ = desk.fake("result()")
    for _ in range(2):
        _, heard = desk.segment(link)
        assert desk.ended(heard) == ["done"]
        psutil.Process(link.greeting["pid"]).kill()
        desk.until(lambda: not link.running)


def test_a_hung_worker_is_killed_with_its_children_within_a_second(desk):
    link, _ = desk.fake("hang()")
    number, heard = desk.segment(link)
    desk.until(lambda: heard.of("onWarning"))
    pids = [int(n) for n in heard.of("onWarning")[0][0].split()]
    assert all(alive(pid) for pid in pids)
    start = time.monotonic()
    link.cancel(number)
    assert desk.ended(heard) == ["cancelled"]
    assert time.monotonic() - start < 1.0
    assert gone(*pids)


@pytest.mark.parametrize("stream", [1, 2])
def test_a_killed_process_is_not_heard_any_more(desk, stream):
    code = f"import os, time; os.write({stream}, b'first\\nsecond\\nthird\\n'); time.sleep(60)"
    heard, ended, carrier = [], [], desk.transport

    def hear(line):
        heard.append(line)
        carrier.kill()

    carrier.onLine = carrier.onStderr = hear
    carrier.onEnded = ended.append
    carrier.start([sys.executable, "-c", code], dict(os.environ))
    desk.until(lambda: ended)
    assert [bytes(line) if stream == 1 else line.encode() for line in heard] == [b"first"]
    assert len(ended) == 1


def test_requests_behind_a_killed_one_go_to_the_next_worker(desk, tmp_path):
    mark = tmp_path / "hung"
    link, _ = desk.fake(f"os.path.exists({str(mark)!r}) or (open({str(mark)!r}, 'w'), hang()); result()")
    number, first = desk.segment(link)
    _, second = desk.segment(link)
    desk.until(lambda: first.of("onWarning"))
    link.cancel(number)
    assert desk.ended(first, second) == ["cancelled", "done"]


def test_another_protocol_is_refused_with_the_next_step(desk):
    link, _ = desk.fake(hello="greet(2, '9.9')")
    _, heard = desk.segment(link)
    assert desk.ended(heard) == ["failed"]
    title, cause, next_step = heard.error
    assert title == "The panel and the engine do not fit each other."
    assert "protocol 1" in cause
    assert "9.9" in cause
    assert "Update" in next_step
    desk.until(lambda: not link.running)


def test_a_worker_of_another_version_works_and_the_log_says_so(desk):
    link, general = desk.fake(hello="greet(1, '9.9')")
    _, heard = desk.segment(link)
    assert desk.ended(heard) == ["done"]
    ours = strokeseg.__version__
    said = f"The worker is StrokeSeg 9.9, the panel is {ours}: results are those of 9.9."
    assert general.calls == [("onLog", said)]


def test_a_worker_that_refuses_the_panel_is_quoted(desk):
    link, _ = desk.fake(hello="say('error', kind='InputError', title='No.', cause='Because.', next_step='Go.')")
    _, heard = desk.segment(link)
    assert desk.ended(heard) == ["failed"]
    assert heard.error == ("No.", "Because.", "Go.")


def test_a_worker_that_never_answers_is_given_up(desk):
    link, _ = desk.fake(hello="time.sleep(60)", helloSeconds=0.3)
    _, heard = desk.segment(link)
    assert desk.ended(heard) == ["failed"]
    assert heard.error[0] == "The worker does not answer."
    desk.until(lambda: not link.running)


def test_a_python_that_cannot_be_started_is_an_error(desk):
    link, _ = desk.link(command=["/nowhere/python", "-m", "strokeseg", "worker"])
    _, heard = desk.segment(link)
    assert desk.ended(heard) == ["failed"]
    assert heard.error[0] == "The worker does not start."
    missing, _ = desk.link(python=lambda: "/nowhere/python")
    _, heard = desk.segment(missing)
    assert desk.ended(heard) == ["failed"]
    assert "'/nowhere/python' is not there" in heard.error[1]


def test_missing_packages_are_named_with_the_command_that_installs_them(desk, monkeypatch):
    monkeypatch.setattr(panel.requirements, "missingHere", lambda: ["psutil"])
    link, _ = desk.link(command=[sys.executable, "-c", "import no_such_package"])
    _, heard = desk.segment(link)
    assert desk.ended(heard) == ["failed"]
    title, cause, next_step = heard.error
    assert title == "Packages that the worker needs are missing."
    assert "'no_such_package'" in cause
    assert "slicer.util.pip_install(['psutil>=5.9'])" in next_step

    while_working = "say('error', kind='E', title='x', cause='ModuleNotFoundError: y', next_step='z')"
    link, _ = desk.fake(while_working)
    _, heard = desk.segment(link)
    assert desk.ended(heard) == ["failed"]
    assert "slicer.util.pip_install" in heard.error[2]


# --- the worker's end


def test_a_cancelled_request_that_waits_leaves_the_running_one_alone(desk):
    link, _ = desk.fake("time.sleep(0.3); result()")
    (_, first), (number, second) = desk.segment(link), desk.segment(link)
    desk.turn()
    link.cancel(number)
    link.cancel("no such request")
    assert desk.ended(first, second) == ["done", "cancelled"]


def test_shutdown_ends_the_worker_and_the_next_request_starts_another(desk):
    link, heard = desk.link()
    link.hello()
    desk.ended(heard)
    first = link.greeting["pid"]
    link.shutdown()
    again = Heard()
    link.hello(again.listener)
    assert desk.ended(again) == ["done"]
    assert gone(first)
    assert link.greeting["pid"] != first


def test_shutdown_cancels_what_is_open(desk, tmp_path):
    link, _ = desk.link()
    _, heard = desk.segment(link, tmp_path / "out")
    desk.until(lambda: heard.of("onProgress"))
    link.shutdown()
    assert desk.ended(heard) == ["cancelled"]
    desk.until(lambda: not link.running)


def test_a_closed_link_says_nothing_more_and_leaves_no_process(desk):
    link, general = desk.fake("hang()")
    _, heard = desk.segment(link)
    desk.until(lambda: heard.of("onWarning"))
    pids = [int(n) for n in heard.of("onWarning")[0][0].split()]
    before = list(heard.calls)
    link.close()
    assert gone(*pids)
    desk.until(lambda: not link.running)
    assert heard.calls == before
    assert general.calls == []
    assert not link.busy


def test_a_reloaded_module_leaves_no_process(desk):
    link, _ = desk.fake("hang()")
    _, heard = desk.segment(link)
    desk.until(lambda: heard.of("onWarning"))
    pids = [int(n) for n in heard.of("onWarning")[0][0].split()]
    importlib.reload(panel.transport_base)
    assert gone(*pids)


def test_a_tree_of_processes_ends_without_psutil(monkeypatch):
    code = "import subprocess, sys; c = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
    parent = subprocess.Popen(
        [sys.executable, "-c", code + "print(c.pid, flush=True); c.wait()"], stdout=subprocess.PIPE, text=True
    )
    child = int(parent.stdout.readline())
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "psutil", None)
        panel.process_tree.endTree(parent.pid)
    parent.wait(10)
    parent.stdout.close()
    assert gone(child)


OWNER = """
import sys, time
sys.path[:] = PATHS
from slicer_harness.start import start
environment = start(FOLDER)
from StrokeSegLib.exchange import Exchange
from StrokeSegLib.transports import PlainTransport, QtTransport
from StrokeSegLib.worker_link import Listener, WorkerLink
transport, exchange = KIND(), Exchange()
link = WorkerLink(transport)
said = []
def tell(*_):
    if not said:
        print(link.greeting["pid"], exchange.folder, flush=True)
    said.append(1)
link.segment(INPUTS, str(exchange.out), {"model": "adc-threshold"}, Listener(onProgress=tell))
while not said:
    transport.poll() if KIND is PlainTransport else environment.processEvents(0.01)
END
"""


@pytest.mark.parametrize(
    ("kind", "end"),
    [("PlainTransport", "sys.exit()"), ("QtTransport", "sys.exit()"), ("QtTransport", "time.sleep(60)")],
    ids=["a script ends", "Slicer ends", "Slicer is killed"],
)
def test_no_worker_and_no_folder_outlive_their_owner(kind, end, tmp_path):
    home = tmp_path / "owner"
    home.mkdir()
    code = OWNER.replace("FOLDER", repr(str(home))).replace("KIND", kind).replace("END", end)
    code = code.replace("PATHS", repr(sys.path)).replace("INPUTS", repr(SEGMENT))
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid, folder = owner.stdout.readline().strip().split(" ", 1)
    assert alive(int(pid)) or end == "sys.exit()"
    if end == "time.sleep(60)":
        owner.kill()
    owner.wait(20)
    owner.stdout.close()
    assert gone(int(pid))
    if end == "time.sleep(60)":
        panel.exchange.Exchange().close()  # the next start clears away
    assert not Path(folder).exists()
