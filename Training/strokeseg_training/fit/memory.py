"""What a run will take of memory, known before it starts: a step played through without numbers.

Tensors on PyTorch's device ``meta`` have a shape and no values. A step with them takes a moment and no memory, and
shows what is alive at a time: gradient checkpointing, several outputs and odd sizes are seen as they are. What it does
not show are the workspaces of single operators and, in mixed precision, what is kept in fp32 all the same;
`Testing/benchmarks/training_memory.py` compares it with what runs took.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import psutil
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from strokeseg.errors import MemoryLimitError, StrokeSegError
from strokeseg.networks import build
from strokeseg_training.recipe import Recipe
from strokeseg_training.recipe_data import Datasets

_GB = 1e9


@dataclass(frozen=True)
class Need:
    """Bytes that a process needs.

    Attributes:
        weights: Of the network, fp32.
        optimiser: Two numbers a weight.
        averaged: The averaged weights.
        step: Most that is alive at a time within a step: inner maps, gradients, and weights in half precision.
    """

    weights: int
    optimiser: int
    averaged: int
    step: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.optimiser + self.averaged + self.step

    def words(self) -> str:
        """For people."""
        kept = self.weights + self.optimiser + self.averaged
        return (
            f"{_gb(self.total)} ({_gb(kept)} for weights, averaged weights and optimiser, {_gb(self.step)} for inner "
            "maps and gradients)"
        )


def estimate(recipe: Recipe, shape: Sequence[int]) -> Need | None:
    """What a step of a recipe needs; None where the network cannot be played through without numbers.

    Args:
        recipe: Says network, precision and optimiser.
        shape: Of a batch, (N, C, x, y, z).
    """
    try:
        # Random numbers are the training's own.
        with torch.random.fork_rng(devices=[]):
            network = _without_numbers(recipe)
            kept = sum(t.nbytes for t in [*network.parameters(), *network.buffers()])
            trained = sum(p.nbytes for p in network.parameters() if p.requires_grad)
            step = _largest(network, shape, torch.float32 if recipe.precision == "fp32" else torch.bfloat16)
    except (NotImplementedError, RuntimeError, StrokeSegError):
        # What is wrong with the recipe, the training itself says.
        return None
    # Gradients are of the weights' precision whatever the network computes in.
    gradients = 0 if recipe.precision == "fp32" else trained // 2
    return Need(kept, 2 * trained, kept, step + gradients)


def free_bytes(device: torch.device) -> int:
    """What is free on a device now; of other GPUs than NVIDIA's, which share it, that of the machine."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    return int(psutil.virtual_memory().available)


def refuse_too_much(recipe: Recipe, shape: Sequence[int], limit: int, processes: int = 1) -> str:
    """Say what a run will take, or that it does not fit, and what to change.

    Args:
        recipe: The run.
        shape: Of its first batch, (N, C, x, y, z); later ones may be larger.
        limit: Bytes that may be taken.
        processes: How many share them.

    Returns:
        A sentence; ``""`` where nothing is known.

    Raises:
        MemoryLimitError: It would not fit; names changes with which it would.
    """
    need = estimate(recipe, shape)
    if need is None:
        return ""
    share = limit // processes
    size = "x".join(map(str, shape))
    if need.total <= share:
        return f"Memory: a step with a batch of {size} needs at least {need.words()}; {_gb(share)} may be taken."
    of_each = f" for each of {processes} processes" if processes > 1 else ""
    sure: list[str] = []
    perhaps: list[str] = []
    for change in _changes(recipe, shape):
        then = estimate(change.recipe, change.shape)
        if then is not None and then.total <= share:
            (perhaps if change.recipe.precision != recipe.precision else sure).append(
                f"{change.settings} (at least {_gb(then.total)})"
            )
    raise MemoryLimitError(
        "The training would not fit into the memory.",
        f"A step with a batch of {size} needs at least {need.words()}; there are {_gb(share)}{of_each}.",
        _advice(sure, perhaps) + " If you know better, raise the limit with --max-memory.",
    )


def _advice(sure: Sequence[str], perhaps: Sequence[str]) -> str:
    """What to change, from what helps for certain to what may."""
    said = f"Any of these would fit: {'; '.join(sure[:3])}." if sure else "Take a smaller network or smaller crops."
    if perhaps and not sure:
        said += (
            f" By the size of its maps alone {perhaps[0]} would fit, too; but operators keep much in fp32: on a CPU "
            "steps took only 3 to 39 % less."
        )
    return said


