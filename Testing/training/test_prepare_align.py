"""Alignment: one grid through the affines, the frame around the brain, the way back, and channels of the recipes."""

from __future__ import annotations

import shutil
from itertools import permutations, product
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="prepared data sets need torch, which is not installed")

from data_phantom import recipe_data, write_patients  # noqa: E402

from strokeseg.case import Case  # noqa: E402
from strokeseg.errors import InputError  # noqa: E402
from strokeseg.events import Monitor  # noqa: E402
from strokeseg.models import parse_card  # noqa: E402
from strokeseg.prepare import ModelGrid, prepare  # noqa: E402
from strokeseg.prepare.channels import ModelSpace  # noqa: E402
from strokeseg.symmetry import Midplane  # noqa: E402
from strokeseg.volume import Grid, resample  # noqa: E402
from strokeseg_training.fit.card import card_fields  # noqa: E402
from strokeseg_training.prepare import PreparedSet, prepare_data_set  # noqa: E402
from strokeseg_training.prepare.align import align, frame_around  # noqa: E402
from strokeseg_training.prepare.recipe import data_recipe_of, load_data_recipe  # noqa: E402

# A patient on axes that run to the right, the front and the top: a brain off the middle, a lesion in it.
SHAPE, SPACING = (13, 16, 11), (2.0, 2.0, 2.0)
BRAIN = (slice(2, 9), slice(3, 15), slice(1, 8))
LESION = (slice(4, 6), slice(8, 11), slice(2, 4))


def turn(degrees=20.0):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def stored_ways():
    """Orders and signs of the axes in which the same voxels can be stored."""
    return list(product(permutations(range(3)), product((1, -1), repeat=3)))


def stored(array, affine, order, signs):
    """The array and affine of the same voxels with other axes."""
    out, matrix = array.transpose(order), affine.copy()
    matrix[:3, :3] = affine[:3, list(order)]
    for axis, sign in enumerate(signs):
        if sign < 0:
            out = np.flip(out, axis)
            matrix[:3, 3] += matrix[:3, axis] * (out.shape[axis] - 1)
            matrix[:3, axis] *= -1
    return np.ascontiguousarray(out), matrix


def oblique_affine(spacing=SPACING):
    affine = np.eye(4)
    affine[:3, :3] = turn() * spacing
    affine[:3, 3] = (-20.0, 31.0, 7.0)
    return affine


def by_engine(brain, affine, spacing_mm, margin=2, multiple=4):
    """What `align` asks of a prepared patient, with the brain as its only channel."""
    native = Grid(brain.shape, affine)
    grid = ModelGrid.around(brain, native, spacing_mm=spacing_mm, margin_voxels=margin, multiple=multiple)
    return SimpleNamespace(
        model_grid=grid,
        channels=(grid.forward(brain) >= 0.5).astype(np.float32)[None],
        brain=SimpleNamespace(mask=brain),
        reference=SimpleNamespace(grid=native),
    )


def voxels(*place):
    array = np.zeros(SHAPE, bool)
    array[place] = True
    return array


# --- the way back


@pytest.mark.parametrize("frame", [None, (24, 20, 16)])
def test_labels_go_to_the_models_grid_and_back_exactly_however_the_scan_is_stored(frame):
    affine = oblique_affine()
    brain, labels = voxels(*BRAIN), voxels(*LESION).astype(np.uint8)
    where = np.sort(Grid(SHAPE, affine).to_world(np.argwhere(labels)), axis=0)
    for order, signs in stored_ways():
        own_brain, matrix = stored(brain, affine, order, signs)
        own_labels = stored(labels, affine, order, signs)[0]
        aligned = align(by_engine(own_brain, matrix, SPACING), own_labels, frame)
        assert aligned.grid.orientation == "RAS"
        assert aligned.grid.shape == (frame or (12, 16, 12))
        back = aligned.place.back(aligned.labels.labels, outside=0.0)
        np.testing.assert_array_equal(back >= 0.5, own_labels > 0)
        np.testing.assert_array_equal(back, np.rint(back))
        # The origin went along: the lesion is where it was in the patient.
        moved = np.sort(aligned.grid.to_world(np.argwhere(aligned.labels.labels)), axis=0)
        np.testing.assert_allclose(moved, where, atol=1e-9)
        np.testing.assert_array_equal(aligned.channels[0], aligned.brain)
        assert int(aligned.brain.sum()) == int(brain.sum())


