"""The worker: a JSON request a line on standard input, a JSON event a line on standard output, one process kept warm.

Requests have ``id`` and ``kind``; every event has the request's ``id``, and the last event of every request is one of
``hello``, ``result`` and ``error``. A line that is no request, or whose id is in use, is answered under ``""`` where
its own id would be mistaken. What was imported, compiled and computed for one request stays for the next.

Cancelling is cooperative. A run that has not noticed after `GRACE_SECONDS` ends with the whole process tree, and its
caller, who sees the pipe end, starts another worker. So do the end of standard input, a closed event pipe, Ctrl+C and
SIGTERM, which cancel everything. Native code that keeps Python's own lock cannot be ended from inside.

``listening`` hears requests and cancels, ``answers`` carries requests out, ``process`` is the process around them.

Written for Linux, macOS and Windows (no fork, bytes in and out, psutil for the process tree); on macOS and Windows it
could not be tried yet. There, what happens when the parent is killed rests on the pipe's end alone, as here.
"""

from __future__ import annotations

from strokeseg.worker.listening import GRACE_SECONDS, Worker
from strokeseg.worker.process import main

__all__ = ["GRACE_SECONDS", "Worker", "main"]
