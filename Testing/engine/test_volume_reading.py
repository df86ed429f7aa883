"""Reading of single volumes: the same place from every format, and a sentence for everything that is damaged."""

import gzip
import itertools
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  the name that its own documentation uses

from strokeseg.errors import InputError
from strokeseg.volume.reading import read_volume

MARKER = (1, 4, 2)
SHAPE = (5, 6, 7)


def oblique_affine(spacing=(1.0, 2.0, 3.0), origin=(10.0, -20.0, 30.0)):
    a, b = np.radians(20.0), np.radians(-10.0)
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    rz = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rx @ rz * spacing
    affine[:3, 3] = origin
    return affine.astype(np.float32).astype(np.float64)


def phantom(dtype=np.float32, shape=SHAPE):
    array = np.ones(shape, dtype)
    array[MARKER] = 100
    return array


def marker_mm(volume):
    index = np.unravel_index(np.argmax(volume.array), volume.array.shape)
    return volume.grid.to_world(index)


def expected_mm(affine=None):
    return ((oblique_affine() if affine is None else affine) @ [*MARKER, 1])[:3]


def save_nifti(path, array=None, affine=None, edit=None, kind=nib.Nifti1Image, dtype=None):
    image = kind(phantom() if array is None else array, oblique_affine() if affine is None else affine, dtype=dtype)
    image.set_qform(image.affine, 1)
    image.set_sform(image.affine, 1)
    content = bytearray(image.to_bytes())
    if edit is not None:
        header = (nib.Nifti1Header if kind is nib.Nifti1Image else nib.Nifti2Header)(
            bytes(content[: kind.header_class.sizeof_hdr]), check=False
        )
        edit(header)
        content[: kind.header_class.sizeof_hdr] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(content)) if path.suffix == ".gz" else bytes(content))
    return path


def save_itk(path, array=None, affine=None, compress=False):
    lps = np.diag([-1, -1, 1, 1]) @ (oblique_affine() if affine is None else affine)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray((phantom() if array is None else array).T))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    sitk.WriteImage(image, str(path), compress)
    return path


def save_npy(path, array=None, affine=None):
    np.save(path, phantom() if array is None else array)
    np.save(path.with_name(path.stem + ".affine.npy"), oblique_affine() if affine is None else affine)
    return path


def refusal(path, **kwargs):
    """The three parts of the refusal, after checks that hold for every one of them."""
    with pytest.raises(InputError) as caught:
        read_volume(path, **kwargs)
    error = caught.value
    assert error.title
    assert error.cause
    assert error.next_step
    assert error.exit_code == 3
    assert str(Path(path).parent) not in str(error), "the folder may tell who the patient is"
    return error


