"""A new threshold on a result gives what segmenting with this threshold gives, without the model."""

import gzip
import json
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import small_brain as phantom

from strokeseg.case import Case
from strokeseg.errors import InputError, StrokeSegError
from strokeseg.relabel import Evidence, evidence_of, read_evidence, relabel
from strokeseg.segmentation import segment
from strokeseg.volume import write_nifti

MAP = "lesion_probability.nii.gz"
FROM_IMAGES = ("adc_mean", "adc_min", "adc_below_062_ml", "dwi_mean")


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    brain = phantom.small_brain()
    for role in ("dwi", "adc"):
        phantom.save_nifti(folder / f"{role}.nii.gz", getattr(brain, role), brain.affine)
    return Case.from_files(dwi=folder / "dwi.nii.gz", adc=folder / "adc.nii.gz")


@pytest.fixture(scope="module")
def first(case):
    return segment(case, threshold=0.5)


@pytest.fixture(scope="module")
def stored(first, tmp_path_factory):
    place = tmp_path_factory.mktemp("results") / "Ärzte 空 x"
    first.save(place)
    return place


@pytest.fixture
def copy(stored, tmp_path):
    return Path(shutil.copytree(stored, tmp_path / "copy"))


def test_a_result_of_an_earlier_version_has_no_peak(copy, first):
    path = copy / "summary.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    for key in ("own_threshold", "peak", "own_peak"):
        del data["model"][key]
    path.write_text(json.dumps(data), encoding="utf-8")
    assert relabel(read_evidence(copy), threshold=0.5).volume_ml == first.volume_ml


@pytest.mark.parametrize(("threshold", "smallest"), [(0.5, None), (0.2, None), (0.9, 0.0), (0.001, 0.5), (1.0, None)])
def test_it_equals_segmenting_with_that_threshold(case, first, stored, tmp_path, threshold, smallest):
    again = segment(case, threshold=threshold, min_lesion_ml=smallest)
    again.save(tmp_path / "again")
    expected = (tmp_path / "again" / "lesion_mask.nii.gz").read_bytes()
    for name, evidence in (("kept", evidence_of(first, "kept")), ("stored", read_evidence(stored))):
        done = relabel(evidence, threshold=threshold, min_lesion_ml=smallest, out=tmp_path / f"{name}.nii.gz")
        assert (tmp_path / f"{name}.nii.gz").read_bytes() == expected
        assert done.files == {"lesion_mask.nii.gz": tmp_path / f"{name}.nii.gz"}
        assert done.volume_ml == again.volume_ml
        lesions = again.lesions
        if name == "stored":  # neither ADC nor DWI is in the folder
            lesions = [replace(lesion, **dict.fromkeys(FROM_IMAGES)) for lesion in lesions]
        assert [asdict(x) for x in done.lesions] == [asdict(x) for x in lesions]


def test_a_lower_threshold_never_loses_a_voxel(first):
    evidence = evidence_of(first, "kept")
    volumes = [relabel(evidence, threshold=t, min_lesion_ml=0.0).volume_ml for t in (0.9, 0.5, 0.2, 0.01)]
    assert volumes == sorted(volumes)
    assert volumes[0] < volumes[-1]


def test_without_a_file_nothing_is_written(first, stored):
    before = sorted(stored.parent.rglob("*"))
    assert relabel(read_evidence(stored), threshold=0.3).files == {}
    assert sorted(stored.parent.rglob("*")) == before


def test_threshold_zero_is_the_whole_brain_also_from_the_files(first, stored):
    for evidence in (evidence_of(first, "kept"), read_evidence(stored)):
        done = relabel(evidence, threshold=0.0)
        assert [x.voxels for x in done.lesions] == [int(first.brain.sum())]


def test_a_result_without_lesion_can_be_relabelled(case, tmp_path):
    none = segment(case, threshold=1.0, min_lesion_ml=1000.0)
    assert none.lesions == []
    none.save(tmp_path / "none")
    assert relabel(read_evidence(tmp_path / "none"), threshold=0.5, min_lesion_ml=0.0).volume_ml > 5


def test_a_swap_that_was_interrupted_is_finished_first(stored, tmp_path):
    shutil.copytree(stored, tmp_path / "place.previous-4194001-1600000000000")
    shutil.copytree(stored, tmp_path / ".partial-place-4194001-1600000000000")
    read_evidence(tmp_path / "place")
    assert [p.name for p in tmp_path.iterdir()] == ["place"]


def refusal(call):
    with pytest.raises(InputError) as caught:
        call()
    return str(caught.value)


def test_a_folder_that_is_no_result_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert "is no result of StrokeSeg" in refusal(lambda: read_evidence(tmp_path))
    assert "is no result of StrokeSeg" in refusal(lambda: read_evidence(tmp_path / "nowhere"))
    assert "is no result of StrokeSeg" in refusal(lambda: read_evidence(tmp_path / "notes.txt"))


def remove(name):
    return lambda folder: (folder / name).unlink()


