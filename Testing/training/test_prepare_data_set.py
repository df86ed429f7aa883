"""`strokeseg-train prepare`: what is made, kept, refused, and read back; patients are ellipsoids."""

from __future__ import annotations

import json
import pickle
import shutil

import nibabel as nib
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="prepared data sets need torch, which is not installed")

import yaml  # noqa: E402
from data_phantom import recipe, recipe_data, write_patients  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from strokeseg.case import Case, discover  # noqa: E402
from strokeseg.errors import Cancelled, InputError  # noqa: E402
from strokeseg.events import Monitor  # noqa: E402
from strokeseg.prepare import prepare as engine_prepare  # noqa: E402
from strokeseg.volume import read_volume  # noqa: E402
from strokeseg_training.cli import app  # noqa: E402
from strokeseg_training.datasets import UnusablePatients  # noqa: E402
from strokeseg_training.datasets.atlas_r1 import FURTHER_MASKS, MAIN_MASKS  # noqa: E402
from strokeseg_training.fit.workers import worker_context  # noqa: E402
from strokeseg_training.prepare import PreparedSet, prepare_data_set  # noqa: E402
from strokeseg_training.prepare import running as running_module  # noqa: E402
from strokeseg_training.prepare.batches import SliceItems, VolumeItems  # noqa: E402
from strokeseg_training.prepare.recipe import data_recipe_of  # noqa: E402
from strokeseg_training.recipe_data import Slices  # noqa: E402

SLICES = {"size": [32, 20]}


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    folder = tmp_path_factory.mktemp("patients")
    # The fifth has no lesion.
    write_patients(folder, seeds=(0, 1, 4))
    return folder


