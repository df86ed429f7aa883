"""The whole generator: patients from scenes, both tasks. A seeded few here, two thousand with STROKESEG_SOAK=1."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from strokeseg.errors import InputError
from strokeseg_training.generator.generator import Generator
from strokeseg_training.generator.scene import GENERATOR_VERSION, GRIDS, GeneratorRanges, Scene, Task, draw_scene

SOAK = os.environ.get("STROKESEG_SOAK") == "1"
SEEDS: dict[Task, range] = {"dwi-adc": range(2000 if SOAK else 6), "t1": range(200 if SOAK else 2)}


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("task", ["dwi-adc", "t1"])
def test_every_patient_has_a_brain_finite_images_and_its_label_within_the_brain(
    generator: Generator, task: Task
) -> None:
    with_lesion = 0
    for seed in SEEDS[task]:
        sample = generator.make([draw_scene(seed, task)])
        assert sample.shape == GRIDS[task][0]
        assert set(sample.images) == ({"dwi", "adc", "b0"} if task == "dwi-adc" else {"t1"})
        assert all(bool(image.isfinite().all()) for image in sample.images.values()), seed
        voxel_ml = sample.spacing_mm[0] ** 3 / 1000
        # From a slab of a small brain to a whole large one with what a bad mask takes along.
        assert 400 < int(sample.brain.sum()) * voxel_ml < 2300, seed
        assert not bool(sample.lesion[~sample.brain].any()), seed
        assert float(sample.lesion.min()) >= 0.0
        assert float(sample.lesion.max()) <= 1.0
        assert not bool(sample.tissue[~sample.brain].any()), seed
        assert int(sample.tissue.max()) == 3
        assert float(sample.midplane[0, 0]) > 0.9, "the plane's normal points to the right"
        with_lesion += bool((sample.lesion > 0.5).any())
    assert with_lesion > 0


@pytest.mark.parametrize("task", ["dwi-adc", "t1"])
def test_a_scene_read_back_from_json_gives_the_same_bytes(generator: Generator, task: Task) -> None:
    scene = draw_scene(3, task)
    again = Scene.from_json(scene.to_json())
    assert again == scene
    one, other = generator.make([scene]), generator.make([again])
    for role, image in one.images.items():
        assert torch.equal(image, other.images[role])
    for name in ("brain", "lesion", "tissue", "midplane"):
        assert torch.equal(getattr(one, name), getattr(other, name))


def test_a_patient_does_not_depend_on_the_others_of_its_batch(generator: Generator) -> None:
    alone = generator.make([draw_scene(4, "dwi-adc")])
    both = generator.make([draw_scene(2, "dwi-adc"), draw_scene(4, "dwi-adc")])
    assert both.seeds == (2, 4)
    assert torch.equal(both.tissue[1], alone.tissue[0])
    # The same sums in another order: equal to rounding.
    assert torch.allclose(both.lesion[1], alone.lesion[0], atol=1e-4)
    close = (both.images["adc"][1] - alone.images["adc"][0]).abs()[alone.brain[0]]
    assert float(close.quantile(0.999)) < 1e-2


def test_other_noise_leaves_anatomy_and_lesion_as_they_are(generator: Generator) -> None:
    scene = draw_scene(1, "dwi-adc")
    acquisition = scene.acquisition
    noise = replace(acquisition.noise, seed=acquisition.noise.seed + 1)
    noisy = replace(scene, acquisition=replace(acquisition, noise=noise))
    one, other = generator.make([scene]), generator.make([noisy])
    assert torch.equal(one.lesion, other.lesion)
    assert torch.equal(one.tissue, other.tissue)
    assert not torch.equal(one.images["dwi"], other.images["dwi"])


def test_a_patient_without_disease_has_no_label(generator: Generator) -> None:
    ranges = GeneratorRanges.with_changes({"lesions": {"empty_share": 1.0}})
    sample = generator.make([draw_scene(5, "dwi-adc", ranges)])
    assert not bool(sample.lesion.any())


def test_the_label_holds_the_infarct_to_one_percent_where_nothing_distorts_it(generator: Generator) -> None:
    changes = {"lesions": {"empty_share": 0.0}, "acquisition": {"shift_mm": [0.0, 0.0]}}
    ranges = GeneratorRanges.with_changes(changes)
    for seed in range(20, 60 if SOAK else 23):
        patients = generator.patients([draw_scene(seed, "dwi-adc", ranges)])
        infarct = (patients.lesions.infarct * patients.anatomy.fractions[:, :2].sum(1)).sum()
        assert float(patients.acquired.label.sum()) == pytest.approx(float(infarct), rel=0.01, abs=0.5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"phisics": {}}, "Did you mean 'physics'?"),
        ({"physics": {"te_sm": [1, 2]}}, "Did you mean 'te_ms'?"),
        ({"physics": {"te_ms": [1, 2, 3]}}, "physics.te_ms"),
        ({"lesions": {"style": "other"}}, "lesions.style"),
    ],
)
def test_a_wrong_range_is_refused_by_its_name(changes: dict[str, dict[str, object]], said: str) -> None:
    with pytest.raises(InputError) as caught:
        GeneratorRanges.with_changes(changes)
    assert said in f"{caught.value.cause} {caught.value.next_step}"


def test_a_scene_of_another_version_is_refused_and_a_negative_seed_too() -> None:
    other = replace(draw_scene(0, "t1"), version="0")
    with pytest.raises(InputError, match="another version") as caught:
        Scene.from_json(other.to_json())
    assert GENERATOR_VERSION in caught.value.cause
    with pytest.raises(InputError, match="seed"):
        draw_scene(-1, "t1")


def test_scenes_of_two_tasks_are_not_made_together(generator: Generator) -> None:
    with pytest.raises(InputError, match="cannot be made together"):
        generator.make([draw_scene(0, "t1"), draw_scene(0, "dwi-adc")])
    with pytest.raises(InputError, match="cannot be made together"):
        generator.make([])
