"""Gradient checkpointing: parts of a network whose inner maps are computed again for the gradient instead of kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def run_part(part: nn.Module, *inputs: Tensor, recompute: bool) -> Tensor:
    """Run a part of a network.

    Args:
        part: Takes tensors, gives one.
        inputs: What it takes.
        recompute: Keep only inputs and output for the gradient: about a third more time for less memory. Outputs,
            gradients, random numbers and what batch normalisation remembers are the same. Counts in training only.
    """
    if not recompute or not part.training or not torch.is_grad_enabled():
        result: Tensor = part(*inputs)
        return result
    again: Tensor = checkpoint(
        part, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), _remembering_nothing(part))
    )
    return again


@contextmanager
def _remembering_nothing(part: nn.Module) -> Iterator[None]:
    """Batch normalisation would remember a batch twice when it is computed twice."""
    norms = [m for m in part.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        # With a share of 0 nothing is taken; without its memory it would save other tensors than the first time.
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
