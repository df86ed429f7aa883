"""Input channels: values computed by hand on tiny arrays, and what symmetry says of them on a simulated brain."""

from __future__ import annotations

import os
import random
from typing import Any

import diffusion_phantom as phantom
import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from strokeseg.errors import ModelError
from strokeseg.events import Monitor
from strokeseg.models import ModelStore
from strokeseg.prepare import prepare
from strokeseg.prepare.channels import CHANNELS, ModelSpace
from strokeseg.symmetry import Midplane
from strokeseg.volume import Grid

# The plane x = 0, to whose right x is positive.
PLANE_X = Midplane((1.0, 0.0, 0.0), 0.0, 1.0, "given")
NAMES = ModelStore().card("adc-threshold").preparation.channels


def row(brain: ArrayLike, spacing_mm: Any = (2.0, 2.0, 2.0), **images: ArrayLike) -> ModelSpace:
    """Voxels along x, centred about x = 0."""
    inside = np.asarray(brain, bool).reshape(-1, 1, 1)
    grid = phantom.centred(inside.shape, spacing_mm)
    volumes = {r: np.asarray(v, np.float32).reshape(-1, 1, 1) for r, v in images.items()}
    return ModelSpace(grid, volumes, inside, PLANE_X)


def values(space: ModelSpace, name: str) -> NDArray[np.float32]:
    return space.channel(name).ravel()


def test_ratios_are_to_the_median_of_normal_tissue() -> None:
    # Normal tissue has an ADC between 0.5 and 1.2: the four voxels with DWI 2, 4, 6, 8, whose median is 5. Fluid,
    # infarct and what lies outside the brain have no say.
    brain = [0, 1, 1, 1, 1, 1, 1, 0]
    adc = [0.8, 0.6, 0.7, 0.9, 1.0, 3.0, 0.3, 0.8]
    space = row(brain, dwi=[99, 2, 4, 6, 8, 1, 50, 99], adc=adc, b0=[0, 10, 10, 30, 30, 60, 200, 0])
    np.testing.assert_allclose(values(space, "dwi_ratio"), [0, 0.4, 0.8, 1.2, 1.6, 0.2, 8.0, 0], rtol=1e-6)
    np.testing.assert_allclose(values(space, "b0_ratio"), [0, 0.5, 0.5, 1.5, 1.5, 3.0, 8.0, 0], rtol=1e-6)
    np.testing.assert_allclose(values(space, "adc_ratio")[1:5], np.array([0.6, 0.7, 0.9, 1.0]) / 0.8, rtol=1e-6)


def test_standard_deviations_are_the_brains_however_loud_it_is_around_it() -> None:
    # Mean 250, standard deviation 111.80; mean 0.8, standard deviation 0.14142.
    brain = [0, 1, 1, 1, 1, 0]
    space = row(brain, dwi=[1e6, 100, 200, 300, 400, -5e5], adc=[50, 0.6, 0.8, 1.0, 0.8, -9])
    np.testing.assert_allclose(values(space, "dwi_zscore"), [0, -1.34164, -0.44721, 0.44721, 1.34164, 0], atol=1e-5)
    np.testing.assert_allclose(values(space, "adc_zscore"), [0, -1.41421, 0, 1.41421, 0, 0], atol=1e-5)


def test_without_adc_or_normal_tissue_the_whole_brain_gives_the_median() -> None:
    np.testing.assert_allclose(values(row([1, 1, 1], dwi=[1, 2, 4]), "dwi_ratio"), [0.5, 1, 2])
    np.testing.assert_allclose(values(row([1, 1, 1], dwi=[1, 2, 4], adc=[3, 3, 3]), "dwi_ratio"), [0.5, 1, 2])


def test_an_image_without_level_is_not_divided_by_it() -> None:
    assert np.isfinite(values(row([1, 1, 1], dwi=[0, 0, 5], adc=[0.8, 0.8, 0.8]), "dwi_ratio")).all()


def test_robust_contrast_is_that_of_the_brain_and_keeps_what_is_brighter() -> None:
    # 0 to 100 in the brain: the percentiles are 1 and 99. A lesion of 197 is twice as far from 1 as 99 is.
    inside = np.arange(101.0)
    space = row([1] * 101 + [0], dwi=[*inside, 1e6])
    np.testing.assert_allclose(values(space, "dwi_robust")[:101], np.clip((inside - 1) / 98, 0, 4), atol=1e-6)
    assert values(space, "dwi_robust")[101] == 0
    bright = row([1] * 201, dwi=[*np.arange(200.0), 1e6])
    assert values(bright, "dwi_robust").max() == 4.0
    assert not values(row([1, 1], dwi=[5, 5]), "dwi_robust").any()


