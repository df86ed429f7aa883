"""`Scene`: everything that is random about one synthetic patient, decided before anything is computed.

A scene is plain numbers. It can be printed, saved as JSON, replayed, and changed one field at a time with
``dataclasses.replace``; what changes in the images is then what the field does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter, ValidationError

from strokeseg.errors import InputError
from strokeseg_training.generator.acquisition import AcquisitionRanges, AcquisitionScene, draw_acquisition
from strokeseg_training.generator.anatomy import AnatomyRanges, AnatomyScene, draw_anatomy
from strokeseg_training.generator.corruption import CorruptionRanges, CorruptionScene, draw_corruption
from strokeseg_training.generator.distractors import DistractorRanges, DistractorScene, draw_distractors
from strokeseg_training.generator.lesion_library import LesionLibrary
from strokeseg_training.generator.lesions import LesionRanges, LesionScene, draw_lesions
from strokeseg_training.generator.physics import PhysicsRanges, PhysicsScene, draw_physics

GENERATOR_VERSION = "2"
"""Rises whenever the same scene gives other images: scores of different versions are not comparable."""

Task = Literal["dwi-adc", "t1"]
GRIDS: dict[str, tuple[tuple[int, int, int], tuple[float, float, float]]] = {
    "dwi-adc": ((80, 96, 80), (2.0, 2.0, 2.0)),
    "t1": ((80, 96, 80), (2.0, 2.0, 2.0)),
}
"""Task to the working grid: voxels and spacing in mm along (right, front, top)."""

# One stream of random numbers a room: another draw in one room leaves the others as they are.
_ROOMS = {"anatomy": 1, "lesions": 2, "distractors": 3, "physics": 4, "acquisition": 5, "corruption": 6}


@dataclass(frozen=True)
class GeneratorRanges:
    """What each room draws from; a recipe overrides single fields by name."""

    anatomy: AnatomyRanges = field(default_factory=AnatomyRanges)
    lesions: LesionRanges = field(default_factory=LesionRanges)
    distractors: DistractorRanges = field(default_factory=DistractorRanges)
    physics: PhysicsRanges = field(default_factory=PhysicsRanges)
    acquisition: AcquisitionRanges = field(default_factory=AcquisitionRanges)
    corruption: CorruptionRanges = field(default_factory=CorruptionRanges)

    @classmethod
    def with_changes(cls, changes: Mapping[str, Mapping[str, Any]]) -> GeneratorRanges:
        """The default ranges with some fields replaced.

        Args:
            changes: Room to field to value, e.g. ``{"physics": {"b_value": [0.9, 1.1]}}``.

        Raises:
            InputError: A room or field is unknown, or a value is not of the field's kind.
        """
        base = asdict(cls())
        for room, values in changes.items():
            _known(room, base, "room of the generator")
            for name, value in values.items():
                _known(name, base[room], f"range of '{room}'")
                base[room][name] = value
        try:
            return TypeAdapter(cls).validate_python(base)
        except ValidationError as error:
            raise _unusable("The generator's ranges are not usable.", error) from error


@dataclass(frozen=True)
class Scene:
    """One synthetic patient before it is computed."""

    version: str
    task: Task
    seed: int
    anatomy: AnatomyScene
    lesions: LesionScene
    distractors: DistractorScene
    physics: PhysicsScene
    acquisition: AcquisitionScene
    corruption: CorruptionScene

    def to_json(self) -> str:
        """One line of JSON; numbers keep every digit."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Scene:
        """The scene of `to_json`.

        Raises:
            InputError: Not a scene, or of another version of the generator.
        """
        try:
            scene = TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            raise _unusable("The description of a synthetic patient is not usable.", error) from error
        if scene.version != GENERATOR_VERSION:
            raise InputError(
                "The description of a synthetic patient belongs to another version of the generator.",
                f"It was written by version {scene.version}, this is version {GENERATOR_VERSION}.",
                "Draw it again with its seed, or install the version that wrote it.",
            )
        return scene


def draw_scene(
    seed: int, task: Task, ranges: GeneratorRanges | None = None, library: LesionLibrary | None = None
) -> Scene:
    """Decides everything about one patient.

    Args:
        seed: Any whole number from 0; the same seed, task, ranges and library give the same scene.
        task: ``dwi-adc`` (acute) or ``t1`` (chronic).
        ranges: What to draw from.
        library: Real lesion shapes; without it lesions are procedural.

    Raises:
        InputError: The seed is negative.
    """
    if seed < 0:
        raise InputError("The seed is not usable.", f"It is {seed}.", "Choose a whole number from 0.")
    ranges = ranges or GeneratorRanges()
    rng = {room: np.random.default_rng([seed, number]) for room, number in _ROOMS.items()}
    return Scene(
        version=GENERATOR_VERSION,
        task=task,
        seed=seed,
        anatomy=draw_anatomy(rng["anatomy"], ranges.anatomy),
        lesions=draw_lesions(rng["lesions"], ranges.lesions, task, library),
        distractors=draw_distractors(rng["distractors"], ranges.distractors, task),
        physics=draw_physics(rng["physics"], ranges.physics),
        acquisition=draw_acquisition(rng["acquisition"], ranges.acquisition, task),
        corruption=draw_corruption(rng["corruption"], ranges.corruption),
    )


def _known(name: str, among: Mapping[str, Any], what: str) -> None:
    if name not in among:
        near = get_close_matches(name, among, n=1)
        raise InputError(
            f"There is no {what} named '{name}'.",
            "Known are " + ", ".join(sorted(among)) + ".",
            f"Did you mean '{near[0]}'?" if near else "Choose one of these.",
        )


def _unusable(title: str, error: ValidationError) -> InputError:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "the text"
    return InputError(title, f"{place}: {first['msg']}.", "Correct this field; nothing was generated.")
