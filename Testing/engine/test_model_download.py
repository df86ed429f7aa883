"""Downloads against a server on this machine that drops, lies, is slow, redirects or sends something else."""

import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import model_folders as folders
import pytest

from strokeseg.errors import Cancelled, ModelError
from strokeseg.events import Monitor
from strokeseg.models import ModelStore, download, fetch, offers
from strokeseg.models.connection import is_allowed

ENGINE = Path(download.__file__).parents[2]
ETAG = '"v1"'


class Server:
    """Answers each request by the next of `script`, the last again and again; notes every request."""

    def __init__(self, content):
        self.content = content
        self.script = [whole]
        self.requests = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append((self.path, dict(self.headers)))
                number = min(len(outer.requests), len(outer.script)) - 1
                with suppress(BrokenPipeError, ConnectionResetError):
                    outer.script[number](self, outer.content)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=lambda: self.http.serve_forever(poll_interval=0.02))
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http.server_port}/tiny.zip"

    def ranges(self):
        return [headers.get("Range") for _, headers in self.requests]

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


def head(handler, code, length=None, **headers):
    handler.send_response(code)
    if length is not None:
        handler.send_header("Content-Length", str(length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()


def asked_from(handler):
    return int(handler.headers.get("Range", "bytes=0-")[6:-1])


def whole(handler, content):
    """All of it, whatever was asked for."""
    head(handler, 200, len(content), ETag=ETAG)
    handler.wfile.write(content)


def ranged(handler, content):
    """What was asked for."""
    start = asked_from(handler)
    if not start:
        whole(handler, content)
        return
    head(
        handler, 206, len(content) - start, Content_Range=f"bytes {start}-{len(content) - 1}/{len(content)}", ETag=ETAG
    )
    handler.wfile.write(content[start:])


def dropping(count):
    """What was asked for, but the connection ends after `count` bytes of it."""

    def answer(handler, content):
        start = asked_from(handler)
        if start:
            place = f"bytes {start}-{len(content) - 1}/{len(content)}"
            head(handler, 206, len(content) - start, Content_Range=place, ETag=ETAG)
        else:
            head(handler, 200, len(content), ETag=ETAG)
        handler.wfile.write(content[start : start + count])
        handler.close_connection = True

    return answer


def saying(code, **headers):
    return lambda handler, content: head(handler, code, 0, **headers)


def sending(other, length=None):
    """Another content, with the length that is given, or none."""

    def answer(handler, content):
        head(handler, 200, length)
        handler.wfile.write(other)
        handler.close_connection = True

    return answer


def silent(handler, content):
    head(handler, 200, len(content))
    handler.wfile.write(content[:100])
    handler.wfile.flush()
    time.sleep(5)


def unanswered(handler, content):
    time.sleep(5)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zip")
    model = folders.write_model(folder / "tiny")
    (model / "README").write_bytes(os.urandom(200_000))
    return folders.zip_of(model, folder / "tiny.zip").read_bytes()


@pytest.fixture
def server(content):
    server = Server(content)
    yield server
    server.close()


@pytest.fixture
def place(tmp_path, server):
    """A user's folder, a list with one model, and what a download says and waits."""
    (tmp_path / "bundled").mkdir()
    place = SimpleNamespace(
        store=ModelStore(tmp_path / "bundled", tmp_path / "home"), registry=tmp_path / "registry.json", slept=[]
    )
    place.part = tmp_path / "home" / ".downloads" / f"tiny-{hashlib.sha256(server.content).hexdigest()[:16]}.zip.part"

    def run(monitor=None, name="tiny"):
        return fetch(name, place.store, monitor, registry=place.registry, sleep=place.slept.append)

    def refused(said, monitor=None):
        with pytest.raises(ModelError) as caught:
            run(monitor)
        assert caught.value.title == "The model 'tiny' was not downloaded."
        assert said in caught.value.cause
        assert caught.value.next_step
        assert place.store.names() == []
        return caught.value

    def begin(data):
        place.part.parent.mkdir(parents=True)
        place.part.write_bytes(data)

    place.run, place.refused, place.begin = run, refused, begin
    offer(place, server.url, server.content)
    return place


def offer(place, url, content, **changes):
    entry = {
        "name": "tiny",
        "title": "Tiny",
        "url": url,
        "size_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        **changes,
    }
    place.registry.write_text(json.dumps({"format": 1, "models": [entry]}))


def stored(place):
    return [p for p in folders.tree(place.store.user_folder) if not p.endswith(".lock")]


WHOLE = [".downloads", "tiny", *(f"tiny/{n}" for n in ("README", "card.json", "network.onnx", "weights.safetensors"))]


# --- what goes well


def test_a_model_is_downloaded_checked_and_added(place, server):
    events = []
    monitor = Monitor(events.append)
    with monitor.stage("download"):
        card = place.run(monitor)
    assert card.name == "tiny"
    assert stored(place) == WHOLE
    assert place.store.check("tiny") == card
    assert (len(server.requests), place.slept) == (1, [])
    last = events[-1]
    size = len(server.content)
    assert (last.stage, last.done, last.total) == ("download", size, size)
    assert last.message == "0.2 of 0.2 MB"


def test_the_request_tells_nothing_about_the_user(place, server):
    place.run()
    path, headers = server.requests[0]
    assert path == "/tiny.zip"
    assert set(headers) == {"Host", "User-Agent", "Accept-Encoding", "Connection"}
    assert headers["User-Agent"] == "StrokeSeg"


def test_a_server_that_does_not_say_the_length_is_enough(place, server):
    server.script = [sending(server.content)]
    assert place.run().name == "tiny"


# --- drops and resumption


def test_a_dropped_connection_goes_on_where_it_ended(place, server):
    server.script = [dropping(50_000), dropping(60_000), ranged]
    place.run()
    assert server.ranges() == [None, "bytes=50000-", "bytes=110000-"]
    assert [headers.get("If-Range") for _, headers in server.requests] == [None, ETAG, ETAG]
    assert sum(place.slept) == pytest.approx(1 + 2)


def test_a_server_that_ignores_ranges_sends_all_again(place, server):
    server.script = [dropping(50_000), whole]
    place.run()
    assert server.ranges() == [None, "bytes=50000-"]
    assert stored(place) == WHOLE


def test_the_next_run_goes_on_with_what_an_earlier_one_left(place, server):
    place.begin(server.content[:70_000])
    server.script = [ranged]
    place.run()
    assert server.ranges() == ["bytes=70000-"]
    assert stored(place) == WHOLE


def test_what_was_whole_already_is_not_asked_for(place, server):
    place.begin(server.content)
    place.run()
    assert server.requests == []
    assert stored(place) == WHOLE


@pytest.mark.parametrize("wrong", [lambda c: b"\0" * 70_000, lambda c: b"\0" * len(c)], ids=["part", "whole"])
def test_a_beginning_of_another_version_is_thrown_away(place, server, wrong):
    place.begin(wrong(server.content))
    server.script = [ranged]
    place.run()
    assert server.ranges()[-1] is None
    assert stored(place) == WHOLE


def test_a_beginning_that_is_too_long_is_thrown_away(place, server):
    place.begin(server.content + b"\0")
    place.run()
    assert server.ranges() == [None]


def test_a_file_that_changed_on_the_server_meanwhile_is_loaded_anew(place, server):
    other = bytes(len(server.content))

    def first(handler, content):
        head(handler, 200, len(content), ETag='"v0"')
        handler.wfile.write(other[:50_000])
        handler.close_connection = True

    def by_tag(handler, content):
        (whole if handler.headers.get("If-Range") != ETAG else ranged)(handler, content)

    server.script = [first, by_tag]
    place.run()
    assert [h.get("If-Range") for _, h in server.requests] == [None, '"v0"']
    assert stored(place) == WHOLE


def test_a_weak_tag_is_not_sent_back(place, server):
    def weak(handler, content):
        head(handler, 200, len(content), ETag='W/"v1"')
        handler.wfile.write(content[:10])
        handler.close_connection = True

    server.script = [weak, ranged]
    place.run()
    assert "If-Range" not in server.requests[1][1]


def test_a_range_that_the_server_does_not_have_starts_anew(place, server):
    place.begin(server.content[:70_000])
    server.script = [saying(416), whole]
    place.run()
    assert server.ranges() == ["bytes=70000-", None]


@pytest.mark.parametrize("place_said", ["bytes 0-9/10", "bytes 100-200/*", "nonsense", ""])
def test_another_part_than_was_asked_for_is_not_taken(place, server, place_said):
    place.begin(server.content[:70_000])

    def other_part(handler, content):
        said = place_said.replace("/10", f"/{len(content)}")
        head(handler, 206, 10, Content_Range=said)
        handler.wfile.write(content[:10])

    server.script = [other_part, ranged]
    place.run()
    assert server.ranges() == ["bytes=70000-", None]
    assert stored(place) == WHOLE


def test_what_drops_always_is_given_up_and_what_came_is_kept(place, server):
    server.script = [dropping(50_000), dropping(0)]
    error = place.refused(f"ended after 50000 of {len(server.content)} bytes. 5 attempts came no further.")
    assert "the next try goes on with it" in error.next_step
    assert len(server.requests) == 5
    assert sum(place.slept) == pytest.approx(1 + 2 + 4 + 8)
    assert place.part.read_bytes() == server.content[:50_000]
    server.script = [ranged]
    place.run()
    assert server.ranges()[-1] == "bytes=50000-"


def test_a_line_that_breaks_often_but_goes_on_gets_there(place, server, monkeypatch):
    monkeypatch.setattr(download, "_PROGRESS_BYTES", 10_000)
    server.script = [dropping(15_000)]
    place.run()
    assert len(server.requests) == -(-len(server.content) // 15_000) > 10
    assert stored(place) == WHOLE


# --- lies


@pytest.mark.parametrize("length", [10, 10**9])
def test_another_length_than_the_list_says_is_refused_at_once(place, server, length):
    server.script = [sending(server.content[:10], length)]
    place.refused(f"offers a file of {length} bytes; the list says {len(server.content)}")
    assert len(server.requests) == 1
    assert stored(place) == [".downloads"]


def test_a_server_that_never_ends_is_stopped(place, server):
    def endless(handler, content):
        head(handler, 200)
        for _ in range(1000):
            handler.wfile.write(content)

    server.script = [endless]
    place.refused(f"more than {len(server.content)} bytes")
    assert stored(place) == [".downloads"]


def test_a_part_of_a_file_of_another_length_is_refused(place, server):
    place.begin(server.content[:70_000])
    server.script = [saying(206, Content_Range="bytes 70000-99999/100000")]
    place.refused("offers a file of 100000 bytes")


def test_wrong_bytes_are_refused_and_not_kept(place, server):
    server.script = [sending(bytes(len(server.content)), len(server.content))]
    place.refused("not the SHA-256 of the list")
    assert len(server.requests) == 1
    assert stored(place) == [".downloads"]


def test_a_zip_that_is_as_the_list_says_but_no_model_is_refused_and_not_kept(place, server):
    server.content = b"no zip at all"
    offer(place, server.url, server.content)
    with pytest.raises(ModelError, match="It is no zip"):
        place.run()
    assert stored(place) == [".downloads"]


def test_another_model_than_the_list_says_is_refused(place, server):
    offer(place, server.url, server.content, name="large")
    with pytest.raises(ModelError, match="Its card says 'tiny'"):
        place.run(name="large")
    assert stored(place) == [".downloads"]


# --- answers


@pytest.mark.parametrize(
    ("code", "word"), [(404, "Not Found"), (403, "Forbidden"), (410, "Gone"), (401, "Unauthorized")]
)
def test_a_refusal_is_told_and_not_repeated(place, server, code, word):
    server.script = [saying(code, WWW_Authenticate='Basic realm="x"')]
    place.refused(f"The server '127.0.0.1' answered {code} ({word}).")
    assert len(server.requests) == 1
    assert place.slept == []


@pytest.mark.parametrize("code", [500, 502, 503, 504, 429, 408])
def test_trouble_that_may_pass_is_waited_for(place, server, code):
    server.script = [saying(code), saying(code), whole]
    place.run()
    assert len(server.requests) == 3
    assert sum(place.slept) == pytest.approx(1 + 2)


def test_trouble_that_does_not_pass_is_told(place, server):
    server.script = [saying(500)]
    place.refused("answered 500 (Internal Server Error). 5 attempts came no further.")


def test_what_is_no_http_is_told(place, server):
    def garbage(handler, content):
        handler.wfile.write(b"\x00\x01\x02 hello\r\n\r\n")
        handler.close_connection = True

    server.script = [garbage]
    place.refused("The connection to '127.0.0.1' failed")


def test_no_server_is_told(place, server):
    offer(place, "http://127.0.0.1:1/tiny.zip", server.content)
    place.refused("The connection to '127.0.0.1' failed: Connection refused. 5 attempts came no further.")


# --- addresses


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://example.org/a.zip", True),
        ("https://example.org:8443/a.zip", True),
        ("http://127.0.0.1:80/a", True),
        ("http://localhost/a", True),
        ("http://[::1]:80/a", True),
        ("http://example.org/a.zip", False),
        ("http://127.0.0.1.example.org/a", False),
        ("http://localhost.example.org/a", False),
        ("http://192.168.0.1/a", False),
        ("https://user:password@example.org/a", False),
        ("https://user@example.org/a", False),
        ("ftp://example.org/a", False),
        ("file:///etc/passwd", False),
        ("data:,x", False),
        ("https:///a", False),
        ("https://example.org:port/a", False),
        ("//example.org/a", False),
        ("", False),
    ],
)
def test_only_https_without_password_is_used(url, allowed):
    assert is_allowed(url) == allowed


def test_an_address_that_is_not_used_is_refused(place, server):
    offer(place, "http://example.org/a.zip", server.content)
    place.refused("only https, without name or password")


def test_a_redirect_is_followed_and_ranges_go_with_it(place, server):
    place.begin(server.content[:70_000])
    server.script = [saying(302, Location="/elsewhere.zip"), ranged]
    place.run()
    assert [path for path, _ in server.requests] == ["/tiny.zip", "/elsewhere.zip"]
    assert server.ranges() == ["bytes=70000-"] * 2


@pytest.mark.parametrize(
    "target",
    ["http://example.org/a", "ftp://example.org/a", "file:///etc/passwd", "https://me:secret@example.org/a", "data:,x"],
)
def test_a_redirect_to_elsewhere_is_not_followed(place, server, target):
    server.script = [saying(302, Location=target)]
    error = place.refused("")
    assert "only https is followed" in error.cause or "answered 302" in error.cause
    assert "secret" not in str(error)
    assert len(server.requests) == 1


def test_a_circle_of_redirects_ends(place, server):
    server.script = [saying(302, Location="/tiny.zip")]
    place.refused("answered 302")
    assert len(server.requests) < 15


def test_a_redirect_from_the_network_to_this_machine_is_not_followed():
    from strokeseg.models.connection import RedirectError, _Redirects

    request = download.urllib.request.Request("https://example.org/a.zip")
    for target in ("http://127.0.0.1/a", "https://localhost/a"):
        with pytest.raises(RedirectError, match="only https is followed"):
            _Redirects().redirect_request(request, None, 302, "Found", {}, target)
    assert _Redirects().redirect_request(request, None, 302, "Found", {}, "https://cdn.example.org/b")


def test_a_proxy_of_the_environment_is_used(place, server, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.http.server_port}")
    offer(place, "http://127.0.0.1:1/behind.zip", server.content)
    place.run()
    assert server.requests[0][0] == "http://127.0.0.1:1/behind.zip"
    assert stored(place) == WHOLE


def test_an_https_download_asks_the_proxy_for_a_tunnel(place, server, monkeypatch):
    asked = []

    def do_CONNECT(handler):
        asked.append(handler.path)
        handler.send_error(403)

    server.http.RequestHandlerClass.do_CONNECT = do_CONNECT
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.http.server_port}")
    offer(place, "https://models.example.org/tiny.zip", server.content)
    place.refused("The connection to 'models.example.org' failed: Tunnel connection failed: 403")
    assert asked[0] == "models.example.org:443"


