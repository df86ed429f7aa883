"""Patches of prepared volumes: where they lie, that they are of one patient and the same again, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="prepared data sets need torch, which is not installed")

from data_phantom import recipe_data  # noqa: E402
from recording_runtime import Recorder  # noqa: E402

from strokeseg.errors import InputError  # noqa: E402
from strokeseg.predict.strategies import Tiling, windows  # noqa: E402
from strokeseg.volume import Grid  # noqa: E402
from strokeseg_training.augment import Augmenter, Example  # noqa: E402
from strokeseg_training.prepare.patches import PatchItems  # noqa: E402
from strokeseg_training.prepare.prepared_set import PreparedVolume  # noqa: E402
from strokeseg_training.recipe import recipe_of  # noqa: E402
from strokeseg_training.recipe_augment import Augmentation  # noqa: E402
from strokeseg_training.recipe_data import Patches  # noqa: E402

SHAPE = (20, 24, 18)


class Patients:
    """Prepared volumes in memory: patient n has the value n + 1 and a number for each voxel, all of it brain."""

    def __init__(self, *shapes, lesions=()):
        self.patients, self._volumes = [], []
        for number, shape in enumerate(shapes):
            labels = np.zeros(shape, np.uint8)
            if number < len(lesions) and lesions[number] is not None:
                labels[lesions[number]] = 1
            voxels = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
            channels = np.stack([np.full(shape, number + 1.0, np.float32), voxels])
            self._volumes.append(PreparedVolume(channels, labels, np.ones(shape, np.uint8)))
            self.patients.append(SimpleNamespace(grid=Grid(shape, np.eye(4))))

    def side(self, side):
        assert side == "train"
        return list(range(len(self.patients)))

    def volume(self, number):
        return self._volumes[number]


def items(patients, seed=1, overlap=0.25, multiple=1, **said):
    return PatchItems(patients, "train", Patches(**said), seed, overlap=overlap, multiple=multiple)


def first_voxel(item):
    """Where the item's first voxel lies in its volume of `SHAPE`."""
    return tuple(int(n) for n in np.unravel_index(int(item.channels[1, 0, 0, 0]), SHAPE))


# --- where they lie


