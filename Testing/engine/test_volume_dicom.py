"""DICOM series: slices sorted by place, scaled one by one, split by b-value, refused when they make up no volume."""

import hashlib
import random
import resource
import struct

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  the name that its own documentation uses

from strokeseg.errors import InputError
from strokeseg.volume.reading import available_b_values, read_dwi_and_b0, read_volume

SHAPE = (5, 6, 8)
MARKER = (1, 4, 6)
SPACING = (1.5, 2.0, 5.0)
ORIGIN_LPS = np.array([-10.0, 20.0, 30.5])
ANGLE = np.radians(20.0)
ROW = np.array([1.0, 0.0, 0.0])
COLUMN = np.array([0.0, np.cos(ANGLE), np.sin(ANGLE)])
NORMAL = np.array([0.0, -np.sin(ANGLE), np.cos(ANGLE)])
SECRET = "DOE^JANE"


def phantom(value=10):
    array = np.full(SHAPE, value, np.int16)
    array[MARKER] = 20 * value
    return array


def marker_ras():
    """Worked out from the tags, not from an affine: along rows, columns and slices, then LPS to RAS."""
    lps = ORIGIN_LPS + MARKER[0] * 1.5 * ROW + MARKER[1] * 2.0 * COLUMN + MARKER[2] * 5.0 * NORMAL
    return lps * (-1, -1, 1)


def numbers(values):
    return "\\".join(f"{v:.8g}" for v in values)


def save_slice(path, pixels, position, tags=None, orientation=(*ROW, *COLUMN), series="1.2.3.4", instance=1):
    image = sitk.GetImageFromArray(np.ascontiguousarray(pixels.T))
    image.SetSpacing(SPACING[:2])
    standard = {
        "0008|0060": "MR",
        "0008|0008": "ORIGINAL\\PRIMARY\\DIFFUSION",
        "0008|103e": SECRET,
        "0010|0010": SECRET,
        "0018|0050": "5",
        "0020|000d": "1.2.3",
        "0020|000e": series,
        "0020|0011": series.rpartition(".")[2],
        "0020|0013": str(instance),
        "0020|0032": numbers(position),
        "0020|0037": numbers(orientation),
    }
    for key, value in (standard | (tags or {})).items():
        image.SetMetaData(key, value)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(path))
    writer.Execute(image)
    return path


def save_series(folder, array=None, tags=None, places=None, shift=0.0, first=1, **kwargs):
    """One file a slice, under names whose order has nothing to do with the slices' order."""
    array = phantom() if array is None else array
    folder.mkdir(exist_ok=True)
    order = list(range(SHAPE[2])) if places is None else list(places)
    names = [f"IM{first + i:04d}.dcm" for i in range(len(order))]
    random.Random(5).shuffle(names)
    for count, (k, name) in enumerate(zip(order, names, strict=True)):
        position = ORIGIN_LPS + k * 5.0 * NORMAL + k * shift * COLUMN
        own = tags(k) if callable(tags) else tags
        save_slice(folder / name, array[:, :, int(k)], position, own, instance=first + count, **kwargs)
    return folder


def marker_of(volume):
    return volume.grid.to_world(np.unravel_index(np.argmax(volume.array), volume.array.shape))


def refusal(path, **kwargs):
    with pytest.raises(InputError) as caught:
        read_volume(path, **kwargs)
    error = caught.value
    assert SECRET not in str(error)
    assert str(path.parent) not in str(error)
    assert error.next_step
    return error


@pytest.fixture(autouse=True)
def silent_terminal(capfd):
    yield
    assert capfd.readouterr() == ("", "")


# --- place and values ------------------------------------------------------------------------------------------------


def test_a_marker_lies_where_the_tags_say(tmp_path):
    folder = save_series(tmp_path / "series")
    volume = read_volume(folder)
    assert np.allclose(marker_of(volume), marker_ras(), atol=1e-3)
    assert np.array_equal(volume.array, phantom())
    assert volume.grid.spacing_mm == pytest.approx(SPACING, abs=1e-4)
    assert volume.array.dtype == np.float32
    assert volume.array.flags.c_contiguous
    assert volume.notes == ()
    hashes = sorted(hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir())
    assert volume.sha256 == hashlib.sha256("".join(hashes).encode()).hexdigest()


