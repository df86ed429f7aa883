"""Synthetic data sets: what is written, found again by the engine, kept, and never left half done.

A stand-in generator draws tiny patients whose every voxel is known.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the generator's samples are torch tensors; torch is not installed")

from PIL import Image  # noqa: E402

from strokeseg.case.discovery import discover  # noqa: E402
from strokeseg.errors import Cancelled, InputError  # noqa: E402
from strokeseg.events import Monitor  # noqa: E402
from strokeseg.volume.grid import Grid  # noqa: E402
from strokeseg_training.contact_sheet import SheetRow, draw_contact_sheet  # noqa: E402
from strokeseg_training.contact_sheet_files import write_contact_sheets  # noqa: E402
from strokeseg_training.layouts import place_case  # noqa: E402
from strokeseg_training.sample import Sample  # noqa: E402
from strokeseg_training.synthesize import DataSet, write_data_set  # noqa: E402

SHAPE, SPACING = (20, 24, 16), (2.0, 2.0, 2.0)
# 0 mm in the middle of the grid: the first voxel's centre lies (n - 1) / 2 voxels before it.
AFFINE = [[2, 0, 0, -19], [0, 2, 0, -23], [0, 0, 2, -15], [0, 0, 0, 1]]
LAYOUT_TASKS = [("isles22", "dwi-adc"), ("atlas", "t1"), ("bids", "dwi-adc"), ("bids", "t1")]


@dataclass(frozen=True)
class StandInScene:
    seed: int
    brightness: float = 100.0

    def to_json(self) -> str:
        return json.dumps({"version": "stand-in", "seed": self.seed, "brightness": self.brightness})


class StandIn:
    """Patients whose brain is a box of two thirds of the grid and whose lesion is a cube of 4x4x4 voxels."""

    def __init__(self, task: str = "dwi-adc") -> None:
        self.roles = ("dwi", "adc", "b0") if task == "dwi-adc" else ("t1",)
        self.made: list[int] = []

    def make(self, scenes):
        (scene,) = scenes
        self.made.append(scene.seed)
        source = torch.Generator().manual_seed(scene.seed)
        images = {r: scene.brightness + torch.rand((1, *SHAPE), generator=source) for r in self.roles}
        brain = torch.zeros((1, *SHAPE), dtype=torch.bool)
        brain[:, 3:17, 4:20, 2:14] = True
        lesion = torch.zeros((1, *SHAPE))
        lesion[:, 5:9, 6:10, 7:11] = 1.0
        lesion[:, 9, 6:10, 7:11] = 0.25  # a border below one half: in the integral, not in the mask
        return Sample(
            images=images,
            brain=brain,
            lesion=lesion,
            tissue=brain.to(torch.uint8),
            midplane=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
            spacing_mm=SPACING,
            seeds=(scene.seed,),
        )


def data_set(folder: Path, layout: str = "isles22", task: str = "dwi-adc", **more) -> DataSet:
    return DataSet(folder=folder, layout=layout, task=task, generator_version="stand-in", **more)


def scenes(*seeds: int) -> list[StandInScene]:
    return [StandInScene(s) for s in seeds]


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(("layout", "task"), LAYOUT_TASKS)
def test_the_engine_finds_every_case_with_its_images_and_its_mask(tmp_path, layout, task):
    written = write_data_set(scenes(1, 2, 31), StandIn(task), data_set(tmp_path, layout, task))
    found = discover(tmp_path)
    assert [c.name for c in found] == [c.name for c in written]
    assert [c.layout for c in found] == [{"atlas": "atlas-r2"}.get(layout, layout)] * 3
    for case, made in zip(found, written, strict=True):
        assert case.files == made.images
        assert case.reference == made.mask
        assert case.notes == ()


def test_names_are_those_of_the_data_sets():
    isles = place_case("isles22", "dwi-adc", 7)
    assert isles.images["dwi"] == "sub-strokecase0007/ses-0001/dwi/sub-strokecase0007_ses-0001_dwi.nii.gz"
    assert isles.images["adc"] == "sub-strokecase0007/ses-0001/dwi/sub-strokecase0007_ses-0001_adc.nii.gz"
    assert isles.mask == "derivatives/sub-strokecase0007/ses-0001/sub-strokecase0007_ses-0001_msk.nii.gz"
    atlas = place_case("atlas", "t1", 1023)
    assert atlas.images == {"t1": "Training/R002/sub-r002s023/ses-1/anat/sub-r002s023_ses-1_space-orig_T1w.nii.gz"}
    assert atlas.mask.endswith("/anat/sub-r002s023_ses-1_space-orig_label-L_desc-T1lesion_mask.nii.gz")
    bids = place_case("bids", "dwi-adc", 7)
    assert bids.images["dwi"] == "sub-0007/dwi/sub-0007_trace.nii.gz"
    assert bids.mask == "derivatives/lesions/sub-0007/dwi/sub-0007_label-lesion_mask.nii.gz"


@pytest.mark.parametrize("layout", ["isles22", "bids"])
def test_values_and_place_are_read_back_exactly(tmp_path, layout):
    (case,) = write_data_set(scenes(5), StandIn(), data_set(tmp_path, layout))
    sample = StandIn().make(scenes(5))
    brain = sample.brain[0].numpy()
    for role, path in case.images.items():
        image = nib.load(path)
        np.testing.assert_array_equal(image.affine, AFFINE)
        np.testing.assert_array_equal(image.get_qform(), AFFINE)
        assert image.header.get_xyzt_units()[0] == "mm"
        assert image.get_data_dtype() == np.float32
        np.testing.assert_array_equal(np.asarray(image.dataobj), sample.images[role][0].numpy() * brain)
    mask = nib.load(case.mask)
    np.testing.assert_array_equal(mask.affine, AFFINE)
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(mask.dataobj), sample.lesion[0].numpy() >= 0.5)
    # 64 voxels of 8 mm³.
    assert case.lesion_volume_ml == pytest.approx(0.512)


def test_a_whole_head_keeps_what_lies_outside_the_brain(tmp_path):
    (case,) = write_data_set(scenes(5), StandIn(), data_set(tmp_path, whole_head=True))
    stored = np.asarray(nib.load(case.images["dwi"]).dataobj)
    np.testing.assert_array_equal(stored, StandIn().make(scenes(5)).images["dwi"][0].numpy())
    assert stored.min() >= 100


def test_the_description_tells_scene_seed_versions_and_that_nobody_was_scanned(tmp_path):
    (case,) = write_data_set(scenes(5), StandIn(), data_set(tmp_path))
    told = json.loads(case.description.read_text(encoding="utf-8"))
    assert told["statement"].startswith("synthetic: made from the MNI ICBM152 2009a template")
    assert "McConnell Brain Imaging Centre" in told["template_notice"]
    assert (told["seed"], told["generator_version"], told["task"]) == (5, "stand-in", "dwi-adc")
    assert told["scene"] == {"version": "stand-in", "seed": 5, "brightness": 100.0}
    assert told["units"] == {"adc": "1e-3 mm²/s"}
    assert told["lesion_volume_ml"] == 0.512
    # 64 voxels and 16 quarters of a voxel.
    assert told["lesion_fraction_integral_ml"] == 0.544


def test_a_scanner_grid_is_stored_with_its_own_affine_and_lesion(tmp_path):
    turn = np.deg2rad(8.0)
    affine = np.diag([-1.8, 1.8, 3.0, 1.0])
    affine[1:3, 1:3] = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.diag([1.8, 3.0])
    affine[:3, 3] = -affine[:3, :3] @ [9.5, 11.5, 4.5]
    grid = Grid((20, 24, 10), affine.astype(np.float32).astype(float))
    (case,) = write_data_set(scenes(5), StandIn(), data_set(tmp_path), scanner_grid=lambda _: grid)
    image, mask = nib.load(case.images["dwi"]), nib.load(case.mask)
    assert image.shape == mask.shape == (20, 24, 10)
    np.testing.assert_array_equal(image.affine, grid.affine)
    np.testing.assert_array_equal(mask.affine, grid.affine)
    values = np.asarray(image.dataobj)
    assert values.max() <= 101
    # The cube's middle: voxels 5-8, 6-9 and 7-10 of the model grid.
    index = np.argwhere(np.asarray(mask.dataobj))
    np.testing.assert_allclose(grid.to_world(index.mean(axis=0)), (2 * 6.5 - 19, 2 * 7.5 - 23, 2 * 8.5 - 15), atol=0.7)
    assert case.lesion_volume_ml == pytest.approx(0.512, rel=0.25)
    told = json.loads(case.description.read_text(encoding="utf-8"))
    assert told["written_on"] == "scanner grid"
    assert told["grid"] == {"shape": [20, 24, 10], "spacing_mm": [1.8, 1.8, 3.0]}


@pytest.mark.parametrize(("layout", "task"), LAYOUT_TASKS)
def test_the_same_seeds_give_the_same_bytes(tmp_path, layout, task):
    for name in ("first", "second"):
        write_data_set(scenes(1, 2), StandIn(task), data_set(tmp_path / name, layout, task))
    first = contents(tmp_path / "first")
    assert first == contents(tmp_path / "second")
    assert sum(name.endswith(".nii.gz") for name in first) == (8 if task == "dwi-adc" else 4)
    for name, content in first.items():
        if name.endswith(".gz"):
            assert content[4:8] == b"\0\0\0\0"  # the time in the gzip header
            assert gzip.decompress(content)


def test_complete_cases_are_kept_and_missing_ones_are_made(tmp_path):
    write_data_set(scenes(1, 2), StandIn(), data_set(tmp_path))
    generator = StandIn()
    written = write_data_set(scenes(1, 2, 3), generator, data_set(tmp_path))
    assert generator.made == [3]
    assert [case.kept for case in written] == [True, True, False]
    assert [case.lesion_volume_ml for case in written] == [0.512] * 3


def test_a_case_that_lost_a_file_is_made_again(tmp_path):
    (case,) = write_data_set(scenes(1), StandIn(), data_set(tmp_path))
    before = contents(tmp_path)
    case.images["adc"].unlink()
    (again,) = write_data_set(scenes(1), StandIn(), data_set(tmp_path))
    assert not again.kept
    assert contents(tmp_path) == before


def test_another_case_of_the_same_name_is_never_overwritten(tmp_path):
    write_data_set(scenes(1), StandIn(), data_set(tmp_path))
    before = contents(tmp_path)
    with pytest.raises(InputError, match="differs in: scene"):
        write_data_set([StandInScene(1, brightness=50.0)], StandIn(), data_set(tmp_path))
    assert contents(tmp_path) == before


def test_a_real_data_set_is_never_touched(tmp_path):
    scan = tmp_path / "sub-strokecase0001" / "ses-0001" / "dwi" / "sub-strokecase0001_ses-0001_dwi.nii.gz"
    scan.parent.mkdir(parents=True)
    scan.write_bytes(b"a patient")
    with pytest.raises(InputError, match="was not written by this program"):
        write_data_set(scenes(1), StandIn(), data_set(tmp_path))
    assert scan.read_bytes() == b"a patient"


def test_cancelling_leaves_the_cases_that_are_complete(tmp_path):
    generator = StandIn()
    with pytest.raises(Cancelled):
        write_data_set(
            scenes(1, 2, 3), generator, data_set(tmp_path), monitor=Monitor(cancelled=lambda: len(generator.made) == 2)
        )
    assert [c.name for c in discover(tmp_path)] == ["sub-strokecase0001_ses-0001", "sub-strokecase0002_ses-0001"]


class Killed(BaseException):
    """The process is gone."""


class DyingDisk:
    """A process that is killed just before its `steps`-th rename: after that, nothing is tidied up either."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
        self.left, self.dead = steps, False
        rename, unlink, rmtree = Path.replace, Path.unlink, shutil.rmtree

        def replace(path, target):
            self.left -= 1
            self.dead = self.dead or self.left == 0
            if self.dead:
                raise Killed
            return rename(path, target)

        monkeypatch.setattr(Path, "replace", replace)
        monkeypatch.setattr(Path, "unlink", lambda path, **more: None if self.dead else unlink(path, **more))
        monkeypatch.setattr(shutil, "rmtree", lambda path, **more: None if self.dead else rmtree(path, **more))


