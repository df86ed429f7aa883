"""Patients of 32x32x32 voxels for tests of training: a ball of brain, bright blobs with low ADC, and their label."""

import numpy as np
import torch

from strokeseg_training.sample import Sample

SHAPE = (32, 32, 32)
SPACING = (4.0, 4.0, 4.0)


def patient(seed: int, shape=SHAPE, *, lesions: int = 2) -> Sample:
    """One patient (N = 1); every third seed has no lesion."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in shape), indexing="ij")
    size = rng.uniform(0.34, 0.42, 3) * shape
    brain = sum((a / s) ** 2 for a, s in zip(axes, size, strict=True)) < 1
    lesion = np.zeros(shape)
    for _ in range(lesions if seed % 3 else 0):
        centre = rng.uniform(-0.2, 0.2, 3) * shape
        distance = np.sqrt(sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)))
        lesion = np.maximum(lesion, np.clip(rng.uniform(2, 4) - distance, 0, 1))
    lesion *= brain
    adc = (0.8 - 0.4 * lesion + 0.03 * rng.standard_normal(shape)) * brain
    dwi = 400 * (1 + 1.0 * lesion + 0.05 * rng.standard_normal(shape)) * brain
    tissue = np.where(axes[0] > 0, 1, 2) * brain
    return Sample(
        images={"dwi": as_batch(dwi), "adc": as_batch(adc)},
        brain=torch.from_numpy(brain)[None],
        lesion=as_batch(lesion),
        tissue=torch.from_numpy(tissue.astype(np.uint8))[None],
        midplane=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        spacing_mm=SPACING,
        seeds=(seed,),
    )


def as_batch(array):
    return torch.from_numpy(array.astype(np.float32))[None]


class FakeSource:
    """Patients by number, as the sources of training give them."""

    def samples(self, numbers):
        return Sample.together([patient(int(n)) for n in numbers])


def recipe_data(**changes):
    """A recipe for a network of a few thousand parameters, as plain data."""
    data = {
        "name": "tiny-fit",
        "title": "Test model",
        "task": "none: for tests",
        "seed": 3,
        "network": {
            "name": "residual-unet",
            "arguments": {"in_channels": 2, "out_channels": 1, "channels": [4, 8], "tissue": True},
        },
        "preparation": {
            "spacing_mm": list(SPACING), "margin_voxels": 1, "multiple": 2, "channels": ["dwi_ratio", "adc"],
        },
        "data": {"generator": {"task": "dwi-adc", "seeds": {"from": 1, "to": 1000}}, "workers": 0},
        "optimiser": {"lr": 0.01},
        "schedule": {"warm_up": 2},
        "loss": {"tissue": 0.2},
        "precision": "fp32",
        "threads": 1,
        "log_every": 1,
        "tensorboard": False,
        "validation": {"every": 0},
        "checkpoint": {"every": 4},
        "stages": [{"steps": 6}, {"steps": 4, "loss": {"tversky": 1.0, "small": 0.5}}],
        "card": {
            "version": "0.0.1",
            "inputs": [{"role": "dwi"}, {"role": "adc"}],
            "reference_role": "dwi",
            "classes": [
                {
                    "value": 1, "name": "acute ischaemic lesion", "coding_scheme": "SCT", "code": "55641003",
                    "meaning": "Infarct", "colour": [220, 50, 47],
                }
            ],
            "origin": {"data": "random blobs", "licence": "Apache-2.0"},
            "intended_use": "Tests only.",
            "limits": ["Not trained."],
        },
    }  # fmt: skip
    return {**data, **changes}
