"""The one interface of all runtimes: a batch of channels in, named logits out, and one map that windows add up to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import MemoryLimitError, ModelError

Logits = dict[str, NDArray[np.float32]]
Position = tuple[int, int, int]

PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Note:
    """What the reader of a result must know about the runtime; `code` and `message` are those of a warning."""

    code: str
    message: str


class Accumulator(Protocol):
    """One logit map (K, x, y, z) to which overlapping windows add up, on one device."""

    def add(self, output: Any, positions: Sequence[Position], weight: NDArray[np.float32]) -> None:
        """Add the windows of a batch.

        Args:
            output: Logits (N, K, wx, wy, wz): what `Runtime.run_on_device` gave where the accumulator lives on the
                device, else an array.
            positions: First voxel of each of the N windows, which lie inside the map.
            weight: (wx, wy, wz), weight of each voxel of a window, above 0.
        """
        ...

    def result(self, uncovered: float = 0.0) -> NDArray[np.float32]:
        """The weighted mean (K, x, y, z); `uncovered` where no window was. Ends the accumulator."""
        ...


class Runtime(Protocol):
    """Runs one model on one device. Not for several threads at a time.

    Attributes:
        name: Which runtime this is, for reports.
        device: The device it runs on, for reports: ``cpu``, ``cuda:0``, ``mps``.
        precision: What it computes in: one of `PRECISIONS`; not always what was asked for, then a note says why.
        notes: To be passed on as warnings.
    """

    name: str
    device: str
    precision: str
    notes: tuple[Note, ...]

    def run(self, batch: NDArray[np.float32]) -> Logits:
        """Logits by output name.

        Args:
            batch: float32 (N, C, x, y, z), channels in the card's order.

        Returns:
            float32 (N, K, x, y, z) for each of the card's outputs; of ``lesion`` K = 1 for one class, else the
            background first.

        Raises:
            ModelError: The network cannot take this batch.
            MemoryLimitError: It does not fit into the memory of the device; the runtime can still be used.
        """
        ...

    def run_on_device(self, batch: NDArray[np.float32]) -> dict[str, Any]:
        """As `run`, but the logits stay where they were computed, in the form that `accumulator` takes."""
        ...

    def accumulator(self, shape: tuple[int, int, int], maps: int) -> Accumulator:
        """An empty map on the runtime's device; it takes ``4 * (maps + 1) * x * y * z`` bytes there.

        `NumpyAccumulator` is the one to take, with `run`, where the device has not that much.

        Args:
            shape: Voxels (x, y, z).
            maps: K.

        Raises:
            MemoryLimitError: The device has not enough memory.
        """
        ...

    def free_memory_bytes(self) -> int | None:
        """Memory that is free on the device now; None where it cannot be known."""
        ...

    def close(self) -> None:
        """Give the memory back; the runtime cannot be used afterwards."""
        ...


class NumpyRuntime(ABC):
    """What runtimes have in common whose logits are arrays in the computer's memory."""

    device = "cpu"
    notes: tuple[Note, ...] = ()

    @abstractmethod
    def run(self, batch: NDArray[np.float32]) -> Logits:
        """See `Runtime.run`."""

    def run_on_device(self, batch: NDArray[np.float32]) -> Logits:
        """The same as `run`."""
        return self.run(batch)

    def accumulator(self, shape: tuple[int, int, int], maps: int) -> NumpyAccumulator:
        """See `Runtime.accumulator`."""
        with memory_errors("cpu"):
            return NumpyAccumulator(shape, maps)

    def free_memory_bytes(self) -> int:
        """Memory that this process can still take."""
        from strokeseg.runtime.devices import free_cpu_memory_bytes  # noqa: PLC0415  psutil, not needed at start

        return free_cpu_memory_bytes()

    def close(self) -> None:  # noqa: B027  not every runtime holds something
        """See `Runtime.close`."""


class NumpyAccumulator:
    """An `Accumulator` in the computer's memory.

    Args:
        shape: Voxels (x, y, z).
        maps: K.
    """

    def __init__(self, shape: tuple[int, int, int], maps: int) -> None:
        self._sum = np.zeros((maps, *shape), dtype=np.float32)
        self._weight = np.zeros(shape, dtype=np.float32)

    def add(self, output: NDArray[np.float32], positions: Sequence[Position], weight: NDArray[np.float32]) -> None:
        """See `Accumulator.add`."""
        for window, place in zip(output, window_slices(self._weight.shape, weight.shape, positions), strict=True):
            self._sum[(slice(None), *place)] += window * weight
            self._weight[place] += weight

    def result(self, uncovered: float = 0.0) -> NDArray[np.float32]:
        """See `Accumulator.result`."""
        covered = self._weight > 0
        np.divide(self._sum, self._weight, out=self._sum, where=covered)
        self._sum[:, ~covered] = uncovered
        return self._sum


# What the libraries write where memory ran out: C++, PyTorch on CPU and MPS, oneDNN.
_OUT_OF_MEMORY = ("bad_alloc", "out of memory", "not enough memory", "can't allocate", "failed to allocate")


@contextmanager
def memory_errors(device: str) -> Iterator[None]:
    """Turn the many ways in which libraries say "no memory left" into `MemoryLimitError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(w in str(error).lower() for w in _OUT_OF_MEMORY):
            raise
        raise MemoryLimitError(
            f"The memory of the device '{device}' is not enough.",
            f"The library says: {(str(error).strip().splitlines() or ['no memory left'])[-1][:200]}",
            "Close other programs, run the model by smaller windows ('--strategy windows'), or on the CPU.",
        ) from error


def check_sizes(model: str, batch: tuple[int, ...], outputs: Mapping[str, Any]) -> None:
    """See that every output has the batch's size: OpenVINO gives an empty array, and no error, where layers do not fit.

    Args:
        model: Name of the model.
        batch: Shape (N, C, x, y, z) of what went in.
        outputs: Name to logits (N, K, x, y, z), arrays or tensors.

    Raises:
        ModelError: An output has another size.
    """
    for name, logits in outputs.items():
        shape = tuple(logits.shape)
        if len(shape) != 5 or shape[0] != batch[0] or shape[2:] != batch[2:]:
            raise ModelError(
                f"The model '{model}' cannot take this input.",
                f"For an input of the shape {batch} its output '{name}' has the shape {shape}.",
                "Its axes must be multiples of what the network halves: correct 'preparation.multiple' in the card.",
            )


def window_slices(
    shape: Sequence[int], window: Sequence[int], positions: Sequence[Position]
) -> list[tuple[slice, slice, slice]]:
    """Where windows lie in a map.

    Raises:
        ValueError: A window reaches beyond the map: a negative start would silently write to the other end.
    """
    result = []
    for position in positions:
        if any(p < 0 or p + w > s for p, w, s in zip(position, window, shape, strict=True)):
            raise ValueError(f"a window of {tuple(window)} at {tuple(position)} reaches beyond {tuple(shape)}")
        x, y, z = (slice(p, p + w) for p, w in zip(position, window, strict=True))
        result.append((x, y, z))
    return result
