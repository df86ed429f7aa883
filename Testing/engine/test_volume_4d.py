"""Images of several volumes: the b-value chooses, or the person does."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  the name that its own documentation uses

from strokeseg.errors import InputError
from strokeseg.volume.reading import available_b_values, read_dwi_and_b0, read_volume
from strokeseg.volume.series import shells

SHAPE = (3, 4, 5)
AFFINE = np.diag([2.0, 2.0, 4.0, 1.0])


def volume_of(value):
    """Everything `value`, one voxel five times as bright."""
    array = np.full(SHAPE, value, np.float32)
    array[1, 2, 3] *= 5
    return array


def save(path, values, b_values=None):
    nib.save(nib.Nifti1Image(np.stack([volume_of(v) for v in values], axis=3), AFFINE), path)
    if b_values is not None:
        path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".bval").write_text(
            " ".join(str(b) for b in b_values)
        )
    return path


def refusal(path, **kwargs):
    with pytest.raises(InputError) as caught:
        read_volume(path, **kwargs)
    assert str(path.parent) not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("role", ["dwi", ""])
def test_the_shell_at_1000_becomes_its_geometric_mean(tmp_path, role):
    path = save(tmp_path / "a.nii.gz", [100, 4, 16, 1], [0, 1000, 995, 2000])
    volume = read_volume(path, role=role)
    assert volume.array[0, 0, 0] == pytest.approx(8)  # sqrt(4 * 16)
    assert volume.array[1, 2, 3] == pytest.approx(40)
    assert volume.b_value == 997.5
    assert volume.array.dtype == np.float32
    assert volume.array.flags.c_contiguous
    assert volume.notes == (
        "Of the 4 volumes the geometric mean of 2 volumes at b = 998 s/mm² was used; "
        "the image has 1 at b = 0, 2 at b = 998, 1 at b = 2000.",
    )


def test_a_value_of_zero_or_below_makes_the_geometric_mean_zero(tmp_path):
    array = np.stack([volume_of(4), volume_of(16)], axis=3)
    array[0, 0, 0, 0], array[0, 0, 1, 0] = 0, -3
    nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "a.nii")
    (tmp_path / "a.bval").write_text("1000 1000")
    volume = read_volume(tmp_path / "a.nii", role="dwi")
    assert volume.array[0, 0, :3].tolist() == pytest.approx([0, 0, 8])
    assert len(volume.notes) == 1


def test_b0_is_the_mean_of_all_volumes_up_to_50(tmp_path):
    path = save(tmp_path / "a.nii", [100, 4, 130, 7], [0, 1000, 50, 60])
    volume = read_volume(path, role="b0")
    assert volume.array[0, 0, 0] == 115
    assert volume.b_value == 25
    assert "the mean of 2 volumes" in volume.notes[0]


@pytest.mark.parametrize(
    ("b_values", "chosen"),
    [
        ([0, 700, 1300], 700),  # both within 300 and equally close: the lower
        ([0, 800, 1500, 3000], 800),
        ([0, 500, 600, 1400, 1500, 3000], 1500),  # none within 300 of 1000: the highest up to 1500
        ([0, 400], 400),
        ([0, 2000, 3000], 2000),
    ],
)
def test_without_1000_the_documented_neighbour_is_taken(tmp_path, b_values, chosen):
    path = save(tmp_path / "a.nii", range(1, len(b_values) + 1), b_values)
    assert read_volume(path, role="dwi").b_value == chosen


def test_the_requested_shell_is_taken(tmp_path):
    path = save(tmp_path / "a.nii", [1, 2, 3], [0, 1000, 2000])
    volume = read_volume(path, role="dwi", b_value=1990)
    assert (volume.array[0, 0, 0], volume.b_value) == (3, 2000)
    assert read_volume(path, role="dwi", b_value=0).array[0, 0, 0] == 1
    error = refusal(path, role="dwi", b_value=1500)
    assert "b = 1500" in error.cause
    assert "1 at b = 1000" in error.cause


def test_a_number_chooses_a_volume(tmp_path):
    path = save(tmp_path / "a.nii.gz", [1, 2, 3], [0, 1000, 2000])
    volume = read_volume(f"{path}#2", role="adc")
    assert (volume.array[0, 0, 0], volume.b_value) == (3, 2000)
    assert volume.notes == ("Volume #2 of 3 was used.",)
    assert "#3 was asked for, but it has 3" in refusal(path.with_name("a.nii.gz#3")).cause


def test_without_b_values_the_choices_are_offered(tmp_path):
    path = save(tmp_path / "a.nii.gz", [58, 116])
    for role in ("dwi", "b0", ""):
        error = refusal(path, role=role)
        # 59 voxels of v and one of 5 v: the mean is 64/60 v
        assert "#0 (mean 61.87), #1 (mean 123.7)" in error.cause
        assert "a.nii.gz#1" in error.next_step
        assert ".bval" in error.next_step


@pytest.mark.parametrize("role", ["adc", "t1", "flair", "mask"])
def test_other_roles_need_a_number_even_with_b_values(tmp_path, role):
    error = refusal(save(tmp_path / "a.nii", [1, 2], [0, 1000]), role=role)
    assert "#1 (b = 1000, mean" in error.cause


def test_a_list_of_another_length_is_refused(tmp_path):
    error = refusal(save(tmp_path / "a.nii", [1, 2], [0, 1000, 1000]))
    assert "2 volumes" in error.cause
    assert "3 b-values" in error.cause


@pytest.mark.parametrize("text", ["0 many", "0 -5", "0 nan"])
def test_a_list_that_holds_no_b_values_is_refused(tmp_path, text):
    path = save(tmp_path / "a.nii", [1, 2])
    (tmp_path / "a.bval").write_text(text)
    assert "a.bval" in refusal(path).cause


def test_a_series_without_weighting_or_without_b0_says_so(tmp_path):
    assert "no volume with diffusion weighting" in refusal(save(tmp_path / "a.nii", [1, 2], [0, 5]), role="dwi").cause
    assert "2 at b = 1000" in refusal(save(tmp_path / "b.nii", [1, 2], [1000, 1000]), role="b0").cause


def test_one_volume_takes_its_b_value_from_the_list_beside_it(tmp_path):
    path = save(tmp_path / "a.nii", [2], [1000])
    volume = read_volume(path, role="dwi")
    assert (volume.b_value, volume.notes) == (1000, ())
    assert "b = 500" in refusal(path, role="dwi", b_value=500).cause
    save(tmp_path / "trace.nii", [2], [0, 1000, 1000])  # the list of the series that it was made from
    assert read_volume(tmp_path / "trace.nii").b_value is None


def test_bids_lists_apply_to_images_made_from_the_same_scan(tmp_path):
    (tmp_path / "sub-1_dwi.bval").write_text("0\n1000\n")
    (tmp_path / "sub-2_dwi.bval").write_text("0 2000")
    path = save(tmp_path / "sub-1_desc-denoised_dwi.nii.gz", [1, 2])
    assert available_b_values(path) == [0, 1000]
    assert available_b_values(save(tmp_path / "sub-1_T1w.nii.gz", [1, 2])) is None


def test_the_b_values_are_known_without_reading_voxels(tmp_path):
    path = save(tmp_path / "a.nii", [1, 2, 3], [0, 1000, 2000])
    content = bytearray(path.read_bytes())
    path.write_bytes(content)
    assert available_b_values(path) == [0, 1000, 2000]
    assert available_b_values(f"{path}#1") == [1000]
    (tmp_path / "a.bval").unlink()
    assert available_b_values(path) is None


def test_both_images_come_from_one_file(tmp_path):
    path = save(tmp_path / "a.nii", [90, 4, 16, 110], [0, 1000, 1000, 0])
    dwi, b0 = read_dwi_and_b0(path)
    assert dwi.array[0, 0, 0] == pytest.approx(8)
    assert b0.array[0, 0, 0] == 100
    assert dwi.sha256 == b0.sha256
    assert read_dwi_and_b0(f"{path}#1")[1] is None
    assert read_dwi_and_b0(save(tmp_path / "b.nii", [4, 5], [1000, 1000]))[1] is None
    assert read_dwi_and_b0(save(tmp_path / "c.nii", [4]))[1] is None


def test_a_fifth_axis_is_refused(tmp_path):
    array = np.ones((*SHAPE, 2, 3), np.float32)
    nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "a.nii")
    assert "more than four" in refusal(tmp_path / "a.nii").cause


@pytest.mark.parametrize("kind", ["vector.nrrd", "vector.mha", "list.nrrd", "four.mha", "four.npy"])
def test_volumes_of_other_formats_are_told_apart(tmp_path, kind):
    path = tmp_path / kind
    stacked = np.stack([volume_of(1), volume_of(2)], axis=3)
    if kind.startswith("vector"):
        image = sitk.GetImageFromArray(np.ascontiguousarray(stacked.transpose(2, 1, 0, 3)), isVector=True)
        image.SetSpacing((2, 2, 4))
        sitk.WriteImage(image, str(path))
    elif kind == "four.mha":
        image = sitk.GetImageFromArray(np.ascontiguousarray(stacked.T), isVector=False)
        image.SetSpacing((2, 2, 4, 1))
        sitk.WriteImage(image, str(path))
    elif kind == "four.npy":
        np.save(path, stacked)
        np.save(tmp_path / "four.affine.npy", AFFINE)
    else:
        save_diffusion_nrrd(path, stacked, "")
    for number in (0, 1):
        volume = read_volume(f"{path}#{number}")
        assert np.array_equal(volume.array, volume_of(number + 1))
        assert volume.grid.spacing_mm == pytest.approx((2, 2, 4))
    assert "#1 (mean" in refusal(path, role="dwi").cause


def save_diffusion_nrrd(path, stacked, pairs):
    x, y, z, n = stacked.shape
    header = (
        f"NRRD0005\ntype: float\ndimension: 4\nspace: left-posterior-superior\nsizes: {x} {y} {z} {n}\n"
        "space directions: (2,0,0) (0,2,0) (0,0,4) none\nkinds: space space space list\nendian: little\n"
        f"encoding: raw\nspace origin: (0,0,0)\n{pairs}\n"
    )
    path.write_bytes(header.encode() + stacked.tobytes(order="F"))


def test_a_diffusion_nrrd_brings_its_b_values(tmp_path):
    pairs = (
        "modality:=DWMRI\nDWMRI_b-value:=1000\nDWMRI_gradient_0000:=0 0 0\nDWMRI_gradient_0001:=1 0 0\n"
        "DWMRI_gradient_0002:=0 0.5 0.5\n"  # squared length 0.5: b = 500
    )
    path = tmp_path / "a.nrrd"
    save_diffusion_nrrd(path, np.stack([volume_of(v) for v in (9, 5, 7)], axis=3), pairs)
    assert available_b_values(path) == [0, 1000, 500]
    assert read_volume(path, role="dwi").array[0, 0, 0] == 5


def test_shells_are_told_apart_by_gaps_and_b0_stands_alone():
    assert shells([0, 1000, 995, 5]) == [[0, 3], [2, 1]]
    assert shells([40, 60, 0]) == [[2, 0], [1]]
    assert shells([1000]) == [[0]]
