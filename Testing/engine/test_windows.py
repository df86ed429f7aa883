"""Windows: where they lie, how they are blended, and that they give what one pass gives."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import network_phantom as phantom
import numpy as np
import pytest

from strokeseg.events import Monitor
from strokeseg.predict import Asked, predict
from strokeseg.predict.strategies import Tiling, whole, windows
from strokeseg.predict.strategies.windows import gaussian, positions
from strokeseg.volume import Grid

Size = tuple[int, int, int]


def nobody(done: int, total: int) -> None:
    """Hears nothing."""


def by_windows(runtime: Any, channels: Any, tiling: Tiling, wanted: Any = None) -> Any:
    wanted = np.ones(channels.shape[1:], dtype=bool) if wanted is None else wanted
    return windows(runtime, channels, wanted, tiling, nobody)["lesion"]


# --- where windows lie


@pytest.mark.parametrize(
    ("size", "window", "overlap", "multiple", "expected"),
    [
        (96, 96, 0.25, 16, [0]),
        (160, 96, 0.5, 16, [0, 32, 64]),
        (160, 96, 0.25, 16, [0, 64]),
        (112, 96, 0.25, 16, [0, 16]),
        (20, 8, 0.5, 4, [0, 4, 8, 12]),
        (20, 8, 0.0, 4, [0, 4, 12]),
        (10, 4, 0.25, 1, [0, 3, 6]),
        (11, 4, 0.25, 4, [0, 2, 4, 7]),
        (9, 1, 0.25, 1, list(range(9))),
        (9, 1, 0.5, 4, list(range(9))),
        (7, 3, 0.9, 1, [0, 1, 2, 3, 4]),
    ],
)
def test_windows_start_at_multiples_where_they_can_and_the_last_ends_at_the_edge(
    size: int, window: int, overlap: float, multiple: int, expected: list[int]
) -> None:
    tiling = Tiling((window, 1, 1), overlap, multiple)
    assert [p[0] for p in positions((size, 1, 1), tiling)] == expected


def test_windows_cover_everything_overlap_enough_and_stay_inside() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        multiple = int(rng.choice([1, 2, 4, 16]))
        window = multiple * int(rng.integers(1, 7))
        size = window + int(rng.integers(0, 200))
        overlap = float(rng.uniform(0, 0.9))
        starts = [p[0] for p in positions((size, 1, 1), Tiling((window, 1, 1), overlap, multiple))]
        assert starts[0] == 0
        assert starts[-1] == size - window
        steps = [b - a for a, b in pairwise(starts)]
        assert all(0 < step <= max(1, multiple, window * (1 - overlap)) for step in steps)
        assert all(step <= window for step in steps)


def test_the_weight_is_largest_in_the_middle_the_same_on_both_sides_and_nowhere_zero() -> None:
    weight = gaussian((96, 7, 1))
    assert weight.shape == (96, 7, 1)
    assert weight.dtype == np.float32
    assert weight.min() > 0
    np.testing.assert_allclose(weight, weight[::-1, ::-1])
    # A voxel is w/2 - 1/2 from the middle, four standard deviations of w/8 less half a voxel.
    assert weight[0, 3, 0] == pytest.approx(np.exp(-0.5 * (47.5 / 12) ** 2), rel=1e-5)
    assert weight[48, 3, 0] == pytest.approx(1.0, abs=1e-3)


# --- blending


@pytest.mark.parametrize(
    ("shape", "window"),
    [((20, 17, 9), (8, 8, 4)), ((5, 6, 7), (16, 16, 16)), ((1, 30, 12), (8, 8, 8)), ((33, 1, 1), (16, 1, 1))],
)
def test_blending_is_exact_for_a_constant(shape: Size, window: Size) -> None:
    runtime = phantom.Fake(lambda c: np.stack([np.full(c.shape[1:], v, np.float32) for v in (2.5, -0.3)]))
    found = by_windows(runtime, phantom.noise(2, *shape), Tiling(window, 0.5, batch=3))
    assert found.shape == (1, 2, *shape)
    np.testing.assert_allclose(found[0, 0], 2.5, rtol=5e-7)
    np.testing.assert_allclose(found[0, 1], -0.3, rtol=5e-7)


@pytest.mark.parametrize("shape", [(20, 17, 9), (1, 24, 13), (31, 1, 1), (5, 40, 6), (16, 16, 16), (3, 2, 4)])
@pytest.mark.parametrize("window", [(8, 8, 4), (16, 16, 16)])
def test_a_network_that_sees_single_voxels_gives_the_same_by_windows_of_any_size(shape: Size, window: Size) -> None:
    """Volumes smaller than a window, axes of one voxel, odd sizes: every voxel has to arrive at its own place."""
    runtime = phantom.Fake(lambda c: c[:1] - 2 * c[1:])
    channels = phantom.noise(2, *shape)
    found = by_windows(runtime, channels, Tiling(window, 0.25, 4, batch=2))
    np.testing.assert_allclose(found, whole(runtime, channels, nobody)["lesion"], atol=1e-6)
    assert {s[2:] for s in runtime.seen[:-1]} == {window}


@pytest.mark.parametrize(
    ("shape", "window", "overlap"),
    [((40, 36, 20), (24, 24, 16), 0.25), ((37, 29, 23), (24, 20, 16), 0.5), ((61, 53, 1), (40, 32, 1), 0.25)],
)
def test_windows_equal_one_pass_farther_than_the_reach_from_inner_faces(
    shape: Size, window: Size, overlap: float
) -> None:
    runtime = phantom.Fake(phantom.convolutions())
    channels = phantom.noise(2, *shape)
    tiling = Tiling(window, overlap, 4)
    expected = whole(runtime, channels, nobody)["lesion"][0, 0]
    found = by_windows(runtime, channels, tiling)[0, 0]
    far = np.ones(shape, dtype=bool)
    for axis in range(3):
        for face in {f for s in positions(shape, tiling) for f in (s[axis], s[axis] + window[axis])}:
            if 0 < face < shape[axis]:
                near = [slice(None)] * 3
                near[axis] = slice(max(face - phantom.REACH, 0), face + phantom.REACH)
                far[tuple(near)] = False
    assert far.sum() > 200
    np.testing.assert_allclose(found[far], expected[far], atol=1e-5)
    assert np.abs(found - expected).max() > 1e-3  # near the faces windows know less


def test_small_volumes_equal_one_pass_over_themselves_padded_with_zeros() -> None:
    """The convolutions see zeros beyond the volume either way."""
    runtime = phantom.Fake(lambda c: np.stack([np.abs(c).sum(axis=0)]))
    channels = phantom.noise(2, 5, 1, 9)
    found = by_windows(runtime, channels, Tiling((16, 8, 16)))
    assert runtime.seen == [(1, 2, 16, 8, 16)]
    np.testing.assert_allclose(found[0, 0], np.abs(channels).sum(axis=0), rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 5, 100])
def test_the_batch_changes_nothing(batch: int) -> None:
    runtime = phantom.Fake(phantom.convolutions())
    channels = phantom.noise(2, 20, 18, 12)
    one = by_windows(runtime, channels, Tiling((8, 8, 8), 0.25, 4))
    count = len(runtime.seen)
    runtime.seen.clear()
    np.testing.assert_array_equal(by_windows(runtime, channels, Tiling((8, 8, 8), 0.25, 4, batch)), one)
    assert len(runtime.seen) == -(-count // batch)
    assert sum(s[0] for s in runtime.seen) == count


def test_every_output_has_its_own_map() -> None:
    runtime = phantom.Fake({"lesion": lambda c: c[:1], "tissue": lambda c: np.concatenate([c, c])})
    channels = phantom.noise(2, 12, 10, 9)
    found = windows(runtime, channels, np.ones((12, 10, 9), bool), Tiling((8, 8, 8)), nobody)
    np.testing.assert_allclose(found["lesion"][0], channels[:1], atol=1e-6)
    np.testing.assert_allclose(found["tissue"][0], np.concatenate([channels, channels]), atol=1e-6)


# --- windows without brain


def test_windows_without_a_wanted_voxel_are_not_run() -> None:
    runtime = phantom.Fake(lambda c: c[:1])
    wanted = np.zeros((32, 32, 32), dtype=bool)
    wanted[3, 4, 30] = True
    found = by_windows(runtime, phantom.noise(2, 32, 32, 32), Tiling((8, 8, 8), 0.0), wanted)
    assert runtime.seen == [(1, 2, 8, 8, 8)]
    assert (found[0, 0, 8:] == -8.0).all()
    assert np.isfinite(found).all()


@pytest.mark.parametrize("native_mm", [2.0, 1.7, 5.0])
def test_leaving_empty_windows_out_changes_no_probability_in_the_brain(native_mm: float) -> None:
    """Also where the way back interpolates, and a voxel of the brain depends on voxels beyond it."""
    size = round(60 * 2.0 / native_mm)
    native = Grid((size, size, size), np.diag([native_mm, native_mm, native_mm, 1.0]))
    where = native.to_world(np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), axis=-1))
    brain = (np.linalg.norm(where - (24.0, 24.0, 24.0), axis=-1) < 16) | (where.max(axis=-1) < 4)
    case = phantom.prepared(3 * phantom.noise(2, 60, 60, 60), brain, native)
    runtime = phantom.Fake(lambda c: 4 * c[:1] - 3 * c[1:])
    found = predict(case, phantom.card(), runtime, Monitor(), Asked("windows", (12, 12, 12), 0.25)).classes
    windows_run = sum(s[0] for s in runtime.seen)
    assert windows_run < len(positions((60, 60, 60), Tiling((12, 12, 12), 0.25)))
    expected = predict(case, phantom.card(), runtime, Monitor(), Asked("whole")).classes
    np.testing.assert_allclose(found[:, brain], expected[:, brain], atol=1e-5)
    np.testing.assert_array_equal(found[:, ~brain], expected[:, ~brain])
