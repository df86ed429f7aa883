"""From a data set's files to arrays that a network is trained on, made by the engine's own preparation.

`recipe` says what is needed of a recipe, `reading` checks a patient's files, `labels` brings masks to the model's grid,
`arrays` makes one patient's arrays, `storage` keeps them, `running` does it for a whole data set, `statistics` counts.
`prepared_set` and `batches` are the read side. Imports `datasets` and the engine.
"""

from __future__ import annotations

from strokeseg_training.prepare.prepared_set import PreparedSet, PreparedVolume
from strokeseg_training.prepare.recipe import DataRecipe, load_data_recipe
from strokeseg_training.prepare.running import PreparedData, prepare_data_set

__all__ = ["DataRecipe", "PreparedData", "PreparedSet", "PreparedVolume", "load_data_recipe", "prepare_data_set"]