@pytest.fixture(scope="module")
def prepared(patients, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "set"
    return prepare_data_set(recipe(slices=SLICES), patients, out)


@pytest.fixture
def own_patients(patients, tmp_path):
    return shutil.copytree(patients, tmp_path / "patients")


def name(seed):
    return f"sub-strokecase{seed:04d}_ses-0001"


def image(folder, seed, role="dwi"):
    return folder / f"sub-strokecase{seed:04d}/ses-0001/dwi/{name(seed)}_{role}.nii.gz"


def mask(folder, seed):
    return folder / f"derivatives/sub-strokecase{seed:04d}/ses-0001/{name(seed)}_msk.nii.gz"


def rewrite(path, change, affine=None):
    old = nib.load(path)
    array = np.asarray(old.dataobj).copy()
    array = change(array)
    nib.save(nib.Nifti1Image(array, old.affine if affine is None else affine), path)


def bytes_of(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_channels_are_what_the_engine_shows_the_model(prepared, patients):
    seen = PreparedSet(prepared.folder)
    (case,) = [c for c in discover(patients) if c.name == name(1)]
    engine = engine_prepare(Case.from_files(dwi=case.files["dwi"]), recipe().model_card, Monitor())
    volume = seen.volume(1)
    np.testing.assert_array_equal(volume.channels, engine.channels.astype(np.float16))
    np.testing.assert_array_equal(seen.patients[1].grid.affine, engine.model_grid.grid.affine)
    np.testing.assert_array_equal(volume.brain, engine.model_grid.forward(engine.brain.mask) >= 0.5)
    # The model's spacing is the scan's: labels are copied, and lie in the world where they lay.
    reference = read_volume(case.reference, role="reference")
    own = reference.grid.to_world(np.argwhere(reference.array > 0.5))
    moved = seen.patients[1].grid.to_world(np.argwhere(volume.labels))
    np.testing.assert_allclose(np.sort(moved, axis=0), np.sort(own, axis=0), atol=1e-4)


def test_volumes_are_mapped_and_not_read(prepared):
    volume = PreparedSet(prepared.folder).volume(0)
    assert all(isinstance(array, np.memmap) for array in volume)
    assert (volume.channels.dtype, volume.labels.dtype, volume.brain.dtype) == (np.float16, np.uint8, np.uint8)
    # A slice of z is one piece of the file.
    assert volume.channels[..., 3].flags.f_contiguous


def test_an_empty_mask_is_said_and_is_a_patient_without_lesion(prepared):
    assert [str(n) for n in prepared.notices] == [f"{name(4)}: Its mask is empty: counted as a patient without lesion."]
    everybody = prepared.statistics[0]
    assert (everybody.patients, everybody.without_lesion, everybody.with_class) == (3, 1, 2)
    assert not PreparedSet(prepared.folder).volume(2).labels.any()


def test_statistics_count_what_the_masks_hold(prepared, patients):
    masks = [np.asarray(nib.load(mask(patients, seed)).dataobj) for seed in (0, 1, 4)]
    everybody = prepared.statistics[0]
    assert everybody.voxels == sum(int(m.sum()) for m in masks)
    assert everybody.ml == pytest.approx(everybody.voxels * 0.216)
    assert everybody.slices == sum(int(m.any(axis=(0, 1)).sum()) for m in masks)
    rows = json.loads((prepared.folder / "statistics.json").read_text(encoding="utf-8"))
    assert rows[0] == everybody.as_data()
    sides = [r for r in prepared.statistics if r.group == "side"]
    assert sum(r.voxels for r in sides) == everybody.voxels
    assert (prepared.folder / "statistics.csv").read_text(encoding="utf-8").count("\n") == len(rows) + 1


def test_a_second_run_keeps_everything_and_an_interrupted_one_goes_on(patients, prepared, tmp_path):
    out = tmp_path / "set"
    seen = []

    def stop(event):
        seen.append(getattr(event, "stage", ""))

    # Cancelled at the second patient that is prepared.
    with pytest.raises(Cancelled):
        prepare_data_set(recipe(slices=SLICES), patients, out, monitor=Monitor(stop, lambda: seen.count("prepare") > 2))
    with pytest.raises(InputError, match="no manifest"):
        PreparedSet(out)
    # A kill in the middle of a patient leaves his folder under another name.
    left = out / "patients" / f".partial-{name(4)}"
    left.mkdir()
    (left / "labels.npy").write_bytes(b"half")
    first = prepare_data_set(recipe(slices=SLICES), patients, out)
    assert 0 < first.written < 3
    assert not left.exists()
    again = prepare_data_set(recipe(slices=SLICES), patients, out)
    assert (again.patients, again.written) == (3, 0)
    assert again.notices == prepared.notices
    assert bytes_of(out) == bytes_of(prepared.folder)


def test_a_damaged_file_is_found_and_made_again(patients, tmp_path):
    out = tmp_path / "set"
    prepare_data_set(recipe(), patients, out, leave_out=[name(4)])
    before = bytes_of(out)
    file = out / "patients" / name(1) / "labels.npy"
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=f"changed of: {name(1)}") as caught:
        PreparedSet(out).verify()
    # Who was left out before stays so.
    again = f"strokeseg-train prepare --recipe {recipe().name} --data DATA --out {out} --without {name(4)}"
    assert caught.value.next_step.endswith(
        f"To go on without this patient, add --without {name(1)} to the command: {again}"
    )
    assert prepare_data_set(recipe(), patients, out, leave_out=[name(4)]).written == 1
    assert bytes_of(out) == before
    PreparedSet(out).verify()


def test_without_the_damaged_patient_the_set_is_whole_again(patients, tmp_path):
    out = tmp_path / "set"
    prepare_data_set(recipe(), patients, out)
    file = out / "patients" / name(1) / "labels.npy"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(InputError, match=f"patient '{name(1)}' is damaged") as caught:
        PreparedSet(out).volume(1)
    assert f"add --without {name(1)} to the command" in caught.value.next_step
    assert prepare_data_set(recipe(), patients, out, leave_out=[name(1)]).written == 0
    PreparedSet(out).verify()
    assert PreparedSet(out).about["left_out"] == [name(1)]


def test_a_manifest_with_other_sides_than_the_split_is_refused_by_name(patients, prepared, tmp_path):
    out = shutil.copytree(prepared.folder, tmp_path / "set")
    path = out / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    entry = manifest["patients"][1]
    said = entry["side"]
    other = next(s for s in ("train", "val", "test") if s != said)
    # A patient of one side counted to another: both hashes stay what they were.
    path.write_text(json.dumps({**manifest, "patients": [manifest["patients"][0], {**entry, "side": other},
                                                         manifest["patients"][2]]}))  # fmt: skip
    with pytest.raises(
        InputError, match=f"'{name(1)}' is in '{other}' of the manifest and in '{said}' of the"
    ) as caught:
        PreparedSet(out)
    assert name(0) not in caught.value.cause
    assert f"strokeseg-train prepare --recipe {recipe().name} --data DATA --out {out}" in caught.value.next_step
    # A patient who is not in it at all is told, too.
    path.write_text(json.dumps({**manifest, "patients": manifest["patients"][:2]}))
    with pytest.raises(InputError, match=f"'{name(4)}' is in none of the manifest"):
        PreparedSet(out)
    assert prepare_data_set(recipe(slices=SLICES), patients, out).written == 0
    assert bytes_of(out) == bytes_of(prepared.folder)


def test_another_preparation_needs_another_folder_and_another_learning_rate_does_not(patients, prepared, tmp_path):
    out = shutil.copytree(prepared.folder, tmp_path / "set")
    with pytest.raises(InputError, match='\'dtype\' is "float16" there and "float32" now'):
        prepare_data_set(recipe(slices=SLICES, dtype="float32"), patients, out)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").touch()
    with pytest.raises(InputError, match=r"me\.jpg"):
        prepare_data_set(recipe(), patients, tmp_path / "photos")
    # A new split takes no preparation.
    other = prepare_data_set(recipe(slices=SLICES, split={"seed": 1}), patients, out)
    assert other.written == 0


def test_damaged_files_are_all_reported_by_name_before_anything_is_prepared(own_patients, tmp_path):
    write_patients(own_patients, seeds=(5, 6, 7, 8))
    mask(own_patients, 0).unlink()
    image(own_patients, 1).write_bytes(image(own_patients, 1).read_bytes()[:900])

    def hole(array):
        array[3, 3, 3] = np.nan
        return array

    rewrite(image(own_patients, 4), hole)
    rewrite(mask(own_patients, 5), lambda a: hole(a.astype(np.float32)))
    rewrite(mask(own_patients, 6), lambda a: a[:, :, 1:])
    away = nib.load(mask(own_patients, 7)).affine.copy()
    away[0, 3] += 6
    rewrite(mask(own_patients, 7), lambda a: a, away)
    image(own_patients, 8).unlink()
    image(own_patients, 8).symlink_to("nowhere")
    command = ["strokeseg-train", "prepare", "--out", "set"]
    with pytest.raises(UnusablePatients) as caught:
        prepare_data_set(recipe(), own_patients, tmp_path / "set", command=command)
    said = {p.patient: p.text for p in caught.value.problems}
    assert sorted(said) == [name(n) for n in (0, 1, 4, 5, 6, 7, 8)]
    assert said[name(0)] == "The mask of 'lesion' is missing."
    assert "_dwi.nii.gz" in said[name(1)]
    assert said[name(4)].startswith("1 voxels of the DWI are no numbers")
    assert "not numbers" in said[name(5)]
    assert "26x30x21 voxels, the DWI 26x30x22" in said[name(6)]
    assert "6.0 mm apart" in said[name(7)]
    assert "cannot be read" in said[name(8)]
    assert caught.value.next_step.count("--without ") == 7
    assert not list((tmp_path / "set" / "patients").iterdir())


def test_without_them_it_goes_on_and_the_set_says_so(own_patients, tmp_path):
    mask(own_patients, 0).unlink()
    done = prepare_data_set(recipe(), own_patients, tmp_path / "set", leave_out=[name(0)])
    assert done.patients == 2
    seen = PreparedSet(tmp_path / "set")
    assert seen.about["left_out"] == [name(0)]
    assert [p.id for p in seen.patients] == [name(1), name(4)]


def test_holes_can_be_taken_for_0_as_the_engine_does_and_are_noted(own_patients, tmp_path):
    def hole(array):
        array[0, 0, 0] = np.nan
        return array

    rewrite(image(own_patients, 1), hole)
    prepare_data_set(recipe(not_numbers="zero"), own_patients, tmp_path / "set", leave_out=[name(0), name(4)])
    (patient,) = PreparedSet(tmp_path / "set").patients
    assert "DWI: 1 voxels that were not numbers were set to 0." in patient.facts["notes"]


def test_the_same_scan_under_two_names_is_a_leak(own_patients, tmp_path):
    shutil.copyfile(image(own_patients, 0), image(own_patients, 1))
    with pytest.raises(UnusablePatients, match=f"the same file as that of '{name(0)}'"):
        prepare_data_set(recipe(), own_patients, tmp_path / "set")


def test_what_the_engine_refuses_is_reported_by_name_and_the_others_stay(patients, tmp_path, monkeypatch):
    made = running_module.make_arrays

    def refuse_one(volumes, *rest, **options):
        if volumes.case.name == name(1):
            raise InputError("No brain was found.", "Nothing looks like one.", "-")
        return made(volumes, *rest, **options)

    monkeypatch.setattr(running_module, "make_arrays", refuse_one)
    with pytest.raises(UnusablePatients, match=f"{name(1)}: No brain was found"):
        prepare_data_set(recipe(), patients, tmp_path / "set")
    assert sorted(p.name for p in (tmp_path / "set" / "patients").iterdir()) == [name(0), name(4)]


def test_further_masks_of_atlas_become_one_class_that_overrides_the_main_one(tmp_path):
    folder = tmp_path / "patients"
    write_patients(folder, "atlas-r1", "t1", seeds=(0, 5), centres=2)
    stem = folder / "c0002/c0002s0005t01/c0002s0005t01"
    further = [stem.with_name(f"{stem.name}_LesionSmooth_{n}_stx.nii.gz") for n in (1, 2)]
    main = np.asarray(nib.load(f"{stem}_LesionSmooth_stx.nii.gz").dataobj) > 0
    # One voxel of the main lesion is in a further mask, too.
    rewrite(further[0], lambda a: np.where(np.cumsum(main).reshape(main.shape) * main == 1, 1, a).astype(np.uint8))
    sub = sum(np.asarray(nib.load(f).dataobj) for f in further) > 0
    classes = [
        {"name": "main", "masks": MAIN_MASKS},
        {"name": "sub", "masks": FURTHER_MASKS, "required": False, "merge": True},
    ]
    data = recipe_data("t1", ("main", "sub"), layout="atlas-r1", split={"by": ["centre", "size"]})
    data["datasets"]["classes"] = classes
    done = prepare_data_set(data_recipe_of(data, "test"), folder, tmp_path / "set")
    labels = PreparedSet(tmp_path / "set").volume(1).labels
    assert (labels == 2).sum() == sub.sum()
    assert (labels == 1).sum() == main.sum() - 1
    centres = {(r.name, r.kind): r for r in done.statistics if r.group == "centre"}
    assert centres["c0002", "sub"].lesions == 3
    assert centres["c0002", "main"].patients == 1


def test_slices_are_axial_in_the_patients_own_axes_however_the_scan_was_stored(own_patients, tmp_path):
    def store_otherwise(path):
        old = nib.load(path)
        # The new axes run along the old z, the old x backwards, and the old y.
        step = np.array([[0.0, -1, 0, 25], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
        array = np.asarray(old.dataobj)[::-1].transpose(2, 0, 1)
        nib.save(nib.Nifti1Image(array, old.affine @ step), path)

    prepare_data_set(recipe(slices=SLICES), own_patients, tmp_path / "first", leave_out=[name(1), name(4)])
    for path in (image(own_patients, 0), mask(own_patients, 0)):
        store_otherwise(path)
    prepare_data_set(recipe(slices=SLICES), own_patients, tmp_path / "second", leave_out=[name(1), name(4)])
    first, second = (PreparedSet(tmp_path / n).volume(0) for n in ("first", "second"))
    assert first.labels.any()
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_allclose(first.channels, second.channels, atol=2e-3)


def test_slices_hold_brain_have_the_wanted_size_and_come_from_one_side(prepared):
    seen = PreparedSet(prepared.folder)
    items = {side: SliceItems(seen, side) for side in ("train", "val", "test")}
    for side, own in items.items():
        assert {number for number, _ in own.places} == set(seen.side(side))
        for item in own:
            assert item.channels.shape == (1, 32, 20, 1)
            assert item.channels.dtype == torch.float32
            assert item.labels.shape == item.brain.shape == (32, 20, 1)
            assert bool(item.brain.any())
    persons = [{seen.patients[n].person for n, _ in own.places} for own in items.values()]
    assert sum(map(len, persons)) == len(set.union(*persons)) == 3
    # 24 x 28 voxels in 32 x 20: four are added on each side along x, four are cut on each side along y.
    number, plane = items["train"].places[5]
    np.testing.assert_array_equal(items["train"][5].labels[4:28, :, 0], seen.volume(number).labels[:, 4:24, plane])


def test_only_slices_with_a_lesion_where_that_is_asked_for(prepared):
    seen = PreparedSet(prepared.folder)
    for axis, number in (("axial", 2), ("coronal", 1), ("sagittal", 0)):
        chosen = Slices(axis=axis, which="lesion")
        found = [SliceItems(seen, side, chosen) for side in ("train", "val", "test")]
        assert all(bool(item.labels.any()) for items in found for item in items)
        others = tuple(a for a in range(3) if a != number)
        expected = sum(int(seen.volume(n).labels.any(axis=others).sum()) for n in range(3))
        assert sum(map(len, found)) == expected > 0


def test_items_go_through_a_loader_with_workers(prepared):
    seen = PreparedSet(prepared.folder)
    seen.volume(0)
    assert pickle.loads(pickle.dumps(seen))._open == {}
    items = SliceItems(seen, "train")
    (first, *_) = DataLoader(items, batch_size=4, num_workers=1, multiprocessing_context=worker_context())
    np.testing.assert_array_equal(first.channels[2], items[2].channels)
    assert first.plane.tolist() == [plane for _, plane in items.places[:4]]
    volumes = [VolumeItems(seen, side) for side in ("train", "val", "test")]
    assert sum(map(len, volumes)) == 3
    assert volumes[0][0].channels.shape == (1, *seen.patients[volumes[0].numbers[0]].grid.shape)


def test_the_command_prepares_counts_and_says_how_to_go_on(own_patients, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe_data(slices=SLICES)), encoding="utf-8")
    words = ["prepare", "--recipe", str(path), "--data", str(own_patients), "--out", str(tmp_path / "set")]
    words += ["--set", "datasets.split.seed=7"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "3 patients prepared, 0 kept" in done.stdout
    assert f"--out {tmp_path / 'set'} --set datasets.split.seed=7 --without {name(4)}" in done.stdout
    mask(own_patients, 1).unlink()
    refused = CliRunner().invoke(app, [*words, "--format", "json"])
    assert refused.exit_code == 3
    said = json.loads(refused.stdout)
    assert said["cause"] == f"{name(1)}: The mask of 'lesion' is missing."
    # The command that it gives is the one that works.
    again = said["next_step"].partition("strokeseg-train ")[2].split()
    done = CliRunner().invoke(app, [*again, "--format", "json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["patients"] == 2
    assert json.loads(done.stdout)["written"] == 0


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("datasets.layuot=bids", "Did you mean 'datasets.layout'?"),
        ("datasets.slices.fitt=crop", "Did you mean 'datasets.slices.fit'?"),
        ("datasets.split.train=0.5", "must add up to 1, not 0.75"),
        ("datasets.classes.0.mask=x", "Did you mean 'datasets.classes.0.masks'?"),
        ("datasets.layout=isles", "'datasets.layout'"),
        ("datasets=null", "'datasets'"),
    ],
)
def test_a_wrong_key_of_the_recipe_is_named_with_the_nearest_right_one(tmp_path, setting, said):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe_data(slices=SLICES)), encoding="utf-8")
    words = ["prepare", "--recipe", str(path), "--data", "x", "--out", "y", "--set", setting, "--format", "json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 3
    error = json.loads(done.stdout)
    assert said in error["cause"] + error["next_step"]


def test_classes_of_masks_and_of_the_model_must_be_as_many():
    data = recipe_data(classes=("main", "sub"))
    data["datasets"]["classes"] = [{"name": "main"}]
    with pytest.raises(InputError, match=r"'datasets\.classes' has 1 classes, 'card\.classes' has 2"):
        data_recipe_of(data, "test")
