"""The worker: one request after the other in a process that stays; cancelled in time, ended in order, no orphans."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import small_brain as phantom
import worker_harness as harness
from worker_harness import Inside, Process, left_behind

from strokeseg import __version__, worker
from strokeseg.errors import Cancelled
from strokeseg.events import Monitor
from strokeseg.protocol import PROTOCOL
from strokeseg.worker import listening

STAGES = ("read", "prepare", "model", "postprocess", "lesions", "write", "report")
# Cancelling is heard within this; a process that has to end needs its grace and its last words besides.
SOON_S = worker.GRACE_SECONDS + 1.0
posix = pytest.mark.skipif(os.name != "posix", reason="signals of this kind exist on POSIX systems only")


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    brain = phantom.small_brain()
    for role in ("dwi", "adc"):
        phantom.save_nifti(folder / f"{role}.nii.gz", getattr(brain, role), brain.affine)
    phantom.save_nifti(folder / "lesion.nii.gz", brain.lesion.astype(np.uint8), brain.affine)
    return {role: str(folder / f"{role}.nii.gz") for role in ("dwi", "adc")}


@pytest.fixture(scope="module")
def warm_for_all(scans, tmp_path_factory):
    with Inside() as talk:
        first = talk.ask("first", "segment", inputs=scans, out=str(tmp_path_factory.mktemp("first") / "out"))
        assert first["event"] == "result"
        yield talk
        assert talk.ask("still there", "hello")["event"] == "hello"
        assert not talk.ended.is_set()


@pytest.fixture
def warm(warm_for_all):
    """A worker in this process that has everything loaded."""
    warm_for_all.heard.clear()
    return warm_for_all


def gone(processes, seconds=SOON_S + 3.0):
    """Whether all of them have ended in time."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


# --- each kind of request


def test_hello_tells_what_there_is(warm):
    hello = warm.ask(1, "hello", protocol=PROTOCOL)
    assert (hello["protocol"], hello["version"], hello["pid"]) == (PROTOCOL, __version__, os.getpid())
    assert "threshold" in hello["runtimes"]
    assert hello["devices"][0]["name"] == "cpu"
    assert hello["devices"][0]["memory_total_mb"] >= hello["devices"][0]["memory_free_mb"] > 0


def test_another_protocol_is_an_error_with_a_next_step(warm):
    error = warm.ask(1, "hello", protocol=PROTOCOL + 1)
    assert (error["event"], error["kind"], error["exit_code"]) == ("error", "InputError", 3)
    assert f"protocol {PROTOCOL + 1}" in error["cause"]
    assert error["next_step"].startswith("Update StrokeSeg")


def test_segment_tells_its_progress_first_and_ends_once(warm, scans, tmp_path):
    place = tmp_path / "Ärzte 空 x"
    done = warm.ask("s", "segment", inputs=scans, out=str(place), options={"model": "adc-threshold"})
    assert done["event"] == "result"
    names = warm.of("s")
    assert names[-1] == "result"
    assert set(names[:-1]) <= {"progress", "log", "warning"}
    stages = [e["stage"] for e in warm.heard if e["id"] == "s" and e["event"] == "progress"]
    assert list(dict.fromkeys(stages)) == list(STAGES)
    assert Path(done["files"]["lesion_mask.nii.gz"]) == place / "lesion_mask.nii.gz"
    assert all(Path(path).is_file() for path in done["files"].values())
    assert done["summary"] == json.loads((place / "summary.json").read_text(encoding="utf-8"))
    assert done["lesions"][0]["volume_ml"] == pytest.approx(done["summary"]["result"]["volume_ml"], abs=1e-3)
    assert done["lesions"][0]["side"] == "right"
    assert done["metrics"] is None
    assert set(done["seconds"]) == set(STAGES)
    assert left_behind(place) == []


