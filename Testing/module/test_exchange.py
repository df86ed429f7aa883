"""Volumes between scene and worker: exact in value and place, and no folder stays behind."""

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
import plain_mrml as mrml
import pytest
import slicer
import vtk
from vtk.util.numpy_support import get_vtk_array_type, numpy_to_vtk

from strokeseg.errors import InputError
from strokeseg.volume import read_volume, write_nifti

panel = mrml.panel

AXIAL = np.diag([-2.0, -2.0, 5.0, 1.0])
AXIAL[:3, 3] = (100.0, 120.0, -60.0)
# float32 in the header of a file: 1e-7 of some 300 mm.
EXACT_MM = 5e-5


@pytest.fixture(autouse=True)
def scene(slicerEnvironment):
    mrml.start()
    return slicerEnvironment.scene


def volume(scene, array, affine=AXIAL, name="DWI"):
    """A scalar volume node from an (x, y, z) array."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    image = vtk.vtkImageData()
    image.SetDimensions(array.shape)
    flat = numpy_to_vtk(array.ravel(order="F"), deep=True, array_type=get_vtk_array_type(array.dtype))
    image.GetPointData().SetScalars(flat)
    node.SetAndObserveImageData(image)
    node.SetIJKToRASMatrix(matrix(affine))
    return node


def matrix(array):
    result = vtk.vtkMatrix4x4()
    result.DeepCopy(np.asarray(array, dtype=float).ravel().tolist())
    return result


def under(scene, node, transform):
    """Put a node under a transform: 4x4, or a vtkAbstractTransform."""
    parent = scene.AddNewNodeByClass("vtkMRMLTransformNode", "Moved")
    if isinstance(transform, np.ndarray):
        parent.SetMatrixTransformToParent(matrix(transform))
    else:
        parent.SetAndObserveTransformToParent(transform)
    node.SetAndObserveTransformNodeID(parent.GetID())
    return parent


def turned(degrees, axis=2, shift=(0.0, 0.0, 0.0)):
    """A rotation about an axis, then a shift."""
    a, b = (n for n in range(3) if n != axis)
    result = np.eye(4)
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    result[a, a], result[a, b], result[b, a], result[b, b] = cosine, -sine, sine, cosine
    result[:3, 3] = shift
    return result


def corners(shape):
    return np.array([[x, y, z, 1.0] for x in (0, shape[0]) for y in (0, shape[1]) for z in (0, shape[2])]).T


def apart(affine, other, shape):
    """The farthest that two affines put a corner of a grid apart, mm."""
    return np.abs((np.asarray(affine) - np.asarray(other)) @ corners(shape)).max()


GRIDS = {
    "axial": AXIAL,
    "left-handed": AXIAL @ np.diag([-1.0, 1.0, 1.0, 1.0]),
    "sagittal": np.array([[0, 0, 1.2, -80], [-1.0, 0, 0, 90], [0, -1.0, 0, 110], [0, 0, 0, 1.0]]),
    "oblique": turned(23.0, 0) @ turned(-31.0, 1) @ AXIAL,
    "oblique, left-handed": turned(23.0, 0) @ turned(-31.0, 1) @ AXIAL @ np.diag([1.0, 1.0, -1.0, 1.0]),
}


@pytest.mark.parametrize("grid", GRIDS)
def test_voxels_and_place_are_exact_for_slicer_the_engine_and_nibabel(scene, tmp_path, grid):
    array = np.arange(7 * 5 * 3, dtype=np.int16).reshape(7, 5, 3)
    path = tmp_path / "dwi.nii"
    panel.exchange.writeVolume(volume(scene, array, GRIDS[grid]), path)
    image, engine = nibabel.load(path), read_volume(path)
    np.testing.assert_array_equal(np.asarray(image.dataobj), array)
    np.testing.assert_array_equal(engine.array, array)
    assert apart(image.affine, GRIDS[grid], array.shape) < EXACT_MM
    assert apart(engine.affine, GRIDS[grid], array.shape) < EXACT_MM
    again, affine = panel.exchange.readProbability(path)
    np.testing.assert_array_equal(again, array)
    np.testing.assert_array_equal(affine, image.affine)
    # Slicer's own reader may number the voxels otherwise; a voxel must have its value at its place.
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    toIjk = vtk.vtkMatrix4x4()
    node.GetRASToIJKMatrix(toIjk)
    for voxel in ((0, 0, 0), (6, 0, 0), (0, 4, 0), (0, 0, 2), (3, 4, 1)):
        ras = GRIDS[grid] @ [*voxel, 1.0]
        ijk = np.rint(toIjk.MultiplyPoint(ras.tolist())[:3]).astype(int)
        assert node.GetImageData().GetScalarComponentAsDouble(*ijk.tolist(), 0) == array[voxel]


@pytest.mark.parametrize(
    "kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
)
def test_every_scalar_type_is_written_without_loss(scene, tmp_path, kind):
    array = np.array([[[0, 1], [2, 100]]], dtype=kind) if kind[0] == "u" else np.array([[[-100, 1], [2, 100]]], kind)
    path = tmp_path / "adc.nii"
    panel.exchange.writeVolume(volume(scene, array), path)
    stored = np.asarray(nibabel.load(path).dataobj)
    assert stored.dtype == np.dtype(kind)
    np.testing.assert_array_equal(stored, array)
    np.testing.assert_array_equal(read_volume(path).array, array.astype(np.float32))


def test_rigid_parent_transforms_are_part_of_the_place(scene, tmp_path):
    node = volume(scene, np.ones((4, 4, 4), np.float32))
    inner, outer = turned(30.0, 0, (10, -20, 5)), turned(-80.0, 1, (0, 3, 40))
    parent = under(scene, node, inner)
    under(scene, parent, outer)
    panel.exchange.writeVolume(node, tmp_path / "dwi.nii")
    assert apart(nibabel.load(tmp_path / "dwi.nii").affine, outer @ inner @ AXIAL, (4, 4, 4)) < EXACT_MM


def test_volumes_under_different_transforms_meet_in_the_world(scene, tmp_path):
    """A bright voxel at the same point of the patient in two volumes, one of them moved by its transform."""
    point = np.array([30.0, 20.0, 15.0, 1.0])
    moved = turned(40.0, 2, (25.0, -8.0, 12.0))
    found = []
    for name, affine, transform in (("dwi", AXIAL, None), ("adc", np.linalg.inv(moved) @ AXIAL, moved)):
        array = np.zeros((60, 60, 20), np.int16)
        world = affine if transform is None else transform @ affine
        array[tuple(np.rint(np.linalg.inv(world) @ point).astype(int)[:3])] = 1000
        node = volume(scene, array, affine, name)
        if transform is not None:
            under(scene, node, transform)
        panel.exchange.writeVolume(node, tmp_path / f"{name}.nii")
        read = read_volume(tmp_path / f"{name}.nii")
        found.append((read.affine @ [*np.argwhere(read.array)[0], 1.0])[:3])
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)
    np.testing.assert_allclose(found[0], point[:3], atol=2.5)


def gridTransform():
    grid = vtk.vtkImageData()
    grid.SetDimensions(3, 3, 3)
    grid.SetSpacing(100, 100, 100)
    grid.AllocateScalars(vtk.VTK_DOUBLE, 3)
    grid.GetPointData().GetScalars().Fill(1.0)
    warp = vtk.vtkOrientedGridTransform() if hasattr(vtk, "vtkOrientedGridTransform") else vtk.vtkGridTransform()
    warp.SetDisplacementGridData(grid)
    return warp


@pytest.mark.parametrize(
    "transform",
    [
        np.diag([1.1, 1.0, 1.0, 1.0]),
        np.diag([-1.0, 1.0, 1.0, 1.0]),
        np.array([[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
        gridTransform(),
    ],
    ids=["scales", "mirrors", "shears", "warps"],
)
def test_a_transform_that_is_not_rigid_is_refused_with_the_next_step(scene, tmp_path, transform):
    node = volume(scene, np.ones((4, 4, 4), np.float32))
    under(scene, node, transform)
    with pytest.raises(InputError) as caught:
        panel.exchange.writeVolume(node, tmp_path / "dwi.nii")
    assert "arden" in caught.value.next_step
    assert "'DWI'" in caught.value.title
    assert not (tmp_path / "dwi.nii").exists()


def test_what_is_no_grey_valued_image_is_refused(scene, tmp_path):
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Nothing")
    with pytest.raises(InputError, match="'Nothing' is empty"):
        panel.exchange.writeVolume(empty, tmp_path / "x.nii")
    colours = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "Colours")
    image = vtk.vtkImageData()
    image.SetDimensions(2, 2, 2)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    colours.SetAndObserveImageData(image)
    with pytest.raises(InputError, match="3 values"):
        panel.exchange.writeVolume(colours, tmp_path / "x.nii")


def test_a_place_that_cannot_be_written_is_an_error_in_words(scene, tmp_path):
    with pytest.raises(InputError, match=r"'dwi.nii' could not be written"):
        panel.exchange.writeVolume(volume(scene, np.ones((2, 2, 2), np.int16)), tmp_path / "none" / "dwi.nii")


def test_volumes_are_written_in_steps_even_when_their_node_is_deleted_meanwhile(scene):
    array = np.random.default_rng(1).integers(0, 4000, (128, 128, 80)).astype(np.int16)  # 2.6 MB, three steps
    node = volume(scene, array)
    with panel.exchange.Exchange() as place:
        writing = panel.exchange.VolumesWriting({"dwi": node, "adc": volume(scene, array[:4, :4, :4])}, place)
        steps = 1
        while not writing.step(0.0):
            if steps == 1:
                scene.RemoveNode(node)
                del node
            steps += 1
        assert steps >= 4
        assert writing.paths == {role: str(place.folder / f"{role}.nii") for role in ("dwi", "adc")}
        np.testing.assert_array_equal(panel.exchange.readProbability(writing.paths["dwi"])[0], array)
        assert panel.exchange.readProbability(writing.paths["adc"])[0].shape == (4, 4, 4)


# --- reading


def test_masks_and_probabilities_of_the_engine_are_read_as_they_are(tmp_path):
    mask = np.random.default_rng(2).integers(0, 3, (9, 8, 7)).astype(np.uint8)
    score = np.random.default_rng(3).random((9, 8, 7)).astype(np.float32)
    affine = GRIDS["oblique, left-handed"].astype(np.float32)
    write_nifti(tmp_path / "mask.nii.gz", mask, affine)
    write_nifti(tmp_path / "score.nii.gz", score, affine)
    (labels, place), (probability, _) = (
        panel.exchange.readLabelMap(tmp_path / "mask.nii.gz"),
        panel.exchange.readProbability(tmp_path / "score.nii.gz"),
    )
    np.testing.assert_array_equal(labels, mask)
    np.testing.assert_array_equal(probability, score)
    np.testing.assert_array_equal(place, affine.astype(np.float64))
    assert (labels.dtype, probability.dtype) == (np.uint8, np.float32)
    assert labels.T.flags.c_contiguous


def test_a_scaled_file_is_read_with_its_scaling(tmp_path):
    image = nibabel.Nifti1Image(np.array([[[1, 2], [3, 4]]], np.int16), np.eye(4))
    image.header.set_slope_inter(0.25, 1.0)
    image.header["scl_slope"], image.header["scl_inter"] = 0.25, 1.0
    content = bytearray(image.to_bytes())
    content[112:120] = np.array([0.25, 1.0], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    array, _ = panel.exchange.readProbability(tmp_path / "a.nii")
    np.testing.assert_array_equal(array, [[[1.25, 1.5], [1.75, 2.0]]])


def test_damaged_files_are_refused_in_words(tmp_path):
    write_nifti(tmp_path / "whole.nii", np.zeros((3, 3, 3), np.uint8), np.eye(4))
    write_nifti(tmp_path / "whole.nii.gz", np.random.default_rng(0).random((9, 9, 9)), np.eye(4))
    write_nifti(tmp_path / "series.nii", np.zeros((3, 3, 3, 2), np.uint8), np.eye(4))
    whole, packed = (tmp_path / "whole.nii").read_bytes(), (tmp_path / "whole.nii.gz").read_bytes()
    damages = {
        "cut.nii": (whole[:-1], "cut off"),
        "cut.nii.gz": (packed[:-9], "cut off"),
        "spoilt.nii.gz": (packed[:40] + b"\0" * 40 + packed[80:], "invalid"),
        "text.nii": (b"hello", "no NIfTI"),
        "empty.nii": (b"", "no NIfTI"),
        "series.nii": ((tmp_path / "series.nii").read_bytes(), "not one volume"),
    }
    for name, (content, words) in damages.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=words) as caught:
            panel.exchange.readLabelMap(tmp_path / name)
        assert name in caught.value.title
    with pytest.raises(InputError, match=r"'none.nii'.*No such file"):
        panel.exchange.readLabelMap(tmp_path / "none.nii")


# --- the folder


def test_the_folder_ends_with_its_block_also_after_an_error():
    place = panel.exchange.Exchange()
    (place.folder / "result").mkdir()
    (place.folder / "result" / "summary.json").write_text("{}")
    assert place.folder.stat().st_mode & 0o077 == 0  # nobody else's eyes
    with pytest.raises(RuntimeError, match="stop"), place:
        raise RuntimeError("stop")
    assert not place.folder.exists()
    place.close()  # again does no harm


def test_the_folder_has_an_ascii_path_though_the_users_has_not(tmp_path, monkeypatch):
    users = tmp_path / "Ärzte 空 x"
    users.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(users))
    with panel.exchange.Exchange() as place:
        assert str(place.folder).isascii()
        assert users not in place.folder.parents
    monkeypatch.setattr(panel.exchange, "_otherPlaces", lambda _: ())
    with panel.exchange.Exchange() as place:
        assert place.folder.parent == users.resolve()  # better there than nowhere


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


LIVING = """
import sys, types
sys.path[:] = PATHS
import slicer
slicer.i18n = sys.modules["slicer.i18n"] = types.ModuleType("slicer.i18n")
slicer.i18n.tr = str
from StrokeSegLib.exchange import Exchange
place = Exchange()
print(place.folder, flush=True)
sys.stdin.read()
"""


def test_the_folder_of_a_killed_process_is_removed_at_the_next_start_and_that_of_a_living_one_is_not(temporary):
    code = LIVING.replace("PATHS", repr(sys.path))
    environment = {**os.environ, "TMPDIR": str(temporary)}
    others = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        for _ in range(2)
    ]
    folders = [Path(other.stdout.readline().strip()) for other in others]
    others[0].kill()
    others[0].wait(10)
    assert [folder.is_dir() for folder in folders] == [True, True]
    panel.exchange.Exchange().close()
    assert [folder.is_dir() for folder in folders] == [False, True]
    others[1].communicate(timeout=20)
    assert not folders[1].exists()
    others[0].communicate()


def test_only_abandoned_folders_of_ours_are_removed(temporary):
    other = temporary / "somebody-elses"
    fresh, old, link = (temporary / f"{panel.exchange.PREFIX}{name}" for name in ("fresh", "old", "link"))
    for folder in (other, fresh, old):
        folder.mkdir()
        (folder / "file").touch()
    link.symlink_to(other)
    long_ago = time.time() - 2 * 3600
    os.utime(old, (long_ago, long_ago))
    panel.exchange.Exchange().close()
    assert [folder.exists() for folder in (other / "file", fresh, link, old)] == [True, True, True, False]


def test_a_folder_that_was_cleared_away_while_it_was_made_is_made_anew(temporary, monkeypatch):
    """Another Slicer took the lock between the making of the folder and ours."""
    made, real = [], fcntl.flock

    def first_fails(file, how):
        made.append(file.name)
        if len(made) == 1:
            raise BlockingIOError
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", first_fails)
    with panel.exchange.Exchange() as place:
        assert len(set(made)) == 2
        assert str(place.folder) == str(Path(made[1]).parent)
