"""Which strategy is chosen and why, what is refused, and slices."""

from __future__ import annotations

from typing import Any

import network_phantom as phantom
import numpy as np
import pytest

from strokeseg.errors import Cancelled, InputError, ModelError, StrokeSegError
from strokeseg.events import Event, Monitor, Progress
from strokeseg.predict import Asked, predict
from strokeseg.predict.memory import map_bytes, pass_bytes
from strokeseg.predict.plan import choose_plan
from strokeseg.predict.strategies import Tiling, slices

Size = tuple[int, int, int]
GB = 10**9


def plan(
    shape: Size, asked: Asked | None = None, free_bytes: int | None = None, device: str = "cpu", **card: Any
) -> Any:
    runtime = phantom.Fake(lambda c: c[:1], free_bytes)
    runtime.device = device
    return choose_plan(phantom.card(**card), runtime, shape, asked or Asked())


# --- what a pass needs


def test_the_memory_of_a_pass_grows_with_voxels_and_the_width_of_the_finest_level() -> None:
    usual = phantom.card()
    fixed = pass_bytes(usual, "openvino", 0)
    one = pass_bytes(usual, "openvino", 10**6) - fixed
    assert one == 4 * 4 * 16 * 10**6  # four maps of 16 channels in single precision
    assert pass_bytes(usual, "openvino", 3 * 10**6) - fixed == 3 * one
    assert pass_bytes(phantom.card(network_arguments={"channels": [32, 64]}), "openvino", 10**6) - fixed == 2 * one
    assert pass_bytes(usual, "torch", 10**6) > pass_bytes(usual, "openvino", 10**6)
    other = phantom.card(network="monai:UNet", network_arguments={"channels": [16, 32]})
    assert pass_bytes(other, "openvino", 10**6) - fixed == 2 * one
    assert pass_bytes(phantom.card(network="graph"), "openvino", 10**6) - fixed == 6 * one


@pytest.mark.parametrize(
    ("voxels", "runtime", "measured_mb"),
    [(64**3, "openvino", 78), (96 * 96 * 80, "openvino", 178), (128 * 128 * 112, "openvino", 414),
     (64**3, "torch", 144), (96 * 96 * 80, "torch", 331)],
)  # fmt: skip
def test_the_estimate_lies_above_what_was_measured_but_not_by_more_than_double(
    voxels: int, runtime: str, measured_mb: int
) -> None:
    assert measured_mb < pass_bytes(phantom.card(), runtime, voxels) / 2**20 < 2 * measured_mb


def test_the_memory_of_the_maps_counts_logits_and_weights_of_every_output() -> None:
    assert map_bytes(phantom.card(), (10, 10, 10)) == 4 * 1000 * 2
    assert map_bytes(phantom.card(2, outputs=("lesion", "tissue")), (10, 10, 10)) == 4 * 1000 * (4 + 5)


# --- auto


def test_one_pass_where_it_fits() -> None:
    for free in (None, 100 * GB):
        found = plan((112, 112, 80), free_bytes=free)
        assert (found.strategy, found.tiling, found.short_of_memory) == ("whole", None, False)
        assert "own" in found.reason
        assert "112x112x80" in found.reason


def test_the_largest_windows_that_fit_where_one_pass_does_not() -> None:
    """The unknown runtime needs 7 maps of 16 channels of 4 bytes, 448 bytes a voxel, and 67 MB; 0.8 can be used."""
    shape = (256, 256, 208)
    for free, window in [
        (8 * GB, None),  # 6.4 GB hold 14.1 million voxels; the volume has 13.6
        (7.5 * GB, (192, 192, 192)),  # 6.0 GB: 13.2 million, the window 7.1
        (3 * GB, (160, 160, 160)),  # 2.4 GB: 5.2 million, 4.1
        (0.6 * GB, (96, 96, 96)),  # 0.48 GB: 0.92 million, 0.88
        (0.01 * GB, (32, 32, 32)),
    ]:
        found = plan(shape, free_bytes=int(free), multiple=16)
        assert found.short_of_memory == (window is not None)
        assert (found.tiling.window if found.tiling else None) == window
        if window:
            assert found.strategy == "windows"
            assert "needs about 6.2 GB" in found.reason
            assert f"only {0.8 * free / 1e9:.1f} GB" in found.reason
            assert "x".join(map(str, window)) in found.reason