def cut(folder):
    content = (folder / MAP).read_bytes()
    (folder / MAP).write_bytes(content[: len(content) // 2])


def flip(folder):
    content = bytearray((folder / MAP).read_bytes())
    content[len(content) // 2] ^= 0xFF
    (folder / MAP).write_bytes(bytes(content))


def other_map(change):
    def damage(folder):
        image = nib.load(folder / MAP)
        array = change(np.asarray(image.dataobj).copy())
        write_nifti(folder / MAP, array, image.affine)

    return damage


def poke(value):
    def change(array):
        array[20, 20, 15] = value
        return array

    return change


def summary(change):
    def damage(folder):
        path = folder / "summary.json"
        data = json.loads(path.read_text(encoding="utf-8"))
        change(data)
        path.write_text(json.dumps(data), encoding="utf-8")

    return damage


DAMAGES = {
    "no map": remove(MAP),
    "no summary": remove("summary.json"),
    "half a map": cut,
    "a flipped byte": flip,
    "an empty map": lambda folder: (folder / MAP).write_bytes(gzip.compress(b"")),
    "a map of another shape": other_map(lambda array: array[:-1]),
    "a map of four axes": other_map(lambda array: np.stack([array, array], axis=-1)),
    "logits": other_map(lambda array: array * 20 - 10),
    "a map of one value": other_map(lambda array: np.full_like(array, 0.25)),
    "a value above one": other_map(poke(1.5)),
    "infinity": other_map(poke(np.inf)),
    "half a summary": lambda folder: (folder / "summary.json").write_text('{"strokeseg_version": '),
    "a summary that is no object": lambda folder: (folder / "summary.json").write_text("[]"),
    "no model": summary(lambda data: data.pop("model")),
    "a model that is a text": summary(lambda data: data.update(model="adc-threshold")),
    "no midplane": summary(lambda data: data.pop("midplane")),
    "a midplane of two numbers": summary(lambda data: data["midplane"].update(normal_ras=[1, 0])),
    "a midplane that is none": summary(lambda data: data.update(midplane=None)),
    "no grid": summary(lambda data: data.pop("grid")),
    "a smallest lesion that is a text": summary(lambda data: data["model"].update(minimum_lesion_ml="small")),
    "a smallest lesion below zero": summary(lambda data: data["model"].update(minimum_lesion_ml=-1)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_result_is_refused_in_words(copy, damage):
    damage(copy)
    said = refusal(lambda: relabel(read_evidence(copy), threshold=0.5))
    assert str(copy.parent) not in said


def test_a_model_of_several_classes_has_no_threshold(first, copy):
    decision = replace(first.card.decision, rule="argmax")
    several = replace(first, card=replace(first.card, decision=decision))
    assert "takes the most probable" in refusal(lambda: evidence_of(several, "kept"))
    summary(lambda data: data["model"].update(rule="argmax"))(copy)
    assert "takes the most probable" in refusal(lambda: read_evidence(copy))


def test_a_mask_never_replaces_a_file_and_never_joins_a_result(first, stored, tmp_path):
    evidence = evidence_of(first, "kept")
    (tmp_path / "mine.nii.gz").write_bytes(b"mine")
    assert "is not replaced" in refusal(lambda: relabel(evidence, threshold=0.5, out=tmp_path / "mine.nii.gz"))
    assert (tmp_path / "mine.nii.gz").read_bytes() == b"mine"
    (tmp_path / "link.nii").symlink_to(tmp_path / "nowhere.nii")
    assert "is not replaced" in refusal(lambda: relabel(evidence, threshold=0.5, out=tmp_path / "link.nii"))
    assert "neither in .nii" in refusal(lambda: relabel(evidence, threshold=0.5, out=tmp_path / "mask.png"))
    assert "belong together" in refusal(lambda: relabel(evidence, threshold=0.5, out=stored / "second.nii.gz"))
    with pytest.raises(StrokeSegError, match="cannot be written"):
        relabel(evidence, threshold=0.5, out=tmp_path / "nowhere" / "mask.nii.gz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.nii", "mine.nii.gz"]


def test_the_speed_on_a_usual_acute_scan(tmp_path):
    """112 x 112 x 73 voxels of 2 mm; printed, for it depends on the machine (aim: 0.1 s)."""
    shape = (112, 112, 73)
    x, y, z = (np.arange(n) - n / 2 for n in shape)
    radius = np.sqrt((x[:, None, None] / 35) ** 2 + (y[:, None] / 42) ** 2 + (z / 33) ** 2)
    brain = radius < 1
    rng = np.random.default_rng(7)
    probability = np.where(brain, rng.uniform(0.001, 0.1, shape), 0)
    probability[50:75, 40:65, 30:55] += 0.6
    probability = np.where(brain, probability, 0).astype(np.float32)
    images = {"adc": rng.uniform(0.3, 1, shape).astype(np.float32), "dwi": probability}
    evidence = Evidence("speed", probability, brain, np.diag([2.0, 2, 2, 1]), ((1.0, 0.0, 0.0), 0.0), 0.02, images)
    seconds = []
    for number in range(5):
        start = time.perf_counter()
        done = relabel(evidence, threshold=0.5, out=tmp_path / f"{number}.nii.gz")
        seconds.append(time.perf_counter() - start)
    print(f"relabel of {shape}: best {1000 * min(seconds):.0f} ms, worst {1000 * max(seconds):.0f} ms")
    # The box is 0.6 brighter than its surroundings: 0.5 finds it, whole.
    assert [x.voxels for x in done.lesions] == [int((brain[50:75, 40:65, 30:55]).sum())]