@pytest.mark.parametrize(("layout", "task"), LAYOUT_TASKS[:3])
def test_a_killed_run_leaves_no_half_case_and_goes_on_to_the_same_bytes(tmp_path, monkeypatch, layout, task):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    write_data_set(scenes(1, 2), StandIn(task), data_set(whole, layout, task))
    killed.mkdir()
    for steps in range(1, 30):
        with monkeypatch.context() as patch:
            disk = DyingDisk(patch, steps)
            with contextlib.suppress(Killed):
                write_data_set(scenes(1, 2), StandIn(task), data_set(killed, layout, task))
        for case in found_cases(killed):
            assert case.reference is not None, f"killed before rename {steps}: {case.name} has no mask"
            assert set(case.files) == ({"dwi", "adc", "b0"} if task == "dwi-adc" else {"t1"})
        if not disk.dead:
            break
    assert not disk.dead
    assert steps > 3
    assert contents(killed) == contents(whole)


def found_cases(folder: Path):
    try:
        return discover(folder)
    except InputError as error:
        if error.title != "No case was found in the folder.":
            raise
        return []


def test_layouts_that_do_not_hold_the_images_are_refused(tmp_path):
    with pytest.raises(InputError, match="Choose --layout isles22 or isles22-kaggle or bids"):
        write_data_set(scenes(1), StandIn(), data_set(tmp_path, "atlas"))
    with pytest.raises(InputError, match="Choose --layout atlas or atlas-r1 or bids"):
        write_data_set(scenes(1), StandIn("t1"), data_set(tmp_path, "isles22", "t1"))
    with pytest.raises(InputError, match="998999"):
        place_case("atlas", "t1", 999_000)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_data_set(scenes(1), StandIn(), data_set(tmp_path / "file"))


