"""DICOM series: sound ones first, then what goes wrong in their slices."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813  the name that its own documentation uses
from damage import Cases, Trial, refused, succeeds
from small_brain import PATIENT, SPACING_MM

cases = Cases("dicom")

sitk.ProcessObject.SetGlobalWarningDisplay(False)


def _series(trial: Trial, tags: Callable[[int], dict[str, str]] | None = None) -> Path:
    """The DWI as a DICOM series, one file a slice; `tags` changes the header of a slice."""
    folder = trial.use("--dwi", trial.folder / "series")
    folder.mkdir()
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ trial.brain.affine
    axes = lps[:3, :3] / SPACING_MM
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for z in range(trial.brain.dwi.shape[2]):
        image = sitk.GetImageFromArray(np.ascontiguousarray(trial.brain.dwi[:, :, z].T.astype(np.int16)))
        image.SetSpacing([SPACING_MM, SPACING_MM])
        position = lps[:3, 3] + z * lps[:3, 2]
        header = {
            "0008|0008": "ORIGINAL\\PRIMARY\\DIFFUSION",
            "0008|0060": "MR",
            "0008|0080": PATIENT,
            "0008|103e": PATIENT,
            "0010|0010": PATIENT,
            "0010|0020": PATIENT,
            "0018|0050": f"{SPACING_MM:g}",
            "0020|000d": "1.2.3",
            "0020|000e": "1.2.3.4",
            "0020|0011": "4",
            "0020|0013": str(z + 1),
            "0020|0032": "\\".join(f"{v:g}" for v in position),
            "0020|0037": "\\".join(f"{v:g}" for v in (*axes[:, 0], *axes[:, 1])),
        }
        for key, value in (header | (tags(z) if tags else {})).items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"slice{z:03d}.dcm"))
        writer.Execute(image)
    return folder


def _tagged(trial: Trial, *, tags: Callable[[int], dict[str, str]]) -> None:
    _series(trial, tags)


cases.add("sound", succeeds(lesion="close"), partial(_tagged, tags=lambda z: {}))
_TAGS: dict[str, Callable[[int], dict[str, str]]] = {
    "two series": lambda z: {"0020|000e": f"1.2.3.{z % 2}"},
    "localizer": lambda z: {"0008|0008": "ORIGINAL\\PRIMARY\\LOCALIZER"},
    "no positions": lambda z: {"0020|0032": "0\\0\\0"},
    "positions in words": lambda z: {"0020|0032": "here\\there\\nowhere"},
    "positions NaN": lambda z: {"0020|0032": "nan\\nan\\nan"},
    "one slice moved": lambda z: {"0020|0032": "78\\94\\500"} if z == 7 else {},
    "one slice tilted": lambda z: {"0020|0037": "1\\0\\0\\0\\0\\1"} if z == 7 else {},
}
for _name, _change in _TAGS.items():
    cases.add(f"{_name}", refused(), partial(_tagged, tags=_change))


@cases.case("one file of the series given", succeeds(lesion="close"))
def _(trial: Trial) -> None:
    trial.use("--dwi", _series(trial) / "slice012.dcm")


@cases.case("a slice is missing", refused("missing"))
def _(trial: Trial) -> None:
    (_series(trial) / "slice012.dcm").unlink()


@cases.case("a slice is there twice", succeeds("copies", lesion="close"))
def _(trial: Trial) -> None:
    folder = _series(trial)
    (folder / "copy.dcm").write_bytes((folder / "slice012.dcm").read_bytes())


def _slice_bytes(trial: Trial, *, change: Callable[[bytes], bytes]) -> None:
    path = _series(trial) / "slice012.dcm"
    path.write_bytes(change(path.read_bytes()))


def _all_directions(trial: Trial, *, value: bytes) -> None:
    """Change the field of the directions behind the writer's back, which would refuse it."""
    for path in _series(trial).iterdir():
        pattern = rb"(\x20\x00\x37\x00)(.{4})([-0-9.\\ ]+)"
        content, count = re.subn(
            pattern, lambda m: m[1] + m[2] + value.ljust(len(m[3])), path.read_bytes(), flags=re.DOTALL
        )
        assert count == 1
        path.write_bytes(content)


cases.add("rows and columns the same", refused(), partial(_all_directions, value=rb"1\0\0\1\0\0"))
cases.add("all directions zero", refused(), partial(_all_directions, value=rb"0\0\0\0\0\0"))

_SLICE: dict[str, Callable[[bytes], bytes]] = {
    "a slice cut in half": lambda b: b[: len(b) // 2],
    "a slice cut in its header": lambda b: b[:400],
    "a slice cut after the mark": lambda b: b[:132],
    "a slice is text": lambda b: b"this is no image\n" * 99,
    "a slice is empty": lambda b: b"",
    "a slice is zeros": lambda b: bytes(len(b)),
    "an element of four gigabytes": lambda b: b.replace(
        b"\xe0\x7f\x10\x00" + struct.pack("<I", 3840), b"\xe0\x7f\x10\x00\xf0\xff\xff\xff"
    ),
}
for _name, _cut_slice in _SLICE.items():
    cases.add(f"{_name}", refused(), partial(_slice_bytes, change=_cut_slice))


@cases.case("a text and a folder lie beside the slices", succeeds(lesion="close"))
def _(trial: Trial) -> None:
    folder = _series(trial)
    (folder / "readme.txt").write_text("no image")
    (folder / "more").mkdir()


@cases.case("a file without picture alone", refused())
def _(trial: Trial) -> None:
    trial.write("dwi", bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00\x00\x00\x00\x00", "dwi.dcm")


@cases.case("random bytes behind the mark", refused())
def _(trial: Trial) -> None:
    trial.write("dwi", bytes(128) + b"DICM" + trial.rng.bytes(5000), "dwi.dcm")
