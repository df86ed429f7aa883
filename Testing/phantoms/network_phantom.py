"""Networks that are formulas, runtimes whose memory is a number, and prepared cases made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.errors import MemoryLimitError
from strokeseg.models import LesionClass, ModelCard, ModelStore
from strokeseg.prepare import Prepared
from strokeseg.prepare.brain import BrainMask
from strokeseg.prepare.grid import ModelGrid
from strokeseg.runtime import NumpyAccumulator, NumpyRuntime
from strokeseg.symmetry import Midplane
from strokeseg.volume import Grid, Volume

Array = NDArray[np.float32]
Network = Callable[[Array], Array]
REACH = 3
RULE = ModelStore().card("adc-threshold")


def card(classes: int = 1, *, multiple: int = 1, channels: int = 2, **changes: Any) -> ModelCard:
    """A card of a network."""
    preparation = replace(
        RULE.preparation, spacing_mm=None, multiple=multiple, channels=("dwi_ratio", "adc", "brain")[:channels]
    )
    fields = {
        "name": "fake",
        "network": "residual-unet",
        "network_arguments": {},
        "runtime": "openvino",
        "strategy": "whole",
        "outputs": ("lesion",),
        "classes": tuple(LesionClass(i + 1, f"class {i + 1}", "SCT", "1", "x", (i, 0, 0)) for i in range(classes)),
        "decision": replace(RULE.decision, rule="threshold" if classes == 1 else "argmax"),
        "preparation": preparation,
    }
    return replace(RULE, **{**fields, **changes})


def prepared(channels: Array, brain: NDArray[np.bool_] | None = None, native: Grid | None = None) -> Prepared:
    """A case whose channels are given; its scan has the model's grid, or another one.

    Args:
        channels: (C, x, y, z) on the model's grid of 2 mm.
        brain: (x, y, z) on the scan's grid; None: everything.
        native: The scan's grid; None: the model's.
    """
    x, y, z = channels.shape[1:]
    grid = Grid((x, y, z), np.diag([2.0, 2.0, 2.0, 1.0]))
    native = native or grid
    brain = np.ones(native.shape, dtype=bool) if brain is None else brain
    nothing: Any = None
    return Prepared(
        Volume(np.zeros(native.shape, np.float32), native.affine),
        {},
        BrainMask(brain, "given", 1.0),
        Midplane((1.0, 0.0, 0.0), float(x - 1), 1.0, "by hand"),
        ModelGrid(native, grid),
        channels,
        nothing,
    )


def noise(*shape: int, seed: int = 0) -> Array:
    """Random channels."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def convolutions(maps: int = 1, axes: int = 3, seed: int = 1) -> Network:
    """Three layers of 3x3x3 convolutions with zeros around and rectifiers between: (C, x, y, z) to (K, x, y, z).

    A voxel sees `REACH` voxels to every side. With two axes the layers work in axial slices.
    """
    rng = np.random.default_rng(seed)
    sizes = (3, 3, 3 if axes == 3 else 1)
    layers = [rng.standard_normal((2, 2, *sizes)) / 4 for _ in range(2)] + [rng.standard_normal((maps, 2, *sizes)) / 4]

    def network(channels: Array) -> Array:
        features = channels.astype(np.float64)
        for number, kernels in enumerate(layers):
            features = np.stack(
                [
                    sum(ndimage.correlate(f, k, mode="constant") for f, k in zip(features, ks, strict=True))
                    for ks in kernels
                ]
            )
            if number < 2:
                features = np.maximum(features, 0)
        return features.astype(np.float32)

    return network


class Fake(NumpyRuntime):
    """Runs a formula for every case of a batch and remembers what it was given."""

    name = "fake"
    precision = "fp32"

    def __init__(self, network: Network | dict[str, Network], free_bytes: int | None = None) -> None:
        self.networks = network if isinstance(network, dict) else {"lesion": network}
        self.free_bytes = free_bytes
        self.seen: list[tuple[int, ...]] = []

    def run(self, batch: Array) -> dict[str, Array]:
        self.seen.append(batch.shape)
        return {name: np.stack([network(case) for case in batch]) for name, network in self.networks.items()}

    def free_memory_bytes(self) -> int | None:  # type: ignore[override]  # the interface allows it
        return self.free_bytes


class OnDevice(Fake):
    """A device with its own memory: voxels of a batch and voxels of a map that fit into it."""

    device = "cuda:0"

    def __init__(
        self, network: Network | dict[str, Network], batch_voxels: float = np.inf, map_voxels: float = np.inf
    ) -> None:
        super().__init__(network)
        self.batch_voxels, self.map_voxels = batch_voxels, map_voxels
        self.tried: list[tuple[int, ...]] = []
        self.added_on_device = False

    def run(self, batch: Array) -> dict[str, Array]:
        self.tried.append(batch.shape)
        if batch.shape[0] * np.prod(batch.shape[2:]) > self.batch_voxels:
            raise MemoryLimitError("Full.", "Too many voxels.", "Take fewer.")
        return super().run(batch)

    def accumulator(self, shape: tuple[int, int, int], maps: int) -> NumpyAccumulator:
        if np.prod(shape) > self.map_voxels:
            raise MemoryLimitError("Full.", "The map is too large.", "Take fewer.")
        self.added_on_device = True
        return super().accumulator(shape, maps)
