"""Scanner, slices, noise, distortion and what follows them: phantoms with answers known by hand."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from strokeseg_training.generator._brain_mask import MaskErrors, Piece, found_brain
from strokeseg_training.generator._motion import Motion, moved
from strokeseg_training.generator._noise import Noise, ghosted, magnitude, slice_gains
from strokeseg_training.generator._rows import (
    linear_rows,
    matrix,
    scanner_positions,
    sinc_rows,
    slice_rows,
    spline_rows,
    through,
)
from strokeseg_training.generator._slicing import SlicingScene, label_rows, scanner_grid
from strokeseg_training.generator.acquisition import (
    AcquisitionRanges,
    AcquisitionScene,
    Scan,
    acquire,
    draw_acquisition,
)
from strokeseg_training.generator.corruption import (
    CorruptionRanges,
    CorruptionScene,
    assemble,
    draw_corruption,
    stored_images,
)
from strokeseg_training.generator.susceptibility import distorted, draw_susceptibility, fine_sources, pile_up, sources

CPU = torch.device("cpu")
SPACING = (2.0, 2.0, 2.0)
QUIET = Noise(snr=1e6, coils=1.0, g_factor=0.0, correlation=0.0, seed=1)
ON_GRID = SlicingScene(2, 2.0, 0.0, 2.0, 2.0, (0.0, 0.0, 0.0), 1.0, 0.0, volume=False)


def head(shape: tuple[int, int, int] = (56, 64, 56), radius_mm: float = 46.0) -> Any:
    """A ball of grey matter around the template's middle of the brain."""
    axes = [(torch.arange(n) - (n - 1) / 2) * 2.0 for n in shape]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    depth = radius_mm - place.square().sum(0).sqrt()
    brain = (depth / 2.0 + 0.5).clamp(0, 1)[None]
    return SimpleNamespace(
        fractions=torch.stack([brain, 0 * brain, 0 * brain], 1),
        brain=brain,
        mni_mm=(place + torch.tensor([0.0, -18.0, 0.0]).view(3, 1, 1, 1))[None],
        surface_mm=depth[None],
        midplane=torch.tensor([[1.0, 0.0, 0.0, 3.0]]),
        shape=shape,
        spacing_mm=SPACING,
        device=CPU,
    )


def scan_scene(**changes: Any) -> AcquisitionScene:
    """A scanner without faults on the working grid."""
    scene = draw_acquisition(np.random.default_rng([1, 5]), AcquisitionRanges(), "dwi-adc")
    scene = replace(
        scene,
        slicing=ON_GRID,
        noise=QUIET,
        b0_noise=1.0,
        susceptibility=None,
        motion=None,
        ghost=(0.0, 0.0),
        eddy_scale=1.0,
        eddy_shift_mm=0.0,
        slice_drops=(),
        interleave=0.0,
    )
    return replace(scene, **changes)


def corruption(**changes: Any) -> CorruptionScene:
    """Images stored as they are, with the right mask."""
    scene = CorruptionScene(
        stored_level=100.0,
        rounded=False,
        adc_step=1e-3,
        b_factor=1.0,
        adc_low=-1.0,
        adc_high=10.0,
        adc_masked=(0.0, 0.0),
        stripped=False,
        mask=MaskErrors(0.0, 0.0, 30.0, tuple(Piece((0.0, 0.0, 0.0), 9.0, 0.0) for _ in range(4)), 1),
        missing=(0.0, 0.0),
        midplane_degrees=(0.0, 0.0),
        midplane_mm=0.0,
    )
    return replace(scene, **changes)


def grey_signals(on: Any) -> dict[str, torch.Tensor]:
    """S0 0.4 and ADC 0.8 in the brain."""
    return {"b0": 0.4 * on.brain, "dwi": 0.4 * math.exp(-0.8) * on.brain}


# --- matrices of one axis


@pytest.mark.parametrize(("size", "step"), [(17, 0.37), (40, 2.5), (3, 0.25), (2, 0.4)])
def test_spline_rows_are_scipys_cubic_spline_with_mirrored_ends(size, step):
    values = np.random.default_rng(size).normal(size=size)
    positions = np.arange(0, size - 1 + 1e-9, step)
    expected = ndimage.map_coordinates(values, [positions], order=3, mode="mirror")
    assert spline_rows(size, positions) @ values == pytest.approx(expected, abs=1e-4)


