"""`strokeseg-train synthesize` and `bank`: what the user types and reads; the patients come from a stand-in."""

from __future__ import annotations

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="the generator needs torch, which is not installed")

from strokeseg.case.discovery import discover  # noqa: E402
from strokeseg.errors import InputError  # noqa: E402
from strokeseg_training import cli_generate  # noqa: E402
from strokeseg_training.bank import Bank  # noqa: E402
from strokeseg_training.generation import open_source  # noqa: E402
from strokeseg_training.generator.scene import GRIDS, draw_scene  # noqa: E402
from strokeseg_training.sample import Sample  # noqa: E402
from strokeseg_training.scanner_grid import scanner_grid  # noqa: E402


class StandIn:
    """Noise, a box for a brain and a cube for a lesion, on the task's own grid."""

    def make(self, scenes):
        (scene,) = scenes
        shape, spacing = GRIDS[scene.task]
        roles = ("dwi", "adc", "b0") if scene.task == "dwi-adc" else ("t1",)
        source = torch.Generator().manual_seed(scene.seed)
        brain = torch.zeros((1, *shape), dtype=torch.bool)
        brain[:, 10:-10, 10:-10, 10:-10] = True
        lesion = torch.zeros((1, *shape))
        lesion[:, 30:34, 40:44, 40:44] = 1.0
        return Sample(
            images={role: 1.0 + torch.rand((1, *shape), generator=source) for role in roles},
            brain=brain,
            lesion=lesion,
            tissue=brain.to(torch.uint8),
            midplane=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
            spacing_mm=spacing,
            seeds=(scene.seed,),
        )


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(cli_generate, "_generator", lambda source: StandIn())
    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
    cli_generate.register(app)
    return lambda *words: CliRunner().invoke(app, [str(w) for w in words])


def test_a_data_set_is_written_and_described(run, tmp_path):
    done = run("synthesize", "--out", tmp_path / "set", "--count", 2, "--seed", 4)
    assert done.exit_code == 0, done.output
    assert "2 cases written, 0 kept; 0 with an empty mask." in done.stdout
    assert (tmp_path / "set" / "contact_sheet.png").is_file()
    names = ["sub-strokecase0004_ses-0001", "sub-strokecase0005_ses-0001"]
    assert [case.name for case in discover(tmp_path / "set")] == names
    again = run("synthesize", "--out", tmp_path / "set", "--count", 2, "--seed", 4, "--format", "json")
    told = json.loads(again.stdout)
    # 64 voxels of 8 mm³.
    assert told["cases"] == [{"name": name, "lesion_volume_ml": 0.512, "kept": True} for name in names]


def test_the_layout_follows_the_task(run, tmp_path):
    done = run("synthesize", "--out", tmp_path, "--task", "t1")
    assert done.exit_code == 0, done.output
    (case,) = discover(tmp_path)
    assert case.layout == "atlas-r2"


def test_a_layout_that_does_not_fit_ends_with_its_exit_code(run, tmp_path):
    done = run("synthesize", "--out", tmp_path, "--task", "t1", "--layout", "isles22")
    assert done.exit_code == 3
    assert "Choose --layout atlas or atlas-r1 or bids." in done.output


def test_the_scanner_grid_is_that_of_the_scene(run, tmp_path):
    done = run("synthesize", "--out", tmp_path, "--seed", 2, "--scanner-grid")
    assert done.exit_code == 0, done.output
    (case,) = discover(tmp_path)
    grid = scanner_grid(draw_scene(2, "dwi-adc"))
    image = nib.load(case.files["dwi"])
    assert image.shape == grid.shape
    np.testing.assert_array_equal(image.affine, grid.affine)


def test_a_scanner_grid_has_the_slices_distance_and_the_stored_voxel():
    scene = draw_scene(2, "dwi-adc")
    slicing = replace(
        scene.acquisition.slicing,
        slice_axis=2, thickness_mm=4.0, gap=0.25, acquired_mm=2.5, stored_mm=1.25, offsets_mm=(0.5, 0.0, -1.0),
        volume=False,
    )  # fmt: skip
    grid = scanner_grid(replace(scene, acquisition=replace(scene.acquisition, slicing=slicing)))
    # The working grid's centres span 158, 190 and 158 mm: 126 and 152 steps of 1.25 mm, 31 slices 5 mm apart.
    assert grid.shape == (127, 153, 32)
    np.testing.assert_allclose(grid.spacing_mm, (1.25, 1.25, 5.0))
    np.testing.assert_allclose(grid.to_world((63, 76, 15.5)), (0.5, 0.0, -1.0), atol=1e-5)


def test_whole_heads_are_not_stripped(run, tmp_path):
    done = run("synthesize", "--out", tmp_path, "--whole-head")
    assert done.exit_code == 0, done.output
    (case,) = discover(tmp_path)
    assert np.asarray(nib.load(case.files["dwi"]).dataobj).min() >= 1.0
    (path,) = tmp_path.glob("derivatives/**/*_scene.json")
    assert json.loads(path.read_text(encoding="utf-8"))["scene"]["corruption"]["stripped"] is False


def test_a_range_is_changed_by_name():
    source = open_source(changes=["physics.b_value=[0.9, 0.9]", "physics.usual_b_share=0"])
    assert [scene.physics.b_value for scene in source.scenes([1, 2])] == [0.9, 0.9]
    assert source.task == "dwi-adc"


@pytest.mark.parametrize("change", ["b_value=1", "physics=1", "physics.b_value"])
def test_a_change_without_room_field_or_value_is_refused(change):
    with pytest.raises(InputError, match=r"ROOM\.FIELD=VALUE"):
        open_source(changes=[change])


def test_unknown_tasks_and_ranges_are_refused_with_what_is_known():
    with pytest.raises(InputError, match="dwi-adc, t1"):
        open_source(task="flair")
    with pytest.raises(InputError, match="b_value"):
        open_source(changes=["physics.b_val=1"])


def test_other_ranges_are_another_bank():
    first, same, other = open_source(), open_source(), open_source(changes=["physics.usual_b_share=0"])
    assert first.about == same.about
    assert first.about["ranges_sha256"] != other.about["ranges_sha256"]


def test_a_bank_goes_on_where_it_stopped(run, tmp_path):
    first = run("bank", "--out", tmp_path / "bank", "--count", 2, "--seed", 3)
    assert first.exit_code == 0, first.output
    assert "2 patients written, 0 kept." in first.stdout
    second = run("bank", "--out", tmp_path / "bank", "--count", 3, "--seed", 3)
    assert second.exit_code == 0, second.output
    assert "1 patients written, 2 kept." in second.stdout
    assert len(Bank(tmp_path / "bank")) == 3


def test_nothing_is_loaded_for_the_help(run):
    done = run("synthesize", "--help")
    assert done.exit_code == 0
    for word in ("--layout", "--scanner-grid", "--sample", "--lesion-masks"):
        assert word in done.stdout
