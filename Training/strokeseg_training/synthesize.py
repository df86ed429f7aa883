"""Writes synthetic cases as a data set: images, lesion mask and the scene they were made from.

A case appears as a whole or not at all. Cases that are already there are kept when they were made from the same scene
with the same settings: after an interruption the same command goes on where it stopped.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.errors import InputError
from strokeseg.events import Monitor
from strokeseg.volume.grid import Grid
from strokeseg.volume.resampling import resample, resample_mask
from strokeseg.volume.writing import write_nifti
from strokeseg_training.layouts import (
    PARTICIPANTS,
    TASK_ROLES,
    CasePlace,
    check_layout,
    data_set_files,
    participants,
    place_case,
)
from strokeseg_training.sample import Sample
from strokeseg_training.synthetic_notice import STATEMENT, TEMPLATE_NOTICE

LABEL_FRACTION = 0.5
"""A voxel belongs to the mask where at least this fraction of it is infarct."""


class SceneOfOne(Protocol):
    """What is needed of a scene: its seed, and its text."""

    @property
    def seed(self) -> int:
        """Names the case."""

    def to_json(self) -> str:
        """Everything random about the patient, as a JSON object."""


class Maker(Protocol):
    """What is needed of a generator."""

    def make(self, scenes: Sequence[Any]) -> Sample:
        """The patients of `scenes`."""


@dataclass(frozen=True)
class DataSet:
    """What kind of data set is written.

    Args:
        folder: Made where it does not exist.
        layout: One of `layouts.LAYOUTS`.
        task: ``"dwi-adc"`` or ``"t1"``.
        generator_version: Stored with every case.
        whole_head: Images as the scanner gives them; otherwise 0 outside the brain mask.
        statement: What the cases say about themselves.
        centres: Over how many the cases are spread.
    """

    folder: Path
    layout: str
    task: str
    generator_version: str
    whole_head: bool = False
    statement: str = STATEMENT
    centres: int = 1


@dataclass(frozen=True)
class WrittenCase:
    """One case of the data set.

    Args:
        name: As the engine's discovery gives it.
        images: Role to file.
        mask: The lesion mask; where each lesion has its own, that of the largest.
        description: The JSON file with the scene.
        lesion_volume_ml: Volume of all lesions.
        kept: Whether it was there before.
    """

    name: str
    images: Mapping[str, Path]
    mask: Path
    description: Path
    lesion_volume_ml: float
    kept: bool


def write_data_set(
    scenes: Sequence[SceneOfOne],
    generator: Maker,
    data_set: DataSet,
    *,
    scanner_grid: Callable[[Any], Grid] | None = None,
    monitor: Monitor | None = None,
) -> list[WrittenCase]:
    """Write a case for each scene.

    Scenes are made one at a time: what a case contains does not depend on its neighbours.

    Args:
        scenes: In the order they are written.
        generator: Makes a patient of a scene.
        data_set: Where and how.
        scanner_grid: The grid that a scene's scanner measured on, around the middle of the model grid; images are
            resampled to it. None: cases are written on the model grid.
        monitor: Told about every case; a cancellation is noticed between cases.

    Returns:
        One entry a scene, in the same order.

    Raises:
        InputError: The layout does not fit the task, the folder cannot be written, or it holds other cases under the
            names that are needed.
        Cancelled: The user stopped; complete cases stay.
    """
    monitor = monitor or Monitor()
    check_layout(data_set.layout, data_set.task, data_set.centres)
    places = [place_case(data_set.layout, data_set.task, scene.seed, data_set.centres) for scene in scenes]
    written = []
    with monitor.stage("synthesize", f"{len(places)} cases"), _in_words(data_set.folder):
        _write_texts(data_set)
        for number, (scene, place) in enumerate(zip(scenes, places, strict=True), start=1):
            monitor.progress(number - 1, len(places), place.name)
            facts = _facts(scene, data_set, on_scanner_grid=scanner_grid is not None)
            kept = _kept(data_set.folder, place, facts)
            if kept is None:
                grid = None if scanner_grid is None else scanner_grid(scene)
                volume = _write_case(generator.make([scene]), grid, data_set, place, facts)
            else:
                volume = kept
            written.append(_entry(data_set.folder, place, volume, kept=kept is not None))
            monitor.progress(number, len(places), place.name)
        _write_participants(data_set)
    return written


def model_grid(sample: Sample) -> Grid:
    """The sample's grid: axes to the right, the front and the top, 0 mm in the middle."""
    affine = np.diag([*sample.spacing_mm, 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * s for n, s in zip(sample.shape, sample.spacing_mm, strict=True)]
    return Grid(sample.shape, affine)


def _write_case(
    sample: Sample, grid: Grid | None, data_set: DataSet, place: CasePlace, facts: Mapping[str, Any]
) -> float:
    """Writes the case under a hidden name and moves it to its place; returns the mask's volume in ml."""
    images, lesion, target = _arrays(sample, grid, data_set)
    mask = (lesion >= LABEL_FRACTION).astype(np.uint8)
    volume = round(float(mask.sum()) * target.voxel_ml, 4)
    description = {
        **facts,
        "grid": {"shape": target.shape, "spacing_mm": [round(s, 6) for s in target.spacing_mm]},
        "label": f"at least {LABEL_FRACTION:g} of the voxel is infarct",
        "lesion_volume_ml": volume,
        "lesion_fraction_integral_ml": round(float(lesion.sum(dtype=np.float64)) * target.voxel_ml, 4),
        "template_notice": TEMPLATE_NOTICE,
    }
    folder = data_set.folder
    part = folder / f".part-{place.name}"
    shutil.rmtree(part, ignore_errors=True)
    try:
        for file in place.files:
            (part / file).parent.mkdir(parents=True, exist_ok=True)
        for role, file in place.images.items():
            write_nifti(part / file, images[role], target.affine, dtype=np.float32)
        masks = _masks(mask, place)
        if place.further_masks:
            description["masks"] = list(masks)
        for file, lesions in masks.items():
            write_nifti(part / file, lesions, target.affine)
        for file, text in place.companions.items():
            (part / file).write_text(text, encoding="utf-8", newline="\n")
        text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
        (part / place.description).write_text(text, encoding="utf-8", newline="\n")
        # The folder with the images comes last: until it stands there, nobody finds a case.
        for own in place.folders:
            (folder / own).parent.mkdir(parents=True, exist_ok=True)
            (part / own).replace(folder / own)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return volume


def _arrays(
    sample: Sample, grid: Grid | None, data_set: DataSet
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.float32], Grid]:
    """Images by role, lesion fraction, and the grid they lie on."""
    source = model_grid(sample)
    target = grid or source
    brain = sample.brain[0].cpu().numpy()
    lesion = sample.lesion[0].cpu().numpy().astype(np.float32)
    images = {role: sample.images[role][0].cpu().numpy() for role in TASK_ROLES[data_set.task]}
    if grid is not None:
        images = {role: _on_grid(image, source, grid) for role, image in images.items()}
        brain = resample_mask(brain, source, grid) > 0
        lesion = resample(lesion, source, grid) * brain
    if not data_set.whole_head:
        images = {role: image * brain for role, image in images.items()}
    return images, lesion, target