def test_three_products_of_spline_rows_are_scipys_spline_of_a_volume():
    volume = np.random.default_rng(0).normal(size=(12, 14, 9)).astype(np.float32)
    positions = [np.linspace(1, n - 2, 7) for n in volume.shape]
    rows = [matrix(spline_rows(n, p), CPU) for n, p in zip(volume.shape, positions, strict=True)]
    expected = ndimage.map_coordinates(volume, np.meshgrid(*positions, indexing="ij"), order=3, mode="mirror")
    result = through(torch.from_numpy(volume)[None], (rows[0], rows[1], rows[2]))[0]
    assert result.numpy() == pytest.approx(expected, abs=1e-4)


def test_spline_rows_at_voxels_are_the_voxels():
    assert spline_rows(9, np.arange(9.0)) == pytest.approx(np.eye(9), abs=1e-9)


def test_slice_rows_sum_to_one_and_weigh_parts_of_voxels():
    # A slice of 2.5 voxels about the border between voxels 4 and 5: from 3.25 to 5.75, so 0.25 + 1 + 1 + 0.25.
    row = slice_rows(10, np.array([4.5]), 2.5)[0]
    assert row[3:7] == pytest.approx([0.1, 0.4, 0.4, 0.1])
    assert row.sum() == pytest.approx(1.0)


def test_touching_slices_keep_the_integral():
    thickness_mm = 5.0
    centres = scanner_positions(80, 2.0, thickness_mm, 0.7)
    values = np.exp(-0.5 * ((np.arange(80) - 37.3) / 4.0) ** 2)
    measured = slice_rows(80, centres, thickness_mm / 2.0) @ values
    assert measured.sum() * thickness_mm == pytest.approx(values.sum() * 2.0, rel=1e-6)


def test_what_lies_in_a_gap_is_in_no_slice():
    # Slices of 2 mm every 6 mm on voxels of 2 mm: one voxel of three is seen.
    rows = slice_rows(30, scanner_positions(30, 2.0, 6.0), 1.0)
    assert sorted(rows.sum(0).round(6)) == [0.0] * 20 + [1.0] * 10


def test_the_window_of_frequencies_rings_only_where_it_is_sharp():
    edge = (np.arange(60) >= 30).astype(float)
    positions = np.arange(10, 50, 0.1)
    sharp, soft = (sinc_rows(60, positions, 1.7, h, 0.0) @ edge for h in (1.0, 0.54))
    assert sharp.max() == pytest.approx(1.09, abs=0.04)
    assert soft.max() < 1.01
    assert sinc_rows(60, positions, 1.7, 0.54, 0.8).sum(1) == pytest.approx(1.0)


def test_a_grid_like_the_working_grid_copies_voxels():
    grid = scanner_grid(ON_GRID, (20, 24, 16), SPACING, 1, CPU)
    volume = torch.rand(20, 24, 16)
    there = through(volume[None], grid.sample)
    assert torch.equal(there[0], volume)
    assert through(there, grid.back)[0].numpy() == pytest.approx(volume.numpy(), abs=1e-6)


@pytest.mark.parametrize(("thickness", "gap"), [(2.0, 0.0), (5.0, 0.2), (6.5, 0.25)])
@pytest.mark.parametrize("stored", [0.9, 1.6])
def test_a_slope_comes_back_unbent_from_thick_slices_and_interpolated_planes(thickness, gap, stored):
    scene = SlicingScene(2, thickness, gap, 1.6, stored, (0.4, -0.3, 0.8), 0.7, 0.5, volume=False)
    shape = (60, 60, 60)
    grid = scanner_grid(scene, shape, SPACING, 1, CPU)
    slope = torch.arange(60.0).view(1, 1, 60).expand(shape) + 2.0 * torch.arange(60.0).view(60, 1, 1)
    back = through(through(slope[None], grid.sample), grid.back)[0]
    middle = (slice(15, 45),) * 3
    assert (back - slope)[middle].abs().max().item() < 0.25


# --- labels