def test_any_file_of_a_series_stands_for_the_series(tmp_path):
    folder = save_series(tmp_path / "series")
    whole = read_volume(folder)
    save_series(folder, phantom(3), series="1.2.3.9", first=100)
    (folder / "notes.txt").write_text("not DICOM")
    for name in ("IM0001.dcm", "IM0008.dcm"):
        one = read_volume(folder / name)
        assert np.array_equal(one.array, whole.array)
        assert one.sha256 == whole.sha256
    (folder / "IM0101.dcm").rename(folder / "101")  # files from an archive have no suffix
    assert read_volume(folder / "101").array[0, 0, 0] == 3


def test_a_series_stored_from_top_to_bottom_gives_the_same_place(tmp_path):
    volume = read_volume(save_series(tmp_path / "series", places=range(SHAPE[2])[::-1]))
    assert np.allclose(marker_of(volume), marker_ras(), atol=1e-3)


def test_every_slice_is_scaled_by_its_own_factor(tmp_path):
    # Stored values are (v + 3) / slope: SimpleITK writes so that slope * stored - 3 is v.
    array = phantom(9)  # 9 + 3 and 180 + 3 divide by 1 and by 3
    folder = save_series(
        tmp_path / "series", array, tags=lambda k: {"0028|1052": "-3", "0028|1053": "3" if k % 2 else "1"}
    )
    assert np.array_equal(read_volume(folder).array, array)


def test_fractions_in_the_scaling_are_kept(tmp_path):
    folder = save_series(tmp_path / "series", tags={"0028|1052": "0", "0028|1053": "2"})
    for path in folder.iterdir():  # 2.0 becomes 0.5 in a place of the same length
        content = path.read_bytes()
        old = struct.pack("<HHI", 0x0028, 0x1053, 2) + b"2 "
        assert content.count(old) == 1
        path.write_bytes(content.replace(old, old[:-2] + b".5"))
    volume = read_volume(folder)
    assert volume.array[0, 0, 0] == 2.5  # 10 was stored as 5
    assert volume.array[MARKER] == 50


def test_a_multi_frame_file_is_read_with_its_frames_places(tmp_path):
    array = phantom()
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(SPACING)
    image.SetOrigin(ORIGIN_LPS.tolist())
    image.SetDirection(np.column_stack([ROW, COLUMN, NORMAL]).ravel().tolist())
    image.SetMetaData("0008|0060", "MR")
    sitk.WriteImage(image, str(tmp_path / "enhanced.dcm"))
    volume = read_volume(tmp_path / "enhanced.dcm")
    assert np.allclose(marker_of(volume), marker_ras(), atol=1e-3)
    assert np.array_equal(volume.array, array)
    content = (tmp_path / "enhanced.dcm").read_bytes()
    position = struct.pack("<HH", 0x0020, 0x0032)
    assert content.count(position) == SHAPE[2]
    (tmp_path / "enhanced.dcm").write_bytes(content.replace(position, struct.pack("<HH", 0x0021, 0x0032), 1))
    assert "7 position(s)" in refusal(tmp_path / "enhanced.dcm").cause


def test_a_single_slice_takes_its_thickness_and_says_so(tmp_path):
    save_slice(tmp_path / "a.dcm", phantom()[:, :, 6], ORIGIN_LPS + 30 * NORMAL)
    volume = read_volume(tmp_path / "a.dcm")
    assert volume.array.shape == (5, 6, 1)
    assert volume.grid.spacing_mm == pytest.approx(SPACING, abs=1e-4)
    assert np.allclose(marker_of(volume), marker_ras(), atol=1e-3)
    assert "single slice" in volume.notes[0]


def test_exact_copies_are_left_out(tmp_path):
    folder = save_series(tmp_path / "series")
    (folder / "copy.dcm").write_bytes((folder / "IM0003.dcm").read_bytes())
    volume = read_volume(folder)
    assert volume.array.shape == SHAPE
    assert "1 file(s)" in volume.notes[0]


# --- refused ---------------------------------------------------------------------------------------------------------


def test_a_missing_slice_is_refused_with_the_gap(tmp_path):
    error = refusal(save_series(tmp_path / "series", places=[0, 1, 2, 4, 5, 6, 7]))
    assert "1 slice(s) are missing: after slice 3 comes a gap of 10.00 mm, elsewhere it is 5.00 mm" in error.cause


