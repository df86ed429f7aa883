"""How the exams are drawn: 64 patients, 16 without a lesion, 16 harder than training, some bilateral or midline.

    python -m strokeseg_training.exam_design dwi-adc Training/strokeseg_training/_exam/dwi-adc-2.json
    python -m strokeseg_training.exam_design t1 Training/strokeseg_training/_exam/t1-1.json

Anatomy and scanners are those of the task's recipe, in the hard patients beyond them. Lesions are drawn in the exam's
own ways, without masks of patients: a network that learned how training draws them gains nothing here. The file that is
written is the exam; this program only says how it came about.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from strokeseg_training.exam import Exam, save_exam
from strokeseg_training.generator.generator import Generator
from strokeseg_training.generator.scene import GeneratorRanges, Scene, Task, draw_scene
from strokeseg_training.recipe import load_recipe
from strokeseg_training.sample import Sample

FIRST_SEED = 10_000
PATIENTS, EMPTY, HARD, BILATERAL, MIDLINE = 64, 16, 16, 4, 4
# Of the empty patients, so many are scanned as badly as the hard ones.
EMPTY_AND_HARD = 4

_LESIONS = {"style": "exam", "emboli": [0, 24], "second_infarct_share": 0.35}
_HARDER: dict[str, dict[str, Any]] = {
    "anatomy": {"age": [0.4, 1.1], "head_bend_mm": [4.0, 12.0]},
    "distractors": {"cavity_share": 0.6, "white_matter_share": 1.0, "shine_share": 0.6, "bleeding_share": 0.3},
    "physics": {"usual_b_share": 0.0, "b_value": [0.7, 1.4], "hindbrain_asymmetry": 0.07},
    "acquisition": {
        "thickness_share": [0.0, 0.1, 0.1, 0.4, 0.4],
        "working_grid_share": 0.0,
        "snr": [7.0, 18.0],
        "t1_snr": [7.0, 16.0],
        "t1_slices_share": 0.6,
        "ghost_share": 0.5,
        "motion_share": 0.8,
        "slice_drop_share": 0.2,
        "ear_share": 1.0,
        "shift_mm": [3.0, 10.0],
    },
    "corruption": {"mask_bias_mm": [-4.0, 5.0], "mask_lost_share": 0.4, "adc_masked_share": 0.5, "b_error": 0.06},
}
_HARDER_T1: dict[str, dict[str, Any]] = {
    "anatomy": {"age": [0.4, 1.2], "head_bend_mm": [4.0, 12.0], "cyst_share": 0.25},
    "distractors": {
        "white_matter_share": 1.0,
        "white_matter_t1": [0.62, 0.9],
        "caps_mm": [1.0, 10.0],
        "perivascular_share": 0.8,
        "fissure_share": 0.8,
    },
    "physics": {
        "t1_inversion_share": 0.4,
        "t1_spoiled_share": 0.3,
        "coil_tilt": [0.1, 0.7],
        "coil_radial": [-0.6, 0.5],
        "t1_texture": [0.02, 0.06],
    },
    "acquisition": {"t1_voxel_mm": [0.9, 2.0], "t1_slices_share": 0.6, "t1_snr": [6.0, 15.0]},
    "corruption": {
        "stripped_share": 0.5,
        "mask_bias_mm": [-5.0, 4.5],
        "mask_lost_share": 0.4,
        "mask_added_share": 0.5,
        "slab_share": 0.15,
    },
}
# Of the hard T1-weighted scans, so many have a ghost half a field of view away, and how strong it is.
_T1_GHOSTS, _T1_GHOST = 0.5, (0.02, 0.07)
_GHOSTS_ROOM = 7
# A lesion reaches the middle where this much of it lies within so many millimetres of the plane, on both sides.
_MIDDLE_MM, _MIDDLE_ML = 8.0, 0.1
# Both sides are hit where the smaller one holds this share.
_SMALLER_SIDE = 0.1


def draw_exam(task: Task, path: Path) -> Exam:
    """Draws an exam and writes it.

    Args:
        task: Whose patients.
        path: The file, named ``TASK-VERSION.json``.

    Raises:
        InputError: The file cannot be written.
    """
    generator = Generator()
    scenes = [(scene, tags) for scene, tags in _chosen(task, generator)]
    return save_exam(path, scenes, reference_fraction=load_recipe(task).drawn_from)


def _chosen(task: Task, generator: Generator) -> Iterator[tuple[Scene, list[str]]]:
    seeds = iter(range(FIRST_SEED, FIRST_SEED + 100_000))
    plain, hard = _ranges(task, {}), _ranges(task, _HARDER_T1 if task == "t1" else _HARDER)
    for number in range(EMPTY):
        ranges = hard if number < EMPTY_AND_HARD else plain
        scene = draw_scene(next(seeds), task, _with(ranges, empty_share=1.0))
        scene = _ghosted(scene) if number < EMPTY_AND_HARD else scene
        yield scene, ["empty", "hard"] if number < EMPTY_AND_HARD else ["empty"]
    for _ in range(HARD):
        yield _with_lesion(task, generator, hard, seeds, "", ["hard"])
    # Scars have no other side of their own: several are needed. Acute infarcts do not know this range.
    scattered = {"chronic_satellites": 2.5}
    for _ in range(BILATERAL):
        yield _with_lesion(task, generator, _with(plain, bilateral_share=1.0, **scattered), seeds, "bilateral", [])
    deep = _with(plain, stem_share=0.4, aca_share=0.4, cerebellum_share=0.2, mca_share=0.0, pca_share=0.0)
    for _ in range(MIDLINE):
        yield _with_lesion(task, generator, _with(deep, bilateral_share=1.0, **scattered), seeds, "midline", [])
    for _ in range(PATIENTS - EMPTY - HARD - BILATERAL - MIDLINE):
        yield _with_lesion(task, generator, plain, seeds, "", [])


def _with_lesion(
    task: Task, generator: Generator, ranges: GeneratorRanges, seeds: Iterator[int], wanted: str, tags: list[str]
) -> tuple[Scene, list[str]]:
    """The next seed whose label holds a voxel, and the wanted property; tags say every property that it has."""
    for seed in seeds:
        scene = draw_scene(seed, task, _with(ranges, empty_share=0.0))
        scene = _ghosted(scene) if "hard" in tags else scene
        found = _properties(generator.make([scene]))
        if found is not None and (not wanted or wanted in found):
            return scene, [*tags, *found]
    raise AssertionError("seeds do not end")


def _properties(sample: Sample) -> list[str] | None:
    """Of ``bilateral`` and ``midline`` what holds; None where no voxel is lesion for half or more."""
    lesion = sample.lesion[0] >= 0.5
    if not bool(lesion.any()):
        return None
    plane = sample.midplane[0]
    spacing = torch.tensor(sample.spacing_mm)
    middle = (torch.tensor(sample.shape) - 1) / 2
    away = ((lesion.nonzero() - middle) * spacing) @ plane[:3] - plane[3]
    voxel_ml = float(spacing.prod()) / 1000.0
    right, left = int((away > 0).sum()), int((away <= 0).sum())
    near = away[away.abs() < _MIDDLE_MM]
    both = min(int((near > 0).sum()), int((near <= 0).sum())) * voxel_ml
    found = ["bilateral"] if min(right, left) >= _SMALLER_SIDE * (right + left) else []
    return found + (["midline"] if both >= _MIDDLE_ML else [])


def _ranges(task: Task, changes: dict[str, dict[str, Any]]) -> GeneratorRanges:
    """The ranges of the task's recipe with changes, the exam's lesions among them."""
    recipe = load_recipe(task).data.generator
    rooms = {} if recipe is None else {room: dict(fields) for room, fields in recipe.ranges.items()}
    for more in (changes, {"lesions": _LESIONS}):
        for room, fields in more.items():
            rooms[room] = {**rooms.get(room, {}), **fields}
    return GeneratorRanges.with_changes(rooms)


def _ghosted(scene: Scene) -> Scene:
    """Half of the T1-weighted scans with the ghost that vessels or a moving head leave; training's have none."""
    if scene.task != "t1":
        return scene
    rng = np.random.default_rng([scene.seed, _GHOSTS_ROOM])
    strength = float(rng.uniform(*_T1_GHOST)) if rng.random() < _T1_GHOSTS else 0.0
    return replace(scene, acquisition=replace(scene.acquisition, ghost=(strength, 0.0)))


def _with(ranges: GeneratorRanges, **lesions: float) -> GeneratorRanges:
    # dataclasses.replace cannot know which of the ranges are numbers.
    changed: Any = lesions
    return replace(ranges, lesions=replace(ranges.lesions, **changed))


def main(arguments: list[str] | None = None) -> None:
    """Command line: TASK FILE."""
    task, path = arguments if arguments is not None else sys.argv[1:]
    exam = draw_exam("t1" if task == "t1" else "dwi-adc", Path(path))
    for tag in ("empty", "hard", "bilateral", "midline"):
        print(f"{tag}: {sum(tag in scene.tags for scene in exam.scenes)} of {len(exam.scenes)}")


if __name__ == "__main__":
    main()