# --- cancelling


class Impatient:
    """Wants to stop from a moment on; measures how long that took."""

    def __init__(self, after_s):
        self.at = time.monotonic() + after_s

    def check(self):
        if time.monotonic() > self.at:
            raise Cancelled("download")

    def progress(self, done, total, message=""):
        self.check()


@pytest.mark.parametrize(("answer", "kept"), [(silent, 100), (unanswered, None)])
def test_a_silent_server_keeps_nobody_from_cancelling(place, server, answer, kept):
    server.script = [answer]
    impatient = Impatient(0.3)
    with pytest.raises(Cancelled):
        place.run(impatient)
    assert time.monotonic() - impatient.at < 1.0
    assert place.part.exists() == (kept is not None)
    assert kept is None or place.part.stat().st_size == kept


def test_cancelling_while_waiting_for_the_next_attempt(place, server):
    server.script = [saying(503)]
    impatient = Impatient(0.3)
    with pytest.raises(Cancelled):
        fetch("tiny", place.store, impatient, registry=place.registry)
    assert time.monotonic() - impatient.at < 1.0


def test_a_server_that_falls_silent_is_given_up(tmp_path, server):
    server.script = [silent, ranged]
    content = server.content
    loading = download.Download(
        "tiny",
        server.url,
        tmp_path / "part",
        len(content),
        hashlib.sha256(content).hexdigest(),
        Impatient(60),
        lambda seconds: None,
        timeout_s=0.3,
    )
    loading.run()
    assert server.ranges() == [None, "bytes=100-"]
    assert (tmp_path / "part").read_bytes() == content


