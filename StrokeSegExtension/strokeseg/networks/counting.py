"""What a network costs: its parameters, and the multiply-accumulates of one pass, attention included."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """Multiply-accumulates of one pass; biases, norms, activations and interpolations are not counted, as usual.

    Attributes:
        total: All of them.
        convolutions: Those of convolutions, transposed ones too.
        products: Those of matrix products: linear layers and attention.
    """

    total: int
    convolutions: int
    products: int


def cost(network: nn.Module, shape: tuple[int, ...]) -> Cost:
    """Count a pass without computing it.

    Args:
        network: Any module; left as it was.
        shape: Of its one input.
    """
    # Tensors that have a shape and no values: nothing is computed, and no memory is taken.
    empty = {name: tensor.to("meta") for name, tensor in network.state_dict().items()}
    counter = FlopCounterMode(display=False)
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        # PyTorch's counter knows the products that attention is made of, but not the CPU's own kernel for all of it.
        with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            torch.func.functional_call(network, empty, (torch.zeros(shape, device="meta"),))
    finally:
        for module, training in modes:
            module.training = training
    by_operator = {str(operator): flops // 2 for operator, flops in counter.get_flop_counts()["Global"].items()}
    convolutions = sum(count for operator, count in by_operator.items() if "convolution" in operator)
    total = sum(by_operator.values())
    return Cost(total, convolutions, total - convolutions)


def parameters(network: nn.Module, *, trainable: bool = False) -> int:
    """Number of a network's parameters; those alone that are trained, where asked for."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad or not trainable)