# --- the same place from every format -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.nhdr", "a.mha", "a.mhd", "a.npy"])
@pytest.mark.parametrize("compress", [False, True])
def test_a_marker_lies_at_the_same_place_in_every_format(tmp_path, name, compress):
    path = tmp_path / name
    if name.startswith("a.nii"):
        save_nifti(path)
    elif name == "a.npy":
        save_npy(path)
    else:
        save_itk(path, compress=compress)
    volume = read_volume(path)
    assert np.allclose(marker_mm(volume), expected_mm(), atol=1e-4)
    assert np.array_equal(volume.array, phantom())
    assert volume.array.dtype == np.float32
    assert volume.array.flags.c_contiguous
    assert volume.notes == ()
    assert len(volume.sha256) == 64


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", list(itertools.product([False, True], repeat=3)))
def test_all_48_orientations_keep_the_marker_in_place(tmp_path, axes, flips):
    image = nib.Nifti1Image(phantom(), oblique_affine())
    turned = image.as_reoriented([[axis, -1 if flip else 1] for axis, flip in zip(axes, flips, strict=True)])
    nib.save(turned, tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    assert np.allclose(marker_mm(volume), expected_mm(), atol=1e-4)
    assert volume.array.flags.c_contiguous


def test_a_nifti_pair_is_read_from_either_half(tmp_path):
    nib.save(nib.Nifti1Pair(phantom(), oblique_affine()), tmp_path / "a.img")
    one, other = read_volume(tmp_path / "a.img"), read_volume(tmp_path / "a.hdr")
    assert np.allclose(marker_mm(one), expected_mm(), atol=1e-4)
    assert np.array_equal(one.array, other.array)
    assert one.sha256 == other.sha256
    (tmp_path / "a.img").unlink()
    assert "a.img" in refusal(tmp_path / "a.hdr").cause


def test_nifti_2_is_read(tmp_path):
    volume = read_volume(save_nifti(tmp_path / "a.nii.gz", kind=nib.Nifti2Image))
    assert np.allclose(marker_mm(volume), expected_mm(), atol=1e-4)


@pytest.mark.parametrize(
    "name", ["Hirn Schädel ü.nii.gz", "头颅.nii.gz", "with space.nrrd", "schön 头.mha", "头 ä.npy", "a#b.nii"]
)
def test_spaces_and_all_alphabets_are_fine_in_paths(tmp_path, name):
    folder = tmp_path / "Ordner mit Ä 头"
    folder.mkdir()
    path = folder / name
    save = save_nifti if ".nii" in name else save_npy if name.endswith(".npy") else save_itk
    assert np.allclose(marker_mm(read_volume(save(path))), expected_mm(), atol=1e-4)


def test_a_file_name_that_ends_like_a_selector_still_works(tmp_path):
    path = save_nifti(tmp_path / "a.nii")
    odd = tmp_path / "folder#2"
    odd.mkdir()
    assert read_volume(path.rename(odd / "b#1.nii")).array.shape == SHAPE


def test_the_hash_is_that_of_the_files_bytes(tmp_path):
    import hashlib

    path = save_nifti(tmp_path / "a.nii.gz")
    assert read_volume(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    path = save_itk(tmp_path / "a.nrrd")
    assert read_volume(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_reading_is_imported_without_nibabel_and_simpleitk():
    code = (
        "import sys, strokeseg.volume.reading, strokeseg.volume.writing\n"
        "print({'nibabel', 'SimpleITK'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


# --- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_type_of_voxels_and_byte_order_gives_the_same_float32(tmp_path, dtype, order):
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    image = nib.Nifti1Image(phantom(dtype), oblique_affine(), header)
    (tmp_path / "a.nii").write_bytes(image.to_bytes())
    volume = read_volume(tmp_path / "a.nii")
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array, phantom())


def test_slope_and_intercept_are_applied(tmp_path):
    def edit(header):
        header["scl_slope"], header["scl_inter"] = 0.5, -10

    volume = read_volume(save_nifti(tmp_path / "a.nii", phantom(np.int16), edit=edit))
    assert (volume.array[0, 0, 0], volume.array[MARKER]) == (-9.5, 40.0)


@pytest.mark.parametrize("slope", [0.0, np.nan, np.inf])
def test_an_unset_slope_leaves_the_values_alone(tmp_path, slope):
    volume = read_volume(save_nifti(tmp_path / "a.nii", edit=lambda h: h.__setitem__("scl_slope", slope)))
    assert volume.array[MARKER] == 100


def test_adc_in_plain_square_millimetres_keeps_its_digits(tmp_path):
    array = phantom(np.float64) * 7.5e-4
    volume = read_volume(save_nifti(tmp_path / "adc.nii.gz", array), role="adc")
    assert volume.array[0, 0, 0] == pytest.approx(7.5e-4, rel=1e-7)


def test_complex_and_colour_images_are_refused(tmp_path):
    assert "complex" in refusal(save_nifti(tmp_path / "c.nii", phantom(np.complex64))).cause
    colour = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert "colour" in refusal(save_nifti(tmp_path / "rgb.nii", colour)).cause
    assert "type" in refusal(save_nifti(tmp_path / "x.nii", edit=lambda h: h.__setitem__("datatype", 999))).cause


def test_a_few_voxels_without_a_number_become_zero_and_are_counted(tmp_path):
    array = phantom()
    array[0, 0, :2] = np.nan, np.inf  # 2 of 210 voxels: 0.95 %
    volume = read_volume(save_nifti(tmp_path / "a.nii", array))
    assert volume.array[0, 0, :3].tolist() == [0, 0, 1]
    assert volume.notes == ("2 voxels that were not numbers were set to 0.",)
    array[0, 0, 2] = -np.inf  # 3 of 210: 1.4 %
    error = refusal(save_nifti(tmp_path / "b.nii", array))
    assert "3 of its 210 voxels (1.4%)" in error.cause


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_an_image_of_one_value_is_refused_unless_it_is_an_empty_mask(tmp_path, value):
    path = save_nifti(tmp_path / "a.nii", np.full(SHAPE, value, np.float32))
    error = refusal(path, role="dwi")
    assert "as dwi" in error.next_step
    assert f"same value, {value:g}" in error.cause
    for role in ("mask", "reference", "brain_mask"):
        if value == 0:
            assert not read_volume(path, role=role).array.any()
        else:
            assert "mask marks a part" in refusal(path, role=role).cause or role == "reference"


# --- shapes --------------------------------------------------------------------------------------------------------


def test_trailing_axes_of_one_are_dropped(tmp_path):
    volume = read_volume(save_nifti(tmp_path / "a.nii", phantom()[..., np.newaxis]))
    assert volume.array.shape == SHAPE


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1)])
def test_a_single_slice_is_accepted_and_said(tmp_path, shape):
    array = np.ones(shape, np.float32)
    array.flat[0] = 100
    volume = read_volume(save_nifti(tmp_path / "a.nii", array))
    assert volume.array.shape == (5, 6, 1)
    assert any("single slice" in note for note in volume.notes)


