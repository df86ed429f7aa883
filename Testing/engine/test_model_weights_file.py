"""The weights file: its structure, what is not safetensors, and values that are no numbers."""

import io
import json
import pickle
import random
import struct

import model_folders as folders
import numpy as np
import pytest
import torch
from safetensors.torch import save as save_torch

from strokeseg.errors import ModelError
from strokeseg.models.finite import all_finite, file_is_finite, has_nan
from strokeseg.models.safetensors_header import StoredTensor, read_header


def read(tmp_path, content):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    return read_header(path)


def refusal(tmp_path, content):
    with pytest.raises(ModelError) as caught:
        read(tmp_path, content)
    assert caught.value.title == "The weights file 'weights.safetensors' was refused."
    assert "Export the model again" in caught.value.next_step
    assert caught.value.cause.isprintable()
    return caught.value.cause.removeprefix("It is no safetensors file that can be trusted: ")


def written(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype="F16", shape=(1,), offsets=(0, 2), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


def test_tensors_are_found_where_the_library_wrote_them(tmp_path):
    tensors = {
        "half": torch.arange(6, dtype=torch.float16).reshape(2, 3),
        "bf16": torch.ones(4, dtype=torch.bfloat16),
        "number": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "flag": torch.tensor([True]),
    }
    content = save_torch(tensors, metadata={"format": "pt"})
    found = read(tmp_path, content)
    assert {n: (t.kind, t.shape, t.end - t.begin) for n, t in found.items()} == {
        "half": ("F16", (2, 3), 12),
        "bf16": ("BF16", (4,), 8),
        "number": ("I64", (), 8),
        "empty": ("F32", (0, 3), 0),
        "flag": ("BOOL", (1,), 1),
    }
    half, number = found["half"], found["number"]
    assert np.frombuffer(content[half.begin : half.end], np.float16).tolist() == [0, 1, 2, 3, 4, 5]
    assert int.from_bytes(content[number.begin : number.end], "little") == 7


def test_a_file_without_tensors_is_one(tmp_path):
    assert read(tmp_path, written({})) == {}
    assert read(tmp_path, written({"__metadata__": {"a": "b"}})) == {}


def test_the_place_counts_from_the_start_of_the_file(tmp_path):
    content = written({"a": entry()}, b"\1\2")
    assert read(tmp_path, content) == {"a": StoredTensor("F16", (1,), len(content) - 2, len(content))}


# --- other formats


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code ran')",))


def pytorch_checkpoint():
    file = io.BytesIO()
    torch.save({"w": torch.zeros(2)}, file)
    return file.getvalue()


def old_pytorch_checkpoint():
    file = io.BytesIO()
    torch.save({"w": torch.zeros(2)}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        *((pickle.dumps(Evil(), protocol=p), "it is a pickle, which can run code") for p in (2, 3, 4, 5)),
        (pickle.dumps({"w": [0.5] * 100}), "it is a pickle, which can run code"),
        (pytorch_checkpoint(), "it is a zip, as PyTorch's checkpoints are"),
        (old_pytorch_checkpoint(), "it is a pickle, which can run code"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 50, "it is HDF5"),
        (b"\x93NUMPY\x01\0", "it is a numpy array"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it is a pointer of Git LFS"),
        (b"\n<!DOCTYPE html><html>404</html>", "it is a web page"),
        (b"<html><body>log in</body></html>", "it is a web page"),
    ],
)
def test_another_format_is_named(tmp_path, content, said):
    assert refusal(tmp_path, content).startswith(said)


def test_a_header_as_long_as_a_pickle_begins_is_still_a_header(tmp_path):
    # 0x0280 bytes: the file begins with 80 02, as a pickle does.
    text = json.dumps({"a": entry()}).encode()
    content = written(text + b" " * (0x0280 - len(text)), b"\0\0")
    assert content[:2] == b"\x80\x02"
    assert list(read(tmp_path, content)) == ["a"]


# --- lengths


@pytest.mark.parametrize("length", range(8))
def test_less_than_a_length_is_refused(tmp_path, length):
    assert f"it has {length} bytes" in refusal(tmp_path, b"\1" * length)


@pytest.mark.parametrize("length", [3, 2**31, 2**63, 2**64 - 1])
def test_a_header_longer_than_the_file_is_refused(tmp_path, length):
    assert f"should have {length} bytes, the whole file has 10" in refusal(tmp_path, struct.pack("<Q", length) + b"{}")


def test_a_header_of_many_megabytes_is_not_read(tmp_path):
    length = 16 * 1024**2 + 1
    path = tmp_path / "weights.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", length))
        file.truncate(8 + length)
    with pytest.raises(ModelError, match="at most 16777216 are read"):
        read_header(path)


def test_every_cut_is_refused(tmp_path):
    whole = folders.save(folders.VALUES)
    for length in range(len(whole)):
        refusal(tmp_path, whole[:length])


def test_bytes_behind_the_last_tensor_are_refused(tmp_path):
    whole = folders.save(folders.VALUES)
    assert f"the file has {len(whole) + 1}" in refusal(tmp_path, whole + b"\0")