@pytest.mark.parametrize(("thickness", "gap"), [(2.0, 0.0), (3.0, 0.1), (5.0, 0.0), (6.5, 0.25)])
def test_label_keeps_its_volume_through_slices(thickness, gap):
    slicing = replace(ON_GRID, thickness_mm=thickness, gap=gap, offsets_mm=(0.0, 0.0, 0.6))
    on = head()
    label = torch.zeros_like(on.brain)
    label[0, 20:26, 30:34, 25:29] = 0.8
    seen = acquire([scan_scene(slicing=slicing)], grey_signals(on), on, label, on.fractions, [1.0])
    assert seen.label.sum().item() == pytest.approx(label.sum().item(), rel=1e-3)
    assert seen.label.max().item() <= 1.0


def test_label_rows_of_thick_slices_smear_a_lesion_over_its_slice():
    there, back = label_rows(replace(ON_GRID, thickness_mm=6.0), 30, 2.0)
    assert there.sum(1) == pytest.approx(1.0)
    assert back.sum(1) == pytest.approx(1.0)
    lesion = np.zeros(30)
    lesion[12] = 1.0
    # One voxel of the three that a slice holds.
    assert (there @ lesion).max() == pytest.approx(1 / 3, abs=0.01)


# --- noise


def test_noise_far_above_zero_has_the_standard_deviation_asked_for():
    image = magnitude(torch.full((60, 60, 40), 50.0), replace(QUIET, seed=3), 1.5, 0)
    assert image.std().item() == pytest.approx(1.5, rel=0.01)
    # Rice: the mean lies sd² / 2S above the signal.
    assert image.mean().item() == pytest.approx(50.0 + 1.5**2 / 100.0, abs=0.02)


@pytest.mark.parametrize("signal", [0.0, 1.0, 3.0])
def test_weak_signal_sits_on_the_rician_floor(signal):
    image = magnitude(torch.full((60, 60, 40), signal), replace(QUIET, seed=3), 2.0, 0)
    assert image.square().mean().item() == pytest.approx(signal**2 + 2 * 2.0**2, rel=0.02)
    if signal == 0.0:
        assert image.mean().item() == pytest.approx(2.0 * math.sqrt(math.pi / 2), rel=0.01)


def test_more_coils_raise_the_floor_as_non_central_chi_does():
    image = magnitude(torch.full((60, 60, 40), 3.0), replace(QUIET, coils=3.0, seed=3), 2.0, 0)
    assert image.square().mean().item() == pytest.approx(9.0 + 2 * 3 * 4.0, rel=0.02)


def test_neighbours_in_the_plane_are_correlated_as_asked_and_slices_are_not():
    image = magnitude(torch.full((60, 60, 40), 100.0), replace(QUIET, correlation=0.4, seed=3), 1.0, 0) - 100.0
    assert image.std().item() == pytest.approx(1.0, rel=0.02)
    for axis, expected in ((0, 0.4), (1, 0.4), (2, 0.0)):
        ahead, behind = image.narrow(axis, 1, 39), image.narrow(axis, 0, 39)
        assert (ahead * behind).mean().item() == pytest.approx(expected, abs=0.015)


def test_parallel_imaging_makes_the_middle_noisier():
    image = magnitude(torch.full((61, 61, 200), 100.0), replace(QUIET, g_factor=0.8, seed=3), 1.0, 0)
    assert image[30, 30].std().item() == pytest.approx(1.8, rel=0.15)
    assert image[0, 0].std().item() == pytest.approx(1.0, rel=0.15)


def test_the_asked_signal_to_noise_ratio_is_that_of_parenchyma_on_the_scanner_grid():
    on = head()
    scene = scan_scene(noise=replace(QUIET, snr=20.0), b0_noise=1.5)
    scan = acquire([scene], grey_signals(on), on, 0 * on.brain, on.fractions, [1.0]).scans[0]
    inside = on.surface_mm[0] > 6.0
    dwi, b0 = scan.images["dwi"][inside], scan.images["b0"][inside]
    assert (dwi.mean() / dwi.std()).item() == pytest.approx(20.0, rel=0.03)
    assert (b0.std() / dwi.std()).item() == pytest.approx(1.5, rel=0.03)


# --- susceptibility


