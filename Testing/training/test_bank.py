"""The bank: patients come back as they went in, killed runs go on, damage is said."""

import json
import pickle
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which is not installed")

from strokeseg.errors import InputError  # noqa: E402
from strokeseg_training.bank import Bank  # noqa: E402
from strokeseg_training.bank_writing import missing_seeds, write_bank  # noqa: E402
from strokeseg_training.channels import make_channels  # noqa: E402

phantom = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("fit_phantom.py"))))
ABOUT = {"generator_version": "0", "ranges_sha256": "ab"}


def patients(seeds):
    return (phantom.patient(s) for s in seeds)


def make(folder, seeds=range(1, 8), **options):
    return write_bank(patients(seeds), folder, about=ABOUT, shard_size=3, **options)


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_patients_come_back_within_the_precision_they_are_kept_in(tmp_path):
    make(tmp_path / "bank")
    bank = Bank(tmp_path / "bank")
    assert len(bank) == 7
    for index in (0, 3, 6):
        given, kept = phantom.patient(index + 1), bank[index]
        assert kept.seeds == (index + 1,)
        assert kept.spacing_mm == given.spacing_mm
        assert torch.equal(kept.brain, given.brain)
        assert torch.equal(kept.tissue, given.tissue)
        assert torch.equal(kept.midplane, given.midplane)
        torch.testing.assert_close(kept.lesion, given.lesion, atol=0.5 / 255, rtol=0)
        for role in ("dwi", "adc"):
            # Half floats: 11 bits.
            torch.testing.assert_close(kept.images[role], given.images[role], rtol=2**-11, atol=1e-4)


def test_channels_of_a_kept_patient_are_those_of_the_given_one(tmp_path):
    make(tmp_path / "bank", [4])
    names = ["dwi_ratio", "adc", "dwi_mirror_log_ratio", "adc_mirror_log_ratio"]
    kept, given = (make_channels(s, names) for s in (Bank(tmp_path / "bank")[0], phantom.patient(4)))
    torch.testing.assert_close(kept, given, atol=2e-3, rtol=0)


def test_signals_beyond_half_floats_are_kept(tmp_path):
    given = phantom.patient(1)
    given.images["dwi"] *= 1e6
    write_bank([given], tmp_path / "bank", about=ABOUT)
    kept = Bank(tmp_path / "bank")[0].images["dwi"]
    torch.testing.assert_close(kept, given.images["dwi"], rtol=2**-10, atol=1.0)


def test_only_the_brain_is_kept(tmp_path):
    given = phantom.patient(1)
    given.images["adc"][:] += 1.0
    write_bank([given], tmp_path / "bank", about=ABOUT)
    kept = Bank(tmp_path / "bank")[0]
    assert not kept.images["adc"][~kept.brain].any()
    size = sum(p.stat().st_size for p in (tmp_path / "bank").rglob("*.npy"))
    # A bit a voxel of the grid, 6 bytes a voxel of the brain, and eight headers.
    assert size < 32**3 / 8 + 6 * int(kept.brain.sum()) + 8 * 256


def test_several_patients_in_one_sample_are_told_apart(tmp_path):
    make(tmp_path / "one")
    write_bank([phantom.Sample.together(list(patients(range(1, 8))))], tmp_path / "two", about=ABOUT, shard_size=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    both = Bank(tmp_path / "one").samples([5, 0])
    assert both.seeds == (6, 1)
    assert torch.equal(both.lesion[1], Bank(tmp_path / "one")[0].lesion[0])


def test_a_killed_run_goes_on_and_gives_the_same_bank(tmp_path):
    make(tmp_path / "whole")

    def killed():
        yield from patients([1, 2, 3, 4, 5])
        raise SystemExit

    with pytest.raises(SystemExit):
        write_bank(killed(), tmp_path / "bank", about=ABOUT, shard_size=3)
    # What a kill leaves between the steps: a shard half written, and one that the manifest does not name yet.
    for leftover in (".partial-shard-00001", "shard-00001"):
        (tmp_path / "bank" / leftover).mkdir()
        (tmp_path / "bank" / leftover / "dwi.npy").write_bytes(b"half")
    assert len(Bank(tmp_path / "bank")) == 3
    left = missing_seeds(range(1, 8), tmp_path / "bank")
    assert left == [4, 5, 6, 7]
    make(tmp_path / "bank", left)
    assert contents(tmp_path / "bank") == contents(tmp_path / "whole")


def test_a_run_killed_before_its_first_shard_can_be_started_again(tmp_path):
    (tmp_path / "bank" / ".partial-shard-00000").mkdir(parents=True)
    assert missing_seeds([1], tmp_path / "bank") == [1]
    make(tmp_path / "bank", [1])
    assert len(Bank(tmp_path / "bank")) == 1


def test_a_damaged_shard_is_named_and_the_others_can_be_used(tmp_path):
    make(tmp_path / "bank")
    path = tmp_path / "bank" / "shard-00001" / "adc.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    bank = Bank(tmp_path / "bank")
    assert bank[0].seeds == (1,)
    with pytest.raises(InputError, match="shard-00001") as caught:
        bank[4]
    assert "adc.npy" in caught.value.cause
    # The advice works: the shard's patients are missing then, and are written again.
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()
    assert missing_seeds(range(1, 8), tmp_path / "bank") == [4, 5, 6]
    make(tmp_path / "bank", [4, 5, 6])
    assert sorted(s.seeds[0] for s in (Bank(tmp_path / "bank")[i] for i in range(7))) == list(range(1, 8))


def test_a_bank_made_otherwise_is_not_appended_to(tmp_path):
    make(tmp_path / "bank", [1])
    with pytest.raises(InputError, match="another way") as caught:
        write_bank(patients([2]), tmp_path / "bank", about={**ABOUT, "generator_version": "1"})
    assert "'generator_version' is '0' there and '1' now" in caught.value.cause


def test_patients_of_another_grid_are_refused(tmp_path):
    make(tmp_path / "bank", [1])
    with pytest.raises(InputError, match="does not fit"):
        write_bank([phantom.patient(2, (30, 32, 32))], tmp_path / "bank", about=ABOUT)


def test_values_that_are_no_numbers_are_refused_by_their_seed(tmp_path):
    given = phantom.patient(5)
    given.images["adc"][0, 16, 16, 16] = np.nan
    with pytest.raises(InputError, match="seed 5"):
        write_bank([given], tmp_path / "bank", about=ABOUT)


def test_somebody_elses_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.docx").write_text("x")
    with pytest.raises(InputError, match="neither a bank nor an empty folder"):
        make(tmp_path)
    assert (tmp_path / "thesis.docx").read_text() == "x"


@pytest.mark.parametrize("text", [None, "{", '{"format": 1}', '{"format": 9}'])
def test_a_folder_without_usable_manifest_is_refused(tmp_path, text):
    if text:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InputError):
        Bank(tmp_path)


def test_a_bank_travels_to_worker_processes_without_its_maps(tmp_path):
    make(tmp_path / "bank")
    bank = Bank(tmp_path / "bank")
    bank[0]
    other = pickle.loads(pickle.dumps(bank))
    assert torch.equal(other[2].lesion, bank[2].lesion)
    assert json.loads((tmp_path / "bank" / "manifest.json").read_text())["patients"] == 7
