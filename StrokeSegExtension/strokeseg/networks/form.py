"""`NetworkForm`: what fits into a network and what comes out, known without running it."""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm
from typing import TYPE_CHECKING

from strokeseg.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class NetworkForm:
    """Input and outputs of a network.

    Attributes:
        in_channels: Channels C of the input (N, C, x, y, z).
        outputs: Names of the outputs in order; the first is ``lesion``.
        multiples: The size along (x, y, z) must be a multiple of these.
        input_shape: The only size (x, y, z) that the network takes; None: any that fits `multiples`.
        slices: The network works on slices: z must be 1.
        any_size_in_graph: False for networks (transformers) whose ONNX graph holds for one size only.
    """

    in_channels: int
    outputs: tuple[str, ...] = ("lesion",)
    multiples: tuple[int, int, int] = (1, 1, 1)
    input_shape: tuple[int, int, int] | None = None
    slices: bool = False
    any_size_in_graph: bool = True

    @property
    def multiple(self) -> int:
        """The least number whose multiples fit along every axis, as a card's ``preparation.multiple``."""
        return lcm(*self.multiples)

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse a batch that does not fit.

        Args:
            shape: (N, C, x, y, z).

        Raises:
            ModelError: Wrong number of axes, channels, or voxels.
        """
        if len(shape) != 5 or shape[1] != self.in_channels:
            raise ModelError(
                "The network cannot take this input.",
                f"It takes (N, {self.in_channels}, x, y, z), given was {tuple(shape)}.",
                "Give as many channels as the network was built for ('in_channels').",
            )
        size = tuple(int(s) for s in shape[2:])
        if self.slices and size[2] != 1:
            raise ModelError(
                "The network cannot take this input.",
                f"It works on slices, z must be 1; the input has {_text(size)} voxels.",
                "Run it with the strategy 'slices'.",
            )
        if self.input_shape is not None and size != self.input_shape:
            raise ModelError(
                "The network cannot take an input of this size.",
                f"It was built for {_text(self.input_shape)} voxels, the input has {_text(size)}.",
                f"Run it by windows of {_text(self.input_shape)} voxels.",
            )
        if any(s < 1 or s % m for s, m in zip(size, self.multiples, strict=True)):
            raise ModelError(
                "The network cannot take an input of this size.",
                f"The input has {_text(size)} voxels; the axes must be multiples of {_text(self.multiples)}.",
                f"Set 'preparation.multiple' of the card to {self.multiple}; the engine then pads to it.",
            )


def form_of(network: nn.Module) -> NetworkForm:
    """The form of a network made by `strokeseg.networks.build`.

    Raises:
        ModelError: The network is none of these.
    """
    form = getattr(network, "form", None)
    if not isinstance(form, NetworkForm):
        raise ModelError(
            "The network does not say what it takes.",
            f"'{type(network).__name__}' was not made by 'strokeseg.networks.build'.",
            "Build it by name, or export it as a bare graph ('network': 'graph').",
        )
    return form


def named(network: nn.Module, batch: Tensor) -> dict[str, Tensor]:
    """Run a network: logits by output name.

    Args:
        network: Made by `strokeseg.networks.build`.
        batch: (N, C, x, y, z), floating point, on the network's device.

    Returns:
        Name to logits (N, K, x, y, z).

    Raises:
        ModelError: The batch does not fit the network.
    """
    outputs = form_of(network).outputs
    result = network(batch)
    return {name: result[name] for name in outputs} if isinstance(result, dict) else {outputs[0]: result}


def _text(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))
