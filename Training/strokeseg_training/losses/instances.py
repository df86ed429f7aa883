"""Each lesion for itself, and the lesions' centres (StrokeFormer's ICI), on probabilities.

Lesions are groups of voxels that touch by face, edge or corner. Which voxel belongs to which lesion is decided on
thresholded probabilities and has no gradient; the probabilities within have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from strokeseg_training.losses.labelled import Labelled
from strokeseg_training.recipe_losses import ICI

_Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Lesions:
    """Labelled and predicted lesions of a patient: arrays of the numbers of lesions, 0 where there is none."""

    labelled: _Indices
    labelled_number: int
    predicted: _Indices
    predicted_number: int

    @classmethod
    def of(cls, label: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> _Lesions:
        touching = np.ones((3,) * label.ndim, dtype=bool)
        mine, number = ndimage.label(label, structure=touching)
        theirs, other = ndimage.label(predicted, structure=touching)
        return cls(mine.astype(np.int64), int(number), theirs.astype(np.int64), int(other))


def ici(given: Labelled, arguments: ICI) -> dict[str, Tensor]:
    """The terms ``overall``, ``instance`` and ``centre`` that have a weight, means over the patients.

    Every class but the background is lesion.
    """
    probabilities = given.probabilities[:, 1:].sum(1) * given.counted
    labels = (given.label > 0) & given.counted
    rows = [_of_one(p, t, c, arguments) for p, t, c in zip(probabilities, labels, given.counted, strict=True)]
    return {name: torch.stack([row[name] for row in rows]).mean() for name in arguments.weights}


def _of_one(probability: Tensor, label: Tensor, counted: Tensor, a: ICI) -> dict[str, Tensor]:
    terms = {}
    whole = _dice((probability * label).sum(), probability.sum() + label.sum(), a.smooth)
    if a.overall:
        terms["overall"] = whole
    if a.instance or a.centre:
        lesions = _Lesions.of(label.cpu().numpy(), (probability.detach() > 0.5).cpu().numpy())
        if a.instance:
            terms["instance"] = _instances(probability, lesions, a.smooth) if lesions.labelled_number else whole
        if a.centre:
            terms["centre"] = _centres(probability, counted, lesions, a)
    return terms


def _instances(probability: Tensor, lesions: _Lesions, smooth: float) -> Tensor:
    """Mean over the labelled lesions of 1 - Dice within the lesion and the predicted ones that touch it.

    What a predicted lesion shares with other labelled ones is left out. A lesion that is missed keeps its gradient:
    its own voxels are always looked at.
    """
    labelled, predicted = lesions.labelled.ravel(), lesions.predicted.ravel()
    shared = _sums(probability, labelled, lesions.labelled_number)
    sizes = np.bincount(labelled, minlength=lesions.labelled_number + 1)[1:]
    volume = torch.as_tensor(sizes, dtype=shared.dtype, device=shared.device)
    outside = _sums(probability, np.where(labelled == 0, predicted, 0), lesions.predicted_number)
    both = (labelled > 0) & (predicted > 0)
    pairs = np.unique(np.stack([labelled[both], predicted[both]]), axis=1) - 1
    touching = torch.zeros(len(shared), len(outside), dtype=shared.dtype, device=shared.device)
    touching[pairs[0], pairs[1]] = 1.0
    return _dice(shared, shared + touching @ outside + volume, smooth).mean()


def _centres(probability: Tensor, counted: Tensor, lesions: _Lesions, a: ICI) -> Tensor:
    """1 - Dice between cubes around the centres of labelled lesions and those around predicted ones.

    A predicted lesion's cube is as high as its mean probability: gradients raise or lower it, and do not move it.
    """
    wanted = _cubes(lesions.labelled, np.arange(lesions.labelled_number, 0, -1), a.half_width) > 0
    sizes = np.bincount(lesions.predicted.ravel(), minlength=lesions.predicted_number + 1)[1:]
    largest = np.argsort(-sizes, kind="stable")[: a.most]
    owner = _cubes(lesions.predicted, largest[::-1] + 1, a.half_width)
    voxels = torch.as_tensor(np.maximum(sizes, 1), dtype=probability.dtype, device=probability.device)
    heights = _sums(probability, lesions.predicted.ravel(), lesions.predicted_number) / voxels
    found = torch.cat([heights.new_zeros(1), heights])[torch.from_numpy(owner).to(probability.device)] * counted
    label = torch.from_numpy(wanted).to(found) * counted
    return _dice((found * label).sum(), found.sum() + label.sum(), a.smooth)


def _cubes(labels: _Indices, numbers: _Indices, half_width: int) -> _Indices:
    """Cubes around the centres of lesions, drawn one over the other in this order; each holds its lesion's number."""
    drawn = np.zeros(labels.shape, dtype=np.int64)
    if len(numbers):
        for number, centre in zip(numbers, ndimage.center_of_mass(labels > 0, labels, numbers), strict=True):
            middle = [int(np.floor(c + 0.5)) for c in centre]
            drawn[tuple(slice(max(m - half_width, 0), m + half_width + 1) for m in middle)] = number
    return drawn


def _sums(values: Tensor, numbers: _Indices, count: int) -> Tensor:
    """(count,): the sum of the values that bear each number from 1 on."""
    index = torch.from_numpy(numbers).to(values.device)
    return values.new_zeros(count + 1).index_add(0, index, values.flatten())[1:]


def _dice(shared: Tensor, both: Tensor, smooth: float) -> Tensor:
    return 1.0 - (2.0 * shared + smooth) / (both + smooth)
