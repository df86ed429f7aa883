"""The exams that come with the package: what their files hold, and that their patients are what their tags say."""

import hashlib
import json
from types import SimpleNamespace

import pytest
import torch

from strokeseg_training.exam import Exam, newest_exam
from strokeseg_training.exam_model import task_of
from strokeseg_training.generator.generator import Generator
from strokeseg_training.generator.scene import GENERATOR_VERSION, Scene
from strokeseg_training.recipe import load_recipe

TASKS = ("dwi-adc", "t1")


@pytest.fixture(scope="module", params=TASKS)
def exam(request):
    return Exam.load(newest_exam(request.param))


def scenes_of(exam):
    return [(s.tags, Scene.from_json(s.description)) for s in exam.scenes]


def bytes_of(sample):
    total = hashlib.sha256()
    for volume in (*(sample.images[r] for r in sorted(sample.images)), sample.brain, sample.lesion, sample.tissue):
        total.update(volume.numpy().tobytes())
    return total.hexdigest()


def test_an_exam_has_64_patients_16_empty_and_16_hard_ones_with_a_lesion(exam):
    tags = [set(s.tags) for s in exam.scenes]
    assert len(tags) == len({s.seed for s in exam.scenes}) == 64
    assert sum("empty" in t for t in tags) == 16
    assert sum({"empty", "hard"} <= t for t in tags) == 4
    assert sum("hard" in t and "empty" not in t for t in tags) == 16
    assert sum("bilateral" in t for t in tags) >= 4
    assert sum("midline" in t for t in tags) >= 4


def test_no_exam_patient_is_drawn_in_trainings_way_or_with_its_seeds(exam):
    generator = load_recipe(exam.task).data.generator
    validation = load_recipe(exam.task).validation.seeds
    for tags, scene in scenes_of(exam):
        assert scene.version == GENERATOR_VERSION
        assert scene.task == exam.task
        assert scene.lesions.style == "exam"
        kinds = {part.kind for part in scene.lesions.parts}
        assert kinds <= {"metaballs", "walk", "branches", "cells", "lacune"}
        assert not (scene.lesions.parts and "empty" in tags)
        for seeds in (generator.seeds, validation):
            assert not seeds.first <= scene.seed < seeds.end


def test_hard_t1_patients_are_scanned_worse_than_training_ever_is():
    scenes = scenes_of(Exam.load(newest_exam("t1")))
    hard = [scene for tags, scene in scenes if "hard" in tags]
    ranges = load_recipe("t1").data.generator.ranges
    assert max(s.acquisition.noise.snr for s in hard) <= 15.0
    assert min(s.acquisition.noise.snr for s in hard) < ranges["acquisition"]["t1_snr"][0]
    assert sum(not s.acquisition.slicing.volume for s in hard) >= 5  # thick slices
    assert sum(s.acquisition.ghost[0] > 0 for s in hard) >= 5
    assert sum(not s.corruption.stripped for s in hard) >= 5  # whole heads
    worst = ranges["corruption"]["mask_bias_mm"]
    assert any(not worst[0] <= s.corruption.mask.bias_mm <= worst[1] for s in hard)
    assert len({s.physics.t1.kind for s in hard}) == 3
    assert all(s.acquisition.ghost == (0.0, 0.0) for tags, s in scenes if "hard" not in tags)


def test_t1_patients_with_and_without_lesion_come_out_as_they_are_tagged_and_the_same_each_time():
    exam = Exam.load(newest_exam("t1"))
    chosen = [next(s for s in exam.scenes if "empty" in s.tags), next(s for s in exam.scenes if not s.tags)]
    generator = Generator()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for described in chosen:
            sample = generator.make([Scene.from_json(described.description)])
            assert bool((sample.lesion >= exam.reference_fraction).any()) == ("empty" not in described.tags)
            assert sample.seeds == (described.seed,)
            if "empty" not in described.tags:
                again = generator.make([Scene.from_json(json.dumps(json.loads(described.description)))])
                assert bytes_of(sample) == bytes_of(again)
    finally:
        torch.set_num_threads(before)


def test_a_t1_model_takes_the_t1_exam():
    assert newest_exam(task_of(SimpleNamespace(reference_role="t1"))).startswith("t1-")
    assert newest_exam(task_of(SimpleNamespace(reference_role="dwi"))).startswith("dwi-adc-")