# --- the disk


def test_a_full_disk_is_told_and_keeps_what_came(place, server, monkeypatch):
    real = Path.open

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            if self.file.tell() > 50_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.file.write(data)

    def opened(self, mode="r", *args, **options):
        file = real(self, mode, *args, **options)
        return Full(file) if self.suffix == ".part" and mode == "ab" else file

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(ModelError, match="is full"):
        place.run()
    monkeypatch.undo()
    kept = place.part.stat().st_size
    assert place.part.read_bytes() == server.content[:kept]
    assert kept > 50_000
    server.script = [ranged]
    fetch("tiny", place.store, registry=place.registry)
    assert server.ranges()[-1] == f"bytes={kept}-"


def test_parts_of_earlier_versions_are_deleted_and_others_files_are_not(place, server):
    place.begin(b"")
    old = place.part.with_name(f"tiny-{'0' * 16}.zip.part")
    mine = [place.part.with_name(n) for n in ("tiny-notes.part", f"tiny-other-{'0' * 16}.zip.part", "readme.txt")]
    for path in (old, *mine):
        path.write_bytes(b"x")
    place.run()
    assert not old.exists()
    assert all(p.exists() for p in mine)


def test_a_second_download_of_the_same_model_is_refused_while_the_first_runs(place, server):
    second = []

    def meanwhile(handler, content):
        try:
            place.run()
        except ModelError as error:
            second.append(error)
        whole(handler, content)

    server.script = [meanwhile, whole]
    place.run()
    assert "Another process is downloading the model 'tiny'" in second[0].cause
    assert len(server.requests) == 1


