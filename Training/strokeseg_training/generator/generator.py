"""`Generator`: from scenes to prepared patients, room by room.

Anatomy, disease, physics, the scanner, and what happens to its images; each room's file says what it simulates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from strokeseg.errors import InputError
from strokeseg_training.generator._tissue import altered_fractions
from strokeseg_training.generator.acquisition import Acquired, acquire
from strokeseg_training.generator.anatomy import Anatomy, make_anatomy
from strokeseg_training.generator.corruption import assemble
from strokeseg_training.generator.distractors import make_distractors
from strokeseg_training.generator.lesion_library import LesionLibrary
from strokeseg_training.generator.lesions import Lesions, make_lesions, widening
from strokeseg_training.generator.physics import diffusion_signals, t1_signal
from strokeseg_training.generator.scene import GRIDS, Scene
from strokeseg_training.generator.template import Template, load_template
from strokeseg_training.sample import Sample


@dataclass(frozen=True, eq=False)
class Patients:
    """N patients with everything that is known of them, for looking at and measuring.

    Args:
        anatomy: Their brains.
        lesions: Their disease.
        distractors: What only looks like it.
        acquired: The scans before anything happens to the images.
        sample: What preparation would hand to a network.
    """

    anatomy: Anatomy
    lesions: Lesions
    distractors: Lesions
    acquired: Acquired
    sample: Sample


class Generator:
    """Makes synthetic patients.

    Args:
        template: The brain template; read from nilearn's copy where none is given.
        library: The lesion masks that the scenes were drawn with.
        device: Where everything is computed. Numbers are drawn there, too: a CPU and a GPU make different noise.
    """

    def __init__(
        self,
        template: Template | None = None,
        library: LesionLibrary | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.template = (template or load_template()).to(self.device)
        self.library = library

    def make(self, scenes: Sequence[Scene]) -> Sample:
        """The patients of some scenes of one task.

        Args:
            scenes: At least one.

        Raises:
            InputError: The scenes are of different tasks, or need lesion masks that this generator does not have.
        """
        return self.patients(scenes).sample

    @torch.inference_mode()
    def patients(self, scenes: Sequence[Scene]) -> Patients:
        """As `make`, with what lies behind the images."""
        tasks = {scene.task for scene in scenes}
        if len(tasks) != 1:
            raise InputError(
                "These scenes cannot be made together.",
                f"They belong to {len(tasks)} tasks: {', '.join(sorted(tasks)) or 'there is none'}.",
                "Make scenes of one task at a time.",
            )
        task = scenes[0].task
        shape, spacing_mm = GRIDS[task]
        sick = [s.lesions for s in scenes]
        anatomy = make_anatomy(
            [s.anatomy for s in scenes],
            self.template,
            shape,
            spacing_mm,
            self.device,
            [widening(s) for s in sick],
        )
        lesions = make_lesions(sick, anatomy, self.library)
        distractors = make_distractors([s.distractors for s in scenes], anatomy, lesions)
        physics = [s.physics for s in scenes]
        signals: dict[str, Tensor]
        if task == "dwi-adc":
            s0, sb = diffusion_signals(physics, anatomy, lesions, distractors)
            signals = {"b0": s0, "dwi": sb}
        else:
            signals = {"t1": t1_signal(physics, anatomy, lesions, distractors)}
        fractions = altered_fractions(anatomy.fractions, lesions, distractors)
        label = lesions.infarct * self._diseased(anatomy, fractions, task)
        b_values = [p.b_value for p in physics]
        acquired = acquire([s.acquisition for s in scenes], signals, anatomy, label, fractions, b_values)
        sample = assemble([s.corruption for s in scenes], acquired, anatomy, b_values, [s.seed for s in scenes])
        return Patients(anatomy, lesions, distractors, acquired, sample)

    @staticmethod
    def _diseased(anatomy: Anatomy, fractions: Tensor, task: str) -> Tensor:
        """The part of each voxel that a lesion's share refers to: tissue; of an old infarct, its cavity as well."""
        tissue = fractions if task == "dwi-adc" else anatomy.fractions
        return tissue[:, :2].sum(1)