class _Change(NamedTuple):
    """Settings that need less, the recipe with them, and the shape of its first batch."""

    settings: str
    recipe: Recipe
    shape: tuple[int, ...]


def _changes(recipe: Recipe, shape: Sequence[int]) -> list[_Change]:
    """Settings that need less, what helps for certain before half precision."""
    arguments = recipe.network.arguments
    again = recipe.network.model_copy(update={"arguments": {**arguments, "checkpointing": True}})
    single = {"batch": 1, "accumulation": recipe.accumulation * recipe.batch}
    in_text = f"--set batch=1 --set accumulation={single['accumulation']}"
    one = (1, *shape[1:])
    changes: list[tuple[str, Mapping[str, Any], Sequence[int]]] = []
    if recipe.batch > 1:
        changes.append((in_text, single, one))
    smaller = _smaller_patch(recipe)
    if smaller is not None:
        size, datasets = smaller
        text = f"--set datasets.patches.size=[{','.join(map(str, size))}]"
        changes.append((text, {"datasets": datasets}, (*shape[:2], *size)))
    knows = _knows_checkpointing(recipe)
    text = "--set network.arguments.checkpointing=true"
    if knows:
        changes.append((text, {"network": again}, shape))
    if knows and recipe.batch > 1:
        changes.append((f"{text} {in_text}", {"network": again, **single}, one))
    if recipe.precision == "fp32":
        half = "--set precision=bf16"
        changes.append((half, {"precision": "bf16"}, shape))
        if recipe.batch > 1:
            changes.append((f"{in_text} {half}", {**single, "precision": "bf16"}, one))
        if knows:
            both = {"network": again, **single, "precision": "bf16"}
            changes.append((f"{text} {in_text} {half}", both, one))
    return [_Change(text, recipe.model_copy(update=dict(update)), tuple(then)) for text, update, then in changes]


def _smaller_patch(recipe: Recipe) -> tuple[tuple[int, int, int], Datasets] | None:
    """Patches of half the length, where a recipe has patches and its network is not for one size alone."""
    data = recipe.datasets
    if data is None or data.patches is None or recipe.card.input_shape:
        return None
    multiple = recipe.preparation.multiple
    x, y, z = (max(multiple, n // 2 // multiple * multiple) for n in data.patches.size)
    if (x, y, z) == data.patches.size:
        return None
    patches = data.patches.model_copy(update={"size": (x, y, z)})
    return patches.size, data.model_copy(update={"patches": patches})


def _knows_checkpointing(recipe: Recipe) -> bool:
    """Whether gradient checkpointing can be switched on."""
    with torch.random.fork_rng(devices=[]):
        return getattr(_without_numbers(recipe), "checkpointing", None) is False


def _without_numbers(recipe: Recipe) -> nn.Module:
    name, arguments = recipe.network.name, recipe.network.arguments
    try:
        with torch.device("meta"):
            return build(name, **arguments)
    except (NotImplementedError, RuntimeError):
        # Some networks compute with numbers while they are made.
        return build(name, **arguments).to("meta")


def _largest(network: nn.Module, shape: Sequence[int], kind: torch.dtype) -> int:
    """Most bytes alive at a time in a step beside the network itself."""
    network = network.to(kind).train()
    half = sum(p.nbytes for p in network.parameters()) if kind != torch.float32 else 0
    with _Watching() as watching:
        outputs = network(torch.zeros(tuple(shape), dtype=kind, device="meta"))
        found: list[Tensor] = [*outputs.values()] if isinstance(outputs, Mapping) else [outputs]
        # Any loss: its own maps are of the outputs' size, in fp32, about as many as here.
        loss = torch.stack([(torch.sigmoid(o.float()) - 0.5).square().mean() for o in found]).sum()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
    return watching.most + half


class _Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Adds up the storages that come into being inside the block, and takes off those that go.

    Attributes:
        most: Bytes at the worst moment.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self._now = self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and id(tensor.untyped_storage()) not in before:
                self._see(tensor.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()
        self._now += size
        self.most = max(self.most, self._now)
        weakref.finalize(storage, self._forget, size)

    def _forget(self, size: int) -> None:
        self._now -= size


def _gb(number: float) -> str:
    return f"{number / _GB:.1f} GB" if number >= _GB / 10 else f"{number / 1e6:.0f} MB"
