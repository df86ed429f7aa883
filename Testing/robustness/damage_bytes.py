"""Files that are not what their name says: cut off, text, broken compression, things that are no file."""

from __future__ import annotations

import base64
import gzip
import os
import socket
import zlib
from functools import partial
from pathlib import Path

import numpy as np
from damage import Cases, CaseSkippedError, Expectation, Trial, refused, succeeds
from small_brain import nifti_bytes

cases = Cases("bytes")

_INCOMPLETE = "cut off|cannot hold|no NIfTI|promises"
_PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
_TEXTS = {
    "text": b"this is no image\n" * 40,
    "web page": b"<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>\n" * 9,
    "pointer of a large file store": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "picture": _PICTURE + bytes(400),
    "archive": b"PK\x03\x04" + bytes(600),
    "zeros": bytes(5000),
    "spaces": b" " * 5000,
}


def _sound(trial: Trial) -> bytes:
    return nifti_bytes(trial.brain.dwi, trial.brain.affine)


def _cut(trial: Trial, *, at: float | None, compressed: bool) -> None:
    """Keep the first `at` bytes; negative: all but the last; below 1: a share; None: a random place."""
    content = gzip.compress(_sound(trial), 1, mtime=0) if compressed else _sound(trial)
    if at is None:
        length = int(trial.rng.integers(1, len(content)))
    else:
        length = int(at * len(content)) if 0 < at < 1 else int(at) if at >= 0 else len(content) + int(at)
    trial.note = f"{length} of {len(content)} bytes"
    trial.write("dwi", content[:length], "dwi.nii.gz" if compressed else "dwi.nii")


for _at in (0, 1, 347, 348, 352, 600, 0.5, -1):
    cases.add(f"plain file, cut at {_at}", refused(_INCOMPLETE), partial(_cut, at=_at, compressed=False))
for _at in (0, 1, 9, 18, 300, 0.5, -9, -8, -4, -1):
    cases.add(f"gzip, cut at {_at}", refused(_INCOMPLETE), partial(_cut, at=_at, compressed=True))
for _i in range(4):
    cases.add(f"plain file, cut at random {_i}", refused(_INCOMPLETE), partial(_cut, at=None, compressed=False))
    cases.add(f"gzip, cut at random {_i}", refused(_INCOMPLETE), partial(_cut, at=None, compressed=True))


