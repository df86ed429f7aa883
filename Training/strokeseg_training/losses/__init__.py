"""Terms of the training loss, on logits.

`LossTerms` adds up, as a recipe weighs them, terms on fractional labels, one number a patient, 0 for a perfect answer:
`overlap` (Dice, Tversky), `entropy` (binary cross entropy, small lesions, tissue), `components` (weights that make
lesions count alike). `LabelLoss` is one of the published losses by its name, on class labels (`labelled`), for one
logit or one for each class, in 2D and 3D: `dice`, `boundary`, `instances`. Imports torch, scipy, `recipe_parts` and
`recipe_losses`; MONAI when a published loss is computed.
"""

from __future__ import annotations

from strokeseg_training.losses.components import component_weights
from strokeseg_training.losses.entropy import binary_entropy, small_lesion_entropy, tissue_entropy
from strokeseg_training.losses.labelled import IGNORED, Labelled
from strokeseg_training.losses.named import LabelLoss
from strokeseg_training.losses.overlap import tversky
from strokeseg_training.losses.terms import LossTerms, Target

__all__ = [
    "IGNORED",
    "LabelLoss",
    "Labelled",
    "LossTerms",
    "Target",
    "binary_entropy",
    "component_weights",
    "small_lesion_entropy",
    "tissue_entropy",
    "tversky",
]
