"""What synthetic patients are drawn from: task, ranges and lesion masks, of a recipe and of the command line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from strokeseg.errors import InputError
from strokeseg_training.generator.lesion_library import LesionLibrary
from strokeseg_training.generator.scene import GENERATOR_VERSION, GRIDS, GeneratorRanges, Scene, Task, draw_scene
from strokeseg_training.recipe import load_recipe
from strokeseg_training.recipe_parts import GeneratorData
from strokeseg_training.synthetic_notice import STATEMENT, STATEMENT_WITH_MASKS


@dataclass(frozen=True, eq=False)
class Source:
    """What scenes are drawn from.

    Args:
        task: ``"dwi-adc"`` or ``"t1"``.
        ranges: Of every room of the generator.
        library: Real lesion shapes, or None where lesions are procedural alone.
    """

    task: Task
    ranges: GeneratorRanges
    library: LesionLibrary | None

    @property
    def statement(self) -> str:
        """What its patients say about themselves."""
        return STATEMENT if self.library is None else STATEMENT_WITH_MASKS

    @property
    def about(self) -> dict[str, Any]:
        """What decides about its patients beside their seeds, for a bank of them."""
        ranges = json.dumps(asdict(self.ranges), sort_keys=True)
        sets = {} if self.library is None else {name: len(self.library.volumes_ml(name)) for name in self.library.sets}
        return {
            "generator_version": GENERATOR_VERSION,
            "task": self.task,
            "ranges_sha256": hashlib.sha256(ranges.encode()).hexdigest(),
            "lesion_masks": sets,
            "statement": self.statement,
        }

    def scenes(self, seeds: Iterable[int]) -> list[Scene]:
        """One scene a seed."""
        return [draw_scene(seed, self.task, self.ranges, self.library) for seed in seeds]


def open_source(
    task: str | None = None,
    recipe: str | None = None,
    lesion_masks: str | None = None,
    changes: Sequence[str] = (),
) -> Source:
    """Task, ranges and masks: the command line's where it says something, else the recipe's, else the defaults.

    Args:
        task: ``"dwi-adc"`` or ``"t1"``.
        recipe: For `load_recipe`; its generator's task, ranges and masks are used.
        lesion_masks: For `LesionLibrary.open`.
        changes: ``ROOM.FIELD=VALUE``, the value as JSON.

    Raises:
        InputError: The recipe has no generator, is for another task, or something in it or in `changes` is not usable.
    """
    given = None if recipe is None else _generator_of(recipe, task)
    rooms: dict[str, dict[str, Any]] = {} if given is None else {r: dict(f) for r, f in given.ranges.items()}
    for room, name, value in map(_change, changes):
        rooms.setdefault(room, {})[name] = value
    masks = lesion_masks or (given.lesion_masks if given is not None else None)
    return Source(
        task=_task(task) if given is None else given.task,
        ranges=GeneratorRanges.with_changes(rooms),
        library=None if masks is None else LesionLibrary.open(masks),
    )


def _generator_of(recipe: str, task: str | None) -> GeneratorData:
    generator = load_recipe(recipe).data.generator
    if generator is None:
        raise InputError(
            f"The recipe '{recipe}' draws no patients.",
            "Its data come from a bank.",
            "Give a recipe with 'data.generator', or leave --recipe out.",
        )
    if task is not None and task != generator.task:
        raise InputError(
            f"The recipe '{recipe}' is for another task.",
            f"It is for {generator.task}, --task says {task}.",
            "Leave --task out, or choose another recipe.",
        )
    return generator


def _task(name: str | None) -> Task:
    if name == "t1":
        return "t1"
    if name in (None, "dwi-adc"):
        return "dwi-adc"
    raise InputError("The task is unknown.", f"'{name}' was asked for.", f"Choose one of: {', '.join(GRIDS)}.")


def _change(pair: str) -> tuple[str, str, Any]:
    """Room, range and value of ``ROOM.FIELD=VALUE``."""
    key, equals, text = pair.partition("=")
    room, dot, name = key.partition(".")
    if not equals or not dot or not room or not name:
        raise InputError(
            "A change of the generator's ranges is not usable.",
            f"'{pair}' was given.",
            "Write ROOM.FIELD=VALUE, for example --set 'physics.b_value=[0.9, 1.1]'.",
        )
    try:
        return room, name, json.loads(text)
    except ValueError:
        return room, name, text
