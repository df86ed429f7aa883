"""NRRD, MetaImage and NumPy: sound files first, then what goes wrong in them."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813  the name that its own documentation uses
from damage import Cases, Trial, refused, succeeds
from small_brain import PATIENT, SPACING_MM, Array, nifti_bytes

cases = Cases("formats")

sitk.ProcessObject.SetGlobalWarningDisplay(False)


# --- NRRD and MetaImage --------------------------------------------------------------------------------------------
def _itk(trial: Trial, *, suffix: str, compress: bool = True) -> Path:
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ trial.brain.affine
    image = sitk.GetImageFromArray(np.ascontiguousarray(trial.brain.dwi.T))
    image.SetSpacing([SPACING_MM] * 3)
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / SPACING_MM).ravel().tolist())
    image.SetMetaData("PatientName", PATIENT)
    image.SetMetaData("Comment", PATIENT)
    path = trial.use("--dwi", trial.folder / f"dwi{suffix}")
    sitk.WriteImage(image, str(path), compress)
    return path


def _sound_itk(trial: Trial, *, suffix: str, compress: bool) -> None:
    _itk(trial, suffix=suffix, compress=compress)


def _substituted(trial: Trial, *, suffix: str, pattern: bytes, by: bytes, compress: bool = True) -> None:
    path = _itk(trial, suffix=suffix, compress=compress)
    content, count = re.subn(pattern, by, path.read_bytes(), count=1, flags=re.MULTILINE)
    assert count == 1, f"nothing to substitute in the header for {pattern!r}"
    path.write_bytes(content)


def _cut(trial: Trial, *, suffix: str, share: float, compress: bool = True) -> None:
    path = _itk(trial, suffix=suffix, compress=compress)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


for _suffix in (".nrrd", ".mha"):
    for _packed in (True, False):
        _how = "packed" if _packed else "plain"
        cases.add(f"{_suffix} {_how}, sound", succeeds(), partial(_sound_itk, suffix=_suffix, compress=_packed))
        for _share in (0, 0.001, 0.5, 0.999):
            cases.add(
                f"{_suffix} {_how}, cut at {_share:.1%}",
                refused(),
                partial(_cut, suffix=_suffix, share=_share, compress=_packed),
            )

_NRRD = {
    "without mark": (rb"^NRRD000\d", b"NRDD0005"),
    "sizes zero": (rb"^sizes: .*$", b"sizes: 0 48 34"),
    "sizes negative": (rb"^sizes: .*$", b"sizes: -40 48 34"),
    "sizes huge": (rb"^sizes: .*$", b"sizes: 40000 40000 40000"),
    "sizes one short": (rb"^sizes: .*$", b"sizes: 40 48"),
    "sizes in words": (rb"^sizes: .*$", b"sizes: forty by forty"),
    "one slice too many": (rb"^sizes: .*$", b"sizes: 40 48 35"),
    "no space": (rb"^space: .*$", b"# nothing"),
    "no directions": (rb"^space directions: .*$", b"# nothing"),
    "directions NaN": (rb"^space directions: .*$", b"space directions: (nan,0,0) (0,4,0) (0,0,4)"),
    "directions singular": (rb"^space directions: .*$", b"space directions: (4,0,0) (4,0,0) (0,0,4)"),
    "directions none": (rb"^space directions: .*$", b"space directions: none none none"),
    "origin NaN": (rb"^space origin: .*$", b"space origin: (nan,nan,nan)"),
    "type unknown": (rb"^type: .*$", b"type: quaternion"),
    "type wider than the data": (rb"^type: .*$", b"type: double"),
    "encoding unknown": (rb"^encoding: .*$", b"encoding: morse"),
    "encoding denied": (rb"^encoding: .*$", b"encoding: raw"),
    "data in no file": (rb"^encoding: .*$", b"encoding: gzip\ndata file: gone.raw.gz"),
    "data in an endless file": (rb"^encoding: .*$", b"encoding: raw\ndata file: /dev/zero"),
    "data in a foreign file": (rb"^encoding: .*$", b"encoding: raw\ndata file: /etc/hostname"),
    "dimension unknown": (rb"^dimension: .*$", b"dimension: many"),
}
for _name, (_pattern, _by) in _NRRD.items():
    cases.add(f".nrrd, {_name}", refused(), partial(_substituted, suffix=".nrrd", pattern=_pattern, by=_by))

_META = {
    "no object": (rb"^ObjectType = .*$", b"ObjectType = Sphere"),
    "size zero": (rb"^DimSize = .*$", b"DimSize = 40 0 34"),
    "size huge": (rb"^DimSize = .*$", b"DimSize = 40000 40000 40000"),
    "one slice too many": (rb"^DimSize = .*$", b"DimSize = 40 48 35"),
    "two dimensions": (rb"^NDims = .*$", b"NDims = 2"),
    "many dimensions": (rb"^NDims = .*$", b"NDims = 99999"),
    "compressed size wrong": (rb"^CompressedDataSize = .*$", b"CompressedDataSize = 12"),
    "compression denied": (rb"^CompressedData = .*$", b"CompressedData = False"),
    "type unknown": (rb"^ElementType = .*$", b"ElementType = MET_QUATERNION"),
    "type wider than the data": (rb"^ElementType = .*$", b"ElementType = MET_DOUBLE"),
    "matrix NaN": (rb"^TransformMatrix = .*$", b"TransformMatrix = nan 0 0 0 1 0 0 0 1"),
    "matrix singular": (rb"^TransformMatrix = .*$", b"TransformMatrix = 1 0 0 1 0 0 0 0 1"),
    "spacing zero": (rb"^ElementSpacing = .*$", b"ElementSpacing = 0 4 4"),
    "spacing negative": (rb"^ElementSpacing = .*$", b"ElementSpacing = -4 4 4"),
    "data in no file": (rb"^ElementDataFile = .*$", b"ElementDataFile = gone.raw"),
    "data in an endless file": (rb"^ElementDataFile = .*$", b"ElementDataFile = /dev/zero"),
    "data in a list": (rb"^ElementDataFile = .*$", b"ElementDataFile = LIST"),
    "data in its own header": (rb"^ElementDataFile = .*$", b"ElementDataFile = dwi.mha"),
}
for _name, (_pattern, _by) in _META.items():
    cases.add(f".mha, {_name}", refused(), partial(_substituted, suffix=".mha", pattern=_pattern, by=_by))


# --- NumPy ---------------------------------------------------------------------------------------------------------
def _npy(trial: Trial, array: Array | None = None, affine: Array | None = None) -> Path:
    path = trial.use("--dwi", trial.folder / "dwi.npy")
    np.save(path, trial.brain.dwi if array is None else array, allow_pickle=True)
    np.save(trial.folder / "dwi.affine.npy", trial.brain.affine if affine is None else affine, allow_pickle=True)
    return path


def _npy_affine(trial: Trial, *, change: Callable[[Array], Array]) -> None:
    _npy(trial, affine=change(trial.brain.affine))


def _npy_array(trial: Trial, *, change: Callable[[Array], Array]) -> None:
    _npy(trial, change(trial.brain.dwi))


def _npy_bytes(trial: Trial, *, change: Callable[[bytes], bytes]) -> None:
    path = _npy(trial)
    path.write_bytes(change(path.read_bytes()))


cases.add(".npy, sound", succeeds(), partial(_npy_array, change=np.ascontiguousarray))
cases.add(".npy, Fortran order", succeeds(), partial(_npy_array, change=np.asfortranarray))
cases.add(".npy, big endian", succeeds(), partial(_npy_array, change=lambda a: a.astype(">f8")))
cases.add(".npy, complex", refused("type"), partial(_npy_array, change=lambda a: a.astype(np.complex64)))
cases.add(".npy, flat", refused("shape"), partial(_npy_array, change=np.ravel))
cases.add(".npy, five axes", refused("shape"), partial(_npy_array, change=lambda a: a[..., None, None]))
cases.add(".npy, no voxels", refused(), partial(_npy_array, change=lambda a: a[:0]))
cases.add(".npy, words", refused("type"), partial(_npy_array, change=lambda a: np.array([["a", "b"]])))
cases.add(".npy, affine 3x3", refused("4x4"), partial(_npy_affine, change=lambda a: a[:3, :3]))
cases.add(".npy, affine NaN", refused(), partial(_npy_affine, change=lambda a: a * np.nan))
cases.add(".npy, affine singular", refused(), partial(_npy_affine, change=lambda a: a * [[1], [1], [0], [1]]))
cases.add(".npy, affine transposed", refused(), partial(_npy_affine, change=np.transpose))


def _npy_cut(trial: Trial, *, share: float) -> None:
    path = _npy(trial)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


for _share in (0.0, 0.0001, 0.0003, 0.5, 0.9999):
    cases.add(f".npy, cut at {_share:.2%}", refused(), partial(_npy_cut, share=_share))
cases.add(
    ".npy, shape huge",
    refused(),
    partial(
        _npy_bytes, change=lambda b: b.replace(b"(40, 48, 34)", b"(4000000000, 48, 34)").replace(b"   \n", b"\n", 1)
    ),
)
cases.add(".npy, header no literal", refused(), partial(_npy_bytes, change=lambda b: b.replace(b"'descr'", b"[[[[[[[")))
cases.add(".npy, version 9", refused(), partial(_npy_bytes, change=lambda b: b[:6] + b"\x09\x00" + b[8:]))


class _Planted:
    """Writes a file when it is unpickled, which must never happen."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.write_text, (self._target, "run by the pickle")