@pytest.mark.parametrize(
    "dim", [[3, 0, 6, 7, 1, 1, 1, 1], [3, -5, 6, 7, 1, 1, 1, 1], [0, 5, 6, 7, 1, 1, 1, 1], [1, 5, 1, 1, 1, 1, 1, 1]]
)
def test_impossible_dimensions_are_refused(tmp_path, dim):
    assert "dimensions" in refusal(save_nifti(tmp_path / "a.nii", edit=lambda h: h.__setitem__("dim", dim))).cause


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("dim", [[3, 2000, 2000, 500, 1, 1, 1, 1], [3, 32000, 32000, 32000, 1, 1, 1, 1]])
def test_a_huge_header_on_a_small_file_takes_no_memory(tmp_path, name, dim):
    path = save_nifti(tmp_path / name, edit=lambda h: h.__setitem__("dim", dim))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "promises" in refusal(path).cause
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    )  # KiB; the header asks for 8 GB and more


# --- geometry ------------------------------------------------------------------------------------------------------


def set_forms(header, sform=None, qform=None):
    header.set_sform(oblique_affine() if sform is None else sform, 1)
    header.set_qform(oblique_affine() if qform is None else qform, 1)


def test_disagreeing_sform_and_qform_are_said_with_the_distance(tmp_path):
    moved = oblique_affine(origin=(10.0, -20.0, 35.0))
    volume = read_volume(save_nifti(tmp_path / "a.nii", edit=lambda h: set_forms(h, qform=moved)))
    assert np.allclose(volume.affine, oblique_affine())
    assert "5.0 mm apart" in volume.notes[0]
    close = oblique_affine(origin=(10.0, -20.0, 30.3))  # less than half of the 1 mm voxel
    assert read_volume(save_nifti(tmp_path / "b.nii", edit=lambda h: set_forms(h, qform=close))).notes == ()


@pytest.mark.parametrize("valid", ["sform", "qform"])
def test_the_only_valid_form_is_used(tmp_path, valid):
    other = {"sform": "qform", "qform": "sform"}[valid]
    moved = oblique_affine(origin=(0.0, 0.0, 99.0))

    def edit(header):
        set_forms(header, **{other: moved})
        header[f"{other}_code"] = 0

    volume = read_volume(save_nifti(tmp_path / "a.nii", edit=edit))
    assert np.allclose(volume.affine, oblique_affine(), atol=1e-5)
    assert volume.notes == ()


def test_without_any_form_left_and_right_are_unknown(tmp_path):
    def edit(header):
        header["sform_code"] = header["qform_code"] = 0

    error = refusal(save_nifti(tmp_path / "a.nii", edit=edit))
    assert "left and right cannot be told" in error.cause


@pytest.mark.parametrize("row", [(np.nan, 0, 0, 0), (np.inf, 0, 0, 0), (0, 0, 0, 0)])
def test_a_broken_sform_gives_way_to_the_qform_else_the_image_is_refused(tmp_path, row):
    def edit(header):
        set_forms(header)
        header["srow_x"] = row

    volume = read_volume(save_nifti(tmp_path / "a.nii", edit=edit))
    assert np.allclose(volume.affine, oblique_affine(), atol=1e-4)
    assert "the qform was taken" in volume.notes[0]

    def edit_both(header):
        edit(header)
        header["qform_code"] = 0

    assert "place in the patient is unknown" in refusal(save_nifti(tmp_path / "b.nii", edit=edit_both)).cause


