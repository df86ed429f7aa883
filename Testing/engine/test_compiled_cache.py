"""Compiled networks on the disk: never of another model or precision, never torn, never in the way."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import runtime_phantom as phantom
from safetensors.numpy import load_file, save_file

from strokeseg.runtime import open_runtime
from strokeseg.runtime import openvino as room
from strokeseg.runtime.cache import CompiledCache, cache_folder, cache_key
from strokeseg.runtime.precision import native_precisions

ENGINE = Path(__file__).resolve().parents[2] / "StrokeSegExtension"


@pytest.fixture(autouse=True)
def _few_threads(monkeypatch, tmp_path):
    monkeypatch.setenv("STROKESEG_THREADS", "1")
    monkeypatch.setenv("STROKESEG_HOME", str(tmp_path / "strokeseg-home"))
    monkeypatch.delenv("STROKESEG_COMPILED_CACHE", raising=False)


@pytest.fixture
def card(tmp_path):
    return phantom.write_model(tmp_path / "tiny")


def relisted(card, **changes):
    """The card with sizes and hashes of the files as they are now."""
    return phantom.write_card(
        card.folder,
        network=card.network,
        network_arguments=card.network_arguments,
        outputs=list(card.outputs),
        **changes,
    )


def entries():
    return sorted(cache_folder().glob("*"))


def forbid_compiling(monkeypatch):
    def refuse(*_):
        raise AssertionError("compiled, though it is in the cache")

    monkeypatch.setattr(room.ov.Core, "compile_model", refuse)


def test_nothing_is_kept_on_the_disk_unless_it_is_wanted(card):
    open_runtime(card).close()
    assert not cache_folder().exists()


def test_a_second_process_compiles_nothing_and_gives_the_same_bytes(card, monkeypatch):
    plain = open_runtime(card).run(phantom.batch())["lesion"]
    monkeypatch.setenv("STROKESEG_COMPILED_CACHE", "1")
    first = open_runtime(card).run(phantom.batch())["lesion"]
    assert [p.suffix for p in entries()] == [".blob"]
    forbid_compiling(monkeypatch)
    second = open_runtime(card).run(phantom.batch())["lesion"]
    assert plain.tobytes() == first.tobytes() == second.tobytes()


def test_the_cache_never_mixes_precisions(card, monkeypatch):
    """OpenVINO's own CACHE_DIR hands out fp16 where fp32 is asked for."""
    order = sorted(native_precisions())
    plain = {p: open_runtime(card, precision=p).run(phantom.batch())["lesion"].tobytes() for p in order}
    monkeypatch.setenv("STROKESEG_COMPILED_CACHE", "1")
    for _ in range(2):
        for precision in order:
            assert open_runtime(card, precision=precision).run(phantom.batch())["lesion"].tobytes() == plain[precision]
    assert len(entries()) == len(order)


def test_the_cache_never_hands_out_what_was_compiled_for_other_weights(card, monkeypatch):
    """OpenVINO's own CACHE_DIR looks at the graph file only, and the weights lie in another."""
    monkeypatch.setenv("STROKESEG_COMPILED_CACHE", "1")
    before = open_runtime(card).run(phantom.batch())["lesion"]
    path = card.folder / "weights.safetensors"
    save_file({name: w * np.float16(0.5) for name, w in load_file(path).items()}, path)
    changed = relisted(card)
    graph_before = (card.folder / "network.onnx").read_bytes()
    cached = open_runtime(changed).run(phantom.batch())["lesion"]
    monkeypatch.delenv("STROKESEG_COMPILED_CACHE")
    assert cached.tobytes() == open_runtime(changed).run(phantom.batch())["lesion"].tobytes()
    assert np.abs(cached - before).max() > 0.1
    assert (card.folder / "network.onnx").read_bytes() == graph_before


@pytest.mark.parametrize("damage", ["one byte", "cut", "empty", "other"])
def test_a_broken_entry_is_noticed_and_made_anew(card, monkeypatch, damage):
    monkeypatch.setenv("STROKESEG_COMPILED_CACHE", "1")
    expected = open_runtime(card).run(phantom.batch())["lesion"].tobytes()
    (path,) = entries()
    good = path.read_bytes()
    middle = len(good) // 2
    broken = {
        "one byte": good[:middle] + bytes([good[middle] ^ 0x40]) + good[middle + 1 :],
        "cut": good[:middle],
        "empty": b"",
        "other": b"no blob" * 1000,
    }
    path.write_bytes(broken[damage])
    assert open_runtime(card).run(phantom.batch())["lesion"].tobytes() == expected
    forbid_compiling(monkeypatch)
    assert open_runtime(card).run(phantom.batch())["lesion"].tobytes() == expected


@pytest.mark.parametrize("place", [0, 15, 16, 47, 48, 500, -1])
def test_one_changed_bit_anywhere_in_an_entry_is_noticed(tmp_path, place):
    """The library takes changed weights without a word."""
    cache = CompiledCache(tmp_path)
    cache.store("a", bytes(range(256)) * 4)
    path = tmp_path / "a.blob"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert cache.load("a") is None
    assert not path.exists()


def test_an_entry_that_is_whole_but_that_the_library_refuses_is_made_anew(card, monkeypatch):
    monkeypatch.setenv("STROKESEG_COMPILED_CACHE", "1")
    expected = open_runtime(card).run(phantom.batch())["lesion"].tobytes()
    (path,) = entries()
    CompiledCache(cache_folder()).store(path.stem, b"of another build of the library")
    assert open_runtime(card).run(phantom.batch())["lesion"].tobytes() == expected
    forbid_compiling(monkeypatch)
    open_runtime(card)


