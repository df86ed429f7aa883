"""What an exported model gives, against what the network gave before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from strokeseg.errors import ModelError
from strokeseg.networks import NetworkForm
from strokeseg_training._export_graph import in_order

Array = NDArray[np.float32]
# Two runtimes with the same weights; logits beyond 10 are compared to 1e-4 of the largest.
RUNTIME_TOLERANCE = 1e-3
# Half precision has 11 bits: each weight moves by up to 2^-12 of itself, and some dozens of layers add these up.
ROUNDING_TOLERANCE = 0.05
# Large enough that the deepest level has a dozen voxels: over one or two, normalisation magnifies every rounding.
_AT_LEAST = 8


def trial_sizes(form: NetworkForm) -> list[tuple[int, int, int]]:
    """Sizes (x, y, z) to try a network with: its only one, or two that differ along every axis that may."""
    if form.input_shape is not None:
        return [form.input_shape]
    x, y, z = (m * -(-_AT_LEAST // m) for m in form.multiples)
    if form.slices:
        return [(3 * x, 4 * y, 1), (4 * x, 3 * y, 1)]
    return [(2 * x, 2 * y, 3 * z), (3 * x, 3 * y, 2 * z)]


def trial_batches(form: NetworkForm) -> list[Array]:
    """Random input (N, C, x, y, z): one case of the first trial size and two of the last; always the same."""
    rng = np.random.default_rng(0)
    sizes = trial_sizes(form)
    return [
        rng.standard_normal((number, form.in_channels, *size), dtype=np.float32)
        for number, size in ((1, sizes[0]), (2, sizes[-1]))
    ]


def run_network(network: nn.Module, batch: Array, outputs: Sequence[str]) -> list[Array]:
    """Logits of a network in PyTorch, in the order of `outputs`."""
    with torch.inference_mode():
        return [r.numpy() for r in in_order(network(torch.from_numpy(batch)), outputs)]


def several_as_alone(run: Callable[[Array], list[Array]], batches: Sequence[Array]) -> list[list[Array]]:
    """What a graph from elsewhere gives for one case and for two, which must be what each of them gives alone.

    Args:
        run: Runs it.
        batches: Those of `trial_batches`.

    Raises:
        ModelError: It cannot be run, or holds for one case at a time only.
    """
    one, two = batches
    first, *alone = (run(batch) for batch in (one, two[:1], two[1:]))
    try:
        together = run(two)
    except ModelError as error:
        raise _one_case(error.cause) from error
    apart = difference(together, [np.concatenate(cases) for cases in zip(*alone, strict=True)])
    if not apart <= RUNTIME_TOLERANCE * max(1.0, largest(together) / 10):
        raise _one_case(f"Their logits differ by up to {apart:.2g} from those of each alone.")
    return [first, together]


def _one_case(cause: str) -> ModelError:
    return ModelError(
        "The graph does not fit.",
        f"It holds for one case at a time, the engine runs several. Two at a time: {cause}",
        "Export it with a free first axis (in torch.onnx.export: 'dynamic_axes' or 'dynamic_shapes').",
    )


def check_outputs(results: Sequence[Any], batch: Array, outputs: Sequence[str], lesion_channels: int) -> None:
    """Refuse logits of the wrong number, shape or kind.

    Raises:
        ModelError: The network does not fit its card.
    """
    expected = [(len(batch), lesion_channels if n == "lesion" else 4, *batch.shape[2:]) for n in outputs]
    seen = [tuple(r.shape) for r in results]
    if seen != expected:
        raise ModelError(
            "The network does not fit its card.",
            f"For an input {batch.shape} the card promises {_shapes(outputs, expected)}; the network gives "
            f"{', '.join(map(str, seen))}.",
            "Correct 'outputs' or 'classes' in the card, or the network's output channels: 1 for one class, else one "
            "a class and the background first.",
        )
    for name, result in zip(outputs, results, strict=True):
        if not np.isfinite(result).all():
            raise ModelError(
                "The network gives no usable output.",
                f"{np.mean(~np.isfinite(result)):.1%} of '{name}' are no finite numbers for a random input.",
                "The training has diverged; use an earlier checkpoint.",
            )


def difference(one: Sequence[Array], other: Sequence[Array]) -> float:
    """Largest absolute difference of logits."""
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


def largest(results: Sequence[Array]) -> float:
    """Largest absolute logit."""
    return max(float(np.abs(r).max()) for r in results)


def _shapes(outputs: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(f"'{n}' {s}" for n, s in zip(outputs, shapes, strict=True))