def test_files_of_any_name_are_read_and_written(warm, scans, tmp_path):
    folder = tmp_path / "Ärzte 空 x"
    folder.mkdir()
    for role, path in scans.items():
        (folder / f"{role} 脑 é.nii.gz").write_bytes(Path(path).read_bytes())
    inputs = {role: str(folder / f"{role} 脑 é.nii.gz") for role in scans}
    done = warm.ask("u", "segment", inputs=inputs, out=str(folder / "Ergebnis 結果"), options={"identify": True})
    written = json.loads(Path(done["files"]["summary.json"]).read_text(encoding="utf-8"))
    assert written["identity"] == {"dwi": "dwi 脑 é.nii.gz", "adc": "adc 脑 é.nii.gz"}
    again = warm.ask(
        "v", "relabel", result=str(folder / "Ergebnis 結果"), threshold=0.3, out=str(folder / "Maske ü.nii")
    )
    assert Path(again["files"]["lesion_mask.nii.gz"]) == folder / "Maske ü.nii"
    missing = warm.ask("w", "evaluate", prediction=str(folder / "fehlt ß"), reference=str(folder / "Maske ü.nii"))
    assert "fehlt ß" in missing["title"]


def test_figures_against_a_reference_come_with_the_result(warm, scans, tmp_path):
    reference = str(Path(scans["dwi"]).with_name("lesion.nii.gz"))
    done = warm.ask("m", "segment", inputs=scans, out=str(tmp_path / "out"), options={"reference": reference})
    assert 0.5 < done["metrics"]["dice"] <= 1.0
    alone = warm.ask("e", "evaluate", prediction=done["files"]["lesion_mask.nii.gz"], reference=reference)
    assert alone["event"] == "result"
    assert alone["metrics"]["dice"] == done["metrics"]["dice"]
    same = warm.ask("f", "evaluate", prediction=reference, reference=reference)
    assert same["metrics"]["dice"] == 1.0


@pytest.mark.parametrize(
    ("options", "named"), [({"modle": "auto"}, "modle"), ({"threshold": 1.5}, "threshold"), ({"tta": "yes"}, "tta")]
)
def test_a_wrong_option_is_named_and_nothing_is_written(warm, scans, tmp_path, options, named):
    error = warm.ask("o", "segment", inputs=scans, out=str(tmp_path / "out"), options=options)
    assert (error["event"], error["kind"]) == ("error", "InputError")
    assert f"'{named}'" in error["title"] + error["cause"]
    assert list(tmp_path.iterdir()) == []


def test_relabel_equals_segmenting_with_the_threshold(warm, scans, tmp_path):
    place = tmp_path / "out"
    expected = warm.ask(1, "segment", inputs=scans, out=str(tmp_path / "other"), options={"threshold": 0.2})
    warm.ask(2, "segment", inputs=scans, out=str(place), options={"threshold": 0.8})
    kept = warm.ask(3, "relabel", result=str(place), threshold=0.2, out=str(tmp_path / "kept.nii.gz"))
    assert kept["lesions"] == expected["lesions"]
    assert kept["volume_ml"] == sum(lesion["volume_ml"] for lesion in expected["lesions"])
    mask = Path(expected["files"]["lesion_mask.nii.gz"]).read_bytes()
    assert (tmp_path / "kept.nii.gz").read_bytes() == mask
    # Another result is kept by now, so this one comes from its files, which hold neither ADC nor DWI.
    warm.ask(4, "relabel", result=str(tmp_path / "other"), threshold=0.5)
    stored = warm.ask(5, "relabel", result=str(place), threshold=0.2, out=str(tmp_path / "stored.nii.gz"))
    assert (tmp_path / "stored.nii.gz").read_bytes() == mask
    assert stored["lesions"][0]["adc_mean"] is None
    assert stored["lesions"][0]["voxels"] == expected["lesions"][0]["voxels"]


