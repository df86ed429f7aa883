"""`Labelled`: logits and class labels in the forms that the named losses need, each made once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from strokeseg.errors import InputError
from strokeseg_training.losses.entropy import IGNORED_TISSUE

IGNORED = IGNORED_TISSUE
"""Label of voxels that do not count."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """What a network says, and what it should say. (*S) is (x, y) or (x, y, z).

    One logit is the lesion's; several are those of exclusive classes, the background first.

    Args:
        logits: (N, K, *S) float32, K logits a voxel.
        label: (N, *S) whole numbers: the class, 0 to K - 1 (0 and 1 for one logit), or `IGNORED`.

    Raises:
        InputError: Shapes do not fit, or a label is no class.
    """

    logits: Tensor
    label: Tensor

    def __post_init__(self) -> None:
        (n, _, *space), place = self.logits.shape, tuple(self.label.shape)
        if self.label.is_floating_point() or (n, *space) != place:
            raise InputError(
                "The loss cannot be computed.",
                f"Logits have the shape {tuple(self.logits.shape)}, labels {place} of {self.label.dtype}; labels must "
                "be whole numbers on the logits' voxels.",
                "Look at how labels are prepared for this network.",
            )
        counted = torch.where(self.counted, self.label, torch.zeros_like(self.label))
        low, high = (int(v) for v in torch.aminmax(counted)) if counted.numel() else (0, 0)
        if low < 0 or high >= self.classes:
            raise InputError(
                "The labels do not fit the network.",
                f"They go from {low} to {high}, the network knows the classes 0 to {self.classes - 1}.",
                f"Correct the labels ({IGNORED} marks voxels that do not count), or the number of the network's "
                "outputs.",
            )

    @property
    def classes(self) -> int:
        """Number, with the background."""
        return max(self.logits.shape[1], 2)

    @cached_property
    def counted(self) -> Tensor:
        """(N, *S) boolean."""
        return self.label != IGNORED

    @cached_property
    def probabilities(self) -> Tensor:
        """(N, classes, *S), the background first."""
        if self.logits.shape[1] == 1:
            return torch.cat([torch.sigmoid(-self.logits), torch.sigmoid(self.logits)], dim=1)
        return torch.softmax(self.logits, dim=1)

    @cached_property
    def class_logits(self) -> Tensor:
        """(N, classes, *S): softmax of it is `probabilities`."""
        if self.logits.shape[1] == 1:
            return torch.cat([torch.zeros_like(self.logits), self.logits], dim=1)
        return self.logits

    @cached_property
    def one_hot(self) -> Tensor:
        """(N, classes, *S) float32; 0 in every class where a voxel does not count."""
        known = torch.arange(self.classes, device=self.label.device).view(1, -1, *[1] * (self.label.dim() - 1))
        return (self.label.unsqueeze(1) == known).float()

    def counting(self, *, background: bool) -> tuple[Tensor, Tensor]:
        """Probabilities and labels of classes, (N, classes or one less, *S), 0 where a voxel does not count."""
        first = 0 if background else 1
        return (self.probabilities * self.counted.unsqueeze(1))[:, first:], self.one_hot[:, first:]

    def mean(self, values: Tensor, *, pooled: bool) -> Tensor:
        """The mean of (N, *S) over the voxels that count: of the batch, or of each patient and then over them."""
        values, counted = (values * self.counted).flatten(1).sum(1), self.counted.flatten(1).sum(1)
        if pooled:
            return values.sum() / counted.sum().clamp_min(1)
        return (values / counted.clamp_min(1)).mean()

    def entropy(self) -> Tensor:
        """(N, *S): cross entropy of each voxel, nats; 0 where it does not count."""
        if self.logits.shape[1] == 1:
            lesion = (self.label == 1).float()
            each = functional.binary_cross_entropy_with_logits(self.logits[:, 0], lesion, reduction="none")
            return each * self.counted
        return functional.cross_entropy(self.logits, self.label.long(), ignore_index=IGNORED, reduction="none")