def test_a_singular_sform_gives_way_to_the_qform(tmp_path):
    def edit(header):
        set_forms(header)
        header["srow_x"], header["srow_y"], header["srow_z"] = (1, 1, 0, 0), (0, 0, 2, 0), (0, 0, 0, 0)

    assert "singular" in read_volume(save_nifti(tmp_path / "a.nii", edit=edit)).notes[0]


def test_a_broken_quaternion_is_no_orientation(tmp_path):
    def edit(header):
        header["sform_code"] = 0
        header["quatern_b"] = header["quatern_c"] = 1.0

    assert "qform cannot be used" in refusal(save_nifti(tmp_path / "a.nii", edit=edit)).cause


def test_a_sheared_affine_is_kept_and_said(tmp_path):
    sheared = np.diag([2.0, 2.0, 2.0, 1.0])
    sheared[0, 1] = 0.2  # the second axis leans by atan(0.1) = 5.7 degrees

    def edit(header):
        header.set_sform(sheared, 1)
        header["qform_code"] = 0

    volume = read_volume(save_nifti(tmp_path / "a.nii", edit=edit))
    assert np.allclose(volume.affine, sheared)
    assert "5.7 degrees" in volume.notes[0]


def test_negative_voxel_sizes_and_an_unset_handedness_are_read_as_nibabel_does(tmp_path):
    def edit(header):
        header["sform_code"] = 0
        header["pixdim"][:4] = [0, -1, 2, -3]

    volume = read_volume(save_nifti(tmp_path / "a.nii", edit=edit))
    assert np.allclose(volume.affine, oblique_affine(), atol=1e-5)


def test_handedness_minus_one_mirrors_the_third_axis_only(tmp_path):
    def edit(header):
        header["sform_code"] = 0
        header["pixdim"][0] = -1

    affine = read_volume(save_nifti(tmp_path / "a.nii", edit=edit)).affine
    assert np.allclose(affine[:3, 2], -oblique_affine()[:3, 2], atol=1e-5)
    assert np.allclose(affine[:3, :2], oblique_affine()[:3, :2], atol=1e-5)


@pytest.mark.parametrize(("code", "factor", "word"), [(1, 1e-3, "metres"), (3, 1e3, "micrometres")])
def test_other_units_of_length_become_mm(tmp_path, code, factor, word):
    affine = oblique_affine()
    affine[:3] *= factor

    def edit(header):
        set_forms(header, affine, affine)
        header["xyzt_units"] = code

    volume = read_volume(save_nifti(tmp_path / "a.nii", edit=edit))
    assert np.allclose(volume.affine, oblique_affine(), rtol=1e-5)
    assert word in volume.notes[0]


@pytest.mark.parametrize("spacing", [(0.05, 2, 2), (2, 2, 25), (2000, 2000, 2000)])
def test_an_absurd_spacing_is_refused_with_the_numbers(tmp_path, spacing):
    for save, name in ((save_nifti, "a.nii"), (save_itk, "a.nrrd"), (save_npy, "a.npy")):
        error = refusal(save(tmp_path / name, affine=np.diag([*spacing, 1.0])))
        assert "0.1 to 20 mm" in error.cause
        assert f"{spacing[2]:g}" in error.cause


# --- damaged, missing, wrong -----------------------------------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path):
    assert "no such file" in refusal(tmp_path / "nothing.nii.gz").cause
    assert "nothing.nii.gz" in refusal(tmp_path / "nothing.nii.gz#2").title


def test_a_folder_with_an_image_in_it_points_to_the_image(tmp_path):
    folder = tmp_path / "sub_dwi.nii"
    folder.mkdir()
    save_nifti(folder / "dwi.nii")
    assert "'dwi.nii'" in refusal(folder).next_step
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "folder" in refusal(empty).cause


def test_an_unknown_suffix_and_a_pipe_are_refused(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff" * 100)
    assert "DICOM" in refusal(tmp_path / "a.jpg").next_step
    os.mkfifo(tmp_path / "a.nii")
    assert "neither a file nor a folder" in refusal(tmp_path / "a.nii").cause


def test_a_file_without_permission_is_refused():
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        Path(folder).chmod(0o755)
        path = save_nifti(Path(folder) / "a.nii.gz")
        path.chmod(0)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65534)  # the administrator may read everything: be nobody for a moment
        try:
            error = refusal(path)
        finally:
            if is_root:
                os.seteuid(0)
    assert "permission" in error.cause


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.mhd", "a.nhdr", "a.npy", "a.dcm", "a.hdr"])
@pytest.mark.parametrize(
    "content",
    [b"", b"subject,age\n1,70\n" * 50, gzip.compress(b""), b"\0" * 600],
    ids=["empty", "text", "gz0", "zeros"],
)
def test_what_is_no_image_is_refused(tmp_path, name, content, capfd):
    path = tmp_path / name
    path.write_bytes(content)
    (tmp_path / "a.img").write_bytes(b"")
    refusal(path)
    assert capfd.readouterr() == ("", "")


