"""What the worker takes for a request and what it does not, and that no line brings it down."""

import io
import json
import os
import random
import subprocess
import sys
import threading
import time

import psutil
import pytest

from strokeseg.errors import InputError
from strokeseg.job import INPUTS
from strokeseg.protocol import KINDS, LONGEST_LINE, PROTOCOL, ROLES, Request, RequestError, parse_request
from strokeseg.worker import Worker

SEGMENT = {"id": "1", "kind": "segment", "inputs": {"dwi": "d.nii"}, "out": "result"}
RELABEL = {"id": "1", "kind": "relabel", "result": "result", "threshold": 0.5}


def parsed(data):
    return parse_request(json.dumps(data).encode())


def cause(line):
    with pytest.raises(RequestError) as caught:
        parse_request(line if isinstance(line, bytes) else json.dumps(line).encode())
    assert isinstance(caught.value, InputError)
    return caught.value.cause


@pytest.mark.parametrize(
    "data",
    [
        {"id": "a", "kind": "hello"},
        {"id": "a", "kind": "hello", "protocol": PROTOCOL},
        {
            **SEGMENT,
            "options": {"model": "auto", "threshold": 0.4, "window": [96, 96, 96], "tta": True, "b_value": None},
        },
        {**RELABEL, "min_lesion_ml": 0, "out": "mask.nii.gz"},
        {"id": "a", "kind": "evaluate", "prediction": "p", "reference": "r"},
        {"id": "a", "kind": "cancel", "target": "b"},
        {"id": "a", "kind": "shutdown"},
    ],
)
def test_every_kind_of_request_is_understood(data):
    fields = {name: value for name, value in data.items() if name not in ("id", "kind")}
    assert parsed(data) == Request(data["id"], data["kind"], fields)


def test_a_field_that_may_be_left_out_may_be_null():
    assert parsed({**SEGMENT, "options": None}) == parsed(SEGMENT)
    assert parsed({"id": "1", "kind": "hello", "protocol": None}).fields == {}


def test_the_roles_are_those_of_the_engine():
    assert ROLES == INPUTS
    assert KINDS == ("hello", "segment", "relabel", "evaluate", "cancel", "shutdown")


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"kind": "hello"}, "'id'"),
        ({"id": 7, "kind": "hello"}, "'id'"),
        ({"id": "", "kind": "hello"}, "'id'"),
        ({"id": "x" * 201, "kind": "hello"}, "'id'"),
        ({"id": "1"}, "'kind'"),
        ({"id": "1", "kind": "Hello"}, "'kind'"),
        ({"id": "1", "kind": ["hello"]}, "'kind'"),
        ({"id": "1", "kind": "hello", "protocol": "1"}, "'protocol'"),
        ({"id": "1", "kind": "hello", "protocol": True}, "'protocol'"),
        ({"id": "1", "kind": "hello", "protocol": 10**4000}, "'protocol'"),
        ({"id": "1", "kind": "hello", "colour": 1}, "'colour'"),
        ({**SEGMENT, "inputs": {}}, "'inputs'"),
        ({**SEGMENT, "inputs": ["d.nii"]}, "'inputs'"),
        ({**SEGMENT, "inputs": None}, "'inputs'"),
        ({**SEGMENT, "inputs": {"dwx": "d.nii"}}, "'dwx'"),
        ({**SEGMENT, "inputs": {"dwi": 3}}, "'inputs.dwi'"),
        ({**SEGMENT, "inputs": {"dwi": ""}}, "'inputs.dwi'"),
        ({**SEGMENT, "inputs": {"dwi": "a\0b"}}, "'inputs.dwi'"),
        ({**SEGMENT, "inputs": {"dwi": "a\ud800"}}, "'inputs.dwi'"),
        ({**SEGMENT, "out": None}, "'out'"),
        ({**SEGMENT, "out": 1}, "'out'"),
        ({**SEGMENT, "out": "a\0"}, "'out'"),
        ({**SEGMENT, "options": "fast"}, "'options'"),
        ({**SEGMENT, "options": {"reference": "a\0"}}, "'options.reference'"),
        ({**SEGMENT, "options": {"threshold": 10**400}}, "'options.threshold'"),
        ({**SEGMENT, "options": {"window": [[96]]}}, "'options.window'"),
        ({**SEGMENT, "options": {"model": {}}}, "'options.model'"),
        ({**SEGMENT, "option": {}}, "'option'"),
        ({"id": "1", "kind": "relabel", "threshold": 0.5}, "'result'"),
        ({"id": "1", "kind": "relabel", "result": "r"}, "'threshold'"),
        ({**RELABEL, "threshold": "0.5"}, "'threshold'"),
        ({**RELABEL, "threshold": True}, "'threshold'"),
        ({**RELABEL, "threshold": 1.0001}, "'threshold'"),
        ({**RELABEL, "threshold": -1e-9}, "'threshold'"),
        ({**RELABEL, "threshold": 10**4000}, "'threshold'"),
        ({**RELABEL, "min_lesion_ml": -1}, "'min_lesion_ml'"),
        ({**RELABEL, "min_lesion_ml": 10001}, "'min_lesion_ml'"),
        ({**RELABEL, "out": ""}, "'out'"),
        ({"id": "1", "kind": "evaluate", "prediction": "p"}, "'reference'"),
        ({"id": "1", "kind": "evaluate", "prediction": 1, "reference": "r"}, "'prediction'"),
        ({"id": "1", "kind": "cancel"}, "'target'"),
        ({"id": "1", "kind": "cancel", "target": 1}, "'target'"),
        ({"id": "1", "kind": "shutdown", "target": "1"}, "'target'"),
    ],
)
def test_a_wrong_field_is_named(data, named):
    assert named in cause(data)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b'{"id": "1", "kind": "hello"',
        b'{"id": "1", "kind": "hello"} {}',
        b'{"id": "\xff", "kind": "hello"}',
        '{"id": "1", "kind": "hello"}'.encode("utf-16"),
        b'{"id": "1", "kind": "hello"}\0',
        b'{"id": "1", "kind": "relabel", "result": "r", "threshold": NaN}',
        b'{"id": "1", "kind": "relabel", "result": "r", "threshold": ' + b"1" * 5000 + b"}",
        b"[" * 100_000,
        b'{"id":' * 100_000,
    ],
)
def test_what_is_no_json_text_is_said_to_be_none(line):
    assert cause(line) == "The line is no JSON text in UTF-8."