def test_relabel_notices_that_another_result_lies_at_the_place(warm, scans, tmp_path):
    place = tmp_path / "out"
    warm.ask(1, "segment", inputs=scans, out=str(place))
    files = {path.name: path.read_bytes() for path in place.iterdir()}
    (place / "lesion_probability.nii.gz").unlink()
    assert warm.ask(2, "relabel", result=str(place), threshold=0.2)["event"] == "result"  # it was kept
    (place / "summary.json").unlink()
    assert "is no result" in warm.ask(3, "relabel", result=str(place), threshold=0.2)["title"]
    (place / "summary.json").write_bytes(files["summary.json"])
    assert "cannot be used" in warm.ask(4, "relabel", result=str(place), threshold=0.2)["title"]


def test_an_unforeseen_error_is_told_and_the_worker_goes_on(warm, monkeypatch, tmp_path):
    monkeypatch.setattr("strokeseg.evaluation.evaluate", lambda *_: 1 / 0)
    error = warm.ask(1, "evaluate", prediction="a", reference="b")
    assert error["event"] == "error"
    assert "ZeroDivisionError" in error["cause"]
    monkeypatch.setattr("strokeseg.evaluation.evaluate", lambda *_: [0] * 10**15)
    assert warm.ask(2, "evaluate", prediction="a", reference="b")["kind"] == "MemoryLimitError"


def test_what_cannot_be_sent_is_an_error_of_its_request(warm, monkeypatch):
    class Odd:
        def to_dict(self):
            return {"dice": float("nan")}

    monkeypatch.setattr("strokeseg.evaluation.evaluate", lambda *_: Odd())
    assert warm.ask(1, "evaluate", prediction="a", reference="b")["event"] == "error"


def test_an_id_in_use_is_refused_without_being_taken_for_its_end(warm, monkeypatch):
    go = threading.Event()
    monkeypatch.setattr("strokeseg.evaluation.evaluate", lambda *_: go.wait(10) and 1 / 0)
    warm.send("a", "evaluate", prediction="a", reference="b")
    warm.send("b", "hello")
    for number in ("a", "b"):
        warm.send(number, "cancel", target="x")
        refused = warm.until(lambda event: event["id"] == "")
        assert f"'{number}' belongs to a request" in refused["cause"]
        warm.send(number, "nonsense")
        assert "'kind'" in warm.until(lambda event: event["id"] == "")["cause"]
    start = len(warm.heard)
    go.set()
    assert "ZeroDivisionError" in warm.last("a")["cause"]
    assert warm.last("b")["event"] == "hello"
    assert [e["id"] for e in warm.heard[start:]] == ["a", "b"]
    assert warm.ask("a", "hello")["event"] == "hello"


def test_no_more_requests_wait_than_a_thousand(warm, monkeypatch):
    go = threading.Event()
    monkeypatch.setattr("strokeseg.evaluation.evaluate", lambda *_: go.wait(10) and 1 / 0)
    monkeypatch.setattr(listening, "_MOST_WAITING", 3)
    warm.send("run", "evaluate", prediction="a", reference="b")
    while getattr(warm.worker._running, "id", "") != "run":
        time.sleep(0.001)
    for number in range(4):
        warm.send(f"w{number}", "hello")
    assert "waiting already" in warm.last("w3")["cause"]
    go.set()
    assert warm.last("w2")["event"] == "hello"


# --- cancelling


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_is_cancelled_in_each_stage_and_the_worker_goes_on(warm, scans, tmp_path, monkeypatch, stage):
    reached, go = threading.Event(), threading.Event()
    original = Monitor.progress

    def progress(monitor, *arguments):
        if monitor._stage == stage and not reached.is_set():
            reached.set()
            go.wait(10)
        original(monitor, *arguments)

    monkeypatch.setattr(Monitor, "progress", progress)
    place = tmp_path / "new" / "out"
    warm.send("c", "segment", inputs=scans, out=str(place))
    assert reached.wait(30)
    start = time.monotonic()
    acknowledged = warm.ask("k", "cancel", target="c")
    go.set()
    error = warm.last("c")
    assert time.monotonic() - start < 1.0
    assert (acknowledged["target"], acknowledged["found"]) == ("c", "running")
    assert (error["event"], error["kind"], error["exit_code"]) == ("error", "Cancelled", 130)
    assert f"'{stage}'" in error["cause"]
    assert list(tmp_path.iterdir()) == []
    assert warm.ask("again", "hello")["event"] == "hello"
    assert [name for name in warm.of("c") if name in harness.LAST] == ["error"]


