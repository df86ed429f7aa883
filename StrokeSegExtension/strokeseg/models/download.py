"""One file over HTTPS, whole and unchanged: resumed, tried again, cancelled at any moment. Standard library only.

With `connection`, the only place of the engine that opens one.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from strokeseg.errors import ModelError
from strokeseg.models.connection import Answer, BrokenError, Head, RedirectError, is_allowed
from strokeseg.models.watcher import Watcher

_POLL_S = 0.1
_TIMEOUT_S = 20.0
_WAITS_S = (1.0, 2.0, 4.0, 8.0)
# An attempt that brought so much more was no failure: lines that break every few megabytes still get there.
_PROGRESS_BYTES = 1 << 20
_LATER = {408, 425, 429, 500, 502, 503, 504}
_RANGE_REFUSED, _PARTIAL = 416, 206
_RANGE = re.compile(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15}|\*)", re.ASCII)
_TRY_AGAIN = "Try again later; what was downloaded so far is kept, and the next try goes on with it."


class Download:
    """One file on its way.

    Args:
        name: Of the model, for messages.
        url: From where, see `is_allowed`.
        part: Where to; what is there already is taken for its beginning.
        size_bytes: The size that it must have.
        sha256: The SHA-256 that it must have.
        monitor: Told of the progress; may cancel.
        sleep: Waits between attempts, a piece of a second at a time.
        timeout_s: A server that is silent for so long is given up.
    """

    def __init__(
        self,
        name: str,
        url: str,
        part: Path,
        size_bytes: int,
        sha256: str,
        monitor: Watcher,
        sleep: Callable[[float], None] = time.sleep,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        self._name = name
        self._url = url
        self._part = part
        self._size = size_bytes
        self._sha256 = sha256
        self._monitor = monitor
        self._sleep = sleep
        self._timeout_s = timeout_s
        self._etag = ""
        self._shown = 0.0
        self._continued = False

    def run(self) -> None:
        """Bring `part` to its whole length and compare its hash.

        Raises:
            ModelError: The server cannot be reached, refuses, or sends another file.
            Cancelled: The monitor asked to stop; `part` stays.
            OSError: `part` cannot be written; what is there stays.
        """
        if not is_allowed(self._url):
            raise self._failed(
                f"'{self._url[:200]}' is no address that is used: only https, without name or password.",
                "Update StrokeSeg; if that does not help, tell its developers.",
            )
        self._drop_if(self._have() > self._size)
        # What was begun earlier may be of another version of the file.
        self._continued = self._have() > 0
        best = failures = 0
        restarted = False
        while True:
            reason = self._attempt()
            if reason is None:
                if self._is_right():
                    return
                self._drop_if(True)
                if self._continued and not restarted:
                    restarted, self._continued = True, False
                    continue
                raise self._failed(
                    "What the server sent has the right size, but not the SHA-256 of the list: it is another file.",
                    "Try again later; if it stays so, tell those who publish the model.",
                )
            failures = 0 if self._have() >= best + _PROGRESS_BYTES else failures + 1
            best = max(best, self._have())
            if failures > len(_WAITS_S):
                raise self._failed(f"{reason} {failures} attempts came no further.", _TRY_AGAIN)
            self._wait(_WAITS_S[max(failures - 1, 0)])

    def _attempt(self) -> str | None:
        """Ask once for what is missing; the reason if it did not come to the end."""
        have = self._have()
        if have == self._size:
            return None
        answer = Answer(self._request(have), self._timeout_s)
        try:
            chunks = answer.chunks(self._monitor)
            have = self._start(answer.head(self._monitor), have)
            with self._part.open("ab") as file:
                for chunk in chunks:
                    have += len(chunk)
                    if have > self._size:
                        break
                    file.write(chunk)
                    self._show(have)
        except BrokenError as error:
            return self._reason(error.why)
        finally:
            answer.stop()
        if have > self._size:
            raise self._other_size(f"more than {self._size}")
        return None if have == self._size else f"The connection ended after {have} of {self._size} bytes."

    def _request(self, have: int) -> urllib.request.Request:
        headers = {"User-Agent": "StrokeSeg", "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if self._etag:
                headers["If-Range"] = self._etag
        return urllib.request.Request(self._url, headers=headers)  # noqa: S310  `is_allowed` has looked at it

    def _start(self, head: Head, have: int) -> int:
        """How much of the file is there before the answer's bytes; 0 deletes what was there."""
        self._etag = "" if head.etag.startswith("W/") else head.etag
        if head.status == _PARTIAL:
            place = _RANGE.fullmatch(head.content_range)
            if place and place[2] not in ("*", str(self._size)):
                raise self._other_size(place[2])
            if place and int(place[1]) == have:
                self._continued = self._continued or have > 0
                return have
            self._drop_if(True)
            raise BrokenError(_ServerError("The server sent another part of the file than it was asked for."))
        self._drop_if(have > 0)
        if head.length is not None and head.length != self._size:
            raise self._other_size(str(head.length))
        return 0

    def _reason(self, why: Exception) -> str:
        """A failure that may pass, in words.

        Raises:
            ModelError: It will not pass.
        """
        if isinstance(why, urllib.error.HTTPError):
            said = (
                f"The server '{self._host()}' answered {why.code} ({http.client.responses.get(why.code, 'unknown')})."
            )
            if why.code == _RANGE_REFUSED:
                self._drop_if(True)
            elif why.code not in _LATER:
                raise self._failed(said, "Update StrokeSeg: the list of models may have changed.") from why
            return said
        cause = why.reason if isinstance(why, urllib.error.URLError) else why
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise self._failed(
                f"The server '{self._host()}' could not prove who it is: {cause.verify_message}.",
                "Check the date of this computer; behind a company's proxy, set SSL_CERT_FILE to its certificate.",
            ) from why
        if isinstance(cause, RedirectError):
            raise self._failed(str(cause), "Tell those who publish the model.") from why
        if isinstance(cause, _ServerError):
            return str(cause)
        if isinstance(cause, TimeoutError):
            return f"The server '{self._host()}' was silent for {self._timeout_s:g} seconds."
        said = str(cause.strerror if isinstance(cause, OSError) and cause.strerror else cause) or type(cause).__name__
        return f"The connection to '{self._host()}' failed: {said}."

    def _is_right(self) -> bool:
        digest = hashlib.sha256()
        with self._part.open("rb") as file:
            while chunk := file.read(1 << 20):
                self._monitor.check()
                digest.update(chunk)
        return digest.hexdigest() == self._sha256

    def _have(self) -> int:
        try:
            return self._part.stat().st_size
        except FileNotFoundError:
            return 0

    def _drop_if(self, wrong: bool) -> None:
        """Delete what was begun, when nothing can go on with it."""
        if wrong:
            self._part.unlink(missing_ok=True)
            self._etag = ""

    def _show(self, have: int) -> None:
        now = time.monotonic()
        if have == self._size or now - self._shown >= _POLL_S:
            self._shown = now
            self._monitor.progress(have, self._size, f"{have / 1e6:.1f} of {self._size / 1e6:.1f} MB")

    def _wait(self, seconds: float) -> None:
        for _ in range(round(seconds / _POLL_S)):
            self._monitor.check()
            self._sleep(_POLL_S)

    def _host(self) -> str:
        return urlsplit(self._url).hostname or "?"

    def _other_size(self, seen: str) -> ModelError:
        self._drop_if(True)
        return self._failed(
            f"The server offers a file of {seen} bytes; the list says {self._size}.",
            "Update StrokeSeg: the list of models may have changed.",
        )

    def _failed(self, cause: str, next_step: str) -> ModelError:
        return ModelError(f"The model '{self._name}' was not downloaded.", cause, next_step)


class _ServerError(Exception):
    """What a server did wrong, in words; it may pass."""