def test_a_doubled_slice_is_refused(tmp_path):
    error = refusal(save_series(tmp_path / "series", places=[0, 1, 2, 2, 3, 4, 5, 6, 7]))
    assert "1 place(s) are there 2 times" in error.cause


def test_uneven_spacing_is_refused(tmp_path):
    error = refusal(save_series(tmp_path / "series", places=[0, 1, 2, 3.3, 4, 5, 6, 7]))
    assert "from 3.50 to 6.50 mm" in error.cause


def test_a_tilted_scanner_is_refused_with_the_angle(tmp_path):
    # 0.5 mm aside every 5 mm: atan(0.1) = 5.7 degrees; 3.5 mm over seven steps
    error = refusal(save_series(tmp_path / "series", shift=0.5))
    assert "3.5 mm" in error.cause
    assert "5.7 degrees" in error.cause


def test_a_localizer_is_refused_by_its_slices_and_by_its_mark(tmp_path):
    folder = save_series(tmp_path / "three")
    save_slice(folder / "sagittal.dcm", phantom()[:, :, 0], ORIGIN_LPS, orientation=(0, 1, 0, 0, 0, -1), instance=99)
    assert "2 different orientations" in refusal(folder).cause
    marked = save_series(tmp_path / "marked", tags={"0008|0008": "ORIGINAL\\PRIMARY\\LOCALIZER"})
    assert "localizer" in refusal(marked).cause
    mosaic = save_series(tmp_path / "mosaic", tags={"0008|0008": "ORIGINAL\\PRIMARY\\M\\ND\\MOSAIC"})
    assert "mosaic" in refusal(mosaic).cause


def test_several_series_are_refused_with_numbers_and_without_descriptions(tmp_path):
    folder = save_series(tmp_path / "study")
    save_series(folder, phantom(3), series="1.2.3.9", first=100, places=range(3))
    error = refusal(folder)
    assert "series 4 (MR, 8 files" in error.cause
    assert "series 9 (MR, 3 files, for example 'IM0100.dcm')" in error.cause
    assert "any file" in error.next_step


def test_slices_of_different_size_are_refused(tmp_path):
    folder = save_series(tmp_path / "series")
    save_slice(folder / "odd.dcm", np.ones((4, 4), np.int16), ORIGIN_LPS + 40 * NORMAL, instance=9)
    assert "4 x 4, 5 x 6 voxels" in refusal(folder).cause


@pytest.mark.parametrize(("element", "word"), [(0x0032, "where in the patient"), (0x0037, "where in the patient")])
def test_a_picture_without_a_place_is_refused(tmp_path, element, word):
    path = save_slice(tmp_path / "a.dcm", phantom()[:, :, 6], ORIGIN_LPS)
    hide(path, 0x0020, element)
    assert word in refusal(path).cause


def test_a_picture_without_voxel_size_is_refused(tmp_path):
    path = save_slice(tmp_path / "a.dcm", phantom()[:, :, 6], ORIGIN_LPS)
    hide(path, 0x0028, 0x0030)
    assert "voxel size" in refusal(path).cause


def hide(path, group, element):
    """Give an element a tag that nobody reads, with the order of tags kept."""
    content = path.read_bytes()
    old = struct.pack("<HH", group, element)
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, struct.pack("<HH", group, element + 1)))


@pytest.mark.parametrize("cut", [-2, -40, 600, 200, 132])
def test_a_truncated_slice_is_refused_in_the_folder_and_alone(tmp_path, cut):
    folder = save_series(tmp_path / "series")
    path = folder / "IM0004.dcm"
    path.write_bytes(path.read_bytes()[:cut])
    refusal(path)
    refusal(folder)


def test_a_huge_size_in_the_header_takes_no_memory(tmp_path):
    path = save_slice(tmp_path / "a.dcm", phantom()[:, :, 6], ORIGIN_LPS)
    content = path.read_bytes()
    for element, value in ((0x0010, 6), (0x0011, 5)):
        old = struct.pack("<HHIH", 0x0028, element, 2, value)
        assert content.count(old) == 1
        content = content.replace(old, old[:-2] + b"\xff\xff")
    path.write_bytes(content)
    assert "promises" in refusal(path).cause