def test_a_cancelled_run_keeps_the_earlier_result(warm, scans, tmp_path, monkeypatch):
    place = tmp_path / "out"
    warm.ask(1, "segment", inputs=scans, out=str(place))
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    original = Monitor.progress

    def progress(monitor, *arguments):
        if monitor._stage == "report":
            warm.send("k", "cancel", target="c")
            while not monitor._cancelled():
                time.sleep(0.001)
        original(monitor, *arguments)

    monkeypatch.setattr(Monitor, "progress", progress)
    assert warm.ask("c", "segment", inputs=scans, out=str(place))["kind"] == "Cancelled"
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    assert left_behind(place) == []


def test_a_waiting_request_is_cancelled_at_once(warm, monkeypatch):
    go = threading.Event()
    monkeypatch.setattr("strokeseg.evaluation.evaluate", lambda *_: go.wait(10) and 1 / 0)
    warm.send("a", "evaluate", prediction="a", reference="b")
    warm.send("b", "hello")
    warm.send("c", "hello")
    warm.send("k", "cancel", target="b")
    assert warm.last("b")["kind"] == "Cancelled"
    assert warm.last("k")["found"] == "waiting"
    go.set()
    assert warm.last("c")["event"] == "hello"
    assert [name for name in warm.of("b") if name in harness.LAST][-1:] == ["error"]


def test_cancelling_what_is_not_there_changes_nothing(warm):
    assert warm.ask("k1", "cancel", target="never heard of")["found"] == "unknown"
    assert warm.ask("never heard of", "hello")["event"] == "hello"
    assert warm.ask("k2", "cancel", target="never heard of")["found"] == "unknown"  # it has ended
    assert warm.ask("never heard of", "hello")["event"] == "hello"


def test_cancelling_twice_is_cancelling_once(warm, scans, tmp_path, monkeypatch):
    reached, go = threading.Event(), threading.Event()
    original = Monitor.progress

    def progress(monitor, *arguments):
        reached.set()
        go.wait(10)
        original(monitor, *arguments)

    monkeypatch.setattr(Monitor, "progress", progress)
    warm.send("t", "segment", inputs=scans, out=str(tmp_path / "out"))
    assert reached.wait(10)
    assert warm.ask("k1", "cancel", target="t")["found"] == "running"
    assert warm.ask("k2", "cancel", target="t")["found"] == "running"
    go.set()
    assert warm.last("t")["kind"] == "Cancelled"
    assert [name for name in warm.of("t") if name in harness.LAST] == ["error"]


# Runs in the worker's process before it starts: a stage that hears nothing, in C, with two children and half a result.
STUCK = """
import ctypes, subprocess, sys, time
from strokeseg.segmentation import result, run
def stuck(*_, **__):
    sleep = "import time; time.sleep(600)"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {sleep!r}]); {sleep}"
    subprocess.Popen([sys.executable, "-c", code])
    while True:  # a signal shortens a sleep
        ctypes.CDLL(None).sleep(600)
"""
STUCK_IN_MODEL = STUCK + "run.predict = stuck"
STUCK_IN_REPORT = STUCK + "result.draw_overlay = stuck"


def stuck_run(talk, scans, place):
    """Start a run that gets stuck; the worker's children."""
    talk.send("s", "segment", inputs=scans, out=str(place))
    end = time.monotonic() + harness.HUNG_S
    while len(children := talk.family.children(recursive=True)) < 2:
        assert time.monotonic() < end
        time.sleep(0.02)
    return children


