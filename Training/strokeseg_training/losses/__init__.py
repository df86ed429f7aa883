"""Terms of the training loss, on logits, one number a patient; 0 for a perfect answer, soft labels included.

`overlap` (Dice, Tversky), `entropy` (binary cross entropy, small lesions, tissue), `components` (weights that make
lesions count alike); `LossTerms` adds them up as a recipe says. Imports torch and scipy, and `recipe_parts`.
"""

from __future__ import annotations

from strokeseg_training.losses.components import component_weights
from strokeseg_training.losses.entropy import binary_entropy, small_lesion_entropy, tissue_entropy
from strokeseg_training.losses.overlap import tversky
from strokeseg_training.losses.terms import LossTerms, Target

__all__ = [
    "LossTerms",
    "Target",
    "binary_entropy",
    "component_weights",
    "small_lesion_entropy",
    "tissue_entropy",
    "tversky",
]
