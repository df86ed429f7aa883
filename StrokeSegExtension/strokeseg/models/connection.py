"""A connection that may stay silent without keeping anyone from cancelling, to where a file may be asked for.

Standard library only.
"""

from __future__ import annotations

import http.client
import ipaddress
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import urlsplit

from strokeseg.models.watcher import Watcher

_CHUNK_BYTES = 1 << 16
_POLL_S = 0.1


def is_allowed(url: str) -> bool:
    """Whether a file may be asked for at a URL: https without name or password, or plain http on this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or "@" in parts.netloc:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_this_machine(host))


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True)
class Head:
    """What an answer says about itself."""

    status: int
    length: int | None
    content_range: str
    etag: str


class BrokenError(Exception):
    """An attempt failed in the thread that made it."""

    def __init__(self, why: Exception) -> None:
        super().__init__(str(why))
        self.why = why


class RedirectError(Exception):
    """A server sends to where nothing is fetched from."""


class Answer:
    """One request, in a thread of its own: a silent server keeps nobody from cancelling."""

    def __init__(self, request: urllib.request.Request, timeout_s: float) -> None:
        self._request = request
        self._timeout_s = timeout_s
        self._queue: queue.Queue[Head | bytes | Exception] = queue.Queue(maxsize=16)
        self._stopped = threading.Event()
        threading.Thread(target=self._run, name="strokeseg-download", daemon=True).start()

    def head(self, monitor: Watcher) -> Head:
        """What comes first.

        Raises:
            BrokenError: It did not come.
        """
        head = self._next(monitor)
        if not isinstance(head, Head):
            raise TypeError("the answer began without its head")
        return head

    def chunks(self, monitor: Watcher) -> Iterator[bytes]:
        """What follows.

        Raises:
            BrokenError: The connection failed.
        """
        while chunk := self._next(monitor):
            if isinstance(chunk, bytes):
                yield chunk

    def stop(self) -> None:
        """The thread ends as soon as the server or its silence lets it."""
        self._stopped.set()

    def _next(self, monitor: Watcher) -> Head | bytes:
        while True:
            monitor.check()
            try:
                item = self._queue.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if isinstance(item, Exception):
                raise BrokenError(item)
            return item

    def _run(self) -> None:
        try:
            with _opener().open(self._request, timeout=self._timeout_s) as response:
                length = response.headers.get("Content-Length", "")
                self._put(
                    Head(
                        response.status,
                        int(length) if length.isascii() and length.isdigit() and len(length) < 20 else None,
                        response.headers.get("Content-Range", ""),
                        response.headers.get("ETag", ""),
                    )
                )
                while chunk := response.read1(_CHUNK_BYTES):
                    if not self._put(chunk):
                        return
            self._put(b"")
        except Exception as error:  # noqa: BLE001  handed to the thread that waits; else it would wait forever
            if isinstance(error, urllib.error.HTTPError):
                with suppress(OSError, http.client.HTTPException):
                    error.close()
            self._put(error)

    def _put(self, item: Head | bytes | Exception) -> bool:
        """Hand something over; False when nobody wants it any more."""
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to where a file may be asked for; from the network never to this machine."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """See the base class."""
        from_here = urlsplit(req.full_url).scheme == "http"  # only this machine is asked over plain http
        if not is_allowed(newurl) or (_is_this_machine(urlsplit(newurl).hostname or "") and not from_here):
            parts = urlsplit(newurl)
            raise RedirectError(
                f"The server sends on to '{parts.scheme}://{parts.hostname}', and only https is followed."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """HTTP and HTTPS only, through the proxies that the environment names; no cookies, no passwords."""
    opener = urllib.request.OpenerDirector()
    handlers: list[Any] = [
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ]
    for handler in handlers:
        opener.add_handler(handler)
    return opener