def test_distortion_keeps_the_signal_of_every_line_and_fractions_between_zero_and_one():
    on, scene = head(), draw_susceptibility(np.random.default_rng([2, 5]), AcquisitionRanges())
    scene = replace(scene, shift_mm=6.0, phase_axis=1)
    low = (slice(None, None, 2),) * 3
    faces = fine_sources(sources(scene, on.mni_mm[0][(slice(None), *low)], on.brain[0][low], 64, 2.0), on.shape, 1)
    volume = torch.stack([on.brain[0] * (1 + 0.2 * torch.rand(on.shape)), (torch.rand(on.shape) > 0.5).float()])
    image = distorted(volume, faces, 1, fractions_from=1)
    assert image[0].sum(1).numpy() == pytest.approx(volume[0].sum(1).numpy(), abs=2e-4)
    assert (image[0] - volume[0]).abs().max().item() > 0.3
    assert image[1].min().item() > -1e-4
    assert image[1].max().item() < 1 + 1e-4


def test_tissue_pushed_into_half_its_length_is_twice_as_bright():
    # Samples 4-11 end up in 4-7, samples 12-15 are stretched over 8-15.
    faces = torch.tensor([0, 1, 2, 3, 4, 6, 8, 10, 12, *np.arange(12.5, 16.1, 0.5)], dtype=torch.float32)
    line = distorted(torch.ones(2, 16, 1, 1), faces.view(-1, 1, 1), 0, fractions_from=1)[:, :, 0, 0]
    assert line[0].tolist() == pytest.approx([1.0] * 4 + [2.0] * 4 + [0.5] * 8, abs=1e-5)
    assert line[1].tolist() == pytest.approx([1.0] * 16, abs=1e-5)


def test_sources_never_fall_and_reach_the_asked_shift():
    on = head()
    for seed in range(6):
        scene = replace(draw_susceptibility(np.random.default_rng([seed, 5]), AcquisitionRanges()), shift_mm=4.0)
        low = (slice(None, None, 2),) * 3
        count = on.shape[scene.phase_axis]
        faces = sources(scene, on.mni_mm[0][(slice(None), *low)], on.brain[0][low], count, 2.0)
        along = faces.movedim(scene.phase_axis, -1)
        assert along.diff(dim=-1).min().item() >= 0.0
        assert along[..., 0].abs().max().item() < 1e-4
        assert (along[..., -1] - count).abs().max().item() < 1e-4
        assert 0.5 < (along - torch.arange(count + 1)).abs().max().item() < 8.0


def test_pile_up_above_the_ears_is_bright_on_both_sides_at_nearly_unchanged_adc():
    on = head((80, 96, 80), 70.0)
    scene = draw_susceptibility(np.random.default_rng([0, 5]), AcquisitionRanges())
    ears = tuple(
        replace(p, centre_mm=(s * 50.0, -22.0, -26.0), gain=2.0) for p, s in zip(scene.ears, (1, -1), strict=True)
    )
    scene = replace(scene, ears=ears, edge_gain=0.0, base_gain=0.0, void=0.0, adc_shift=0.2)
    on_s0, on_sb = pile_up([scene], on, [1.0])
    for side in (-1, 1):
        there = (on.mni_mm[:, 0] * side > 30) & (on.mni_mm[:, 2] < 0)
        assert on_sb[there].max().item() > 1.3
    assert torch.log(on_s0 / on_sb).max().item() <= 0.2 + 1e-5
    assert torch.log(on_s0 / on_sb).min().item() >= 0.0


# --- motion, ghosts, slices


def test_the_head_moves_by_whole_voxels_exactly():
    volume = torch.rand(12, 13, 14)
    image = moved(volume, Motion((4.0, -2.0, 2.0), (0.0, 0.0, 0.0)), SPACING)
    assert torch.equal(image[4:10, 2:10, 3:10], volume[2:8, 3:11, 2:9])


def test_a_small_turn_moves_the_front_to_the_left():
    volume = torch.zeros(41, 41, 5)
    volume[20, 36, 2] = 1.0
    # 2 degrees about the vertical at 32 mm in front of the middle: 1.12 mm, 0.56 voxels to the left.
    image = moved(volume, Motion((0.0, 0.0, 0.0), (0.0, 0.0, 2.0)), SPACING)
    middle = (image.sum((1, 2)) * torch.arange(41)).sum() / image.sum()
    assert middle.item() == pytest.approx(20 - math.radians(2.0) * 16, abs=0.02)