def test_analyze_is_refused_because_it_knows_no_left_and_right(tmp_path):
    error = refusal(save_nifti(tmp_path / "a.nii", edit=lambda h: h.__setitem__("magic", b"")))
    assert "ANALYZE" in error.cause


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "raw.nrrd", "gz.nrrd", "raw.mha", "gz.mha", "a.npy"])
@pytest.mark.parametrize("keep", [0.02, 0.3, 0.7, 0.9, 0.97, -9, -1])
def test_a_truncated_file_is_refused_without_a_word_on_the_terminal(tmp_path, name, keep, capfd):
    rng = np.random.default_rng(1)
    array = rng.normal(100, 10, (12, 12, 12)).astype(np.float32)
    path = tmp_path / name
    if ".nii" in name:
        save_nifti(path, array)
    elif name == "a.npy":
        save_npy(path, array)
    else:
        save_itk(path, array, compress=name.startswith("gz"))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) if keep > 0 else keep])
    refusal(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha"])
def test_a_broken_compressed_stream_is_refused(tmp_path, name, capfd):
    rng = np.random.default_rng(1)
    array = rng.normal(100, 10, (12, 12, 12)).astype(np.float32)
    path = tmp_path / name
    save_nifti(path, array) if name == "a.nii.gz" else save_itk(path, array, compress=True)
    content = bytearray(path.read_bytes())
    content[-600] ^= 0xFF
    path.write_bytes(content)
    assert "compressed data" in refusal(path).cause
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("old", "new"), [(b"Size = ", b"Size = 1"), (b"CompressedDataSize", b"CompressedDataSiz_")])
def test_a_metaimage_with_a_wrong_compressed_size_is_refused(tmp_path, old, new, capfd):
    path = save_itk(tmp_path / "a.mha", compress=True)
    content = path.read_bytes()
    place = content.index(b"CompressedDataSize")
    path.write_bytes(content[:place] + content[place:].replace(old, new, 1))
    refusal(path)
    assert capfd.readouterr() == ("", "")


def test_gzip_in_several_members_and_plain_content_under_a_gz_name_are_read(tmp_path):
    content = save_nifti(tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(content[:400]) + gzip.compress(content[400:]) + b"\0" * 64)
    (tmp_path / "c.nii.gz").write_bytes(content)
    (tmp_path / "d.nii").write_bytes(gzip.compress(content))
    for name in ("b.nii.gz", "c.nii.gz", "d.nii"):
        assert np.array_equal(read_volume(tmp_path / name).array, phantom())