@posix
@pytest.mark.parametrize("before", [STUCK_IN_MODEL, STUCK_IN_REPORT], ids=["model", "report"])
def test_a_run_that_does_not_hear_ends_with_the_process_its_children_and_its_half_result(scans, tmp_path, before):
    place = tmp_path / "out"
    with Process(before) as talk:
        children = stuck_run(talk, scans, place)
        if before == STUCK_IN_REPORT:
            assert len(left_behind(place)) == 1
        start = time.monotonic()
        talk.send("k", "cancel", target="s")
        error = talk.last("s")
        assert (error["kind"], error["exit_code"]) == ("Cancelled", 130)
        assert ("'model'" if before == STUCK_IN_MODEL else "'report'") in error["cause"]
        assert talk.process.wait(10) == 130
        spent = time.monotonic() - start
        assert worker.GRACE_SECONDS <= spent < SOON_S
        assert gone(children, 1.0)
        assert list(tmp_path.iterdir()) == []
        assert [name for name in talk.of("s") if name in harness.LAST] == ["error"]


@posix
def test_a_stuck_run_ends_also_when_nobody_reads_its_events(scans, tmp_path):
    # 64 KB of log fill the pipe, and the run waits for a reader that will not come.
    begun = tmp_path / "begun"
    before = f"""
from contextlib import suppress
from pathlib import Path
from strokeseg.segmentation import run
def talkative(*given, **named):
    monitor = next(part for part in (*given, *named.values()) if hasattr(part, "log"))
    Path({str(begun)!r}).touch()
    while True:
        monitor.log("x" * 1000)
run.predict = talkative
"""
    code = f"{before}\nfrom strokeseg.worker import main; main()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        segment = {"id": "s", "kind": "segment", "inputs": scans, "out": str(tmp_path / "out")}
        process.stdin.write(json.dumps(segment).encode() + b"\n")
        process.stdin.flush()
        end = time.monotonic() + harness.HUNG_S
        while not begun.exists() and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.5)
        process.stdin.write(b'{"id": "k", "kind": "cancel", "target": "s"}\n')
        process.stdin.flush()
        start = time.monotonic()
        assert process.wait(10) == 130
        assert time.monotonic() - start < SOON_S + 1.0
    assert list(tmp_path.iterdir()) == [begun]


# --- the end


def running(talk, scans, place):
    """Start a run and wait until it is in its midst."""
    talk.send("r", "segment", inputs=scans, out=str(place))
    talk.until(lambda event: event["event"] == "progress" and event["stage"] == "prepare")


def test_shutdown_ends_it_and_nothing_is_left_unanswered(scans, tmp_path):
    with Inside() as talk:
        running(talk, scans, tmp_path / "out")
        talk.send("w", "hello")
        talk.send("end", "shutdown")
        talk.thread.join(SOON_S)
        assert not talk.thread.is_alive()
        talk.worker._sink.close()
        talk._reader.join(10)
        for number, name in (("r", "error"), ("w", "error"), ("end", "result")):
            assert [n for n in talk.of(number) if n in harness.LAST] == [name]
        assert list(tmp_path.iterdir()) == []