def test_patches_are_of_one_patient_each_and_as_many_as_asked_for():
    patients = Patients(SHAPE, (30, 9, 18), SHAPE)
    found = items(patients, size=(16, 12, 10), each=4)
    assert len(found) == 12
    for index, item in enumerate(found):
        assert item.channels.shape == (2, 16, 12, 10)
        assert item.labels.shape == item.brain.shape == (16, 12, 10)
        own = set(item.channels[0].unique().tolist()) - {0.0}
        assert own == {index // 4 + 1.0} == {item.patient + 1.0}
        # Zeros stand only where the volume ends, and are no brain.
        assert torch.equal(item.brain, item.channels[0] > 0)


def test_seven_of_ten_patches_lie_around_a_lesion_and_none_leaves_the_volume():
    patients = Patients(SHAPE, SHAPE, lesions=[(10, 12, 9), None])
    found = items(patients, size=(8, 8, 8), lesion_share=0.7)
    middles = [bool(found.at(0, n).labels[4, 4, 4]) for n in range(400)]
    # Five standard deviations of 400 throws are 0.11; by chance alone it would be one of 8640 voxels.
    assert 0.59 < np.mean(middles) < 0.81
    starts = np.array([first_voxel(found.at(1, n)) for n in range(400)])
    assert (starts.min(axis=0) == 0).all()
    assert (starts.max(axis=0) == np.array(SHAPE) - 8).all()


def test_a_lesion_at_the_edge_is_inside_its_patch():
    patients = Patients(SHAPE, lesions=[(0, 23, 1)])
    item = items(patients, size=(8, 8, 8), lesion_share=1.0)[0]
    assert np.argwhere(item.labels.numpy()).tolist() == [[0, 7, 1]]
    assert bool(item.brain.all())


def test_a_lesion_outside_the_brain_draws_no_patch():
    patients = Patients(SHAPE, lesions=[(1, 1, 1)])
    patients.volume(0).brain[:12] = 0
    assert not any(bool(items(patients, size=(4, 4, 4), lesion_share=1.0).at(0, n).labels.any()) for n in range(50))


def test_a_volume_that_is_smaller_stands_in_the_middle():
    for place in ({"place": "random"}, {"place": "windows"}):
        item = items(Patients((5, 6, 7)), size=(8, 8, 8), **place)[0]
        inside = np.argwhere(item.brain.numpy())
        assert inside.min(axis=0).tolist() == [1, 1, 0]
        assert inside.max(axis=0).tolist() == [5, 6, 6]


@pytest.mark.parametrize("size", [(24, 28, 8), (12, 12, 18), (24, 24, 20)])
def test_windows_are_those_that_the_engine_shows_the_network(size):
    patients = Patients(SHAPE)
    found = items(patients, size=size, place="windows", overlap=0.25, multiple=2)
    engine, volume = Recorder(), patients.volume(0)
    windows(engine, volume.channels, volume.brain > 0, Tiling(size, 0.25, 2), lambda done, total: None)
    assert len(found) == len(engine.seen) > 0
    for item, shown in zip(found, engine.seen, strict=True):
        np.testing.assert_array_equal(item.channels, shown)


def test_a_fixed_patch_begins_where_it_is_told_whatever_lies_there():
    found = items(Patients(SHAPE), size=(8, 8, 8), place="fixed", start=(16, 2, -3))
    assert len(found) == 1
    inside = np.argwhere(found[0].brain.numpy())
    assert (inside.min(axis=0).tolist(), inside.max(axis=0).tolist()) == ([0, 0, 3], [3, 7, 7])
    assert int(found[0].channels[1, 0, 0, 3]) == np.ravel_multi_index((16, 2, 0), SHAPE)


# --- the same again


def test_seed_and_number_say_where_a_patch_lies_whoever_asks_in_whichever_order():
    patients = Patients(SHAPE, SHAPE, lesions=[(10, 12, 9)])
    said = {"size": (8, 8, 8), "each": 3, "lesion_share": 0.5}
    one, other = items(patients, **said), items(patients, **said)
    forwards = [first_voxel(one.at(n % 6, n)) for n in range(30)]
    backwards = [first_voxel(other.at(n % 6, n)) for n in reversed(range(30))]
    assert forwards == backwards[::-1]
    # Other ones in the next pass, and by another seed.
    assert forwards[:6] != forwards[6:12]
    assert forwards != [first_voxel(items(patients, seed=2, **said).at(n % 6, n)) for n in range(30)]


def test_all_variations_go_in_three_dimensions_and_keep_labels_on_their_voxels():
    item = items(Patients(SHAPE, lesions=[(slice(8, 12), slice(8, 12), slice(8, 12))]), size=SHAPE)[0]
    image = item.labels.float()[None] + 1.0
    varied = Augmenter(
        Augmentation.model_validate({
            "flips": {"x": 0.5, "y": 0.5, "z": 0.5}, "rotation": {"about": ["x", "y", "z"]}, "scale": {}, "elastic": {},
            "gain": {"factor": [1.1, 1.1], "per_channel": True}, "blur": {"sigma": [0.3, 0.3]},
            "noise": {"sd": [0, 0.01]},
        }),
        seed=1,
    )(Example("p", ("dwi_zscore",), image, {"labels": item.labels, "brain": item.brain}), 3)  # fmt: skip
    assert varied.images.shape == (1, *SHAPE)
    assert not torch.equal(varied.maps["labels"], item.labels)
    # Lesion is 2 x 1.1 bright, the rest 1.1: what is labelled so is bright but for its edge.
    assert float(varied.images[0][varied.maps["labels"] > 0].mean()) > 1.8
    assert float(varied.images[0][varied.maps["labels"] == 0].mean()) < 1.3


# --- what is refused


def changed(patches, **changes):
    data = recipe_data(patches={"size": [8, 8, 8], **patches})
    data["data"] = {"prepared": "set"}
    return recipe_of({**data, **changes}, "test")


def test_a_recipe_for_patches_says_all_of_them_and_one_without_says_nothing():
    assert changed({"each": 4}).as_data()["datasets"]["patches"]["each"] == 4
    plain = recipe_of(recipe_data(), "test").as_data()["datasets"]
    assert not {"patches", "registration", "frame"} & set(plain)


@pytest.mark.parametrize(
    ("patches", "changes", "words"),
    [
        ({"place": "windows", "each": 2}, {}, "random patches only"),
        ({"place": "fixed"}, {}, "'start'"),
        ({"start": [1, 1, 1]}, {}, "'start'"),
        ({"size": [8, 8, 6]}, {"preparation": {"spacing_mm": [6, 6, 6], "multiple": 4, "channels": ["dwi_robust"]}},
         "multiples of 'preparation.multiple'"),
        ({}, {"data": {"prepared": "set", "extra_voxels": 1}}, "data.extra_voxels=0"),
        ({}, {"data": {"bank": "b"}}, "give 'data.prepared' alone"),
        ({}, {"datasets": {**recipe_data(slices={}, patches={"size": [8, 8, 8]})["datasets"]}}, "leave out 'slices'"),
    ],
)  # fmt: skip
def test_patches_that_cannot_be_cut_are_refused_in_words(patches, changes, words):
    with pytest.raises(InputError) as caught:
        changed(patches, **changes)
    assert words in str(caught.value)