def test_a_ghost_is_the_image_half_a_field_of_view_away():
    image = torch.zeros(4, 20, 4)
    image[:, 4] = 10.0
    result = ghosted(image, 0.05, 10, 1)
    assert result[0, 4, 0].item() == pytest.approx(10.0)
    assert result[0, 14, 0].item() == pytest.approx(0.5)
    assert result.sum().item() == pytest.approx(image.sum().item() * 1.05)


def test_slices_that_lost_signal_keep_the_share_that_is_left():
    gains = slice_gains(10, 0.02, [(0.45, 0.3)], CPU)
    assert gains.tolist() == pytest.approx([1.0, 1.02, 1.0, 1.02, 0.3, 1.02, 1.0, 1.02, 1.0, 1.02])


# --- what is stored


def noisy_scan(level: float = 0.4 * math.exp(-0.8)) -> Scan:
    on = head()
    scene = scan_scene(noise=replace(QUIET, snr=25.0, seed=9))
    return acquire([scene], grey_signals(on), on, 0 * on.brain, on.fractions, [1.0]).scans[0]


@pytest.mark.parametrize(("rounded", "tolerance"), [(False, 1e-4), (True, 0.012)])
def test_b0_is_recomputed_from_dwi_and_adc(rounded, tolerance):
    stored = stored_images(corruption(stored_level=500.0, rounded=rounded), noisy_scan(), 1.0)
    inside = stored["dwi"] > 250.0
    again = stored["dwi"] * torch.exp(stored["adc"])
    assert (again / stored["b0"] - 1.0)[inside].abs().max().item() < tolerance


def test_a_wrongly_stated_b_value_scales_the_adc():
    scan = noisy_scan()
    right, wrong = (stored_images(corruption(b_factor=f), scan, 1.0)["adc"] for f in (1.0, 1.05))
    assert (right / wrong).median().item() == pytest.approx(1.05, rel=1e-4)


def test_parenchyma_is_stored_at_the_level_drawn_in_whole_numbers():
    dwi = stored_images(corruption(stored_level=60.0, rounded=True), noisy_scan(), 1.0)["dwi"]
    assert torch.equal(dwi, dwi.round())
    assert dwi[28, 32, 20:36].mean().item() == pytest.approx(60.0, rel=0.06)


def test_adc_maps_end_where_the_vendor_ends_them_and_are_zero_where_signal_is_weak():
    scan = noisy_scan()
    clipped = stored_images(corruption(adc_low=0.0, adc_high=1.0), scan, 1.0)["adc"]
    assert clipped.min().item() == 0.0
    assert clipped.max().item() == 1.0
    masked = stored_images(corruption(adc_masked=(0.5, 0.3)), scan, 1.0)["adc"]
    assert (masked[:4] == 0).all()
    assert masked[28, 32, 28].item() == pytest.approx(0.8, abs=0.2)
    assert (stored_images(corruption(), scan, 1.0)["adc"] < 0).any()


# --- masks, planes, assembly


@pytest.mark.parametrize("bias", [-3.0, 0.0, 3.0])
def test_a_mask_that_is_too_tight_by_some_mm_is_a_smaller_ball(bias):
    on = head()
    mask = found_brain([replace(corruption().mask, bias_mm=bias)], on.brain, on)
    radius = (float(mask.sum()) * 8.0 * 3 / 4 / math.pi) ** (1 / 3)
    assert radius == pytest.approx(46.0 - bias, abs=0.5)


def test_a_lost_piece_is_lost_at_its_place_only():
    on = head()
    lost = Piece((46.0, -18.0, 0.0), 10.0, 10.0)
    errors = replace(corruption().mask, pieces=(lost, *corruption().mask.pieces[1:]))
    gone = found_brain([corruption().mask], on.brain, on) & ~found_brain([errors], on.brain, on)
    assert 0.5 < float(gone.sum()) * 0.008 < 12.0
    assert (on.mni_mm[:, 0][gone] > 20.0).all()