def test_the_end_waits_until_everybody_is_told(monkeypatch):
    """Those who waited by one thread, the run that took too long by another."""
    monkeypatch.setattr(listening, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(listening, "end_children", lambda: None)
    for number, late in (("w", 0.0), ("r", 0.15)):
        with Inside() as talk:
            quick, began = talk.worker._sink, threading.Event()

            class Slow:
                flush, close = quick.flush, quick.close

                def write(self, line, number=number, quick=quick):
                    if f'"id": "{number}"'.encode() in line:
                        time.sleep(0.3)
                    return quick.write(line)

            def run(request, monitor, began=began, late=late):
                began.set()
                with suppress(Cancelled):
                    while True:
                        monitor.check()
                        time.sleep(0.01)
                time.sleep(late)
                return {"event": "error", "kind": "Cancelled"}

            talk.worker._sink = Slow()
            monkeypatch.setattr(talk.worker._answers, "to", run)
            for name in ("r", "w"):
                talk.send(name, "hello")
            assert began.wait(10)
            talk.send("end", "shutdown")
            talk.thread.join(10)
            quick.close()
            talk._reader.join(10)
            assert {name: talk.of(name) for name in ("r", "w")} == {"r": ["error"], "w": ["error"]}


ENDINGS = {
    "the end of requests": lambda talk: talk.process.stdin.close(),
    "SIGTERM": lambda talk: talk.process.send_signal(signal.SIGTERM),
    "Ctrl+C": lambda talk: talk.process.send_signal(signal.SIGINT),
}


@posix
@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
def test_the_end_in_the_midst_of_a_run_leaves_no_process_and_no_half_result(scans, tmp_path, end):
    with Process() as talk:
        running(talk, scans, tmp_path / "out")
        start = time.monotonic()
        end(talk)
        assert talk.process.wait(10) in (0, 130)
        assert time.monotonic() - start < SOON_S
        talk._reader.join(10)
        assert talk.heard[-1]["kind"] == "Cancelled"
        assert list(tmp_path.iterdir()) == []


@posix
@pytest.mark.parametrize("end", [ENDINGS["the end of requests"], ENDINGS["SIGTERM"]], ids=["requests", "SIGTERM"])
def test_the_end_is_heard_by_a_stuck_run_too(scans, tmp_path, end):
    with Process(STUCK_IN_REPORT) as talk:
        children = stuck_run(talk, scans, tmp_path / "out")
        end(talk)
        assert talk.process.wait(SOON_S + 1.0) == 130
        assert gone(children, 1.0)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("while_running", [False, True], ids=["idle", "running"])
def test_it_ends_when_nobody_can_read_its_events_any_more(scans, tmp_path, while_running):
    read, write = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-m", "strokeseg", "worker"], stdin=subprocess.PIPE, stdout=write, stderr=subprocess.PIPE
    ) as process:
        os.close(write)
        os.read(read, 0)
        if while_running:
            request = {"id": "r", "kind": "segment", "inputs": scans, "out": str(tmp_path / "out")}
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            os.read(read, 10)
        os.close(read)
        if not while_running:
            process.stdin.write(b'{"id": "1", "kind": "hello"}\n')
            process.stdin.flush()
        assert process.wait(20) in (0, 130)  # though its requests have not ended
        assert b"Traceback" not in process.stderr.read()
    assert list(tmp_path.iterdir()) == []


@posix
def test_a_killed_parent_leaves_no_worker(scans, tmp_path):
    parent_code = f"""
import json, subprocess, sys, time
worker = subprocess.Popen([sys.executable, "-m", "strokeseg", "worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
request = {{"id": "r", "kind": "segment", "inputs": {scans!r}, "out": {str(tmp_path / "out")!r}}}
worker.stdin.write(json.dumps(request).encode() + b"\\n")
worker.stdin.flush()
worker.stdout.readline()
print(worker.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE) as parent:
        orphan = psutil.Process(int(parent.stdout.readline()))
        family = [orphan, *orphan.children(recursive=True)]
        parent.kill()
        parent.wait(10)
        assert gone(family)
    assert list(tmp_path.iterdir()) == []


# --- the event stream


@posix
def test_nothing_that_a_library_prints_reaches_the_events(tmp_path):
    before = """
import ctypes, os, subprocess, sys
from strokeseg import evaluation
def loud(*_):
    print("by Python")
    sys.__stdout__.write("by Python's own\\n"); sys.__stdout__.flush()
    os.write(1, b"by number\\n")
    libc = ctypes.CDLL(None)
    libc.printf(b"by C\\n"); libc.fflush(None)
    subprocess.run([sys.executable, "-c", "print('by a child'); import sys; print(len(sys.stdin.read()))"])
    raise MemoryError
