"""Writing of volumes: what is read again is what was written, bit for bit, and the same input gives the same bytes."""

import gzip
import resource
import signal
import struct

import nibabel as nib
import numpy as np
import pytest

from strokeseg.errors import InputError
from strokeseg.volume.reading import read_volume
from strokeseg.volume.volume import Volume
from strokeseg.volume.writing import write_nifti, write_volume

SHAPE = (4, 5, 6)


def oblique(dtype=np.float64):
    a = np.radians(17.0)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[-1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]) * (0.9, 1.1, 5.3)
    affine[:3, 3] = 91.123456789, -77.7, 13.1
    return affine.astype(dtype).astype(np.float64)


def values():
    return np.random.default_rng(3).random(SHAPE).astype(np.float32)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_an_affine_from_a_float32_header_comes_back_bit_for_bit(tmp_path, name):
    affine = oblique(np.float32)
    write_nifti(tmp_path / name, values(), affine)
    volume = read_volume(tmp_path / name)
    assert np.array_equal(volume.affine, affine)
    assert np.array_equal(volume.array, values())
    assert volume.notes == ()
    write_nifti(tmp_path / f"again-{name}", volume.array, volume.affine)
    assert (tmp_path / f"again-{name}").read_bytes() == (tmp_path / name).read_bytes()


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.npy"])
def test_other_formats_keep_the_affine_in_double_precision(tmp_path, name):
    write_volume(tmp_path / name, Volume(values(), oblique()))
    volume = read_volume(tmp_path / name)
    assert np.allclose(volume.affine, oblique(), rtol=0, atol=1e-12)
    assert np.array_equal(volume.array, values())


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha", "a.npy"])
def test_the_same_volume_gives_the_same_bytes_under_any_name(tmp_path, name):
    volume = Volume(values(), oblique())
    write_volume(tmp_path / name, volume)
    (tmp_path / "later").mkdir()
    write_volume(tmp_path / "later" / f"other-{name}", volume)
    assert (tmp_path / name).read_bytes() == (tmp_path / "later" / f"other-{name}").read_bytes()


def test_gzip_carries_neither_time_nor_file_name(tmp_path):
    write_nifti(tmp_path / "secret.nii.gz", values(), oblique())
    content = (tmp_path / "secret.nii.gz").read_bytes()
    assert content[3] == 0  # flags: no name, no comment
    assert struct.unpack("<I", content[4:8]) == (0,)  # time
    assert b"secret" not in gzip.decompress(content)


def test_the_header_says_both_forms_millimetres_and_no_text(tmp_path):
    write_nifti(tmp_path / "a.nii.gz", values(), oblique())
    header = nib.load(tmp_path / "a.nii.gz").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert np.allclose(header.get_qform(), oblique(), atol=1e-4)
    assert header.get_xyzt_units()[0] == "mm"
    assert all(header[field].item() == b"" for field in ("descrip", "intent_name", "aux_file", "db_name"))


def test_a_sheared_affine_has_no_qform(tmp_path):
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[0, 1] = 0.25
    write_nifti(tmp_path / "a.nii", values(), affine)
    assert int(nib.load(tmp_path / "a.nii").header["qform_code"]) == 0
    volume = read_volume(tmp_path / "a.nii")
    assert np.array_equal(volume.affine, affine)
    assert len(volume.notes) == 1
    for name in ("a.nrrd", "a.mha"):
        write_volume(tmp_path / name, Volume(values(), affine))
        assert np.allclose(read_volume(tmp_path / name).affine, affine, atol=1e-12)


@pytest.mark.parametrize(
    ("array", "dtype", "stored"),
    [
        (np.eye(4)[..., np.newaxis] > 0, None, np.uint8),
        (np.full(SHAPE, 300), None, np.int32),
        (np.full(SHAPE, 200.0), np.uint8, np.uint8),
        (np.full(SHAPE, 0.5), np.float32, np.float32),
    ],
)
def test_voxels_are_stored_in_a_type_that_holds_them(tmp_path, array, dtype, stored):
    write_nifti(tmp_path / "a.nii", array, np.eye(4), dtype=dtype)
    image = nib.load(tmp_path / "a.nii")
    assert image.get_data_dtype() == stored
    assert np.array_equal(np.asarray(image.dataobj), array)


@pytest.mark.parametrize(
    ("value", "dtype"), [(300, np.uint8), (-1, np.uint16), (0.5, np.uint8), (np.nan, np.int16), (2**40, None)]
)
def test_a_type_that_would_change_the_values_is_refused(tmp_path, value, dtype):
    with pytest.raises(ValueError, match="without changing"):
        write_nifti(tmp_path / "a.nii", np.full(SHAPE, value), np.eye(4), dtype=dtype)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(InputError, match="suffix"):
        write_volume(tmp_path / "a.jpg", Volume(values(), oblique()))
    with pytest.raises(ValueError, match=r"\.nii"):
        write_nifti(tmp_path / "a.nrrd", values(), oblique())


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.npy"])
def test_a_folder_that_is_not_there_is_an_error_in_words(tmp_path, name):
    with pytest.raises(InputError) as caught:
        write_volume(tmp_path / "nowhere" / name, Volume(values(), oblique()))
    assert "folder exists" in caught.value.next_step
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.npy"])
def test_a_full_disk_leaves_the_older_file_alone(tmp_path, name):
    write_volume(tmp_path / name, Volume(values(), oblique()))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    big = Volume(np.random.default_rng(0).random((40, 40, 40)), oblique())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(InputError) as caught:
            write_volume(tmp_path / name, big)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "disk is not full" in caught.value.next_step
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_paths_in_any_alphabet_are_written(tmp_path):
    folder = tmp_path / "Ordner ä 头"
    folder.mkdir()
    for name in ("ü.nii.gz", "头.nrrd", "a b.mha", "é.npy"):
        write_volume(folder / name, Volume(values(), oblique()))
        assert np.array_equal(read_volume(folder / name).array, values())
    assert not list(folder.glob(".*"))
