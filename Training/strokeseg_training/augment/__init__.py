"""Samples varied while a network is trained: image, labels, boxes and midplane always together.

`example` is what is varied, and refuses what is damaged; `geometry` moves voxels, in one transform and one
interpolation; `intensity` changes values; `computed` knows the channels that cannot follow every change; `augmenter`
puts them together; `samples` does it with a `Sample`, whose channels are made afterwards. A slice is a volume with an
axis of one voxel. Imports torch, scipy, the generator's fields and `recipe_augment`.
"""

from __future__ import annotations

from strokeseg_training.augment.augmenter import Augmenter
from strokeseg_training.augment.example import Example, boxes_of, instances_of, refuse_damaged
from strokeseg_training.augment.samples import augment_sample

__all__ = ["Augmenter", "Example", "augment_sample", "boxes_of", "instances_of", "refuse_damaged"]
