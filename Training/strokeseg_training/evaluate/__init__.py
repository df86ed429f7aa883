"""What a model is worth on real patients of one side of a split, measured on the scans' own grids by the engine itself.

`subjects` says who is judged, `seen` whether the model knew them, `engine` runs it, `record` compares, `place` keeps
what is done, `running` puts them together. `results` writes `tables`, `charts` and the `page`; `panels` draws patients,
`logs` reads a training, `published` writes the files of the published systems. Imports `datasets`, `prepare` and the
engine.
"""

from __future__ import annotations

from strokeseg_training.evaluate.running import Evaluated, evaluate_model
from strokeseg_training.evaluate.seen import training_marks

__all__ = ["Evaluated", "evaluate_model", "training_marks"]