def test_a_plane_is_turned_by_the_degrees_and_moved_by_the_mm_drawn():
    on = head()
    seen = acquire([scan_scene()], grey_signals(on), on, 0 * on.brain, on.fractions, [1.0])
    plane = assemble([corruption(midplane_degrees=(2.0, 0.0), midplane_mm=1.5)], seen, on, [1.0], [5]).midplane[0]
    assert plane[:3].norm().item() == pytest.approx(1.0, abs=1e-6)
    assert math.degrees(math.acos(plane[0].item())) == pytest.approx(2.0, abs=0.01)
    assert plane[3].item() == pytest.approx(4.5)


@pytest.mark.parametrize("stripped", [True, False])
def test_a_sample_holds_what_the_scan_shows(stripped):
    on = head()
    label = torch.zeros_like(on.brain)
    label[0, 5:20, 28:36, 24:32] = 0.7
    seen = acquire([scan_scene()], grey_signals(on), on, label, on.fractions, [1.0])
    sample = assemble([corruption(stripped=stripped)], seen, on, [1.0], [5])
    inside = on.surface_mm > 5.0
    assert sample.images["adc"][inside].mean().item() == pytest.approx(0.8, abs=1e-3)
    assert sample.images["dwi"][inside].mean().item() == pytest.approx(100.0, rel=1e-3)
    assert sample.brain.dtype == torch.bool
    assert (sample.lesion[~sample.brain] == 0).all()
    assert (sample.tissue[~sample.brain] == 0).all()
    assert (sample.tissue[inside] == 1).all()
    assert sample.seeds == (5,)
    outside = on.surface_mm < -4.0
    assert bool((sample.images["dwi"][outside] == 0).all()) is stripped


def test_a_slab_has_neither_image_nor_mask_beyond_its_ends():
    on = head()
    seen = acquire([scan_scene()], grey_signals(on), on, on.brain * 0.5, on.fractions, [1.0])
    sample = assemble([corruption(missing=(0.25, 0.0))], seen, on, [1.0], [5])
    heights = sample.brain[0].any(0).any(0).nonzero()[:, 0]
    whole = (on.brain[0] > 0.5).any(0).any(0).nonzero()[:, 0]
    assert heights.max() == whole.max()
    assert int(heights.min() - whole.min()) == round(0.25 * len(whole))
    assert (sample.images["dwi"][..., : int(heights.min())] == 0).all()
    assert (sample.lesion[..., : int(heights.min())] == 0).all()


@pytest.mark.parametrize("task", ["dwi-adc", "t1"])
def test_everything_drawn_gives_finite_images_and_the_same_ones_again(task):
    on = head()
    signals = grey_signals(on) if task == "dwi-adc" else {"t1": on.brain}
    for seed in range(8):
        results = []
        for _ in range(2):
            scan = draw_acquisition(np.random.default_rng([seed, 5]), AcquisitionRanges(), task)
            after = draw_corruption(np.random.default_rng([seed, 6]), CorruptionRanges())
            seen = acquire([scan], signals, on, on.brain * 0.3, on.fractions, [1.0])
            results.append(assemble([after], seen, on, [1.0], [seed]))
        first, second = results
        assert first.brain.any()
        for role, image in first.images.items():
            assert torch.isfinite(image).all()
            assert torch.equal(image, second.images[role])
        assert torch.equal(first.lesion, second.lesion)
        assert json.loads(json.dumps([asdict(scan), asdict(after)]))


def test_thickness_of_drawn_scans_follows_public_data():
    scans = [draw_acquisition(np.random.default_rng([s, 5]), AcquisitionRanges(), "dwi-adc") for s in range(600)]
    thickness = np.array([s.slicing.thickness_mm for s in scans])
    assert (thickness == 2.0).mean() == pytest.approx(0.45, abs=0.06)
    assert ((thickness >= 4.8) & (thickness <= 5.0)).mean() == pytest.approx(0.30, abs=0.06)
    assert thickness.max() <= 6.5
    assert max(s.slicing.gap for s in scans) <= 0.25
    assert all(s.susceptibility.phase_axis != s.slicing.slice_axis for s in scans if s.susceptibility)
    assert linear_rows(4, np.array([1.5]))[0].tolist() == [0.0, 0.5, 0.5, 0.0]