def test_a_stream_that_goes_on_after_the_image_is_not_unpacked(tmp_path):
    content = save_nifti(tmp_path / "a.nii").read_bytes()
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(content + bytes(300_000_000), 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert np.array_equal(read_volume(tmp_path / "bomb.nii.gz").array, phantom())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_header_texts_stay_out_of_messages(tmp_path):
    def edit(header):
        header["descrip"], header["db_name"], header["aux_file"] = b"DOE^JANE", b"DOE^JANE", b"DOE^JANE"
        header["sform_code"] = header["qform_code"] = 0

    assert "DOE" not in str(refusal(save_nifti(tmp_path / "a.nii", edit=edit)))
    text = save_itk(tmp_path / "a.nrrd").read_bytes().replace(b"left-posterior-superior", b"DOE^JANE")
    (tmp_path / "a.nrrd").write_bytes(text)
    assert "DOE" not in str(refusal(tmp_path / "a.nrrd"))


# --- NRRD, MetaImage, NPY -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", ["right-anterior-superior", "left-anterior-superior", "left-posterior-superior"])
def test_every_patient_space_of_nrrd_gives_the_same_place(tmp_path, space):
    signs = [1 if "right" in space else -1, 1 if "-anterior" in space else -1, 1]
    affine = np.diag([*signs, 1]) @ oblique_affine()
    vectors = " ".join("({:.9g},{:.9g},{:.9g})".format(*affine[:3, i]) for i in range(3))
    origin = "({:.9g},{:.9g},{:.9g})".format(*affine[:3, 3])
    header = (
        f"NRRD0004\ntype: float\ndimension: 3\nspace: {space}\nsizes: 5 6 7\nspace directions: {vectors}\n"
        f"kinds: domain domain domain\nendian: little\nencoding: raw\nspace origin: {origin}\n\n"
    )
    (tmp_path / "a.nrrd").write_bytes(header.encode() + phantom().tobytes(order="F"))
    assert np.allclose(marker_mm(read_volume(tmp_path / "a.nrrd")), expected_mm(), atol=1e-4)


def test_an_orientation_that_is_not_said_is_not_guessed(tmp_path):
    path = save_itk(tmp_path / "a.nrrd")
    path.write_bytes(path.read_bytes().replace(b"left-posterior-superior", b"scanner-xyz"))
    assert "left and right" in refusal(path).cause
    path = save_itk(tmp_path / "a.mha")
    lines = path.read_bytes().split(b"\n", 12)
    path.write_bytes(b"\n".join(line for line in lines if not line.startswith(b"TransformMatrix")))
    assert "left and right" in refusal(path).cause


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.npy"])
def test_huge_and_zero_sizes_in_other_headers_take_no_memory(tmp_path, name, capfd):
    key = {"a.nrrd": b"sizes: ", "a.mha": b"DimSize = ", "a.npy": b"'shape': "}[name]
    for size in (b"9000 9000 9000", b"0 6 7", b"2000 2000 500"):
        path = (save_npy if name == "a.npy" else save_itk)(tmp_path / name)
        old = b"(5, 6, 7)" if name == "a.npy" else b"5 6 7"
        new = b"(" + size.replace(b" ", b", ") + b")" if name == "a.npy" else size
        content = path.read_bytes()
        assert key + old in content
        content = content.replace(key + old, key + new)
        if name == "a.npy":  # the header keeps its length: the filling shrinks
            content = (
                content.replace(b" " * (len(new) - len(old)) + b"\n", b"\n", 1) if len(new) > len(old) else content
            )
        path.write_bytes(content)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        cause = refusal(path).cause
        assert ("promises" if size[0:1] != b"0" else "shape" if name == "a.npy" else "dimensions") in cause
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    assert capfd.readouterr() == ("", "")


def test_a_flat_picture_has_no_place(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.eye(8, dtype=np.float32)), str(tmp_path / "a.mha"))
    assert "2 dimensions" in refusal(tmp_path / "a.mha").cause


def test_a_detached_header_without_its_data_is_refused(tmp_path):
    for name, data in (("a.mhd", "a.raw"), ("b.nhdr", "b.raw")):
        path = save_itk(tmp_path / name)
        assert np.array_equal(read_volume(path).array, phantom())
        (tmp_path / data).write_bytes((tmp_path / data).read_bytes()[:-4])
        assert "840 bytes" in refusal(path).cause  # 5 x 6 x 7 x 4 bytes
        (tmp_path / data).unlink()
        assert "is not there" in refusal(path).cause


def test_an_array_needs_its_affine_and_is_never_unpickled(tmp_path):
    path = save_npy(tmp_path / "a.npy", np.asfortranarray(phantom()))
    assert np.array_equal(read_volume(path).array, phantom())
    np.save(tmp_path / "a.affine.npy", np.eye(3))
    assert "(3, 3)" in refusal(path).cause
    np.save(tmp_path / "a.affine.npy", np.full((4, 4), np.nan))
    refusal(path)
    (tmp_path / "a.affine.npy").unlink()
    assert "'a.affine.npy'" in refusal(path).cause

    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "trapped"),))

    np.save(tmp_path / "b.npy", np.array([[[Trap()]]], dtype=object), allow_pickle=True)
    np.save(tmp_path / "b.affine.npy", np.eye(4))
    assert "object" in refusal(tmp_path / "b.npy").cause
    assert not (tmp_path / "trapped").exists()


def test_real_scans_are_read_as_nibabel_reads_them():
    folder = os.environ.get("STROKESEG_CASES")
    if not folder:
        pytest.skip("the environment variable STROKESEG_CASES names no folder with scans")
    files = sorted(Path(folder).glob("*/*.nii.gz"))
    assert files
    for file in files:
        volume = read_volume(file, role="mask" if file.name == "mask.nii.gz" else "")
        image = nib.load(file)
        assert np.array_equal(volume.affine, image.affine)
        assert np.array_equal(volume.array, np.asarray(image.dataobj, dtype=np.float32))
        assert volume.notes == ()