def test_a_lesion_keeps_its_volume_through_voxels_of_a_millimetre_and_back():
    spacing = (2.0, 2.0, 2.5)
    shape = (30, 30, 24)
    native = Grid(shape, oblique_affine(spacing))
    middle = native.to_world((np.array(shape) - 1) / 2)
    places = native.to_world(np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1))
    distance = np.linalg.norm(places - middle, axis=-1)
    brain, ball = distance < 27, (distance < 9).astype(np.uint8)  # of 3.1 ml
    aligned = align(by_engine(brain, native.affine, (1.0, 1.0, 1.0), multiple=16), ball)
    native_ml = int(ball.sum()) * native.voxel_ml
    back_ml = int((aligned.place.back(aligned.labels.labels, outside=0.0) >= 0.5).sum()) * native.voxel_ml
    assert int(aligned.labels.labels.sum()) / 1000 == pytest.approx(native_ml, rel=0.02)
    assert back_ml == pytest.approx(native_ml, rel=0.02)


def test_a_frame_has_the_brain_in_its_middle_and_refuses_a_larger_one():
    brain = voxels(*BRAIN)
    grid = Grid(SHAPE, oblique_affine())
    frame = frame_around(grid, brain, (11, 16, 9))
    # Of 11, 16 and 9 voxels the box leaves 4, 4 and 2.
    np.testing.assert_allclose(frame.to_world((2, 2, 1)), grid.to_world((2, 3, 1)))
    np.testing.assert_allclose(frame.affine[:3, :3], grid.affine[:3, :3])
    with pytest.raises(InputError, match="Along front it has 12 voxels, the frame 11"):
        frame_around(grid, brain, (11, 11, 9))


# --- files


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    """Two patients whose ADC lies on a grid of its own, turned and finer than the DWI's."""
    folder = tmp_path_factory.mktemp("patients")
    write_patients(folder, seeds=(0, 1))
    for path in folder.rglob("*_adc.nii.gz"):
        rewrite_finer(path)
    return folder


def rewrite_finer(path):
    image = nib.load(path)
    source = Grid(image.shape, image.affine)
    affine = source.affine.copy()
    affine[:3, :3] = affine[:3, :3] @ turn(4.0) * 0.8
    affine[:3, 3] += source.to_world((np.array(source.shape) - 1) / 2) - Grid((33, 38, 28), affine).to_world(
        (16, 18.5, 13.5)
    )
    array = resample(np.asarray(image.dataobj, dtype=np.float32), source, Grid((33, 38, 28), affine))
    nib.save(nib.Nifti1Image(array, affine), path)


SMALL = ["preparation.spacing_mm=[5,5,5]", "preparation.margin_voxels=1", "preparation.multiple=4",
         "datasets.patches.size=[16,16,16]", "datasets.split={train: 0.5, val: 0.5, test: 0}"]  # fmt: skip


@pytest.mark.parametrize(("name", "adc"), [("attention-unet-3d", 1), ("mscs-net", 0)])
def test_training_sees_the_arrays_that_the_card_makes_of_the_same_files(name, adc, patients, tmp_path):
    recipe = load_data_recipe(name, SMALL)
    seen = PreparedSet(prepare_data_set(recipe, patients, tmp_path / "set", pictures=True).folder)
    # What an export writes, and `strokeseg segment` reads.
    card = parse_card({**card_fields(recipe, {}), "runtime": "openvino", "runtime_reason": "", "files": []})
    for number, patient in enumerate(seen.patients):
        files = {r: next(p for p in patients.rglob(f"*_{r}.nii.gz") if patient.id in p.name) for r in ("dwi", "adc")}
        engine = prepare(Case.from_files(**files), card, Monitor())
        volume = seen.volume(number)
        np.testing.assert_array_equal(volume.channels, engine.channels.astype(np.float16))
        np.testing.assert_array_equal(patient.grid.affine, engine.model_grid.grid.affine)
        # Lesions have a low ADC on the DWI's voxels, although the ADC's own lie elsewhere.
        image = np.asarray(volume.channels[adc], np.float32)
        lesion, brain = volume.labels > 0, volume.brain > 0
        assert image[lesion].mean() < image[brain & ~lesion].mean() - 0.2
        picture = (tmp_path / "set" / "pictures" / f"{patient.id}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")


