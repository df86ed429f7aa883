"""The design of the sample patient: which patient is drawn, and the infarcts that are put into it by hand.

``sample_scene.json`` beside this file holds it: the seed, the generator's ranges narrowed to the wanted values,
and every infarct with a name for the reader of the description.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from strokeseg_training.generator.lesion_scene import LesionPart, LesionScene
from strokeseg_training.generator.scene import GeneratorRanges, Scene, draw_scene

DESIGN = Path(__file__).parent / "sample_scene.json"


@dataclass(frozen=True)
class Design:
    """The sample patient before it is computed.

    Args:
        scene: Its scene.
        names: One for each part of `scene.lesions`, in words.
        not_lesions: What resembles a lesion in it and is none, in words.
    """

    scene: Scene
    names: tuple[str, ...]
    not_lesions: tuple[str, ...]


def load_design(path: Path = DESIGN) -> Design:
    """The patient of a design file.

    Raises:
        InputError: A range of the design does not exist in the generator.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    scene = draw_scene(content["seed"], "dwi-adc", GeneratorRanges.with_changes(content["ranges"]))
    parts = TypeAdapter(tuple[LesionPart, ...]).validate_python([row["part"] for row in content["infarcts"]])
    return Design(
        scene=replace(scene, lesions=LesionScene("training", parts, ())),
        names=tuple(row["name"] for row in content["infarcts"]),
        not_lesions=tuple(content["not_lesions"]),
    )