def test_the_contact_sheet_has_a_row_a_case_and_outlines_the_label(tmp_path):
    cases = write_data_set(scenes(1, 2), StandIn(), data_set(tmp_path))
    (one,) = write_contact_sheets(cases[:1], tmp_path, "One")
    low = Image.open(one)
    (two,) = write_contact_sheets(cases, tmp_path, "Two")
    high = Image.open(two)
    assert one.name == two.name == "contact_sheet.png"
    # DWI and ADC of one more case: two tiles with their gaps.
    assert high.height - low.height == 2 * (170 + 2) + 16
    pixels = np.asarray(high)
    orange = (pixels == (255, 106, 19)).all(axis=2)
    rows = np.flatnonzero(orange.any(axis=1))
    assert rows.size
    assert np.count_nonzero(np.diff(rows) > 40) == 3  # four strips with contours: DWI and ADC of both cases
    assert two.read_bytes() == write_contact_sheets(cases, tmp_path, "Two")[0].read_bytes()


def test_many_cases_come_on_numbered_pages(tmp_path):
    cases = write_data_set(scenes(*range(13)), StandIn("t1"), data_set(tmp_path, "bids", "t1"))
    pages = write_contact_sheets(cases, tmp_path, "Many")
    assert [p.name for p in pages] == ["contact_sheet_01.png", "contact_sheet_02.png"]


def test_the_sheet_shows_the_right_side_of_the_patient_on_the_left():
    image = np.full((20, 20, 8), 10.0, dtype=np.float32)
    mask = np.zeros(image.shape, dtype=np.uint8)
    mask[15:18, 8:12, 3:6] = 1  # x grows to the right
    png = draw_contact_sheet([SheetRow("right", (), image, "T1", np.diag([2.0, 2.0, 2.0, 1.0]), mask)], "Sides")
    orange = (np.asarray(Image.open(BytesIO(png))) == (255, 106, 19)).all(axis=2)
    columns = np.flatnonzero(orange.any(axis=0)) - (24 + 270)
    assert columns.size
    # Every tile is 172 pixels apart; contours lie in the left part of each.
    assert (columns % 172).max() < 85
