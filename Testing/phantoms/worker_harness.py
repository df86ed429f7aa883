"""A worker to talk to: in this process, over pipes, or in one of its own. Events are read by a thread as they come."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

from strokeseg.worker import Worker

LAST = ("hello", "result", "error")
HUNG_S = 20.0


class _Talk:
    """Sends requests and hears events; `sink` and `source` are the two ends of the pipes on this side."""

    def __init__(self, sink, source):
        self.sink, self._source = sink, source
        self.heard = []
        self._fresh = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self._source:
            event = json.loads(line)
            self.heard.append(event)
            self._fresh.put(event)
        self._fresh.put(None)

    def send(self, number, kind, **fields):
        self.sink.write(json.dumps({"id": str(number), "kind": kind, **fields}).encode() + b"\n")
        self.sink.flush()

    def until(self, wanted):
        """The next event for which `wanted` is true; those before it are passed over. None: the events have ended."""
        end = time.monotonic() + HUNG_S
        while (event := self._fresh.get(timeout=max(0.0, end - time.monotonic()))) is not None:
            if wanted(event):
                return event
        return None

    def last(self, number):
        """The last event of a request."""
        return self.until(lambda event: event["id"] == str(number) and event["event"] in LAST)

    def ask(self, number, kind, **fields):
        self.send(number, kind, **fields)
        return self.last(number)

    def of(self, number):
        """Names of all events of a request that were heard so far."""
        return [event["event"] for event in self.heard if event["id"] == str(number)]


class Inside(_Talk):
    """A worker in this process, in a thread; `ended` is set when it wants to end the process."""

    def __init__(self):
        self.ended = threading.Event()
        requests, sink = os.pipe()
        source, events = os.pipe()
        self.worker = Worker(os.fdopen(requests, "rb"), os.fdopen(events, "wb"), self.ended.set)
        super().__init__(os.fdopen(sink, "wb"), os.fdopen(source, "rb"))
        self.thread = threading.Thread(target=self.worker.serve, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sink.close()
        self.thread.join(10)
        self.worker._sink.close()
        self._reader.join(10)


class Process(_Talk):
    """A worker in a process of its own.

    Args:
        before: Python code that runs in it before the worker starts.
        environment: Further variables.
    """

    def __init__(self, before="", environment=None, **popen):
        code = f"{before}\nfrom strokeseg.worker import main; main()"
        command = [sys.executable, "-c", code] if before else [sys.executable, "-m", "strokeseg", "worker"]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
            **popen,
        )
        self.family = psutil.Process(self.process.pid)
        super().__init__(self.process.stdin, self.process.stdout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(10)
        self._reader.join(10)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with suppress(OSError):  # what is left in it goes nowhere
                    pipe.close()


def left_behind(place: Path):
    """Names beside a place that a run has made and not cleared away."""
    return sorted(p.name for p in place.parent.iterdir() if p.name.startswith((f".partial-{place.name}", ".part-")))