evaluation.evaluate = loud
"""
    with (tmp_path / "log").open("wb") as log, Process(before, stderr=log) as talk:
        assert talk.ask(1, "evaluate", prediction="a", reference="b")["kind"] == "MemoryLimitError"
        assert talk.ask(2, "hello")["event"] == "hello"
        talk.send(3, "shutdown")
        assert talk.process.wait(10) == 0
        talk._reader.join(10)  # it parses every line as JSON; a spoilt one would have ended it
        assert [event["id"] for event in talk.heard] == ["1", "2", "3"]
    said = (tmp_path / "log").read_text(encoding="utf-8").split("\n")
    assert {"by Python", "by Python's own", "by number", "by C", "by a child", "0"} <= set(said)


@posix
@pytest.mark.parametrize("closed", ["2>&-", "0<&-", "2>&- 0<&-"])
def test_a_parent_without_a_console_is_no_trouble(closed):
    command = f"'{sys.executable}' -m strokeseg worker {closed}"
    requests = b'{"id": "1", "kind": "hello"}\n{"id": "2", "kind": "shutdown"}\n'
    if "0<" in closed:
        done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, timeout=30, check=False)
        assert (done.returncode, done.stdout) == (0, b"")
        return
    with subprocess.Popen(["/bin/sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(requests[: requests.index(b"\n") + 1])
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["event"] == "hello"
        process.stdin.write(requests[requests.index(b"\n") + 1 :])
        process.stdin.flush()
        assert process.wait(10) == 0


def test_a_second_run_imports_nothing(warm, scans, tmp_path):
    before = set(sys.modules)
    assert warm.ask(1, "segment", inputs=scans, out=str(tmp_path / "out"))["event"] == "result"
    assert set(sys.modules) - before == set()


def test_two_workers_work_at_the_same_time(scans, tmp_path):
    with Process() as one, Process() as two:
        for talk, name in ((one, "one"), (two, "two")):
            talk.send(name, "segment", inputs=scans, out=str(tmp_path / name))
        results = [talk.last(name) for talk, name in ((one, "one"), (two, "two"))]
        assert [r["event"] for r in results] == ["result", "result"]
        assert results[0]["lesions"] == results[1]["lesions"]
        # At one place the second is refused, or comes after the first.
        for talk, name in ((one, "x1"), (two, "x2")):
            talk.send(name, "segment", inputs=scans, out=str(tmp_path / "same"))
        ends = [talk.last(name) for talk, name in ((one, "x1"), (two, "x2"))]
        assert "result" in {e["event"] for e in ends}
        assert all(e["event"] == "result" or "Another run is writing" in e["title"] for e in ends)
        assert left_behind(tmp_path / "same") == []


# --- no connection

NO_CONNECTION = """
import socket
def refused(*_, **__):
    raise AssertionError("a connection was tried")
for name in ("connect", "connect_ex", "sendto", "bind"):
    setattr(socket.socket, name, refused)
for name in ("create_connection", "getaddrinfo", "gethostbyname"):
    setattr(socket, name, refused)
"""


def test_no_command_opens_a_connection(scans, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", "GITHUB_ACTIONS")}
    environment |= {"STROKESEG_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    scan = [part for role, path in scans.items() for part in (f"--{role}", path)]
    commands = [
        ["segment", *scan, "--out", str(tmp_path / "out")],
        ["models", "list"],
        [
            "evaluate",
            "--prediction",
            scans["dwi"].replace("dwi", "lesion"),
            "--reference",
            scans["dwi"].replace("dwi", "lesion"),
        ],
        ["worker"],
    ]
    requests = b'{"id": "1", "kind": "hello"}\n'
    for command in commands:
        start = f"import sys; sys.argv = {['strokeseg', *command]!r}\nfrom strokeseg.__main__ import main; main()"
        code = f"{NO_CONNECTION}\n{start}"
        with subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        ) as process:
            if command == ["worker"]:
                process.stdin.write(requests)
                process.stdin.flush()
                assert json.loads(process.stdout.readline())["event"] == "hello"
            out, error = process.communicate(timeout=120)
            assert process.returncode == 0, (command, out, error)
            assert b"a connection was tried" not in out + error


def test_the_block_on_connections_would_be_noticed():
    code = f"{NO_CONNECTION}\nimport urllib.request; urllib.request.urlopen('http://127.0.0.1:9')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert b"a connection was tried" in done.stderr