@cases.case(".npy, pickled objects", refused("type|header"))
def _(trial: Trial) -> None:
    _npy(trial, np.array([_Planted(trial.place / "planted"), None], dtype=object))


@cases.case("pickle as .npy", refused("header"))
def _(trial: Trial) -> None:
    _npy(trial).write_bytes(pickle.dumps(_Planted(trial.place / "planted")))


@cases.case(".npy without affine", refused("affine"))
def _(trial: Trial) -> None:
    _npy(trial)
    (trial.folder / "dwi.affine.npy").unlink()


@cases.case(".npy that is a NIfTI file", refused("NumPy"))
def _(trial: Trial) -> None:
    _npy(trial).write_bytes(nifti_bytes(trial.brain.dwi, trial.brain.affine))


def _renamed(trial: Trial, *, name: str) -> None:
    trial.use("--dwi", trial.path("--dwi").rename(trial.folder / name))


for _ending in (".nrrd", ".mha", ".npy", ".dcm", ".hdr", ".img.gz", ".txt", ".nii.gz.gz", ".mgz", ".zip", ""):
    cases.add(f"NIfTI renamed to dwi{_ending}", refused(), partial(_renamed, name=f"dwi{_ending}"))
cases.add("NIfTI renamed to DWI.NII.GZ", succeeds(), partial(_renamed, name="DWI.NII.GZ"))
