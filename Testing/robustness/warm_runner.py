"""Runs the command line hundreds of times: a process loads everything once and forks a child for every call.

A child is what ``python -m strokeseg`` would be after its imports, with limits on memory, file size and time of its
own. Where there is no fork, or when asked to, a fresh process is started instead; it takes two seconds longer and has
no limits.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

HAS_FORK = hasattr(os, "fork")
_TIMEOUT = -9999
_LOADED_FIRST = (
    "strokeseg.cli",
    "strokeseg.evaluation",
    "strokeseg.results",
    "strokeseg.segmentation",
    "strokeseg.report.canvas",
    "strokeseg.runtime.threshold",
    "strokeseg.tables",
    "strokeseg.volume.dicom",
    "strokeseg.volume.itk",
    "strokeseg.volume.nifti",
    "strokeseg.volume.npy",
    "matplotlib.backends.backend_agg",
    "matplotlib.font_manager",
    "PIL.PngImagePlugin",
    "scipy.ndimage",
    "scipy.optimize",
    "scipy.spatial",
    "scipy.stats",
    "encodings.ascii",
    "encodings.cp1252",
    "encodings.idna",
    "encodings.unicode_escape",
)


@dataclass(frozen=True)
class Job:
    """One call of the command line.

    Args:
        arguments: What is typed after ``strokeseg``.
        folder: Working directory.
        seconds: After these it counts as hanging and is killed.
        address_space: Most bytes of memory that it may reserve; None: no limit.
        file_size: Most bytes that a file may get, as on a full disk; None: no limit.
        user: Number of the user that it runs as; None: the own one.
        encoding: Of its standard output.
        fresh: In a process of its own, without limits.
    """

    arguments: list[str]
    folder: str
    seconds: float = 60.0
    address_space: int | None = 4 << 30
    file_size: int | None = None
    user: int | None = None
    encoding: str = "utf-8"
    fresh: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a call.

    Attributes:
        code: Exit code; negative: the number of the signal that ended it.
        output: What it wrote to standard output.
        errors: What it wrote to standard error.
        peak_mib: Largest resident memory; 0 where it is not known.
        seconds: How long it took.
    """

    code: int
    output: str
    errors: str
    peak_mib: float = 0.0
    seconds: float = 0.0

    @property
    def timed_out(self) -> bool:
        """Whether it was killed because it hung."""
        return self.code == _TIMEOUT


@dataclass
class WarmRunner:
    """Starts the process that forks; a context manager.

    Args:
        temporary: Folder for temporary files of all calls.
    """

    temporary: Path
    _server: subprocess.Popen[str] | None = field(default=None, init=False)

    def __enter__(self) -> WarmRunner:
        if HAS_FORK:
            self._server = subprocess.Popen(
                [sys.executable, str(Path(__file__))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=self._environment(),
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None and self._server.stdin is not None:
            self._server.stdin.close()
            self._server.wait(timeout=30)

    def run(self, job: Job) -> Outcome:
        """Run one call to its end."""
        if job.fresh or self._server is None:
            return self._run_fresh(job)
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # told below, with what it means
            self._server.stdin.write(json.dumps(asdict(job)) + "\n")
            self._server.stdin.flush()
        answer = self._server.stdout.readline()
        if not answer:
            raise RuntimeError("the process that runs the command line ended; standard error says why")
        return Outcome(**json.loads(answer))

    def _environment(self) -> dict[str, str]:
        # A home of its own: what this machine's user has set up or installed must not change what comes of a case.
        folder = str(self.temporary)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "STROKESEG_"))}
        homes = dict.fromkeys(("HOME", "USERPROFILE", "LOCALAPPDATA", "TMPDIR", "TEMP"), folder)
        # One thread: children are many and small. Fonts are looked for once.
        return {**kept, **homes, "OMP_NUM_THREADS": "1", "MPLCONFIGDIR": str(self.temporary / "matplotlib")}

    def _run_fresh(self, job: Job) -> Outcome:
        start = time.monotonic()
        command = [sys.executable, "-m", "strokeseg", *job.arguments]
        environment = {**self._environment(), "PYTHONIOENCODING": job.encoding}
        try:
            done = subprocess.run(
                command,
                check=False,
                cwd=job.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=job.seconds,
                env=environment,
            )
        except subprocess.TimeoutExpired:
            return Outcome(_TIMEOUT, "", "", seconds=job.seconds)
        output, errors = (stream.decode(job.encoding, "surrogateescape") for stream in (done.stdout, done.stderr))
        return Outcome(done.returncode, output, errors, seconds=time.monotonic() - start)


