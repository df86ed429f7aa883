"""`SliceNetwork`: a network in two dimensions behind the one interface of all networks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from strokeseg.errors import ModelError
from strokeseg.networks.form import NetworkForm


class SliceNetwork(nn.Module, ABC):
    """Takes slices (N, in_channels, x, y, 1) and gives logits (N, out_channels, x, y, 1).

    Args:
        in_channels: Channels of the input.
        multiple: Both axes of a slice must be multiples of this.
        any_size_in_graph: Whether its ONNX graph holds for slices of every size.
    """

    def __init__(self, in_channels: int, multiple: int, *, any_size_in_graph: bool = True) -> None:
        super().__init__()
        self.form = NetworkForm(
            in_channels=in_channels,
            multiples=(multiple, multiple, 1),
            slices=True,
            any_size_in_graph=any_size_in_graph,
        )

    @abstractmethod
    def logits(self, slices: Tensor) -> Tensor:
        """Slices (N, in_channels, x, y) to logits (N, out_channels, x, y)."""

    def forward(self, batch: Tensor) -> Tensor:
        """Logits (N, out_channels, x, y, 1) of slices (N, in_channels, x, y, 1)."""
        if not torch.onnx.is_in_onnx_export():
            self.form.check(tuple(batch.shape))
        return self.logits(batch.squeeze(-1)).unsqueeze(-1)


def check_whole_numbers(network: str, **values: object) -> None:
    """Refuse arguments of a network that are no whole numbers from 1 to 4096, or no lists of 1 to 64 of them.

    Raises:
        ModelError: Names the argument and what it is.
    """
    for name, value in values.items():
        numbers = value if isinstance(value, list | tuple) else (value,)
        whole = all(isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= 4096 for n in numbers)
        if not whole or not 1 <= len(numbers) <= 64:
            raise refused(network, f"'{name}' is {value!r}.", "Give whole numbers from 1 to 4096.")


def check_same_lengths(network: str, lists: Mapping[str, Sequence[int]]) -> None:
    """Refuse lists that must have one entry a stage and differ in length.

    Raises:
        ModelError: Names all of them and their lengths.
    """
    lengths = {name: len(numbers) for name, numbers in lists.items()}
    if len(set(lengths.values())) > 1:
        seen = ", ".join(f"'{name}' has {length}" for name, length in lengths.items())
        raise refused(network, f"{seen} entries.", "Give each as many entries as the network has stages.")


def refused(network: str, cause: str, next_step: str) -> ModelError:
    """The error of a network that cannot be built."""
    return ModelError(f"The network '{network}' cannot be built.", cause, next_step)