def test_the_published_contrast_has_256_steps_between_the_extremes_of_the_volume() -> None:
    # 128 of 0 to 256 is step 127.5, cut to 127; the brightest voxel lies outside the brain and still counts.
    space = row([1, 1, 1, 0], dwi=[0, 128, 64, 256])
    np.testing.assert_allclose(values(space, "dwi_minmax8"), [0, 127 / 255, 63 / 255, 0], atol=1e-6)
    assert not values(row([1, 1], dwi=[5, 5]), "dwi_minmax8").any()


def test_the_adc_is_cut_to_what_water_can_have() -> None:
    space = row([1, 1, 1, 0], adc=[-0.5, 0.8, 7.0, 0.8])
    np.testing.assert_allclose(values(space, "adc"), [0, 0.8, 4.0, 0])


def test_the_distance_to_the_edge_is_in_mm_and_the_end_of_the_grid_is_an_edge() -> None:
    brain = np.ones((5, 7, 3), bool)
    brain[0] = False
    space = ModelSpace(phantom.centred((5, 7, 3), (2.0, 1.0, 10.0)), {}, brain, PLANE_X)
    distance = space.channel("edge_distance_mm")
    # Along x: 1, 2, 3, 2 voxels of 2 mm to the voxels outside; along y: 4 voxels of 1 mm at most.
    np.testing.assert_allclose(distance[:, 3, 1], [0, 2, 4, 4, 2])
    np.testing.assert_allclose(distance[3, :, 1], [1, 2, 3, 4, 3, 2, 1])


def test_the_height_goes_from_0_to_1_along_the_patients_axis() -> None:
    grid = Grid((1, 1, 6), phantom.rigid((30.0, 0.0, 0.0)) @ np.diag([2.0, 2.0, -5.0, 1.0]))
    brain = np.array([0, 1, 1, 1, 1, 1], bool).reshape(1, 1, 6)
    space = ModelSpace(grid, {}, brain, PLANE_X)
    np.testing.assert_allclose(values(space, "height"), [0, 1, 0.75, 0.5, 0.25, 0], atol=1e-6)


def test_a_brain_of_one_slice_has_a_height() -> None:
    assert values(row([1, 1, 1]), "height").tolist() == [0, 0, 0]


def test_the_mirror_channel_is_the_logarithm_of_both_sides_where_both_are_brain() -> None:
    # Flat halves, far from the midplane and from each other's blur: ln(2 / 1).
    brain = np.ones(41)
    brain[:5] = 0  # no brain on the left end, so the right end has no other side
    dwi = np.where(np.arange(41) < 20, 1.0, 2.0)
    channel = values(row(brain, dwi=dwi, adc=np.full(41, 0.8)), "dwi_mirror_log_ratio")
    assert channel[20] == pytest.approx(0.0, abs=1e-6)
    assert channel[30] == pytest.approx(np.log(2.0), abs=1e-4)
    assert channel[10] == pytest.approx(-np.log(2.0), abs=1e-4)
    assert not channel[:5].any()
    assert not channel[36:].any()
    np.testing.assert_allclose(channel, -channel[::-1], atol=1e-6)


def test_the_mirror_channel_stays_finite_where_there_is_no_signal() -> None:
    dwi = np.where(np.arange(41) < 20, 0.0, 2.0)
    channel = values(row(np.ones(41), dwi=dwi, adc=np.full(41, 0.8)), "dwi_mirror_log_ratio")
    assert np.isfinite(channel).all()
    assert channel[35] > 2.0


def test_an_optional_role_that_is_absent_is_nan_in_the_brain_and_0_outside() -> None:
    channel = values(row([0, 1, 1, 0], dwi=[1, 1, 1, 1], adc=[1, 1, 1, 1]), "b0_ratio")
    np.testing.assert_array_equal(channel, [0, np.nan, np.nan, 0])


def test_an_image_that_was_not_given_is_the_cards_fault() -> None:
    with pytest.raises(ModelError, match="'dwi'") as caught:
        row([1, 1], adc=[0.8, 0.8]).channel("dwi_ratio")
    assert "required" in caught.value.next_step


def test_an_unknown_channel_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ModelError) as caught:
        row([1, 1], adc=[0.8, 0.8]).channel("texture")
    assert "'texture'" in caught.value.cause
    assert all(name in caught.value.cause for name in CHANNELS)


def test_every_channel_is_float32_and_0_outside_the_brain_and_computed_once() -> None:
    patient = phantom.patient(noise=0.02)
    images = {"dwi": patient.dwi + 50, "adc": patient.adc + 0.1, "b0": patient.b0 + 50, "t1": patient.dwi + 70}
    space = ModelSpace(patient.grid, images, patient.brain, PLANE_X)
    for name in CHANNELS:
        channel = space.channel(name)
        assert channel.dtype == np.float32
        assert np.isfinite(channel).all()
        assert not channel[~patient.brain].any()
        assert space.channel(name) is channel
    np.testing.assert_array_equal(space.channel("brain"), patient.brain)


