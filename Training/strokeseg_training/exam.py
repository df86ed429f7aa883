"""The exam: synthetic patients that no training has seen, kept as descriptions and drawn again wherever it is taken.

An exam file lists scenes of the generator, not images; on a CPU the same file gives the same patients. Some have no
lesion, some come from harder ranges than training's, some infarcts lie on both sides or at the middle. It chooses
between checkpoints and sets temperature, threshold and minimum lesion volume; no real scan has a part in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strokeseg.errors import InputError, ModelError
from strokeseg.events import Monitor
from strokeseg_training._exam_choice import EMPTY_FALSE_ML, Choice, choose, choose_temperature
from strokeseg_training._exam_grading import TAGS, Answer, ExamResult, Settings, grade
from strokeseg_training.sample import Sample

if TYPE_CHECKING:
    from strokeseg_training.generator.scene import Scene

__all__ = [
    "EMPTY_FALSE_ML", "TAGS", "Answer", "Choice", "Exam", "ExamResult", "ExamScene", "Predictor", "Settings", "answer",
    "choose", "choose_temperature", "grade", "newest_exam", "save_exam", "score",
]  # fmt: skip

FORMAT = 1
FOLDER = Path(__file__).parent / "_exam"
_NAME = re.compile(r"(?P<task>[a-z0-9-]+)-(?P<version>[0-9]+)")

Predictor = Callable[[Sample], Tensor | NDArray[np.float32]]
"""Lesion logits (N, x, y, z) of the N patients of a sample; below 0 is no lesion."""


@dataclass(frozen=True)
class ExamScene:
    """One patient of an exam.

    Args:
        seed: That its scene was drawn with; its name in results.
        tags: Of `TAGS`.
        description: The scene as JSON text.
    """

    seed: int
    tags: tuple[str, ...]
    description: str


@dataclass(frozen=True, eq=False)
class Exam:
    """The patients of an exam, not yet drawn.

    Args:
        name: ``TASK-VERSION``, for example ``dwi-adc-1``.
        task: ``dwi-adc`` or ``t1``.
        generator_version: The generator that its scenes were drawn for; another one gives other patients.
        reference_fraction: Share of a voxel that must be lesion for the reference to hold it.
        scenes: The patients.
        make: Makes the sample of one scene's description; None: the generator, on the CPU.
    """

    name: str
    task: str
    generator_version: str
    scenes: tuple[ExamScene, ...]
    reference_fraction: float = 0.5
    make: Callable[[str], Sample] | None = field(default=None, repr=False)

    @classmethod
    def load(cls, name: str | Path) -> Exam:
        """An exam that comes with the package, by name, or a file.

        Raises:
            InputError: There is no such exam, or it cannot be read.
        """
        path = Path(name) if str(name).endswith(".json") else FOLDER / f"{name}.json"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.json"))) or "none"
            raise InputError(
                f"There is no exam '{name}'.", f"These come with the package: {known}.", "Name one, or give a file."
            ) from error
        except (OSError, ValueError) as error:
            raise _unreadable(path, f"The reason: {error}.") from error
        return _parse(data, path)

    def samples(self) -> Iterator[Sample]:
        """Each patient as a sample of one, in order.

        Raises:
            InputError: A scene belongs to another version of the generator, or is not usable.
        """
        make = self.make or _generator()
        for scene in self.scenes:
            yield make(scene.description)


def newest_exam(task: str) -> str:
    """Name of the newest exam of a task that comes with the package.

    Raises:
        InputError: There is none.
    """
    versions = [
        int(found["version"])
        for path in FOLDER.glob("*.json")
        if (found := _NAME.fullmatch(path.stem)) and found["task"] == task
    ]
    if not versions:
        raise InputError(
            f"There is no exam for the task '{task}'.",
            f"The folder '{FOLDER.name}' of the package holds none.",
            "Give an exam file.",
        )
    return f"{task}-{max(versions)}"


def save_exam(path: Path, scenes: Iterable[tuple[Scene, Iterable[str]]], *, reference_fraction: float = 0.5) -> Exam:
    """Write an exam file, one scene a line, and read it back.

    Args:
        path: The file; its name without ``.json`` is the exam's.
        scenes: Scenes of one task and generator version, each with its tags.
        reference_fraction: See `Exam`.

    Raises:
        InputError: The file cannot be written, or what was given is no exam.
    """
    drawn = [(scene, list(tags)) for scene, tags in scenes]
    if len({(s.task, s.version) for s, _ in drawn}) != 1:
        raise InputError(
            "The exam was not written.",
            f"It has {len(drawn)} scenes; there must be at least one, all of one task and generator version.",
            "Draw all scenes for one task.",
        )
    first = drawn[0][0]
    head = {
        "format": FORMAT,
        "name": path.stem,
        "task": first.task,
        "generator_version": first.version,
        "reference_fraction": reference_fraction,
    }
    rows = ",\n".join(f'{{"tags":{json.dumps(tags)},"scene":{scene.to_json()}}}' for scene, tags in drawn)
    text = json.dumps(head)[:-1] + f', "scenes": [\n{rows}\n]}}\n'
    _parse(json.loads(text), path)
    try:
        path.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise InputError(
            "The exam was not written.", f"'{path}': {error.strerror or error}.", "Choose another place."
        ) from error
    return Exam.load(path)


def answer(predictor: Predictor, exam: Exam, monitor: Monitor | None = None) -> tuple[Answer, ...]:
    """What a predictor says about every patient; to be graded with any settings afterwards.

    Raises:
        InputError: A patient is not what its tags say, or the generator does not fit the exam.
        ModelError: The predictor gives logits of another shape, or numbers that are none.
    """
    monitor = monitor or Monitor()
    answers = []
    for number, (scene, sample) in enumerate(zip(exam.scenes, exam.samples(), strict=True)):
        monitor.progress(number, len(exam.scenes), f"seed {scene.seed}")
        answers.append(_answer(predictor, exam, scene, sample))
    return tuple(answers)


def score(
    predictor: Predictor, exam: Exam, settings: Settings | None = None, monitor: Monitor | None = None
) -> ExamResult:
    """The result of a predictor in an exam.

    Args:
        predictor: Sample to lesion logits (N, x, y, z).
        exam: The exam.
        settings: Temperature, threshold and minimum lesion volume; None: 1, 0.5 and 0.02 ml.
        monitor: Hears progress, notices a cancellation.

    Raises:
        InputError: See `answer`.
        ModelError: See `answer`.
    """
    return grade(answer(predictor, exam, monitor), settings or Settings(), exam.name, exam.generator_version)


def _answer(predictor: Predictor, exam: Exam, scene: ExamScene, sample: Sample) -> Answer:
    with torch.no_grad():
        given = predictor(sample)
    logits = given.detach().float().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given, np.float32)
    expected = (1, *sample.shape)
    if logits.shape != expected or not np.isfinite(logits).all():
        what = "with values that are not numbers" if logits.shape == expected else f"of the shape {logits.shape}"
        raise ModelError(
            "The predictor's answer cannot be graded.",
            f"For seed {scene.seed} it gave logits {what}; finite logits {expected} were expected.",
            "Correct the predictor: one logit for each voxel of each patient.",
        )
    brain = sample.brain[0].cpu().numpy()
    reference = sample.lesion[0].cpu().numpy() >= exam.reference_fraction
    if ("empty" in scene.tags) == bool(reference.any()):
        holds = f"holds {int(reference.sum())} voxels of lesion" if reference.any() else "holds no lesion"
        said = "is said to be empty" if "empty" in scene.tags else "is not said to be empty"
        raise InputError(
            f"The exam '{exam.name}' does not fit this generator.",
            f"The patient of seed {scene.seed} {said} but {holds}.",
            "Use the version of the generator that the exam was made with, or make a new version of the exam.",
        )
    return Answer(
        seed=scene.seed,
        tags=scene.tags,
        brain=brain,
        reference=reference & brain,
        logits=logits[0][brain],
        affine=np.diag([*sample.spacing_mm, 1.0]),
    )


def _generator() -> Callable[[str], Sample]:
    from strokeseg_training.generator.generator import Generator  # noqa: PLC0415  an exam with `make` needs none
    from strokeseg_training.generator.scene import Scene  # noqa: PLC0415

    generator = Generator()
    return lambda description: generator.make([Scene.from_json(description)])


def _parse(data: Any, path: Path) -> Exam:
    """An exam from its JSON data, checked."""
    if not isinstance(data, Mapping) or data.get("format") != FORMAT:
        raise _unreadable(path, f"An exam of format {FORMAT} was expected.")
    name, task, version = (data.get(key) for key in ("name", "task", "generator_version"))
    fraction, scenes = data.get("reference_fraction"), data.get("scenes")
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise _unreadable(path, f"Its name must be TASK-VERSION, for example dwi-adc-1; it is {name!r}.")
    if not (isinstance(task, str) and isinstance(version, str) and name.startswith(f"{task}-")):
        raise _unreadable(path, f"Task and generator version must be texts that fit '{name}': {task!r}, {version!r}.")
    if not (isinstance(fraction, int | float) and 0 < fraction <= 1):
        raise _unreadable(path, f"'reference_fraction' must lie between 0 and 1; it is {fraction!r}.")
    if not isinstance(scenes, list) or not scenes:
        raise _unreadable(path, "It has no scenes.")
    return Exam(name, task, version, tuple(_scene(s, path) for s in scenes), float(fraction))


def _scene(data: Any, path: Path) -> ExamScene:
    tags = data.get("tags") if isinstance(data, Mapping) else None
    scene = data.get("scene") if isinstance(data, Mapping) else None
    if not isinstance(scene, Mapping) or not isinstance(scene.get("seed"), int):
        raise _unreadable(path, "A scene has no seed.")
    if not isinstance(tags, list) or not set(tags) <= set(TAGS):
        raise _unreadable(path, f"The tags of seed {scene['seed']} are {tags!r}; known are {', '.join(TAGS)}.")
    return ExamScene(scene["seed"], tuple(tags), json.dumps(scene))


def _unreadable(path: Path, cause: str) -> InputError:
    return InputError(f"The exam '{path.name}' cannot be used.", cause, "Restore the file, or write the exam again.")
