"""`augment_sample`: patients of the generator or a bank varied before their channels are made, which then all fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from strokeseg_training.augment.augmenter import Augmenter
from strokeseg_training.augment.example import Example
from strokeseg_training.sample import Sample


def augment_sample(augmenter: Augmenter, sample: Sample, numbers: Sequence[int]) -> Sample:
    """Each patient of a sample varied: images, brain, lesion, tissue and midplane.

    Args:
        augmenter: Of the recipe.
        sample: N patients.
        numbers: Of the patients in the run.

    Returns:
        A sample of which `make_channels` computes channels as the engine would of the varied images.

    Raises:
        InputError: A patient is damaged; it is named by its seed.
    """
    roles = tuple(sample.images)
    varied = []
    for row, (seed, number) in enumerate(zip(sample.seeds, numbers, strict=True)):
        example = Example(
            name=f"seed {seed}",
            channels=roles,
            images=torch.stack([sample.images[role][row] for role in roles]),
            maps={"brain": sample.brain[row], "lesion": sample.lesion[row], "tissue": sample.tissue[row]},
            spacing_mm=sample.spacing_mm,
            midplane=sample.midplane[row],
        )
        varied.append(augmenter(example, number))
    images = torch.stack([v.images for v in varied], dim=1)
    brain = torch.stack([v.maps["brain"] for v in varied])
    return replace(
        sample,
        images=dict(zip(roles, images, strict=True)),
        brain=brain,
        lesion=torch.stack([v.maps["lesion"] for v in varied]) * brain,
        tissue=torch.stack([v.maps["tissue"] for v in varied]) * brain,
        midplane=torch.stack([v.midplane for v in varied if v.midplane is not None]),
    )