def test_windows_are_no_longer_than_the_volume_and_multiples_of_what_the_network_halves() -> None:
    found = plan((352, 352, 64), free_bytes=2 * GB, multiple=32)
    assert found.tiling.window == (192, 192, 64)
    assert plan((288, 288, 96), free_bytes=GB // 20, multiple=48).tiling.window == (48, 48, 48)


def test_a_card_that_asks_for_windows_gets_its_own() -> None:
    found = plan((128, 128, 96), strategy="windows", window=(64, 64, 48), overlap=0.5)
    assert (found.strategy, found.tiling.window, found.tiling.overlap) == ("windows", (64, 64, 48), 0.5)
    assert "own" in found.reason
    assert plan((128, 128, 96), strategy="windows").tiling.window == (96, 96, 96)
    small = plan((128, 128, 96), free_bytes=GB // 5, strategy="windows", window=(96, 96, 96))
    assert (small.tiling.window, small.short_of_memory) == ((48, 48, 48), True)


def test_a_network_of_one_size_is_run_by_windows_of_it_whatever_the_memory() -> None:
    found = plan((128, 128, 96), free_bytes=GB // 20, input_shape=(96, 96, 96))
    assert (found.strategy, found.tiling.window) == ("windows", (96, 96, 96))
    assert "one size" in found.reason
    assert plan((96, 96, 96), input_shape=(96, 96, 96)).strategy == "whole"


# --- as asked for


def test_window_and_overlap_are_taken_as_asked_for() -> None:
    found = plan((128, 128, 96), Asked("windows", (48, 48, 48), 0.5), multiple=16)
    assert (found.tiling.window, found.tiling.overlap, found.tiling.multiple) == ((48, 48, 48), 0.5, 16)
    assert "asked" in found.reason
    assert plan((128, 128, 96), Asked(window=(48, 48, 48))).strategy == "windows"
    assert plan((128, 128, 96), Asked(overlap=0.5)).tiling.overlap == 0.5
    assert plan((128, 128, 96), Asked("whole"), strategy="windows").strategy == "whole"


@pytest.mark.parametrize(
    ("asked", "changes", "kind", "said"),
    [
        (Asked("spiral"), {}, ModelError, "whole, windows, slices"),
        (Asked(), {"strategy": "proposals"}, ModelError, "whole, windows, slices"),
        (Asked("whole", window=(32, 32, 32)), {}, InputError, "has no windows"),
        (Asked("slices", overlap=0.5), {"strategy": "slices"}, InputError, "has no windows"),
        (Asked(window=(8, 8, 1)), {"strategy": "slices"}, InputError, "has no windows"),
        (Asked("slices"), {}, ModelError, "three dimensions"),
        (Asked("whole"), {"strategy": "slices"}, ModelError, "two dimensions"),
        (Asked("windows"), {"strategy": "slices"}, ModelError, "two dimensions"),
        (Asked("windows"), {"runtime": "threshold"}, ModelError, "whole brain"),
        (Asked(overlap=0.5), {"runtime": "threshold"}, ModelError, "whole brain"),
        (Asked(window=(32, 40, 32)), {"multiple": 16}, ModelError, "multiples of 16"),
        (Asked(window=(32, 32, 32)), {"input_shape": (64, 64, 64)}, ModelError, "64x64x64 voxels only"),
        (Asked("whole"), {"input_shape": (64, 64, 64)}, ModelError, "64x64x64 voxels only"),
    ],
)
def test_what_a_model_cannot_do_is_refused_with_a_reason(
    asked: Asked, changes: dict[str, Any], kind: type[StrokeSegError], said: str
) -> None:
    with pytest.raises(kind) as caught:
        plan((128, 128, 96), asked, **changes)
    assert said in caught.value.cause
    assert caught.value.next_step


# --- batches and the place of the map


def test_batches_are_bounded_by_voxels_and_memory() -> None:
    def tiling(free: float | None, device: str) -> Any:
        return plan((128, 128, 128), Asked(window=(64, 64, 64)), None if free is None else int(free), device).tiling

    assert tiling(None, "cpu").batch == 1
    assert tiling(None, "cuda:0").batch == 16  # two times 128 cubed
    # 16 windows need 1.9 GB, 8 1.0 GB; 0.8 of 2 GB is 1.6.
    assert tiling(2 * GB, "cuda:0").batch == 8
    assert tiling(0.1 * GB, "cuda:0").batch == 1


def test_the_map_goes_into_the_computers_memory_where_the_device_has_no_room() -> None:
    """Windows of 64 cubed need 0.19 GB, the map of 512 cubed with its weight 1.1 GB."""
    asked = Asked(window=(64, 64, 64))
    assert plan((512, 512, 512), asked, 4 * GB, "cuda:0").tiling.on_device
    assert not plan((512, 512, 512), asked, GB, "cuda:0").tiling.on_device
    assert plan((512, 512, 512), asked, GB, "cpu").tiling.on_device


# --- slices


def test_slices_give_what_a_network_of_two_dimensions_gives_slice_by_slice() -> None:
    network = phantom.convolutions(axes=2)
    channels = phantom.noise(2, 20, 17, 40)
    runtime = phantom.Fake(network)
    used = phantom.card(strategy="slices")
    found = predict(phantom.prepared(channels), used, runtime, Monitor())
    assert found.strategy == "slices"
    expected = np.concatenate([network(channels[..., [z]]) for z in range(40)], axis=-1)
    wanted = 1 / (1 + np.exp(-np.clip(expected[0], -8, 8)))
    np.testing.assert_allclose(found.probability, wanted, atol=1e-5)
    assert {s[1:] for s in runtime.seen} == {(2, 20, 17, 1)}
    assert sum(s[0] for s in runtime.seen) == 40
    assert max(s[0] for s in runtime.seen) > 1


def test_slices_of_one_size_are_padded_or_cut_into_windows() -> None:
    channels = phantom.noise(2, 20, 50, 3)
    runtime = phantom.Fake(lambda c: c[:1] + c[1:])
    used = phantom.card(strategy="slices", input_shape=(32, 32, 1))
    found = predict(phantom.prepared(channels), used, runtime, Monitor())
    np.testing.assert_allclose(found.probability, 1 / (1 + np.exp(-channels.sum(axis=0))), atol=1e-5)
    assert {s[1:] for s in runtime.seen} == {(2, 32, 32, 1)}


def test_slices_without_brain_are_not_run() -> None:
    brain = np.zeros((16, 16, 30), dtype=bool)
    brain[5:9, 5:9, 10:20] = True
    runtime = phantom.Fake(lambda c: c[:1])
    predict(phantom.prepared(phantom.noise(2, 16, 16, 30), brain), phantom.card(strategy="slices"), runtime, Monitor())
    assert sum(s[0] for s in runtime.seen) == 10


def test_where_nothing_was_run_the_background_is_certain_among_several_classes() -> None:
    brain = np.zeros((16, 16, 12), dtype=bool)
    brain[5:9, 5:9, 4:8] = True
    channels = phantom.noise(2, 16, 16, 12)
    for maps in (1, 3):
        runtime = phantom.Fake(lambda c, maps=maps: np.concatenate([c[:1] + k for k in range(maps)]))
        found = slices(runtime, channels, brain, Tiling((16, 16, 1)), lambda done, total: None)["lesion"][0]
        np.testing.assert_allclose(
            found[..., 4:8], np.stack([channels[0, ..., 4:8] + k for k in range(maps)]), atol=1e-5
        )
        away = np.delete(found, np.s_[4:8], axis=-1)
        np.testing.assert_array_equal(away[0], -8.0 if maps == 1 else 8.0)
        np.testing.assert_array_equal(away[1:], -8.0)


# --- progress and cancelling


def test_every_batch_is_told_and_a_cancellation_is_noticed_before_the_next() -> None:
    heard: list[Event] = []
    runtime = phantom.Fake(lambda c: c[:1])
    case, asked = phantom.prepared(phantom.noise(2, 64, 64, 64)), Asked(window=(32, 32, 32), overlap=0.0)
    predict(case, phantom.card(), runtime, Monitor(heard.append), asked)
    told = [(e.done, e.total) for e in heard if isinstance(e, Progress)]
    assert told == [(n, 8) for n in range(0, 9, 8)]  # a batch on the CPU has 64 cubed voxels
    runtime.seen.clear()
    case = phantom.prepared(phantom.noise(2, 128, 64, 64))
    with pytest.raises(Cancelled):
        predict(case, phantom.card(), runtime, Monitor(cancelled=lambda: bool(runtime.seen)), asked)
    assert len(runtime.seen) == 1
