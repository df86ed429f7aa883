"""Small patients in the layouts of real data sets: found by the engine, complete, spread over centres."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the generator's samples are torch tensors; torch is not installed")

from data_phantom import write_patients  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from strokeseg.case import discover  # noqa: E402
from strokeseg.errors import InputError  # noqa: E402
from strokeseg_training.cli import app  # noqa: E402
from strokeseg_training.datasets.phantom import Phantoms, PhantomScene  # noqa: E402
from strokeseg_training.layouts import place_case  # noqa: E402


def test_the_engine_finds_patients_of_the_mirror(tmp_path):
    written = write_patients(tmp_path, "isles22-kaggle", seeds=(1, 2))
    found = discover(tmp_path)
    assert [c.layout for c in found] == ["isles22", "isles22"]
    assert [(c.files, c.reference) for c in found] == [(w.images, w.mask) for w in written]
    assert found[0].files["dwi"].parent.name == found[0].files["dwi"].name == "sub-strokecase0001_ses-0001_dwi.nii"


def test_atlas_r1_has_a_mask_for_each_lesion_and_the_largest_is_the_main_one(tmp_path):
    write_patients(tmp_path, "atlas-r1", "t1", seeds=(5, 4))
    lesion = Phantoms("t1").make([PhantomScene(5)]).lesion[0].numpy() > 0
    empty, three = discover(tmp_path)
    assert (empty.name, three.name) == ("c0001s0004t01", "c0001s0005t01")
    assert empty.extra_references == ()
    assert not np.asarray(nib.load(empty.reference).dataobj).any()
    masks = [np.asarray(nib.load(p).dataobj) > 0 for p in (three.reference, *three.extra_references)]
    assert len(masks) == 3
    np.testing.assert_array_equal(np.sum(masks, axis=0), lesion)
    assert sorted((m.sum() for m in masks), reverse=True) == [m.sum() for m in masks]


def test_a_case_that_lost_a_further_mask_is_made_again(tmp_path):
    write_patients(tmp_path, "atlas-r1", "t1", seeds=(5,))
    (case,) = discover(tmp_path)
    content = case.extra_references[0].read_bytes()
    case.extra_references[0].unlink()
    (again,) = write_patients(tmp_path, "atlas-r1", "t1", seeds=(5,))
    assert not again.kept
    assert case.extra_references[0].read_bytes() == content
    (kept,) = write_patients(tmp_path, "atlas-r1", "t1", seeds=(5,))
    assert kept.kept


def test_seeds_go_round_the_centres():
    assert [place_case("atlas", "t1", n, 3).name for n in (0, 1, 2, 3, 1004)] == [
        "sub-r001s000_ses-1", "sub-r002s001_ses-1", "sub-r003s002_ses-1", "sub-r001s003_ses-1", "sub-r006s004_ses-1",
    ]  # fmt: skip
    assert [place_case("atlas-r1", "t1", n, 3).name for n in (4, 10_000)] == ["c0002s0004t01", "c0005s0000t01"]
    with pytest.raises(InputError, match="998999"):
        place_case("atlas", "t1", 999_000)
    with pytest.raises(InputError, match="tells no centres"):
        place_case("isles22", "dwi-adc", 1, 2)


def test_bids_tells_the_centres_of_all_patients_in_its_table(tmp_path):
    write_patients(tmp_path, "bids", "t1", seeds=(2,), centres=2)
    write_patients(tmp_path, "bids", "t1", seeds=(5,), centres=2)
    table = (tmp_path / "participants.tsv").read_text(encoding="utf-8")
    assert table == "participant_id\tsite\nsub-0002\tcentre01\nsub-0005\tcentre02\n"


def test_the_command_writes_small_patients_in_no_time(tmp_path):
    words = ["synthesize", "--small", "--task", "t1", "--layout", "atlas-r1", "--centres", "2", "--count", "2"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert [c.name for c in discover(tmp_path)] == ["c0001s0000t01", "c0002s0001t01"]
    refused = CliRunner().invoke(app, [*words, "--scanner-grid", "--out", str(tmp_path)])
    assert refused.exit_code == 2