def _serve() -> None:
    """Load everything, then answer one line of JSON with one line of JSON until the input ends."""
    from importlib import import_module

    for name in _LOADED_FIRST:
        import_module(name)
    for line in sys.stdin:
        answer, loaded = _run_forked(json.loads(line))
        print(json.dumps(answer), flush=True)
        # What a call loads late is there for the next one: it is faster, and another user may not be able to load it.
        for name in loaded:
            with contextlib.suppress(ImportError):
                import_module(name)


def _run_forked(job: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What came of a call, and the modules that it loaded beyond those of this process."""
    # Pipes and not files: a limit on file sizes must not cut off what the child says.
    pipes = [os.pipe(), os.pipe(), os.pipe()]
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        _become_command(job, pipes)
    for _, writing in pipes:
        os.close(writing)
    texts = _collect([reading for reading, _ in pipes], start + job["seconds"])
    in_time = texts is not None
    if not in_time:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    output, errors, modules = texts or [b"", b"", b""]
    answer = {
        "code": os.waitstatus_to_exitcode(status) if in_time else _TIMEOUT,
        "output": output.decode(job["encoding"], "surrogateescape"),
        "errors": errors.decode("utf-8", "surrogateescape"),
        "peak_mib": usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10),
        "seconds": time.monotonic() - start,
    }
    return answer, modules.decode().split()


def _collect(pipes: list[int], deadline: float) -> list[bytes] | None:
    """Everything that comes out of the pipes, which are closed afterwards; None when they stay open too long."""
    parts: dict[int, list[bytes]] = {pipe: [] for pipe in pipes}
    with selectors.DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < deadline:
            for key, _ in selector.select(timeout=max(0.0, deadline - time.monotonic())):
                piece = os.read(key.fd, 1 << 16)
                parts[key.fd].append(piece)
                if not piece:
                    selector.unregister(key.fd)
        complete = not selector.get_map()
    for pipe in pipes:
        os.close(pipe)
    return [b"".join(parts[pipe]) for pipe in pipes] if complete else None


def _become_command(job: dict[str, Any], pipes: list[tuple[int, int]]) -> NoReturn:
    """In the child: take on the call's limits and run it; never returns."""
    import resource

    code = 1
    known = set(sys.modules)
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for target, (reading, writing) in zip((1, 2), pipes[:2], strict=True):
            os.dup2(writing, target)
            os.close(reading)
            os.close(writing)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115  the streams of a process, open until its end
        # As Python sets them up: an error that cannot be encoded is an error on standard output only.
        sys.stdout = open(1, "w", encoding=job["encoding"], closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        os.chdir(job["folder"])
        for limit, most in ((resource.RLIMIT_AS, job["address_space"]), (resource.RLIMIT_FSIZE, job["file_size"])):
            if most is not None:
                resource.setrlimit(limit, (most, most))
        if job["user"] is not None:
            os.setgroups([])
            os.setgid(job["user"])
            os.setuid(job["user"])
        sys.argv = ["strokeseg", *job["arguments"]]
        from strokeseg.cli import main

        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001  what reaches the top of a program is printed there
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os.write(pipes[2][1], "\n".join(sys.modules.keys() - known).encode())
        os._exit(code)


if __name__ == "__main__":
    _serve()
