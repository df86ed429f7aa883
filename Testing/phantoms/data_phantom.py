"""Recipes and data sets for tests of `strokeseg-train prepare`: patients of 26x30x22 voxels of 6 mm."""

from strokeseg_training.datasets.phantom import STATEMENT, VERSION, Phantoms, PhantomScene
from strokeseg_training.prepare.recipe import data_recipe_of
from strokeseg_training.synthesize import DataSet, write_data_set

LESION_CLASS = {
    "coding_scheme": "SCT", "code": "55641003", "meaning": "Infarct", "colour": [220, 50, 47],
}  # fmt: skip


def write_patients(folder, layout="isles22", task="dwi-adc", seeds=range(3), centres=1):
    """A data set; returns what was written."""
    data_set = DataSet(folder, layout, task, VERSION, statement=STATEMENT, centres=centres)
    return write_data_set([PhantomScene(s) for s in seeds], Phantoms(task), data_set)


def recipe_data(role="dwi", classes=("lesion",), **datasets):
    """A recipe for slices of one image, as plain data."""
    return {
        "name": "tiny-slices",
        "title": "Test model",
        "task": "none: for tests",
        "network": {"name": "residual-unet", "arguments": {"in_channels": 1, "out_channels": 1}},
        "preparation": {
            "spacing_mm": [6.0, 6.0, 6.0], "margin_voxels": 1, "multiple": 1,
            "channels": [{"dwi": "dwi_robust", "t1": "t1_zscore"}[role]],
        },
        "data": {"generator": {"task": "dwi-adc", "seeds": {"from": 1, "to": 10}}},
        "datasets": {"layout": "isles22", "classes": [{"name": c} for c in classes], **datasets},
        "validation": {"every": 0},
        "stages": [{"steps": 1}],
        "card": {
            "version": "0.0.1",
            "inputs": [{"role": role}],
            "reference_role": role,
            "classes": [{"value": n, "name": c, **LESION_CLASS} for n, c in enumerate(classes, start=1)],
            "decision": {"rule": "threshold" if len(classes) == 1 else "argmax"},
            "origin": {"data": "ellipsoids", "licence": "Apache-2.0"},
            "intended_use": "Tests only.",
            "limits": ["Not trained."],
        },
    }  # fmt: skip


def recipe(role="dwi", classes=("lesion",), **datasets):
    return data_recipe_of(recipe_data(role, classes, **datasets), "test")
