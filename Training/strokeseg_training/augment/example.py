"""`Example`: what is varied together; and boxes, which are always those of its labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from strokeseg.errors import InputError


@dataclass(frozen=True, eq=False)
class Example:
    """A volume or a slice with its labels, on a grid whose axes run to the right, the front and the top.

    Args:
        name: Of the patient (and slice), for messages.
        channels: Names of the images.
        images: (C, x, y, z) float32; a slice has one voxel along the axis across it.
        maps: Name to (x, y, z): whole numbers or booleans are classes (0 is background), fractions stay fractions.
            ``brain`` is the brain mask.
        spacing_mm: Along (x, y, z).
        midplane: (4,), as in `Sample`: unit normal towards the right, and distance in mm from the grid's middle.
    """

    name: str
    channels: tuple[str, ...]
    images: Tensor
    maps: Mapping[str, Tensor] = field(default_factory=dict)
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    midplane: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (x, y, z)."""
        x, y, z = self.images.shape[1:]
        return x, y, z


def refuse_damaged(example: Example) -> None:
    """Say what is wrong with an example.

    Raises:
        InputError: Names it; shapes do not fit, or a value is not a number.
    """
    images, space = example.images, tuple(example.images.shape[1:])
    if images.dim() != 4 or len(example.channels) != len(images):
        raise _damaged(
            example,
            f"Its images have the shape {tuple(images.shape)}; expected are (channels, x, y, z) with the channels "
            + ", ".join(example.channels)
            + ".",
        )
    for name, values in example.maps.items():
        if tuple(values.shape) != space:
            raise _damaged(example, f"'{name}' has the shape {tuple(values.shape)}, its images {space}.")
    floating = {k: v for k, v in example.maps.items() if v.is_floating_point()}
    for name, values in {**dict(zip(example.channels, images, strict=True)), **floating}.items():
        if not bool(torch.isfinite(values).all()):
            wrong = int((~torch.isfinite(values)).sum())
            raise _damaged(example, f"{wrong} of {values.numel()} voxels of '{name}' are not finite numbers.")


def instances_of(label: Tensor) -> Tensor:
    """(x, y, z) int32: voxels above 0 numbered from 1 on, those that touch by their faces alike."""
    found, _ = ndimage.label((label > 0).cpu().numpy())
    return torch.from_numpy(found.astype(np.int32)).to(label.device)


def boxes_of(instances: Tensor) -> Tensor:
    """The box of each number above 0, in rising order.

    Args:
        instances: (x, y, z) whole numbers, of `instances_of` or the classes of a label.

    Returns:
        (B, 6) int64: first voxel along x, y, z, and the first voxel behind the box.
    """
    slices = ndimage.find_objects(instances.cpu().numpy().astype(np.int64))
    found = [[s.start for s in box] + [s.stop for s in box] for box in slices if box is not None]
    return torch.tensor(found, dtype=torch.int64).view(-1, 6)


def _damaged(example: Example, cause: str) -> InputError:
    return InputError(
        f"The sample '{example.name}' is damaged.",
        cause,
        "Repair the patient's files and prepare them again, or leave the patient out.",
    )