@pytest.mark.parametrize("line", [b"[]", b"null", b"7", b'"hello"', b"[" * 500 + b"]" * 500])
def test_what_is_no_object_is_said_to_be_none(line):
    assert cause(line) == "The line is no JSON object."


def test_infinity_by_a_large_exponent_is_out_of_range():
    assert "'threshold'" in cause(b'{"id": "1", "kind": "relabel", "result": "r", "threshold": 1e999}')


def test_a_field_that_is_there_twice_is_refused():
    assert cause(b'{"id": "1", "kind": "cancel", "target": "2", "target": "3"}') == "Field 'target' is there twice."


def test_a_line_of_a_million_bytes_is_the_longest():
    line = json.dumps({**SEGMENT, "out": "x" * 10}).encode()
    fits = line.replace(b"x" * 10, b"x" * (10 + LONGEST_LINE - len(line)))
    assert parse_request(fits).kind == "segment"
    assert cause(fits + b" ") == "The line has more than 1000000 bytes."


def test_the_id_of_a_wrong_request_is_kept_for_the_answer():
    with pytest.raises(RequestError) as caught:
        parsed({"id": "42", "kind": "relabel"})
    assert caught.value.id == "42"
    assert caught.value.exit_code == 3


@pytest.mark.skipif(os.name != "posix", reason="names that are no Unicode exist on POSIX systems only")
def test_a_name_that_is_no_unicode_can_still_be_meant():
    name = os.fsdecode(b"scan-\xe4.nii")
    assert parsed({**SEGMENT, "inputs": {"dwi": name}}).fields["inputs"]["dwi"] == name


# --- lines that are no requests, ten thousand of them