def test_a_cache_that_cannot_be_written_is_said_and_does_no_harm(card, monkeypatch, tmp_path):
    (tmp_path / "a-file").write_text("")
    monkeypatch.setenv("STROKESEG_HOME", str(tmp_path / "a-file"))
    monkeypatch.setenv("STROKESEG_COMPILED_CACHE", "1")
    runtime = open_runtime(card)
    assert [n.code for n in runtime.notes] == ["cache_unusable"]
    assert runtime.run(phantom.batch())["lesion"].shape == (1, 1, 16, 12, 10)


def test_the_entries_longest_not_used_are_deleted(tmp_path):
    cache = CompiledCache(tmp_path, entries=3)
    for age, key in enumerate("abc"):
        cache.store(key, key.encode())
        os.utime(tmp_path / f"{key}.blob", (1000 + age, 1000 + age))
    assert cache.load("a") == b"a"
    cache.store("d", b"d")
    assert {k: cache.load(k) for k in "abcd"} == {"a": b"a", "b": None, "c": b"c", "d": b"d"}


def test_leftovers_of_killed_processes_are_cleared_but_not_what_is_being_written(tmp_path):
    old, new = tmp_path / ".partial-1-aa", tmp_path / ".partial-2-bb"
    old.write_bytes(b"x")
    new.write_bytes(b"x")
    os.utime(old, (1000, 1000))
    CompiledCache(tmp_path).store("a", b"a")
    assert not old.exists()
    assert new.exists()


def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("strokeseg.runtime.cache.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        CompiledCache(tmp_path).store("a", b"a")
    assert list(tmp_path.iterdir()) == []


def test_every_part_changes_the_key():
    base = {"weights": "a", "precision": "f32"}
    assert cache_key(**base) == cache_key(precision="f32", weights="a")
    assert len({cache_key(**base), cache_key(**base | {"weights": "b"}), cache_key(**base | {"precision": "f16"})}) == 3


def started(code, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ENGINE), **environment},
    )


def ended(processes):
    results = [p.communicate(timeout=120) for p in processes]
    assert [p.returncode for p in processes] == [0] * len(processes), [r[1] for r in results]
    return [r[0].strip() for r in results]


def test_two_processes_that_read_write_and_delete_the_same_entries_never_see_a_torn_one(tmp_path):
    """Looks at the files themselves: the cache would refuse a torn one, but then each process would undo the other."""
    code = """
import hashlib, random, sys
from pathlib import Path
from strokeseg.runtime.cache import CompiledCache
folder, me = Path(sys.argv[1]), int(sys.argv[2])
cache, draw, seen = CompiledCache(folder, entries=2), random.Random(me), 0
for step in range(120):
    for key in "abc":
        try:
            raw = (folder / f"{key}.blob").read_bytes()
        except OSError:
            continue
        seen += 1
        assert len(raw) == 16 + 32 + 2_000_000 and raw[16:48] == hashlib.sha256(raw[48:]).digest(), "torn"
    key = draw.choice("abc")
    if draw.random() < 0.8:
        cache.store(key, bytes([65 + me]) * 2_000_000)
        assert cache.load(key) in (None, b"A" * 2_000_000, b"B" * 2_000_000)
    else:
        cache.discard(key)
print(seen)
"""
    seen = ended([started(code, tmp_path, number) for number in range(2)])
    assert all(int(s) > 50 for s in seen)
    assert all(p.suffix == ".blob" for p in tmp_path.iterdir())


def test_two_processes_that_open_a_model_at_the_same_time_both_get_it(card, tmp_path, monkeypatch):
    code = """
import hashlib, sys, time
from pathlib import Path
import numpy
from strokeseg.models import read_card
from strokeseg.runtime import open_runtime, openvino
card, gate = read_card(Path(sys.argv[1])), Path(sys.argv[2])
(gate / sys.argv[3]).touch()
while len(list(gate.iterdir())) < 2:
    time.sleep(0.001)
runtime = open_runtime(card)
logits = runtime.run(numpy.ones((1, 2, 8, 8, 8), numpy.float32))["lesion"]
print(hashlib.sha256(logits.tobytes()).hexdigest(), [n.code for n in runtime.notes])
"""
    gate = tmp_path / "gate"
    gate.mkdir()
    told = ended([started(code, card.folder, gate, n, STROKESEG_COMPILED_CACHE="1") for n in range(2)])
    assert told[0] == told[1]
    assert told[0].endswith("[]")
    assert [p.suffix for p in entries()] == [".blob"]
    monkeypatch.setenv("STROKESEG_COMPILED_CACHE", "1")
    forbid_compiling(monkeypatch)
    open_runtime(card).close()


def test_a_process_that_is_killed_while_it_writes_leaves_no_entry(tmp_path):
    code = """
import os, signal, sys
from pathlib import Path
from strokeseg.runtime import cache
cache.os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
cache.CompiledCache(Path(sys.argv[1])).store("a", b"a" * 100_000)
"""
    if sys.platform == "win32":
        pytest.skip("Windows has no such signal")
    killed = started(code, tmp_path)
    killed.communicate(timeout=60)
    assert killed.returncode == -9
    cache = CompiledCache(tmp_path)
    assert cache.load("a") is None
    cache.store("a", b"good")
    assert cache.load("a") == b"good"
