"""Networks of MONAI in the engine's form: same outputs, same refusals; the state dict stays MONAI's own."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn, onnx

from strokeseg.errors import ModelError
from strokeseg.networks.form import NetworkForm
from strokeseg.networks.monai_classes import MONAI_CLASSES


def fit_to_engine(network: nn.Module, arguments: Mapping[str, Any]) -> None:
    """Give a network of MONAI its ``form``, checked whenever it runs; a network for slices takes (N, C, x, y, 1).

    Args:
        network: Just built.
        arguments: What it was built with.

    Raises:
        ModelError: It is neither for volumes nor for slices.
    """
    kind = type(network).__name__
    taken = inspect.signature(type(network)).bind(**arguments)
    taken.apply_defaults()
    values = taken.arguments
    dimensions = values["spatial_dims"]
    if dimensions not in (2, 3):
        raise ModelError(
            f"The network 'monai:{kind}' cannot be built.",
            f"'spatial_dims' is {dimensions}.",
            "Give 3 for volumes or 2 for slices.",
        )
    x, y, z = (*_multiples(kind, values, dimensions), 1)[:3]
    form = NetworkForm(
        in_channels=values["in_channels"],
        multiples=(x, y, z),
        input_shape=_input_shape(values.get("img_size"), dimensions),
        slices=dimensions == 2,
        any_size_in_graph=MONAI_CLASSES[kind].any_size_in_graph,
    )
    # A plain attribute and hooks rather than a module around it: the names in the state dict stay MONAI's, and a
    # checkpoint of MONAI loads as it is.
    network.form = form  # type: ignore[assignment]  # a Module may hold anything, its annotations know only tensors

    def before(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        (batch,) = inputs
        if not onnx.is_in_onnx_export():
            form.check(tuple(batch.shape))
        return (batch.squeeze(-1) if form.slices else batch,)

    def after(_: nn.Module, __: tuple[Tensor, ...], logits: Tensor) -> Tensor:
        return logits.unsqueeze(-1) if form.slices else logits

    network.register_forward_pre_hook(before)
    network.register_forward_hook(after)


def _multiples(kind: str, values: Mapping[str, Any], dimensions: int) -> tuple[int, ...]:
    """Of what the size along each axis must be a multiple."""
    about = MONAI_CLASSES[kind]
    product = [about.multiple] * dimensions
    if about.halvings == "strides":
        strides = values["strides"]
        if "channels" in values:  # further strides are ignored
            strides = strides[: len(values["channels"]) - 1]
        for stride in strides:
            steps = stride if isinstance(stride, tuple) else (stride,) * dimensions
            product = [p * s for p, s in zip(product, steps, strict=True)]
    elif about.halvings == "blocks_down":
        product = [2 ** (len(values["blocks_down"]) - 1)] * dimensions
    return tuple(product)


def _input_shape(size: int | tuple[int, ...] | None, dimensions: int) -> tuple[int, int, int] | None:
    if size is None:
        return None
    sizes = size if isinstance(size, tuple) else (size,) * dimensions
    x, y, z = (*sizes, 1)[:3]
    return (x, y, z)