def _masks(mask: NDArray[np.uint8], place: CasePlace) -> dict[str, NDArray[np.uint8]]:
    """File to mask: one of all lesions, or one of each, the largest first."""
    if not place.further_masks:
        return {place.mask: mask}
    lesions, count = ndimage.label(mask, np.ones((3, 3, 3), dtype=int))
    sizes = np.bincount(lesions.ravel(), minlength=2)[1:]
    order = [1 + int(n) for n in np.argsort(-sizes, kind="stable")] if count else [1]
    files = [place.mask, *(place.further_masks.format(n) for n in range(1, count))]
    return {file: (lesions == number).astype(np.uint8) for file, number in zip(files, order, strict=True)}


def _on_grid(image: NDArray[np.float32], source: Grid, target: Grid) -> NDArray[np.float32]:
    """The image on the target's voxels; splines overshoot at sharp edges, hence the limits."""
    return np.clip(resample(image, source, target, "bspline"), image.min(), image.max())


def _facts(scene: SceneOfOne, data_set: DataSet, *, on_scanner_grid: bool) -> dict[str, Any]:
    """What is known about a case before it is made, and has to be equal for it to be kept."""
    return {
        "statement": data_set.statement,
        "generator_version": data_set.generator_version,
        "task": data_set.task,
        "seed": scene.seed,
        "written_on": "scanner grid" if on_scanner_grid else "model grid",
        "whole_head": data_set.whole_head,
        "units": {"adc": "1e-3 mm²/s"} if data_set.task == "dwi-adc" else {},
        "scene": json.loads(scene.to_json()),
    }


def _kept(folder: Path, place: CasePlace, facts: Mapping[str, Any]) -> float | None:
    """The volume (ml) of the mask of a complete case with these facts, None where there is no complete case.

    Raises:
        InputError: Something else stands in its place; nothing is touched then.
    """
    there = [own for own in place.folders if (folder / own).exists()]
    if not there:
        return None
    found = _description(folder / place.description)
    different = [key for key, value in facts.items() if found.get(key) != value]
    if different:
        raise InputError(
            f"The case '{place.name}' exists already and is another one.",
            f"It differs in: {', '.join(different)}." if found else f"'{there[0]}' was not written by this program.",
            "Choose another folder or another seed, or remove the case.",
        )
    if all((folder / file).is_file() for file in (*place.files, *found.get("masks", ()))):
        return float(found["lesion_volume_ml"])
    # The first of the folders holds the description, which tells that the rest may be removed: it goes last.
    for own in reversed(there):
        shutil.rmtree(folder / own)
    return None


def _description(path: Path) -> dict[str, Any]:
    """The content of a case's description, empty where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _entry(folder: Path, place: CasePlace, volume_ml: float, *, kept: bool) -> WrittenCase:
    return WrittenCase(
        name=place.name,
        images={role: folder / file for role, file in place.images.items()},
        mask=folder / place.mask,
        description=folder / place.description,
        lesion_volume_ml=volume_ml,
        kept=kept,
    )


def _write_texts(data_set: DataSet) -> None:
    """The files that describe the data set, where they are not there yet."""
    for name, text in data_set_files(data_set.layout, data_set.statement, data_set.generator_version).items():
        path = data_set.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(text, encoding="utf-8", newline="\n")


def _write_participants(data_set: DataSet) -> None:
    """Where BIDS has several centres, the table that tells them, of all cases that are there."""
    if data_set.layout != "bids" or data_set.centres == 1:
        return
    names = [re.fullmatch(r"sub-(\d{4,})", path.name) for path in data_set.folder.iterdir()]
    text = participants((int(name[1]) for name in names if name), data_set.centres)
    part = data_set.folder / f".part-{PARTICIPANTS}"
    part.write_text(text, encoding="utf-8", newline="\n")
    part.replace(data_set.folder / PARTICIPANTS)


@contextmanager
def _in_words(folder: Path) -> Iterator[None]:
    """What the operating system refuses, said for people."""
    try:
        yield
    except OSError as error:
        raise InputError(
            "The synthetic cases cannot be written.",
            f"The operating system refused it in '{folder}' ({error.strerror or type(error).__name__}).",
            "Choose a folder that you may write to, on a disk that is not full.",
        ) from error
