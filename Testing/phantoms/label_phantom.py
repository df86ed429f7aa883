"""Prepared patients of a few thousand voxels and a small recipe for slices, for tests of training on class labels."""

from data_phantom import LESION_CLASS, write_patients

from strokeseg_training.datasets.atlas_r1 import FURTHER_MASKS, MAIN_MASKS
from strokeseg_training.prepare import prepare_data_set
from strokeseg_training.prepare.recipe import data_recipe_of

TWO_CLASSES = [
    {"name": "main", "masks": list(MAIN_MASKS)},
    {"name": "sub", "masks": list(FURTHER_MASKS), "required": False, "merge": True},
]


def recipe_data(prepared="prepared", **changes):
    """A network of a few hundred parameters for slices of T1 of 32x32 pixels, as plain data."""
    data = {
        "name": "tiny-labels",
        "title": "Test model",
        "task": "none: for tests",
        "seed": 3,
        "network": {"name": "atlas-resunet", "arguments": {"channels": [2, 4, 4]}},
        "preparation": {
            "spacing_mm": [6.0, 6.0, 6.0], "margin_voxels": 1, "multiple": 4, "channels": ["t1_zscore"],
        },
        "datasets": {
            "layout": "atlas-r1",
            "classes": TWO_CLASSES,
            "split": {"train": 0.5, "val": 0.25, "test": 0.25},
            "slices": {"size": [32, 32]},
        },
        "data": {"prepared": str(prepared), "flips": False, "workers": 0},
        "objective": {"name": "cce-dice"},
        "augmentation": {"flips": {"x": 0.5}, "rotation": {}, "gamma": {}},
        "optimiser": {"name": "adam", "lr": 0.01, "weight_decay": 0},
        "schedule": {"rule": "constant", "warm_up": 0},
        "batch": 3,
        "ema_decay": 0,
        "precision": "fp32",
        "threads": 1,
        "log_every": 1,
        "tensorboard": False,
        "validation": {"every": 0},
        "checkpoint": {"every": 3},
        "stages": [{"steps": 6}],
        "card": {
            "version": "0.0.1",
            "inputs": [{"role": "t1"}],
            "reference_role": "t1",
            "strategy": "slices",
            "classes": [{"value": n, "name": c, **LESION_CLASS} for n, c in enumerate(("main", "sub"), start=1)],
            "decision": {"rule": "argmax"},
            "origin": {"data": "ellipsoids", "licence": "Apache-2.0"},
            "intended_use": "Tests only.",
            "limits": ["Not trained."],
        },
    }  # fmt: skip
    return {**data, **changes}


def prepare_patients(folder, seeds=range(4)):
    """Patients in the layout of ATLAS R1, prepared; returns the set's folder."""
    write_patients(folder / "raw", layout="atlas-r1", task="t1", seeds=seeds)
    return prepare_data_set(data_recipe_of(recipe_data(), "test"), folder / "raw", folder / "prepared").folder