@cases.case("ADC cut in half", refused("cut off"))
def _(trial: Trial) -> None:
    content = trial.path("--adc").read_bytes()
    trial.write("adc", content[: len(content) // 2])


def _other_content(trial: Trial, *, content: bytes) -> None:
    trial.write("dwi", content)


for _kind, _text in _TEXTS.items():
    cases.add(f"{_kind} as .nii.gz", refused("no NIfTI"), partial(_other_content, content=_text))
    cases.add(f"gzip of {_kind} as .nii.gz", refused("no NIfTI"), partial(_other_content, content=gzip.compress(_text)))
cases.add("gzip of nothing", refused("no NIfTI"), partial(_other_content, content=gzip.compress(b"")))


@cases.case("random bytes", refused("no NIfTI"))
def _(trial: Trial) -> None:
    trial.write("dwi", trial.rng.bytes(20_000))


@cases.case("gzip mark, then random bytes", refused("compressed data"))
def _(trial: Trial) -> None:
    trial.write("dwi", b"\x1f\x8b\x08\x00" + trial.rng.bytes(20_000))


def _flip_bit(trial: Trial) -> None:
    content = bytearray(gzip.compress(_sound(trial), 1, mtime=0))
    where = int(trial.rng.integers(len(content) // 4, len(content) - 8))
    content[where] ^= 1 << int(trial.rng.integers(8))
    trial.note = f"at byte {where}"
    trial.write("dwi", bytes(content))


for _i in range(6):
    cases.add(f"one bit of the compressed data flipped {_i}", refused("compressed data|promises"), _flip_bit)


@cases.case("checksum of gzip wrong", refused("checksum"))
def _(trial: Trial) -> None:
    content = bytearray(gzip.compress(_sound(trial), 1))
    content[-8] ^= 255
    trial.write("dwi", bytes(content))


@cases.case("length at the end of gzip wrong", refused("checksum"))
def _(trial: Trial) -> None:
    content = bytearray(gzip.compress(_sound(trial), 1))
    content[-1] ^= 255
    trial.write("dwi", bytes(content))


@cases.case("gzip, garbage behind it", succeeds())
def _(trial: Trial) -> None:
    trial.write("dwi", gzip.compress(_sound(trial), 1) + b"garbage" * 99)


@cases.case("gzip in 40 members", succeeds())
def _(trial: Trial) -> None:
    content = _sound(trial)
    step = len(content) // 40 + 1
    trial.write("dwi", b"".join(gzip.compress(content[i : i + step], 1) for i in range(0, len(content), step)))


@cases.case("gzip in two members, the second cut off", refused("cut off"))
def _(trial: Trial) -> None:
    content = _sound(trial)
    half = len(content) // 2
    trial.write("dwi", gzip.compress(content[:half], 1) + gzip.compress(content[half:], 1)[:-500])


@cases.case("gzip of gzip", refused("no NIfTI"))
def _(trial: Trial) -> None:
    trial.write("dwi", gzip.compress(gzip.compress(_sound(trial), 1), 1))


@cases.case("gzip under the name .nii", succeeds())
def _(trial: Trial) -> None:
    trial.write("dwi", gzip.compress(_sound(trial), 1), "dwi.nii")


@cases.case("plain file under the name .nii.gz", succeeds())
def _(trial: Trial) -> None:
    trial.write("dwi", _sound(trial))


@cases.case("deflate without gzip as .nii.gz", refused("no NIfTI"))
def _(trial: Trial) -> None:
    trial.write("dwi", zlib.compress(_sound(trial)))


def _mebibytes_of_zero(count: int) -> bytes:
    """Gzip that unpacks to `count` MiB of zeros: the same member again and again, a thousandth of the size."""
    return gzip.compress(bytes(1 << 20), 9, mtime=0) * count


@cases.case("bomb: two gigabytes of zeros behind the image", succeeds())
def _(trial: Trial) -> None:
    trial.write("dwi", gzip.compress(_sound(trial), 1) + _mebibytes_of_zero(2048))


@cases.case("bomb: an image of a gigabyte of zeros", Expectation((3, 6)))
def _(trial: Trial) -> None:
    def edit(header: np.void) -> None:
        header["dim"][1:4], header["datatype"], header["bitpix"] = (1024, 1024, 1024), 2, 8

    head = nifti_bytes(np.zeros((4, 4, 4), np.float32), trial.brain.affine, edit=edit)
    trial.write("dwi", gzip.compress(head, 9) + _mebibytes_of_zero(1024))


def _sparse(path: Path, content: bytes, size: int) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.truncate(size)
    if path.stat().st_blocks * 512 > size // 2:
        path.unlink()
        raise CaseSkippedError("this file system has no files with holes")


@cases.case("an image, then a gigabyte of nothing", succeeds())
def _(trial: Trial) -> None:
    _sparse(trial.use("--dwi", trial.folder / "dwi.nii"), _sound(trial), 1 << 30)


@cases.case("six gigabytes of b-values", refused("b-values"))
def _(trial: Trial) -> None:
    trial.save("dwi", np.stack([trial.brain.b0, trial.brain.dwi], axis=-1))
    _sparse(trial.folder / "dwi.bval", b"0 1000\n", 6 << 30)


@cases.case("six gigabytes with the mark of DICOM", refused())
def _(trial: Trial) -> None:
    _sparse(trial.use("--dwi", trial.folder / "dwi.dcm"), bytes(128) + b"DICM", 6 << 30)


# --- things that are no file ---------------------------------------------------------------------------------------


@cases.case("no such file", refused("no such file"))
def _(trial: Trial) -> None:
    trial.path("--dwi").unlink()


@cases.case("no such ADC", refused("no such file"))
def _(trial: Trial) -> None:
    trial.path("--adc").unlink()


@cases.case("empty name", refused())
def _(trial: Trial) -> None:
    trial.options["--dwi"] = ""


def _folder(trial: Trial, *, name: str, content: str) -> None:
    path = trial.use("--dwi", trial.folder / name)
    path.unlink(missing_ok=True)
    path.mkdir()
    if content == "image":
        (path / "dwi.nii.gz").write_bytes(trial.path("--adc").read_bytes())
    elif content == "text":
        (path / "readme.txt").write_text("no image")
    elif content == "folders":
        (path / "a").mkdir()
        (path / "b.dcm").mkdir()


cases.add("empty folder", refused("folder"), partial(_folder, name="scans", content=""))
cases.add("folder named like a file", refused("folder"), partial(_folder, name="dwi.nii.gz", content=""))
cases.add("folder with another kind of image", refused("folder"), partial(_folder, name="scans", content="image"))
cases.add("folder with text", refused("folder"), partial(_folder, name="scans", content="text"))
cases.add("folder with folders", refused("folder"), partial(_folder, name="scans", content="folders"))


def _link(trial: Trial, *, to: str) -> None:
    path = trial.path("--dwi")
    path.unlink()
    try:
        path.symlink_to(to)
    except OSError as error:
        raise CaseSkippedError("links cannot be made here") from error


cases.add("link to nothing", refused("no such file"), partial(_link, to="gone.nii.gz"))
cases.add("link to itself", refused("could not read"), partial(_link, to="dwi.nii.gz"))
cases.add("link to its folder", refused("folder"), partial(_link, to="."))
cases.add("link to an endless device", refused("neither a file nor a folder"), partial(_link, to="/dev/zero"))


@cases.case("link to the image", succeeds())
def _(trial: Trial) -> None:
    moved = trial.path("--dwi").rename(trial.folder / "elsewhere.nii.gz")
    trial.path("--dwi").symlink_to(moved)


def _special(trial: Trial, *, path: str) -> None:
    if not Path(path).exists():
        raise CaseSkippedError(f"there is no {path}")
    trial.options["--dwi"] = path


for _device in ("/dev/null", "/dev/zero", "/dev/full", "/proc/self/mem"):
    cases.add(f"{_device} as image", refused(), partial(_special, path=_device))


@cases.case("pipe that nobody writes to", refused("neither a file nor a folder"))
def _(trial: Trial) -> None:
    if not hasattr(os, "mkfifo"):
        raise CaseSkippedError("there are no named pipes here")
    trial.path("--dwi").unlink()
    os.mkfifo(trial.path("--dwi"))


@cases.case("pipes beside the image and in its folder", succeeds())
def _(trial: Trial) -> None:
    if not hasattr(os, "mkfifo"):
        raise CaseSkippedError("there are no named pipes here")
    for name in ("dwi.bval", "sub-1_dwi.bval", "other.dcm"):
        os.mkfifo(trial.folder / name)


@cases.case("socket as image", refused("neither a file nor a folder"))
def _(trial: Trial) -> None:
    trial.path("--dwi").unlink()
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(trial.path("--dwi")))
    except (OSError, AttributeError) as error:
        raise CaseSkippedError("sockets cannot be made here") from error
