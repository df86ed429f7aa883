"""Turns of Qt's event loop, one by one: how long each took, and what the panel was doing in it."""

import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_SAMPLE_SECONDS = 0.002
# Of a shorter turn nobody asks what it did.
_LONG_SECONDS = 0.008
_CAN_SAMPLE = hasattr(signal, "setitimer")  # not on Windows
_SCHEDULE = Path("/proc/thread-self/schedstat")
_PANEL = ("StrokeSegLib", "StrokeSeg.py")


@dataclass(frozen=True)
class Turn:
    """One turn of the loop.

    Attributes:
        phase: What was going on when it began.
        waited: Seconds that the user's next click would have waited.
        others: Of these, seconds in which the GUI thread could have gone on, but other programs had the processor.
        computed: Seconds that the GUI thread computed; what is neither this nor of others it slept: disks, locks.
        doing: Function of the panel that most of it went into, from the outermost to the innermost.
    """

    phase: str
    waited: float
    others: float
    computed: float
    doing: str

    @property
    def held(self) -> float:
        """Seconds that it takes on a computer that does nothing else."""
        return max(self.computed, self.waited - self.others)


class Turns:
    """Turns the loop, as Slicer's application does, and keeps account.

    Args:
        phase: Asked before each turn.
    """

    def __init__(self, phase):
        self.all = []
        self._phase = phase
        self._seen = Counter()
        self._before = None

    def __enter__(self):
        # A second thread that looks on would hold Python's lock, and so hold up what it measures.
        if _CAN_SAMPLE:
            self._before = signal.signal(signal.SIGALRM, self._sample)
        return self

    def __exit__(self, *_error):
        if _CAN_SAMPLE:
            signal.signal(signal.SIGALRM, self._before)

    def until(self, true, seconds=900.0):
        """Turn until something holds; TimeoutError where it does not in time."""
        end = time.monotonic() + seconds
        while not true():
            if time.monotonic() > end:
                raise TimeoutError(f"not so within {seconds:g} s")
            self.turn()

    def turns(self, count):
        """Turn some times."""
        for _number in range(count):
            self.turn()

    def turn(self):
        """One turn: everything that waits, once."""
        from PySide6 import QtCore

        phase = self._phase()
        self._seen.clear()
        _sampleEvery(_LONG_SECONDS, _SAMPLE_SECONDS)
        began, others, computed, sleeps = time.perf_counter(), _othersSeconds(), time.thread_time(), _sleeps()
        QtCore.QCoreApplication.processEvents(QtCore.QEventLoop.ProcessEventsFlag.AllEvents)
        QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)
        waited, others = time.perf_counter() - began, _othersSeconds() - others
        computed = time.thread_time() - computed
        if _sleeps() == sleeps:  # the system's account leaves some out, but whoever never slept was ready all the time
            others = waited - computed
        _sampleEvery(0.0, 0.0)
        doing = self._seen.most_common(1)[0][0] if self._seen else ""
        self.all.append(Turn(phase, waited, others, computed, doing))
        if waited < 1e-3:
            time.sleep(5e-4)

    def longest(self, phase):
        """The longest turn of a phase; None where there was none."""
        return max((t for t in self.all if t.phase == phase), key=lambda t: t.held, default=None)

    def _sample(self, _number, frame):
        self._seen[_panelFunctions(frame)] += 1


def _sampleEvery(first, then):
    """Look what is being done after a time, and again and again; 0: no more."""
    if _CAN_SAMPLE:
        signal.setitimer(signal.ITIMER_REAL, first, then)


def _othersSeconds():
    """How long this thread has waited for a processor so far; 0 where the system does not tell."""
    try:
        return int(_SCHEDULE.read_text(encoding="ascii").split()[1]) / 1e9
    except OSError:
        return 0.0


def _sleeps():
    """How often this thread has gone to sleep so far; always another number where the system does not tell."""
    try:
        import resource

        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    except (ImportError, AttributeError):
        return time.perf_counter()


def _panelFunctions(frame):
    names = []
    while frame is not None:
        if any(part in frame.f_code.co_filename for part in _PANEL):
            module = frame.f_code.co_filename.rpartition("/")[2].removesuffix(".py")
            names.append(f"{module}.{frame.f_code.co_name}:{frame.f_lineno}")
        frame = frame.f_back
    return " > ".join(reversed(names))
