"""How many slices are run together: as many as the memory of the device holds by the estimate, one at least."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from published_cards import PUBLISHED, published_card

from strokeseg.errors import MemoryLimitError
from strokeseg.models import ModelCard, parse_card
from strokeseg.predict.ladder import with_less
from strokeseg.predict.memory import pass_bytes
from strokeseg.predict.plan import Asked, Plan, choose_plan
from strokeseg.runtime.base import NumpyRuntime

GB = 10**9
SHAPE = (128, 128, 80)


class Device(NumpyRuntime):
    """Has a memory, and runs nothing."""

    precision = "fp32"

    def __init__(self, name: str, device: str, free_bytes: float | None) -> None:
        self.name, self.device, self.free_bytes = name, device, free_bytes

    def run(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        raise AssertionError(batch.shape)

    def free_memory_bytes(self) -> int | None:
        return None if self.free_bytes is None else int(self.free_bytes)


def card(network: str = "lesion-net", **arguments: object) -> ModelCard:
    return parse_card({**published_card(network, dict(arguments)), "runtime": "openvino", "files": []})


def plan(free: float | None, name: str = "openvino", device: str = "cpu", **arguments: object) -> Plan:
    return choose_plan(card(**arguments), Device(name, device, free), SHAPE, Asked())


@pytest.mark.parametrize(
    ("free", "batch"),
    # 8 kB for a pixel of Lesion-Net, 134 MB for a slice, and 67 MB; 0.8 of what is free can be used.
    [(None, 16), (4 * GB, 16), (2 * GB, 8), (0.5 * GB, 2), (0.3 * GB, 1)],
)
def test_as_many_slices_as_fit(free: float | None, batch: int) -> None:
    found = plan(free)
    assert found.tiling is not None
    assert (found.strategy, found.tiling.window, found.tiling.batch) == ("slices", (128, 128, 1), batch)
    assert (found.short_of_memory, found.reason) == (False, "the model's own")


def test_a_gpu_takes_more_slices_and_holds_the_map() -> None:
    found = plan(24 * GB, "torch", "cuda:0")
    assert found.tiling is not None
    assert (found.tiling.batch, found.tiling.on_device) == (64, True)  # 235 MB a slice in PyTorch


def test_a_slice_that_does_not_fit_is_run_all_the_same_and_said() -> None:
    found = plan(0.2 * GB)
    assert found.tiling is not None
    assert (found.tiling.batch, found.short_of_memory) == (1, True)
    assert found.reason == (
        "the model's own; one slice of 128x128 voxels needs about 0.2 GB, only 0.2 GB can be used on cpu"
    )


def test_memory_that_runs_out_all_the_same_leads_to_one_slice_at_a_time() -> None:
    used, error = card(), MemoryLimitError("Full.", "Too many voxels.", "Take fewer.")
    less = with_less(plan(None), used, SHAPE, "cpu", error)
    assert less is not None
    assert less.tiling is not None
    assert (less.strategy, less.tiling.window, less.tiling.batch) == ("slices", (128, 128, 1), 1)
    assert with_less(less, used, SHAPE, "cpu", error) is None


def test_the_estimate_follows_the_width_of_the_network() -> None:
    a_slice = 128 * 128
    needs = {name: pass_bytes(card(name), "openvino", a_slice) for name in PUBLISHED}
    assert needs["lesion-net"] > needs["atlas-segnet"] > needs["atlas-unet"] > needs["atlas-resunet"]
    assert pass_bytes(card(decoder_width=32), "openvino", a_slice) < needs["lesion-net"]
    assert pass_bytes(card("atlas-unet", channels=[8, 16]), "openvino", a_slice) < needs["atlas-unet"]