def test_an_element_longer_than_the_file_takes_no_memory(tmp_path):
    path = save_slice(tmp_path / "a.dcm", phantom()[:, :, 6], ORIGIN_LPS)
    content = path.read_bytes()
    old = struct.pack("<HHI", 0x0010, 0x0010, len(SECRET))
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, old[:4] + struct.pack("<I", 2_000_000_000)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "promises 2,000,000,000 bytes" in refusal(path).cause
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_an_unknown_encoding_is_refused(tmp_path):
    path = save_slice(tmp_path / "a.dcm", phantom()[:, :, 6], ORIGIN_LPS)
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2\0", b"1.2.840.10008.9.2\0"))
    assert "encoded" in refusal(path).cause


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    folder = tmp_path / "series"
    folder.mkdir()
    (folder / "readme.txt").write_text("nothing")
    assert "no file in it is DICOM" in refusal(folder).cause
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    assert "no file in it is DICOM" in refusal(folder).cause


# --- b-values --------------------------------------------------------------------------------------------------------

STANDARD = {"0018|9087": "{b}"}
SIEMENS = {"0019|0010": "SIEMENS MR HEADER", "0019|100c": "{b}"}
GE = {"0043|0010": "GEMS_PARM_01", "0043|1039": "{ge}\\6\\0\\0"}


def b_tags(kind, b):
    return {key: value.format(b=b, ge=1_000_000_000 + b) for key, value in kind.items()}


@pytest.mark.parametrize("kind", [STANDARD, SIEMENS, GE], ids=["standard", "siemens", "ge"])
def test_the_b_value_is_found_where_each_maker_writes_it(tmp_path, kind):
    volume = read_volume(save_series(tmp_path / "series", tags=b_tags(kind, 800)), role="dwi")
    assert volume.b_value == 800
    assert volume.notes == ()


def test_another_makers_private_element_is_not_a_b_value(tmp_path):
    folder = save_series(tmp_path / "series", tags=b_tags(SIEMENS, 800))
    for path in folder.iterdir():
        content = path.read_bytes()
        assert b"SIEMENS MR HEADER" in content
        path.write_bytes(content.replace(b"SIEMENS MR HEADER", b"GEMS_ACQU_01     "))
    assert read_volume(folder).b_value is None


def test_a_series_of_several_b_values_is_split_like_a_4d_image(tmp_path):
    folder = tmp_path / "series"
    for first, value, b in ((1, 50, 0), (101, 4, 1000), (201, 16, 1000)):
        save_series(folder, phantom(value), tags=b_tags(SIEMENS, b), first=first)
    assert available_b_values(folder) == [0, 1000, 1000]
    dwi, b0 = read_dwi_and_b0(folder)
    assert dwi.array[0, 0, 0] == pytest.approx(8)  # sqrt(4 * 16)
    assert dwi.b_value == 1000
    assert "geometric mean of 2" in dwi.notes[0]
    assert b0.array[0, 0, 0] == 50
    assert np.allclose(marker_of(dwi), marker_ras(), atol=1e-3)
    assert read_volume(folder.with_name("series#2"), role="dwi").array[0, 0, 0] == 16
    assert "#1 (b = 1000, mean" in refusal(folder, role="adc").cause


def test_a_series_of_several_time_points_without_b_values_offers_the_choices(tmp_path):
    folder = save_series(tmp_path / "series")
    save_series(folder, phantom(30), first=101)
    # 239 voxels of v and one of 20 v: the mean is 259/240 v
    assert "#0 (mean 10.79), #1 (mean 32.38)" in refusal(folder, role="dwi").cause
    assert read_volume(folder.with_name("series#1")).array[0, 0, 0] == 30


def test_volumes_with_different_slices_are_refused(tmp_path):
    folder = save_series(tmp_path / "series", tags=b_tags(STANDARD, 0))
    save_series(folder, phantom(4), tags=b_tags(STANDARD, 1000), first=101, places=range(6))
    assert "8 and 6 slices" in refusal(folder).cause


def test_names_in_any_alphabet_are_read(tmp_path):
    folder = save_series(tmp_path / "Schädel 头 1")
    path = (folder / "IM0001.dcm").rename(folder / "ä 头.dcm")
    assert np.array_equal(read_volume(folder).array, read_volume(path).array)
