"""`windows`: overlapping windows whose logits are added up in one map, those of a window's middle with most weight.

At its faces a network sees zeros where the image goes on, so its logits are worst there. The weight is a Gaussian with
an eighth of the window as standard deviation, which has proven itself (nnU-Net, Isensee 2021): 1 in the middle and
0.0003 at a face.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import MemoryLimitError
from strokeseg.predict.strategies.whole import Told
from strokeseg.runtime import Accumulator, Logits, NumpyAccumulator, Runtime

Size = tuple[int, int, int]
_SIGMA_SHARE = 1.0 / 8.0
# Where no window was, nothing is asked for; a finite logit that says "no lesion".
_UNCOVERED = -8.0


class MapTooLargeError(MemoryLimitError):
    """The windows fit into the device's memory, the map to which they are added up does not."""


@dataclass(frozen=True)
class Tiling:
    """How a volume is covered.

    Attributes:
        window: Voxels (x, y, z) of a window; volumes that are smaller are padded with 0, what lies outside a brain.
        overlap: Least share of a window that neighbours have in common along each axis, 0 to 0.9.
        multiple: Windows start at multiples of this where the sizes allow it: then the coarser levels of a network
            lie as in one pass over everything.
        batch: Windows that are run together.
        on_device: Whether logits are added up on the runtime's device, else in the computer's memory.
    """

    window: Size
    overlap: float = 0.25
    multiple: int = 1
    batch: int = 1
    on_device: bool = True


def windows(
    runtime: Runtime, channels: NDArray[np.float32], wanted: NDArray[np.bool_], tiling: Tiling, told: Told
) -> Logits:
    """Run a model by windows. Windows without any voxel that is wanted are left out.

    Args:
        runtime: What runs the model.
        channels: (C, x, y, z).
        wanted: (x, y, z), voxels whose logits are needed; elsewhere they are those of fewer windows, or -8.
        tiling: How the volume is covered.
        told: Hears windows done and their number, before every batch.

    Returns:
        Name to logits (1, K, x, y, z).

    Raises:
        MapTooLargeError: The device has no room for the map.
        MemoryLimitError: It has none for a batch.
    """
    shape = _size(channels.shape[1:])
    padded = _size(max(s, w) for s, w in zip(shape, tiling.window, strict=True))
    inside = _middle(shape, padded)
    if padded != shape:
        channels, wanted = _padded(channels, padded, inside), _padded(wanted, padded, inside)
    starts = positions(padded, tiling)
    starts = [s for s in starts if wanted[_box(s, tiling.window)].any()] or starts[:1]
    weight = gaussian(tiling.window)
    total = _Sum(runtime, padded, on_device=tiling.on_device)
    for done in range(0, len(starts), tiling.batch):
        told(done, len(starts))
        group = starts[done : done + tiling.batch]
        total.add(np.stack([channels[(slice(None), *_box(s, tiling.window))] for s in group]), group, weight)
    told(len(starts), len(starts))
    return {name: logits[None, :, *inside] for name, logits in total.results()}


def positions(shape: Size, tiling: Tiling) -> list[Size]:
    """First voxels of the windows that cover a volume, all inside it; windows are spread evenly.

    Args:
        shape: Voxels (x, y, z), none fewer than the window's.
        tiling: How the volume is covered.
    """
    along = [_along(s, w, tiling.overlap, tiling.multiple) for s, w in zip(shape, tiling.window, strict=True)]
    return [(x, y, z) for x, y, z in product(*along)]


def _along(size: int, window: int, overlap: float, multiple: int) -> list[int]:
    room = size - window
    unit = multiple if window % multiple == 0 and room % multiple == 0 else 1
    steps, longest = room // unit, max(1, int(window * (1.0 - overlap)) // unit)
    gaps = -(-steps // longest)
    return [i * steps // gaps * unit for i in range(gaps + 1)] if gaps else [0]


def gaussian(window: Size) -> NDArray[np.float32]:
    """Weights (x, y, z) of a window's voxels, above 0, 1 in the middle."""
    axes = []
    for size in window:
        offset = (np.arange(size) - (size - 1) / 2.0) / (size * _SIGMA_SHARE)
        axes.append(np.exp(-0.5 * offset**2))
    x, y, z = axes
    return (x[:, None, None] * y[None, :, None] * z[None, None, :]).astype(np.float32)


class _Sum:
    """The weighted sum of all windows, for every output of the model."""

    def __init__(self, runtime: Runtime, shape: Size, *, on_device: bool) -> None:
        self._runtime = runtime
        self._shape = shape
        self._on_device = on_device
        self._maps: dict[str, Accumulator] = {}

    def add(self, batch: NDArray[np.float32], starts: Sequence[Size], weight: NDArray[np.float32]) -> None:
        """Run a batch of windows and add what comes out."""
        outputs: dict[str, Any] = self._runtime.run_on_device(batch) if self._on_device else self._runtime.run(batch)
        if not self._maps:
            self._open({name: int(output.shape[1]) for name, output in outputs.items()})
        for name, output in outputs.items():
            self._maps[name].add(output, starts, weight)

    def results(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Name and logits (K, x, y, z)."""
        while self._maps:
            name, accumulated = self._maps.popitem()
            logits = accumulated.result(_UNCOVERED)
            if len(logits) > 1:
                # Of several classes, the background is the first: equal logits would say that all are as likely.
                logits[0][(logits == _UNCOVERED).all(axis=0)] = -_UNCOVERED
            yield name, logits

    def _open(self, maps: dict[str, int]) -> None:
        """Make the maps, whose number only the outputs tell."""
        if not self._on_device:
            self._maps = {name: NumpyAccumulator(self._shape, count) for name, count in maps.items()}
            return
        try:
            self._maps = {name: self._runtime.accumulator(self._shape, count) for name, count in maps.items()}
        except MemoryLimitError as error:
            raise MapTooLargeError(error.title, error.cause, error.next_step) from error


def _size(numbers: Any) -> Size:
    x, y, z = (int(n) for n in numbers)
    return x, y, z


def _box(start: Size, window: Size) -> tuple[slice, slice, slice]:
    x, y, z = (slice(s, s + w) for s, w in zip(start, window, strict=True))
    return x, y, z


def _middle(shape: Size, padded: Size) -> tuple[slice, slice, slice]:
    return _box(_size((p - s) // 2 for s, p in zip(shape, padded, strict=True)), shape)


def _padded(array: NDArray[Any], shape: Size, inside: tuple[slice, slice, slice]) -> NDArray[Any]:
    """An array ([C,] x, y, z) in the middle of zeros."""
    result = np.zeros((*array.shape[:-3], *shape), dtype=array.dtype)
    result[(..., *inside)] = array
    return result
