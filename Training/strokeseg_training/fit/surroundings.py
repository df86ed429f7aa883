"""Where a run takes place: the device, PyTorch's threads, a quiet Lightning, and memory that runs out, in words."""

from __future__ import annotations

import logging
import shlex
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from strokeseg.errors import DependencyError, InputError, MemoryLimitError, StrokeSegError
from strokeseg_training.fit.checkpoints import SNAPSHOT, latest
from strokeseg_training.recipe import Recipe


def choose_device(name: str, recipe: Recipe, here: int = 1, local: int = 0) -> torch.device:
    """The device of a process.

    Args:
        name: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        recipe: Says the precision.
        here: Processes on this machine.
        local: Number of this one among them.

    Raises:
        DependencyError: It is not there.
        InputError: It does not have the precision.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    kind = next(k for k in ("cuda", "mps", "cpu") if there[k]) if name == "auto" else name.partition(":")[0]
    if not there.get(kind):
        raise DependencyError(
            f"The device '{name}' is not there.",
            "PyTorch finds here: " + ", ".join(k for k, v in there.items() if v) + ".",
            "Choose one of these with --device, or install PyTorch for your GPU.",
        )
    if recipe.precision == "fp16" and kind != "cuda":
        raise InputError(
            "The recipe's precision cannot be used.",
            f"'fp16' is for NVIDIA's GPUs; this run is on '{kind}'.",
            "Use --set precision=bf16 or fp32.",
        )
    count = {"cpu": here, "cuda": torch.cuda.device_count() if kind == "cuda" else 0, "mps": 1}[kind]
    if here > count:
        raise DependencyError(
            "There are not as many devices as were asked for.",
            f"--devices is {here}; PyTorch finds {count} of the kind '{kind}' here.",
            f"Use --devices {count}, or --device cpu, where every process takes 'threads' of the processor.",
        )
    return torch.device(f"cuda:{local}" if kind == "cuda" else kind)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """PyTorch computes with so many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning says nothing but what goes wrong: progress is the monitor's."""
    loggers = [logging.getLogger(n) for n in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [log.level for log in loggers]
    for log in loggers:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)


@contextmanager
def memory_in_words(recipe: Recipe, run: Path) -> Iterator[None]:
    """Memory that runs out, and worker processes that were ended, as a sentence; checkpoints stay.

    Args:
        recipe: The run.
        run: Its folder.

    Raises:
        MemoryLimitError: What PyTorch said of memory inside the block.
    """
    try:
        yield
    except StrokeSegError:
        raise
    except (MemoryError, RuntimeError) as error:
        text = " ".join(str(error).split())
        if "DataLoader worker" in text:
            raise MemoryLimitError(
                "A process that prepares data was ended.",
                f"PyTorch says: {text[:200]}. Most often the memory was not enough.",
                _with_less(recipe, run),
            ) from error
        full = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if full or "alloc" in text or "out of memory" in text.lower():
            raise MemoryLimitError(
                "The memory is not enough.", f"PyTorch says: {text[:200]}.", _with_less(recipe, run)
            ) from error
        raise


def _with_less(recipe: Recipe, run: Path) -> str:
    """How to go on with less memory: from the last checkpoint, if there is one by now."""
    less = f"a smaller 'batch' (it is {recipe.batch}) with more 'accumulation', or a lower 'precision'"
    found = latest(run)
    if found is None:
        return f"No step is saved yet: start again in another folder, with {less}, or with fewer 'data.workers'."
    step, folder = found
    # What decides about a step must stay the same where a run is resumed.
    return (
        f"Step {step} is saved. Free memory, or take fewer 'data.workers', and go on with --resume; or start a new run "
        f"with {less}: --init-from {shlex.quote(str(folder / SNAPSHOT))} --at-step {step}."
    )