def test_a_frame_holds_the_same_voxels_with_zeros_around_them(patients, tmp_path):
    plain = load_data_recipe("attention-unet-3d", SMALL)
    framed = load_data_recipe("attention-unet-3d", [*SMALL, "datasets.frame=[40,44,36]"])
    assert "frame" not in plain.preparation_facts
    assert framed.preparation_facts["frame"] == [40, 44, 36]
    one, other = (
        PreparedSet(prepare_data_set(r, patients, tmp_path / n).folder) for r, n in ((plain, "a"), (framed, "b"))
    )
    for number in range(2):
        own, wide = one.volume(number), other.volume(number)
        assert wide.labels.shape == (40, 44, 36)
        first = other.patients[number].grid.to_voxel(one.patients[number].grid.to_world((0, 0, 0)))
        np.testing.assert_allclose(first, np.rint(first), atol=1e-6)
        x, y, z = (slice(int(f), int(f) + n) for f, n in zip(np.rint(first), own.labels.shape, strict=True))
        np.testing.assert_array_equal(wide.channels[:, x, y, z], own.channels)
        np.testing.assert_array_equal(wide.labels[x, y, z], own.labels)
        assert np.count_nonzero(wide.channels) == np.count_nonzero(own.channels)
    small = load_data_recipe("attention-unet-3d", [*SMALL, "datasets.frame=[8,8,8]"])
    with pytest.raises(InputError, match="does not fit into the frame"):
        prepare_data_set(small, patients, tmp_path / "c")


def test_an_image_of_a_patient_who_moved_is_laid_onto_the_other_if_asked_for(tmp_path):
    write_patients(tmp_path / "still", seeds=(0, 1))
    shutil.copytree(tmp_path / "still", tmp_path / "moved")
    for path in (tmp_path / "moved").rglob("*_adc.nii.gz"):
        image = nib.load(path)
        affine = image.affine.copy()
        affine[:3, 3] += (7.0, -6.0, 0.0)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), path)

    def adc(data, **said):
        base = recipe_data(split={"train": 0.5, "val": 0.5, "test": 0}, **said)
        base["card"]["inputs"] = [{"role": "dwi"}, {"role": "adc"}]
        base["preparation"]["channels"] = ["adc"]
        out = tmp_path / f"set-{data}-{bool(said)}"
        seen = PreparedSet(prepare_data_set(data_recipe_of(base, "test"), tmp_path / data, out).folder)
        return seen, [np.asarray(seen.volume(n).channels[0], np.float32) for n in range(2)]

    right, left_alone, corrected = adc("still")[1], adc("moved")[1], adc("moved", registration=True)
    for number in range(2):
        error = [np.abs(a[number] - right[number]).mean() for a in (left_alone, corrected[1])]
        assert error[1] < 0.5 * error[0]
        assert any("was moved by" in note for note in corrected[0].patients[number].facts["notes"])


# --- channels


def space(image, brain, **more):
    grid = Grid(image.shape, np.diag([2.0, 2.0, 6.0, 1.0]))
    return ModelSpace(
        grid, {"dwi": image, "adc": image, "t1": image, **more}, brain, Midplane((1.0, 0.0, 0.0), 0.0, 1.0, "given")
    )


def test_each_slice_goes_from_0_to_1_in_its_own_brain():
    image = np.zeros((4, 1, 4), np.float32)
    image[:, 0, 0] = [10, 20, 30, 99]
    image[:, 0, 1] = [1, 3, 2, 99]
    image[:, 0, 2] = [5, 5, 5, 99]
    brain = np.ones((4, 1, 4), bool)
    brain[3], brain[:, :, 3] = False, False
    found = space(image, brain).channel("dwi_slice_minmax")
    np.testing.assert_allclose(found[:, 0, 0], [0, 0.5, 1, 0])
    np.testing.assert_allclose(found[:, 0, 1], [0, 1, 0.5, 0])
    # A slice of one value, and one without brain, have no contrast.
    np.testing.assert_array_equal(found[:, 0, 2:], 0)


def test_an_infarct_is_not_cut_off_in_standard_deviations():
    image = np.full((50, 2, 1), 1.0, np.float32)
    image[:, 1] = 2.0
    image[0, 0] = 12.0
    found = space(image, np.ones(image.shape, bool)).channel("dwi_zscore")
    inside = image.astype(np.float64)
    np.testing.assert_allclose(found, (inside - inside.mean()) / inside.std(), rtol=1e-5)
    assert found.max() > 4.0


def test_t1_and_adc_go_from_their_first_to_their_last_percentile():
    image = np.linspace(0, 200, 101, dtype=np.float32).reshape(101, 1, 1)
    for name in ("t1_robust", "adc_robust"):
        found = space(image, np.ones(image.shape, bool)).channel(name).ravel()
        np.testing.assert_allclose(found[[1, 50, 99]], [0, 0.5, 1], atol=1e-6)