# --- the list


def test_the_bundled_list_is_format_1():
    assert offers() == []


def test_a_model_that_is_there_is_not_downloaded(place, server):
    place.run()
    with pytest.raises(ModelError, match="There is a model 'tiny' already"):
        place.run()
    assert len(server.requests) == 1


def test_an_unknown_model_is_told_with_the_nearest(place, server):
    with pytest.raises(ModelError) as caught:
        place.run(name="tini")
    assert caught.value.cause == "These can be downloaded: tiny."
    assert caught.value.next_step == "Did you mean 'tiny'?"
    with pytest.raises(ModelError) as caught:
        fetch("dwi-adc", place.store)
    assert caught.value.cause == "These can be downloaded: none."
    assert "models add" in caught.value.next_step


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read"),
        ("[]", "expected an object"),
        ('{"format": 2, "models": []}', "format 2, this version reads format 1"),
        ('{"models": []}', "'registry.format'"),
        ('{"format": 1}', "'registry.models'"),
        ('{"format": 1, "models": [], "mirror": ""}', "'registry.mirror'"),
        ('{"format": 1, "models": [{"name": "a"}]}', "'models[0].title'"),
    ],
)
def test_a_wrong_list_is_refused_by_its_field(tmp_path, text, said):
    (tmp_path / "registry.json").write_text(text)
    with pytest.raises(ModelError) as caught:
        offers(tmp_path / "registry.json")
    assert caught.value.title == "The list of downloadable models is not valid."
    assert said in caught.value.cause


@pytest.mark.parametrize(
    "change",
    [{"name": "../x"}, {"name": "A"}, {"sha256": "0"}, {"size_bytes": 0}, {"size_bytes": 2**40}, {"url": ""}, {"x": 1}],
    ids=str,
)
def test_a_wrong_entry_of_the_list_is_refused_by_its_field(place, server, change):
    offer(place, change.get("url", server.url), server.content, **{k: v for k, v in change.items() if k != "url"})
    with pytest.raises(ModelError, match=rf"'models\[0\]\.{next(iter(change))}'"):
        offers(place.registry)


def test_a_name_that_is_in_the_list_twice_is_refused(place, server):
    data = json.loads(place.registry.read_text())
    data["models"] *= 2
    place.registry.write_text(json.dumps(data))
    with pytest.raises(ModelError, match="names 'tiny' twice"):
        offers(place.registry)


def test_importing_opens_nothing_and_loads_no_http():
    code = """
import socket, sys
def refuse(*_, **__):
    raise AssertionError("a connection")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import strokeseg.models
print([m for m in ("http.client", "urllib.request") if m in sys.modules])
import strokeseg.models.download
"""
    environment = {**os.environ, "PYTHONPATH": str(ENGINE)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