def test_scanner_units_do_not_matter() -> None:
    patient = phantom.patient(noise=0.02)
    spaces = [
        ModelSpace(patient.grid, {"dwi": patient.dwi * s, "adc": patient.adc}, patient.brain, PLANE_X)
        for s in (1.0, 1e-4, 40.0)
    ]
    for name in ("dwi_ratio", "dwi_mirror_log_ratio"):
        for other in spaces[1:]:
            np.testing.assert_allclose(other.channel(name), spaces[0].channel(name), atol=1e-4)


def test_the_mirror_channel_of_t1_is_the_logarithm_of_one_side_over_the_other_without_an_adc() -> None:
    # Averages over 6 mm see nothing of the other side 24 mm away from it.
    found = values(row([1] * 20, (6.0, 6.0, 6.0), t1=[5] * 10 + [10] * 10), "t1_mirror_log_ratio")
    np.testing.assert_allclose(found[:6], -np.log(2), atol=1e-3)
    np.testing.assert_allclose(found, -found[::-1], atol=1e-5)


# --- through the preparation


def channels(patient: Any) -> dict[str, NDArray[np.float32]]:
    prepared = prepare(patient.case(), ModelStore().card("adc-threshold"), Monitor())
    return dict(zip(NAMES, prepared.channels, strict=True))


def test_the_mirror_channels_of_a_symmetric_brain_are_zero() -> None:
    found = channels(phantom.patient())
    for name in ("dwi_mirror_log_ratio", "adc_mirror_log_ratio"):
        assert np.abs(found[name]).max() < 1e-3


def test_the_mirror_channels_of_a_one_sided_lesion_are_antisymmetric() -> None:
    healthy = phantom.patient()
    ill = phantom.patient(infarcts=[phantom.Infarct((34.0, -10.0, 20.0), 14.0)])
    found = channels(ill)
    dwi, adc = found["dwi_mirror_log_ratio"], found["adc_mirror_log_ratio"]
    # The grid is symmetric about the brain's midplane, whose place the lesion must not shift.
    for channel in (dwi, adc):
        np.testing.assert_allclose(channel, -channel[::-1], atol=0.03)
    centre = np.unravel_index(np.argmax(dwi), dwi.shape)
    margin = 4  # of the card, around a brain that begins at its bounding box
    first = [np.flatnonzero(healthy.brain.any(axis=a))[0] for a in ((1, 2), (0, 2), (0, 1))]
    world = healthy.grid.to_world(np.array(centre) - margin + first)
    assert np.linalg.norm(world - (34.0, -10.0, 20.0)) < 10.0
    # Infarct against white matter: DWI 1.2 exp(0.36), ADC 0.5.
    assert dwi.max() == pytest.approx(np.log(1.2) + 0.36, abs=0.12)
    assert adc.min() == pytest.approx(np.log(0.5), abs=0.12)
    assert adc[centre] < -0.5


def test_every_way_to_store_the_scans_gives_the_same_channels() -> None:
    every = phantom.orientations()
    assert len(every) == 48
    some = every if os.environ.get("STROKESEG_SOAK") else random.Random(7).sample(every, 8)
    turned = phantom.rigid((8.0, -5.0, 10.0))[:3, :3]
    grid = phantom.centred((30, 36, 21), (5.4, 5.6, 7.5), turned)
    patient = phantom.patient(grid, [phantom.Infarct((34.0, -10.0, 20.0), 16.0)], noise=0.02)
    case, card = patient.case("dwi", "adc", "b0"), ModelStore().card("adc-threshold")
    wanted = prepare(case, card, Monitor())
    assert np.isfinite(wanted.channels).all()
    for order, signs in some:
        stored = type(case)({r: phantom.stored(v, order, signs) for r, v in case.volumes.items()})
        got = prepare(stored, card, Monitor())
        assert got.model_grid.grid.matches(wanted.model_grid.grid, 1e-6)
        np.testing.assert_allclose(got.midplane.normal_ras, wanted.midplane.normal_ras, atol=1e-6)
        for name, ours, theirs in zip(NAMES, got.channels, wanted.channels, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4, err_msg=f"{name} {order} {signs}")


def test_t1_is_counted_in_standard_deviations_of_the_brain() -> None:
    patient = phantom.patient(noise=0.0)
    brain = patient.brain
    t1 = np.where(np.indices(brain.shape)[0] % 2 == 0, 90.0, 110.0).astype(np.float32)
    inside = t1[brain]
    space = ModelSpace(patient.grid, {"t1": np.where(brain, t1, 1e6).astype(np.float32)}, brain, PLANE_X)
    channel = space.channel("t1_zscore")[brain]
    # Two values: what is outside the brain takes no part, mean 0 and standard deviation 1 are exact.
    np.testing.assert_allclose(channel, (inside - inside.mean()) / inside.std(), atol=1e-5)
    t1[tuple(np.argwhere(brain)[0])] = 1e5
    spiked = ModelSpace(patient.grid, {"t1": t1}, brain, PLANE_X).channel("t1_zscore")
    assert spiked.max() == 4.0
