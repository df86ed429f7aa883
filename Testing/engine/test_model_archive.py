"""Models from zips: nothing is written outside, nothing that no model has, no more than it says."""

import os
import random
import stat
import struct
import tracemalloc
import zipfile
from contextlib import nullcontext

import model_folders as folders
import pytest

from strokeseg.errors import ModelError
from strokeseg.models import ModelStore, archive, contents

FILES = ["card.json", "network.onnx", "weights.safetensors"]


@pytest.fixture
def store(tmp_path):
    (tmp_path / "bundled").mkdir()
    return ModelStore(tmp_path / "bundled", tmp_path / "home" / "models")


@pytest.fixture
def model(tmp_path):
    return folders.write_model(tmp_path / "from" / "tiny")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.zip"


def refusal(store, path, tmp_path, title="The archive 'model.zip' was refused."):
    """The error, after nothing was found to be left behind, inside or outside the user's folder."""
    before = folders.tree(tmp_path)
    with pytest.raises(ModelError) as caught:
        store.add(path)
    after = folders.tree(tmp_path)
    assert [p for p in after if p not in before] in ([], ["home", "home/models"])
    assert caught.value.title == title
    assert caught.value.next_step
    assert caught.value.cause.isprintable()
    return caught.value.cause


def zip_with(model, path, entries):
    """A zip of a model and more: names or `ZipInfo` to contents."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for file in sorted(model.iterdir()):
            zipped.write(file, file.name)
        for name, content in entries:
            zipped.writestr(name, content)
    return path


# --- what goes well


@pytest.mark.parametrize("top", ["", "tiny/", "My Model 1.0/"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_becomes_a_model(store, model, path, top, compression):
    folders.zip_of(model, path, top, compression)
    card = store.add(path)
    assert folders.tree(store.user_folder) == ["tiny", *(f"tiny/{n}" for n in FILES)]
    for name in FILES:
        assert (card.folder / name).read_bytes() == (model / name).read_bytes()
    assert path.exists()


def test_a_zip_as_file_managers_write_it_becomes_a_model(store, model, path):
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.mkdir("tiny")
        for file in sorted(model.iterdir()):
            zipped.write(file, f"tiny/{file.name}")
        zipped.mkdir("__MACOSX")
        zipped.mkdir("__MACOSX/tiny")
        zipped.writestr("__MACOSX/tiny/._card.json", b"\0\5\x16\7")
        zipped.writestr("tiny/.DS_Store", b"x")
        zipped.writestr("tiny/._weights.safetensors", b"x")
        zipped.comment = b"made by hand"
    store.add(path)
    assert folders.tree(store.user_folder) == ["tiny", *(f"tiny/{n}" for n in FILES)]


def test_files_are_never_executable(store, model, path):
    entry = zipfile.ZipInfo("README")
    entry.external_attr = (stat.S_IFREG | 0o4777) << 16
    card = store.add(zip_with(model, path, [(entry, b"x")]))
    assert not stat.S_IMODE((card.folder / "README").stat().st_mode) & 0o7111


# --- names


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../README", "leads out of the model's folder"),
        ("../../../../tmp/README", "leads out of the model's folder"),
        ("a/../../README", "leads out of the model's folder"),
        ("..", "leads out of the model's folder"),
        ("./README", "leads out of the model's folder"),
        ("a//README", "leads out of the model's folder"),
        ("/README", "absolute path"),
        ("//server/share/README", "absolute path"),
        ("/", "absolute path"),
        ("C:README", "absolute path"),
        ("c:/README", "absolute path"),
        ("..\\README", "backslash or a control character"),
        ("C:\\README", "backslash or a control character"),
        ("\\\\server\\share\\README", "backslash or a control character"),
        ("README\n", "backslash or a control character"),
        ("README\x1b[2J", "backslash or a control character"),
        ("run.py", "which is no file of a model"),
        ("LICENSE\u202etxt.exe", "which is no file of a model"),
        ("README:stream", "which is no file of a model"),
        ("CON", "which is no file of a model"),
        ("sub/README", "several folders"),
        ("a/b/README", "several folders"),
    ],
)
def test_names_that_a_model_has_not_are_refused(store, model, path, tmp_path, name, said):
    assert said in refusal(store, zip_with(model, path, [(name, b"x")]), tmp_path)


def test_a_name_that_ends_at_a_nul_is_refused(store, model, path, tmp_path):
    zip_with(model, path, [("README~.py", b"x")])
    path.write_bytes(path.read_bytes().replace(b"README~.py", b"README\0.py"))
    assert "control character" in refusal(store, path, tmp_path)


def test_folders_in_folders_are_refused(store, model, path, tmp_path):
    folders.zip_of(model, path, "a/b/")
    assert "a model is one folder without folders in it" in refusal(store, path, tmp_path)
    with zipfile.ZipFile(folders.zip_of(model, path), "a") as zipped:
        zipped.mkdir("empty")
    assert "several folders" in refusal(store, path, tmp_path)


@pytest.mark.parametrize("second", ["card.json", "Card.json", "CARD.JSON"])
def test_a_name_that_stands_twice_is_refused(store, model, path, tmp_path, second):
    with pytest.warns(UserWarning, match="Duplicate") if second == "card.json" else nullcontext():
        zip_with(model, path, [(second, b"{}")])
    assert f"It holds '{second}' twice" in refusal(store, path, tmp_path)


def test_names_that_are_no_utf8_are_refused(store, model, path, tmp_path):
    zip_with(model, path, [("REÄDME", b"x")])
    path.write_bytes(path.read_bytes().replace("REÄDME".encode(), b"RE\xff\xfeDME"))
    assert "not UTF-8" in refusal(store, path, tmp_path)


def test_names_in_an_old_code_page_are_refused(store, model, path, tmp_path):
    zip_with(model, path, [("READMEx", b"x")])
    path.write_bytes(path.read_bytes().replace(b"READMEx", b"READM\x8ex"))
    assert "no file of a model" in refusal(store, path, tmp_path)


def test_another_name_before_the_file_than_in_the_list_is_refused(store, model, path, tmp_path):
    zip_with(model, path, [("README", b"x")])
    data = path.read_bytes()
    path.write_bytes(data.replace(b"README", b"../../", 1))
    assert "a damaged one" in refusal(store, path, tmp_path)


# --- kinds


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (stat.S_IFLNK, "is a link"),
        (stat.S_IFIFO, "no plain file"),
        (stat.S_IFCHR, "no plain"),
        (stat.S_IFSOCK, "no plain"),
    ],
)
@pytest.mark.parametrize("name", ["README", "weights.safetensors"])
def test_links_and_devices_are_refused(store, model, path, tmp_path, name, kind, said):
    (model / name).unlink(missing_ok=True)
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (kind | 0o777) << 16
    assert said in refusal(store, zip_with(model, path, [(entry, b"/etc/passwd")]), tmp_path)


def test_an_encrypted_zip_is_refused(store, model, path, tmp_path):
    folders.zip_of(model, path)
    data = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(mark)
        while at >= 0:
            data[at + place] |= 1
            at = data.find(mark, at + 4)
    path.write_bytes(data)
    assert "is encrypted" in refusal(store, path, tmp_path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_rare_packing_is_refused(store, model, path, tmp_path, compression):
    folders.zip_of(model, path, compression=compression)
    assert "packed by a method other than deflate" in refusal(store, path, tmp_path)


# --- amounts


def test_ten_gigabytes_of_zeros_are_refused_before_one_is_written(store, model, path, tmp_path):
    (model / "weights.safetensors").unlink()
    folders.zip_of(model, path)
    add_zeros(path, "weights.safetensors", 10 * 1024**3)
    assert path.stat().st_size < 20_000
    assert "says that it has 10737418240 bytes; 2147483648 are the most" in refusal(store, path, tmp_path)


def test_zeros_that_would_just_fit_are_refused_by_their_ratio(store, model, path, tmp_path):
    (model / "weights.safetensors").unlink()
    with zipfile.ZipFile(folders.zip_of(model, path), "a", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("weights.safetensors", bytes(20 * 1024**2))
    assert "would grow 10" in refusal(store, path, tmp_path)


def test_many_files_that_are_together_too_large_are_refused(store, model, path, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MOST_BYTES", 5000)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name in ("README", "LICENSE", "NOTICE"):
            zipped.writestr(name, bytes(2000))
    assert "Unpacked it would have 6000 bytes; 5000 are the most" in refusal(store, path, tmp_path)


def test_a_file_that_is_longer_than_it_says_is_not_written_to_its_end(store, model, path, tmp_path):
    content = bytes(1000)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("README", content)
    path.write_bytes(path.read_bytes().replace(struct.pack("<L", 1000), struct.pack("<L", 10)))
    assert "a damaged one" in refusal(store, path, tmp_path)


def test_a_file_that_is_shorter_than_it_says_is_refused(store, model, path, tmp_path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("README", bytes(1000))
    path.write_bytes(path.read_bytes().replace(struct.pack("<L", 1000), struct.pack("<L", 2000)))
    assert "'README' is shorter than it says" in refusal(store, path, tmp_path)


@pytest.mark.parametrize("count", [65, 10_000])
def test_many_files_are_refused(store, path, tmp_path, count):
    with zipfile.ZipFile(path, "w") as zipped:
        for number in range(count):
            zipped.writestr(f"README-{number}", b"")
    assert refusal(store, path, tmp_path) == f"It holds {count} files; a model has at most 64."


def test_a_count_that_is_a_lie_is_refused_by_the_length_of_the_list(store, path, tmp_path):
    with zipfile.ZipFile(path, "w") as zipped:
        for number in range(10_000):
            zipped.writestr(f"README-{number}", b"")
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    data[end + 8 : end + 12] = struct.pack("<HH", 3, 3)
    path.write_bytes(data)
    tracemalloc.start()
    assert "its list of contents has" in refusal(store, path, tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


def test_more_files_than_an_old_zip_can_count_are_refused(store, model, path, tmp_path):
    data = bytearray(folders.zip_of(model, path).read_bytes())
    end = data.rindex(b"PK\x05\x06")
    data[end + 8 : end + 12] = struct.pack("<HH", 0xFFFF, 0xFFFF)
    path.write_bytes(data)
    assert "65535 files or more" in refusal(store, path, tmp_path)
    data[end + 8 : end + 12] = struct.pack("<HH", 3, 3)
    data[end:end] = b"PK\x06\x07" + bytes(16)
    path.write_bytes(data)
    assert "65535 files or more" in refusal(store, path, tmp_path)


def test_a_zip_larger_than_any_model_is_not_read(store, path, tmp_path):
    with path.open("wb") as file:
        file.truncate(contents.MOST_BYTES + 1)
    assert f"It has {contents.MOST_BYTES + 1} bytes" in refusal(store, path, tmp_path)


# --- damage


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", b"not a zip at all", b"PK\x05\x06", b"\x1f\x8b" + bytes(100), b"7z\xbc\xaf\x27\x1c" + bytes(100)],
)
def test_other_files_are_refused(store, path, tmp_path, content):
    path.write_bytes(content)
    assert "It is no zip, or a damaged one" in refusal(store, path, tmp_path)


def test_every_cut_is_refused(store, model, path, tmp_path):
    whole = folders.zip_of(model, path).read_bytes()
    lengths = range(len(whole)) if os.environ.get("STROKESEG_SOAK") else range(0, len(whole), 29)
    for length in (*lengths, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "It is no zip, or a damaged one" in refusal(store, path, tmp_path)


def test_changed_bytes_are_refused_in_words_or_change_nothing(store, model, path):
    whole = folders.zip_of(model, path).read_bytes()
    rng, refused = random.Random(0), 0
    trials = 2000 if os.environ.get("STROKESEG_SOAK") else 120
    for _ in range(trials):
        data = bytearray(whole)
        data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            store.add(path)
        except ModelError:
            refused += 1
            assert folders.tree(store.user_folder) == []
        else:
            for name in FILES:
                assert (store.user_folder / "tiny" / name).read_bytes() == (model / name).read_bytes()
            store.remove("tiny")
    assert refused > trials / 2


def test_a_zip_without_a_model_is_refused(store, path, tmp_path):
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("README", b"x")
    assert refusal(store, path, tmp_path, "'model' is not a model.") == "The folder has no card.json."
    with zipfile.ZipFile(path, "w"):
        pass
    refusal(store, path, tmp_path, "'model' is not a model.")


def add_zeros(path, name, size):
    """Add an entry that says to unpack to `size` zeros; ten million of them are in the file."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr(name, bytes(10**7))
        zipped.getinfo(name).file_size = size