def malformed_lines(count, seed):
    """Lines without line break, none of which is a request; a seed gives always the same."""
    draw = random.Random(seed)
    good = [
        json.dumps(data)
        for data in (SEGMENT, RELABEL, {"id": "é\U0001f9e0", "kind": "evaluate", "prediction": "p", "reference": "r"})
    ]

    def damaged():
        text = bytearray(draw.choice(good).encode())
        for _ in range(draw.randint(1, 4)):
            text[draw.randrange(len(text))] = draw.randrange(256)
        return bytes(text[: draw.randint(1, len(text))])

    def number():
        digits = draw.choice(
            ["9" * draw.randint(20, 9000), "1e" + "9" * draw.randint(3, 300), "-1e400", "0.1e-9999999"]
        )
        return f'{{"id": "1", "kind": "hello", "protocol": {digits}}}'.encode()

    def nested():
        depth = draw.randint(100, 50_000)
        return draw.choice([b"[" * depth, b'{"id":' * depth, b"[" * depth + b"]" * depth])

    def constant():
        value = draw.choice(["NaN", "Infinity", "-Infinity"])
        return f'{{"id": "1", "kind": "relabel", "result": "r", "threshold": {value}}}'.encode()

    def surrogate():
        half = f"\\u{draw.randrange(0xD800, 0xDC00):04x}"
        return f'{{"id": "{half}", "kind": "segment", "inputs": {{"dwi": "{half}"}}, "out": "{half}"}}'.encode()

    def zeros():
        return b"\0" * draw.randint(1, 50) + draw.choice(good).encode()

    kinds = [damaged, lambda: draw.randbytes(draw.randint(1, 400)), number, constant, surrogate, zeros]
    for position in range(count):
        if position % 1000 == 500:
            line = draw.choice([b"x", b" ", b"\0"]) * 2_000_000
        elif position % 100 == 50:
            line = nested()
        else:
            line = draw.choice(kinds)()
        line = line.replace(b"\n", b" ").replace(b"\r", b" ")
        if line.strip() and not is_request(line):
            yield line


def is_request(line):
    try:
        parse_request(line)
    except RequestError:
        return False
    return True


class Channel(io.RawIOBase):
    """Collects what is written to it."""

    def __init__(self):
        self.lines = []
        self.answered = threading.Event()

    def writable(self):
        return True

    def write(self, line):
        self.lines.append(bytes(line))
        if b'"event": "hello"' in bytes(line):
            self.answered.set()
        return len(line)


class Script:
    """A source of lines that ends only after the last one was answered."""

    def __init__(self, lines, answered):
        self._text = io.BufferedReader(io.BytesIO(b"\n".join(lines)))
        self._answered = answered

    def readline(self, limit):
        line = self._text.readline(limit)
        if not line:
            assert self._answered.wait(10)
        return line


def test_ten_thousand_malformed_lines_are_survived():
    wrong = list(malformed_lines(10_400, seed=3))[:10_000]
    assert len(wrong) == 10_000
    memory = psutil.Process().memory_info().rss
    start = time.perf_counter()
    channel = Channel()
    script = Script([*wrong, b'{"id": "after", "kind": "hello"}', b'{"id": "unfinished", "kind": '], channel.answered)
    Worker(script, channel).serve()
    spent = time.perf_counter() - start
    events = [json.loads(line) for line in channel.lines]
    assert [e["event"] for e in events if e["id"] == "after"] == ["hello"]
    errors = [e for e in events if e["event"] == "error"]
    assert len(errors) == 10_001
    assert {e["kind"] for e in errors} == {"RequestError"}
    assert max(map(len, channel.lines)) < 5000
    grown = psutil.Process().memory_info().rss - memory
    print(f"{spent:.1f} s, {grown / 2**20:.0f} MiB")
    assert spent < 20
    assert grown < 200 * 2**20


def test_a_worker_process_survives_malformed_lines_and_an_unfinished_one():
    wrong = list(malformed_lines(1010, seed=4))[:1000]
    with subprocess.Popen(
        [sys.executable, "-m", "strokeseg", "worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        # Answers are read meanwhile: a pipe holds only so many.
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(process.stdout))
        reader.start()
        process.stdin.write(b"\n".join([*wrong, b'{"id": "after", "kind": "hello"}\n']))
        process.stdin.flush()
        end = time.monotonic() + 20
        while not any(b'"hello"' in line for line in lines[-1:]) and time.monotonic() < end:
            time.sleep(0.01)
        process.stdin.write(b'{"id": "unfin')
        process.stdin.close()
        assert process.wait(10) == 0
        reader.join(10)
    events = [json.loads(line) for line in lines]
    assert [e["event"] for e in events] == ["error"] * 1000 + ["hello", "error"]