# --- headers


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"[]", "no JSON object"),
        (b' {"a": 1}', "no JSON object"),
        (b"{", "no JSON text"),
        (b"", "no JSON text"),
        (b"{'a': 1}", "no JSON text"),
        (b'{"\xff": {}}', "no JSON text"),
        (b'{"a":' * 5000, "no JSON text"),
        (b'{"a": {}, "a": {}}', "names something twice"),
        (b'{"a": {"dtype": "F16", "dtype": "F32", "shape": [], "data_offsets": [0, 2]}}', "names something twice"),
        ({"__metadata__": {"a": 1}}, "holds more than texts"),
        ({"__metadata__": []}, "holds more than texts"),
        ({"a": []}, "does not consist of"),
        ({"a": {"dtype": "F16", "shape": [1]}}, "does not consist of"),
        ({"a": entry(more=1)}, "does not consist of"),
    ],
)
def test_a_header_that_is_no_list_of_tensors_is_refused(tmp_path, header, said):
    assert said in refusal(tmp_path, written(header, b"\0\0"))


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (entry("F8_E4M3", (2,)), "of the type 'F8_E4M3'"),
        (entry("f16"), "of the type 'f16'"),
        (entry(7), "of the type '7'"),
        (entry(["F16"]), "of the type"),
        *((entry(shape=s), "list of at most 8 sizes") for s in ([-1], [1.0], [True], ["1"], [2**40], [1] * 9)),
        ({**entry(), "shape": 1}, "list of at most 8 sizes"),
        *(
            (entry(offsets=o), "pair of rising offsets")
            for o in ([2, 0], [0], [0, 1, 2], [-2, 0], [0.0, 2.0], [False, 2])
        ),
        (entry(shape=[2]), "has 2 bytes; its shape [2] and type F16 need 4"),
        (entry(shape=[0]), "need 0"),
        (entry("F32"), "need 4"),
        (entry(shape=[2**39, 2**39]), "need"),
    ],
)
def test_a_tensor_that_contradicts_itself_is_refused(tmp_path, tensor, said):
    assert said in refusal(tmp_path, written({"a": tensor}, b"\0\0"))


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ([(0, 2), (1, 3)], "'t1' overlaps"),
        ([(0, 2), (0, 2)], "'t1' overlaps"),
        ([(0, 2), (3, 5)], "'t1' comes after bytes that belong to nothing"),
        ([(1, 3)], "'t0' comes after bytes that belong to nothing"),
        ([(0, 2)], "describes"),
        ([(0, 2), (2, 4), (4, 6)], "describes"),
    ],
)
def test_overlaps_and_holes_are_refused(tmp_path, places, said):
    header = {f"t{i}": entry(offsets=p) for i, p in enumerate(places)}
    size = 4 if len(places) != 2 else max(end for _, end in places)
    assert said in refusal(tmp_path, written(header, b"\0" * size))


def test_changed_bytes_of_the_header_pass_or_are_refused_in_words(tmp_path):
    whole = folders.save(folders.VALUES)
    rng, refused = random.Random(0), 0
    for _ in range(300):
        data = bytearray(whole)
        data[rng.randrange(len(data) - 8)] = rng.randrange(256)
        try:
            read(tmp_path, bytes(data))
        except ModelError:
            refused += 1
    assert refused > 150


# --- numbers

FORMS = [("F16", np.float16), ("F32", np.float32), ("F64", np.float64)]


@pytest.mark.parametrize(("kind", "form"), FORMS)
def test_nan_and_infinity_are_found_at_every_place(kind, form):
    good = np.array([0.0, -0.0, 1.0, -1.0, np.finfo(form).max, np.finfo(form).min, np.finfo(form).tiny], form)
    assert all_finite(good.tobytes(), kind)
    assert all_finite(b"", kind)
    for bad in (np.nan, -np.nan, np.inf, -np.inf):
        for place in range(len(good)):
            values = good.copy()
            values[place] = bad
            assert not all_finite(values.tobytes(), kind)
            assert has_nan(values.tobytes(), kind) == bool(np.isnan(bad))


def test_every_half_float_is_judged_as_numpy_judges_it():
    every = np.arange(65536, dtype=np.uint16)
    for value, finite in zip(every, np.isfinite(every.view(np.float16)), strict=True):
        assert all_finite(value.tobytes(), "F16") == finite
    assert not all_finite(every.tobytes(), "F16")
    assert all_finite(every[np.isfinite(every.view(np.float16))].tobytes(), "F16")


def test_bfloat16_is_judged_as_torch_judges_it():
    every = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16)
    finite = torch.isfinite(every.view(torch.bfloat16))
    for value, good in zip(every.numpy()[::37], finite.tolist()[::37], strict=True):
        assert all_finite(value.tobytes(), "BF16") == good
    assert all_finite(every[finite].numpy().tobytes(), "BF16")
    assert not all_finite(every.numpy().tobytes(), "BF16")


@pytest.mark.parametrize(("kind", "form"), FORMS)
@pytest.mark.parametrize("place", [0, 16383, 16384, 32767, 32768, 65535, 65536, 99_999])
def test_one_nan_in_a_file_is_found_across_the_pieces_it_is_read_in(tmp_path, kind, form, place):
    values = np.random.default_rng(0).standard_normal(100_000).astype(form)
    path = tmp_path / "w"
    path.write_bytes(b"\xff" * 6 + values.tobytes() + b"\xff" * 6)
    size = values.nbytes
    assert file_is_finite(path, 6, 6 + size, kind)
    values[place] = np.nan
    path.write_bytes(b"\xff" * 6 + values.tobytes() + b"\xff" * 6)
    assert not file_is_finite(path, 6, 6 + size, kind)


def test_a_file_that_became_shorter_is_no_endless_loop(tmp_path):
    (tmp_path / "w").write_bytes(b"\0" * 10)
    with pytest.raises(OSError, match="became shorter"):
        file_is_finite(tmp_path / "w", 0, 12, "F16")
