"""NIfTI headers that lie: dimensions, types, scaling, offsets, places in space, extensions."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import nibabel as nib
import numpy as np
from damage import Cases, Expectation, Trial, either, refused, succeeds
from small_brain import PATIENT, SHAPE, nifti_bytes

cases = Cases("header")

Edit = Callable[[Any], None]
NAN, INF = float("nan"), float("inf")


def fields(**values: Any) -> Edit:
    """A change of header fields; a dictionary as value changes single elements."""

    def edit(header: Any) -> None:
        for name, value in values.items():
            if isinstance(value, dict):
                for index, element in value.items():
                    header[name][index] = element
            else:
                header[name] = value

    return edit


def _edited(trial: Trial, *, edit: Edit, role: str = "dwi", kind: Any = nib.Nifti1Image, name: str = "") -> None:
    trial.save(role, edit=edit, kind=kind, name=name)


def _add(title: str, expectation: Expectation, edit: Edit, **how: Any) -> None:
    cases.add(title, expectation, partial(_edited, edit=edit, **how))


def dims(*values: int) -> Edit:
    """The field dim, filled up with ones."""
    return fields(dim=[*values, *[1] * (8 - len(values))])


def forms(sform: int = 0, qform: int = 0, **values: Any) -> Edit:
    """The two form codes and other fields."""
    return fields(sform_code=sform, qform_code=qform, **values)


X, Y, Z = SHAPE

# --- dimensions ----------------------------------------------------------------------------------------------------
for _number in (-1, 0, 1, 8, 99):
    _add(f"dim[0] is {_number}", refused("dimensions"), fields(dim={0: _number}))
_add("dim[0] is 7, the rest ones", succeeds(), dims(7, X, Y, Z))
_add("dim[0] is 4 with one volume", succeeds(), dims(4, X, Y, Z, 1))
_add("dim[0] is 2", either(), dims(2, X, Y))
_add("five dimensions", refused("four dimensions"), dims(5, X, Y, Z // 2, 2, 2))
_add("fourth dimension zero", refused("dimensions"), dims(4, X, Y, Z, 0))
for _axis in (1, 2, 3):
    _add(f"dimension {_axis} is zero", refused("dimensions"), fields(dim={_axis: 0}))
    _add(f"dimension {_axis} is negative", refused("dimensions"), fields(dim={_axis: -40}))
_add("one slice more than there is", refused("cut off|cannot hold"), fields(dim={3: Z + 1}))
_add("plain file: one slice more than there is", refused("cut off"), fields(dim={3: Z + 1}), name="dwi.nii")
_add("half of the slices", either(), fields(dim={3: Z // 2}))
_add("huge dimensions", refused("promises"), dims(3, 32767, 32767, 32767), name="dwi.nii.gz")
_add("plain file: huge dimensions", refused("promises"), dims(3, 32767, 32767, 32767), name="dwi.nii")
_add("2 GB in the header", refused("promises"), dims(3, 1000, 1000, 500), name="dwi.nii")
_add("2 GB in the header of gzip", refused("promises"), dims(3, 1000, 1000, 500))
_add("many volumes", refused("promises|four dimensions"), dims(7, 2, 2, 2, 30000, 30000, 1, 1))
_add("product of dimensions beyond 64 bits", refused("dimensions|promises"), dims(7, *[32767] * 7))

# --- kinds ---------------------------------------------------------------------------------------------------------
_add("wrong magic", refused("mark of NIfTI"), fields(magic=b"xyz\0"))
_add("magic of a pair", refused("mark of NIfTI"), fields(magic=b"ni1\0"))
_add("magic empty, as ANALYZE has it", refused("mark of NIfTI"), fields(magic=b"\0\0\0\0"))
for _size in (0, 347, 540, -1):
    _add(f"length of the header given as {_size}", refused("NIfTI"), fields(sizeof_hdr=_size))
_add("length of the header in the other byte order", refused(), fields(sizeof_hdr=0x5C010000))
_add("unknown type of voxels", refused("type of voxels"), fields(datatype=999))
_add("complex voxels", refused("complex|type"), fields(datatype=32, bitpix=64), name="dwi.nii")
_add("colour voxels", refused("colour"), fields(datatype=128, bitpix=24))
_add("one bit a voxel", refused("type"), fields(datatype=1, bitpix=1))
_add("type float64 over float32 data", refused("cut off|cannot hold"), fields(datatype=64, bitpix=64))
_add("type int16 over float32 data", either(), fields(datatype=4, bitpix=16))
_add("wrong number of bits", succeeds(), fields(bitpix=7))
_add("unit of length metres", refused("spacing"), fields(xyzt_units=1))
_add("unit of length unknown", refused("unit"), fields(xyzt_units=7))
_add("unit of length unset", succeeds(), fields(xyzt_units=0))

# --- scaling and offset --------------------------------------------------------------------------------------------
for _slope in (NAN, 0.0, INF):
    _add(f"slope {_slope}", succeeds(), fields(scl_slope=_slope, scl_inter=0))
_add("slope and intercept both NaN", succeeds(), fields(scl_slope=NAN, scl_inter=NAN))
_add("intercept NaN", refused("intercept"), fields(scl_slope=1, scl_inter=NAN))
_add("intercept infinite", refused("intercept|not numbers"), fields(scl_slope=1, scl_inter=INF))
_add("slope that overflows", refused("not numbers"), fields(scl_slope=3e38, scl_inter=0))
_add("tiny slope of the DWI", succeeds(), fields(scl_slope=1e-6, scl_inter=0))
_add("slope at the edge of float32", either("close"), fields(scl_slope=1e-44, scl_inter=0))
_add("huge slope of the DWI", succeeds(), fields(scl_slope=1e30, scl_inter=0))
_add("negative slope of the DWI", refused(), fields(scl_slope=-1, scl_inter=0))
_add("tiny slope of the ADC", refused("unit"), fields(scl_slope=1e-9, scl_inter=0), role="adc")
_add("negative slope of the ADC", refused(), fields(scl_slope=-1, scl_inter=0), role="adc")
for _offset in (-1.0, 0.0, 347.0, 1e9, 1e30, NAN, INF, -INF):
    _add(f"voxels begin at {_offset:g}", refused("begin at byte|cut off|promises"), fields(vox_offset=_offset))
_add("voxels begin four bytes late", refused("cut off"), fields(vox_offset=420.0), name="dwi.nii")

# --- place in space ------------------------------------------------------------------------------------------------
_add("both forms unset", refused("left and right"), forms(0, 0))
_add("negative codes of both forms", refused("left and right"), forms(-1, -5))
_add("only the qform", succeeds(), forms(0, 1))
_add("only the sform", succeeds(), forms(1, 0))
_add("sform NaN, no qform", refused("not numbers"), forms(1, 0, srow_x=[NAN] * 4))
_add("sform infinite, no qform", refused("not numbers"), forms(1, 0, srow_y=[INF] * 4))
_add("sform NaN, qform sound", succeeds("qform was taken"), forms(1, 1, srow_x=[NAN] * 4))
_add(
    "sform zero, no qform", refused("length zero|singular"), forms(1, 0, srow_x=[0] * 4, srow_y=[0] * 4, srow_z=[0] * 4)
)
_add("sform singular, no qform", refused("singular"), forms(1, 0, srow_x=[4, 4, 0, 0], srow_y=[0, 0, 0, 0]))
_add("sform nearly singular, no qform", refused("singular"), forms(1, 0, srow_x=[4, 4, 0, 0], srow_y=[0, 1e-3, 0, 0]))
_add("qform alone, pixdim NaN", refused("place"), forms(0, 1, pixdim={1: NAN}))
_add("qform alone, pixdim zero", refused("place"), forms(0, 1, pixdim={1: 0}))
_add("qform alone, pixdim negative", succeeds(), forms(0, 1, pixdim={1: -4, 2: -4}))
_add("qform alone, quaternion NaN", refused("place"), forms(0, 1, quatern_b=NAN))
_add("qform alone, quaternion too long", refused("place"), forms(0, 1, quatern_b=2, quatern_c=2))
_add("qform alone, offset infinite", refused("place"), forms(0, 1, qoffset_x=INF))
for _value in (NAN, -4.0, 0.0, 1e30):
    _add(f"pixdim {_value:g} beside a sound sform", succeeds(), fields(pixdim={1: _value, 2: _value, 3: _value}))
_add("handedness 0 beside a sound sform", succeeds(), fields(pixdim={0: 0}))
_add("forms 80 mm apart", succeeds("mm apart"), fields(qoffset_x=158))


def _scaled_affine(trial: Trial, *, factor: float) -> None:
    for role in ("dwi", "adc"):
        trial.save(role, affine=trial.brain.affine @ np.diag([factor, factor, factor, 1]))


for _factor in (1e-6, 0.01, 20.0, 1000.0, 1e12):
    cases.add(f"spacing {4 * _factor:g} mm", refused("spacing|measure"), partial(_scaled_affine, factor=_factor))
cases.add("spacing 0.5 mm, a brain of a mouse", either(), partial(_scaled_affine, factor=0.125))
cases.add("spacing 12 mm, a brain of an elephant", either(), partial(_scaled_affine, factor=3.0))


def _moved(trial: Trial, *, roles: tuple[str, ...], by: float) -> None:
    affine = trial.brain.affine.copy()
    affine[0, 3] += by
    for role in roles:
        trial.save(role, affine=affine)


cases.add("both images a million kilometres away", either(), partial(_moved, roles=("dwi", "adc"), by=1e12))
cases.add("origin beyond float32", refused("not numbers"), partial(_moved, roles=("dwi", "adc"), by=1e39))
cases.add("ADC 500 mm aside", refused("nowhere"), partial(_moved, roles=("adc",), by=500.0))
cases.add("ADC a million kilometres away", refused("nowhere"), partial(_moved, roles=("adc",), by=1e12))
cases.add("ADC touches the DWI in a face", refused("nowhere"), partial(_moved, roles=("adc",), by=4.0 * X))
cases.add("ADC covers a tenth", either(), partial(_moved, roles=("adc",), by=3.6 * X))

# --- whole files ---------------------------------------------------------------------------------------------------


@cases.case("NIfTI-2", succeeds())
def _(trial: Trial) -> None:
    trial.save("dwi", kind=nib.Nifti2Image)


@cases.case("NIfTI-2, cut in the header", refused("no NIfTI"))
def _(trial: Trial) -> None:
    trial.write("dwi", nifti_bytes(trial.brain.dwi, trial.brain.affine, kind=nib.Nifti2Image)[:500], "dwi.nii")


@cases.case("NIfTI-2, dimension beyond memory", refused("promises"))
def _(trial: Trial) -> None:
    trial.save("dwi", kind=nib.Nifti2Image, edit=fields(dim=[3, 1 << 40, 1 << 40, 1 << 40, 1, 1, 1, 1]))


@cases.case("big endian throughout", succeeds())
def _(trial: Trial) -> None:
    image = nib.Nifti1Image(
        trial.brain.dwi.astype(">f4"), trial.brain.affine, nib.Nifti1Header(endianness=">"), dtype=">f4"
    )
    trial.write("dwi", image.to_bytes(), "dwi.nii")


@cases.case("header big endian, voxels little endian", refused())
def _(trial: Trial) -> None:
    content = nifti_bytes(trial.brain.dwi, trial.brain.affine)
    swapped = nib.Nifti1Header(content[:348], check=False).as_byteswapped(">")
    trial.write("dwi", swapped.binaryblock + content[348:], "dwi.nii")


@cases.case("true ANALYZE", refused("mark of NIfTI|other half"))
def _(trial: Trial) -> None:
    image = nib.AnalyzeImage(trial.brain.dwi, trial.brain.affine)
    nib.save(image, trial.folder / "scan.img")
    trial.use("--dwi", trial.folder / "scan.img")


@cases.case("a pair", succeeds())
def _(trial: Trial) -> None:
    nib.save(nib.Nifti1Pair(trial.brain.dwi, trial.brain.affine), trial.folder / "scan.img")
    trial.use("--dwi", trial.folder / "scan.hdr")


@cases.case("a pair without its second half", refused("other half"))
def _(trial: Trial) -> None:
    nib.save(nib.Nifti1Pair(trial.brain.dwi, trial.brain.affine), trial.folder / "scan.img")
    trial.use("--dwi", trial.folder / "scan.hdr")
    (trial.folder / "scan.img").unlink()


@cases.case("a pair whose voxels are cut off", refused("cut off"))
def _(trial: Trial) -> None:
    nib.save(nib.Nifti1Pair(trial.brain.dwi, trial.brain.affine), trial.folder / "scan.img")
    path = trial.use("--dwi", trial.folder / "scan.img")
    path.write_bytes(path.read_bytes()[:-1000])


def _extension(trial: Trial, *, size: int, flag: int = 1) -> None:
    """A header extension whose length is a lie; the voxels stay where the header says they are."""
    content = bytearray(nifti_bytes(trial.brain.dwi, trial.brain.affine))
    content[348] = flag
    content[352:356] = struct.pack("<i", size)
    assert PATIENT.encode() in content[352:400]
    trial.write("dwi", bytes(content), "dwi.nii")


for _length in (-16, 0, 1, 7, 17, 1 << 30, -(1 << 31)):
    cases.add(f"extension of length {_length}", succeeds(), partial(_extension, size=_length))
cases.add("extension that the header denies", succeeds(), partial(_extension, size=48, flag=0))


def _fuzzed(trial: Trial) -> None:
    """Random bytes in the header: no one knows how deep it goes, but nothing may break."""
    content = bytearray(nifti_bytes(trial.brain.dwi, trial.brain.affine))
    places = sorted(int(p) for p in trial.rng.choice(348, size=int(trial.rng.integers(1, 12)), replace=False))
    for place in places:
        content[place] = int(trial.rng.integers(256))
    trial.note = f"bytes {', '.join(str(p) for p in places[:8])}"
    trial.write("dwi", bytes(content), "dwi.nii")


for _i in range(20):
    cases.add(f"random bytes in the header {_i}", either(), _fuzzed)
