"""The rule without weights: what each evidence is worth, that more of it never counts less, and what is no infarct.

Single voxels are computed by hand on channels; whole brains are simulated.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import diffusion_phantom as phantom
import numpy as np
import pytest
from numpy.typing import NDArray

from strokeseg.errors import ModelError
from strokeseg.events import Monitor
from strokeseg.models import ModelStore
from strokeseg.postprocess import decide
from strokeseg.predict import predict
from strokeseg.prepare import prepare
from strokeseg.runtime import open_runtime
from strokeseg.runtime.threshold import CHANNELS

Channels = dict[str, NDArray[np.float32]]
CARD = ModelStore().card("adc-threshold")
SHAPE = (20, 18, 16)
CENTRE = (10, 9, 8)
# DWI 0.8, 0.9, 1.0, 1.1 and 1.2 in turn: median 1, median absolute deviation 0.1, scaled to a standard deviation.
DEVIATION = 0.14826


def healthy() -> Channels:
    """Channels of a box of healthy brain, high above the skull base and far from every edge."""
    turn = np.indices(SHAPE).sum(axis=0) % 5
    constant = {
        "adc": 0.8,
        "adc_ratio": 1.0,
        "dwi_mirror_log_ratio": 0.0,
        "adc_mirror_log_ratio": 0.0,
        "edge_distance_mm": 30.0,
        "height": 0.8,
        "b0_ratio": 1.0,
        "brain": 1.0,
    }
    channels = {name: np.full(SHAPE, value, np.float32) for name, value in constant.items()}
    return {"dwi_ratio": (0.8 + 0.1 * turn).astype(np.float32), **channels}


def put(channels: Channels, where: Any, *, deviations: float, **values: float) -> Channels:
    """The channels with one place changed; DWI in deviations above the median."""
    changed = {name: array.copy() for name, array in channels.items()}
    changed["dwi_ratio"][where] = 1.0 + deviations * DEVIATION
    for name, value in values.items():
        changed[name][where] = value
    return changed


def evidence(channels: Channels) -> NDArray[np.float32]:
    batch = np.stack([channels[name] for name in CHANNELS])[None]
    return open_runtime(CARD).run(batch)["lesion"][0, 0]


# Each evidence two units beyond what just suffices: DWI 5 deviations; ADC 0.75 - 2 * 0.075 of normal;
# sides e^0.3 and e^-0.25.
TWO_UNITS = {
    "deviations": 5.0,
    "adc": 0.8,
    "adc_ratio": 0.60,
    "dwi_mirror_log_ratio": 0.3,
    "adc_mirror_log_ratio": -0.25,
}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, 2.0),
        # the weakest evidence decides
        ({"deviations": 4.0}, 1.0),
        ({"deviations": 3.0}, 0.0),
        ({"deviations": 9.0}, 2.0),
        ({"adc_ratio": 0.675}, 1.0),
        ({"adc_ratio": 0.75}, 0.0),
        # ADC: the stronger of the absolute and the relative limit
        ({"adc": 0.558, "adc_ratio": 0.9}, 1.0),
        ({"adc": 0.496, "adc_ratio": 0.9}, 2.0),
        # the other side: the weaker of both signals
        ({"dwi_mirror_log_ratio": 0.2}, 1.0),
        ({"adc_mirror_log_ratio": -0.15}, 1.0),
        ({"dwi_mirror_log_ratio": 0.9, "adc_mirror_log_ratio": -0.05}, 0.0),
        # without asymmetry three units more are asked for
        ({"dwi_mirror_log_ratio": 0.0}, -1.0),
        ({"dwi_mirror_log_ratio": -5.0}, -1.0),
        ({"dwi_mirror_log_ratio": -5.0, "deviations": 8.0, "adc_ratio": 0.375}, 2.0),
        # low in the brain, near the edge, and both
        ({"height": 0.3}, 0.0),
        ({"height": 0.4}, 1.0),
        ({"edge_distance_mm": 6.0}, 2.0),
        ({"edge_distance_mm": 3.0}, 1.75),
        ({"edge_distance_mm": 3.0, "height": 0.3}, -1.0),
        # b = 0: up to 1.9 of normal an infarct can be
        ({"b0_ratio": 1.7}, 2.0),
        ({"b0_ratio": 1.8}, 1.0),
        ({"b0_ratio": 2.4}, -5.0),
        ({"b0_ratio": np.nan}, 2.0),
        # ADC 0 is no value
        ({"adc": 0.0, "adc_ratio": 0.0}, -12.0),
    ],
)
def test_evidence_of_one_voxel(change: dict[str, float], expected: float) -> None:
    place = {**TWO_UNITS, **change}
    assert evidence(put(healthy(), CENTRE, **place))[CENTRE] == pytest.approx(expected, abs=0.01)


def test_healthy_tissue_has_no_evidence() -> None:
    assert evidence(healthy()).max() < -2.0


def test_outside_the_brain_there_is_no_evidence() -> None:
    channels = put(healthy(), CENTRE, **{**TWO_UNITS, "deviations": 20.0})
    channels["brain"][CENTRE] = 0.0
    score = evidence(channels)
    assert score[CENTRE] == -12.0
    assert score.max() < 0


def test_evidence_is_bounded() -> None:
    place = {"adc_ratio": 0.01, "adc": 0.01, "dwi_mirror_log_ratio": 9.0, "adc_mirror_log_ratio": -9.0}
    score = evidence(put(healthy(), CENTRE, deviations=1e4, b0_ratio=np.nan, **place))
    assert score[CENTRE] <= 12.0
    assert score.dtype == np.float32
    assert np.isfinite(score).all()
    assert score.min() >= -12.0


def test_a_flat_image_is_no_division_by_zero() -> None:
    channels = healthy()
    channels["dwi_ratio"][:] = 1.0
    assert np.isfinite(evidence(channels)).all()


def test_cases_of_a_batch_do_not_see_each_other() -> None:
    ill = put(healthy(), CENTRE, **TWO_UNITS)
    batch = np.stack([np.stack([c[name] for name in CHANNELS]) for c in (healthy(), ill)])
    both = open_runtime(CARD).run(batch)["lesion"]
    assert both.shape == (2, 1, *SHAPE)
    np.testing.assert_array_equal(both[0, 0], evidence(healthy()))
    np.testing.assert_array_equal(both[1, 0], evidence(ill))


# --- more evidence never counts less


def random_channels(rng: np.random.Generator) -> Channels:
    """Channels with all kinds of voxels side by side, healthy ones in the majority."""
    ill = rng.random(SHAPE) < 0.3

    def mix(low: float, high: float, ill_low: float, ill_high: float) -> NDArray[np.float32]:
        return np.where(ill, rng.uniform(ill_low, ill_high, SHAPE), rng.uniform(low, high, SHAPE)).astype(np.float32)

    adc = mix(0.6, 1.1, 0.3, 0.8)
    return {
        "dwi_ratio": mix(0.7, 1.3, 1.0, 2.5),
        "adc": adc,
        "adc_ratio": adc / np.float32(0.82),
        "dwi_mirror_log_ratio": mix(-0.3, 0.3, -0.1, 0.6),
        "adc_mirror_log_ratio": mix(-0.3, 0.3, -0.6, 0.1),
        "edge_distance_mm": rng.uniform(1, 20, SHAPE).astype(np.float32),
        "height": rng.uniform(0, 1, SHAPE).astype(np.float32),
        "b0_ratio": mix(0.8, 1.5, 1.0, 2.1),
        "brain": (rng.random(SHAPE) < 0.95).astype(np.float32),
    }


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("what", ["adc", "dwi_mirror_log_ratio", "adc_mirror_log_ratio", "edge_distance_mm", "height"])
def test_more_evidence_in_any_voxels_lowers_the_score_in_none(what: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    channels = random_channels(rng)
    before = evidence(channels)
    assert (before > 0).sum() > 20
    some = rng.random(SHAPE) < rng.choice([0.002, 0.1, 0.8])
    step = np.where(some, rng.uniform(0.01, 0.5, SHAPE), 0).astype(np.float32)
    if what == "adc":
        for name in ("adc", "adc_ratio"):
            channels[name] = channels[name] * (1 - step)
    else:
        channels[what] = channels[what] + (-step if what == "adc_mirror_log_ratio" else step)
    after = evidence(channels)
    assert (after - before).min() >= 0
    assert (after > before).any()


@pytest.mark.parametrize("seed", range(3))
def test_a_brighter_dwi_never_lowers_the_score_of_its_voxel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    channels = random_channels(rng)
    before = evidence(channels)
    rose = 0
    for _ in range(60):
        voxel = tuple(int(rng.integers(s)) for s in SHAPE)
        brighter = {name: array.copy() for name, array in channels.items()}
        brighter["dwi_ratio"][voxel] += np.float32(rng.choice([0.001, 0.05, 0.5, 3.0]))
        change = evidence(brighter)[voxel] - before[voxel]
        # The voxel is one of thousands that make the median: where it lay below, its neighbours' scores move by a hair.
        assert change >= -2e-3
        rose += change > 0.01
    assert rose > 3


def test_the_b0_image_can_only_take_evidence_away() -> None:
    channels = random_channels(np.random.default_rng(5))
    without = {**channels, "b0_ratio": np.full(SHAPE, np.nan, np.float32)}
    assert (evidence(without) - evidence(channels)).min() >= 0


# --- growing


def rim(length: int) -> tuple[Channels, list[tuple[int, int, int]]]:
    """A seed at one end of a line of voxels with half of an infarct's contrast."""
    channels = put(healthy(), (2, 9, 8), **TWO_UNITS)
    line = [(3 + i, 9, 8) for i in range(length)]
    for voxel in line:
        channels = put(channels, voxel, **{**TWO_UNITS, "deviations": 2.2, "adc_ratio": 0.8})
    return channels, line


def test_voxels_of_half_contrast_join_a_seed_and_count_as_much_as_they_have() -> None:
    channels, line = rim(4)
    score = evidence(channels)
    # 2.2 - 1.5 deviations, and 0.08 / 0.088 below the limit: the DWI is the weaker one.
    for voxel in line:
        assert score[voxel] == pytest.approx(0.7, abs=0.02)
    assert (score > 0).sum() == 5


def test_growing_ends_after_eight_voxels() -> None:
    channels, line = rim(12)
    score = evidence(channels)
    assert all(score[v] > 0 for v in line[:8])
    assert all(score[v] < 0 for v in line[8:])


def test_voxels_of_half_contrast_are_nothing_without_a_seed() -> None:
    channels, _ = rim(12)
    channels = put(channels, (2, 9, 8), **{**TWO_UNITS, "deviations": 2.2, "adc_ratio": 0.8})
    assert evidence(channels).max() < 0


def test_growing_does_not_leave_the_brain_or_cross_it() -> None:
    channels, line = rim(8)
    for channel in channels.values():
        channel[line[3]] = 0.0  # what every channel is outside the brain
    score = evidence(channels)
    assert (score[line[2]] > 0, score[line[3]] > 0, score[line[4]] > 0) == (True, False, False)


# --- whole simulated brains


def found(patient: Any, *roles: str) -> NDArray[np.uint8]:
    return decide(probability(patient, *roles), threshold=0.5, minimum_lesion_ml=0.08, affine=patient.grid.affine)


def probability(patient: Any, *roles: str) -> NDArray[np.float32]:
    prepared = prepare(patient.case(*roles), CARD, Monitor())
    return predict(prepared, CARD, open_runtime(CARD), Monitor()).probability


def ball(patient: Any, infarct: Any) -> NDArray[np.bool_]:
    index = np.stack(np.meshgrid(*(np.arange(s) for s in patient.grid.shape), indexing="ij"), axis=-1)
    distance = np.linalg.norm(patient.grid.to_world(index) - infarct.centre_mm, axis=-1)
    return np.asarray((distance < infarct.radius_mm) & patient.brain)


def both_sides(centre_mm: tuple[float, float, float], radius_mm: float, **more: float) -> list[Any]:
    x, y, z = centre_mm
    return [phantom.Infarct((side * x, y, z), radius_mm, **more) for side in (1, -1)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.04])
def test_nothing_is_found_in_a_healthy_brain(noise: float, seed: int) -> None:
    assert not found(phantom.patient(noise=noise, seed=seed)).any()


@pytest.mark.parametrize("roles", [("dwi", "adc"), ("dwi", "adc", "b0")])
def test_an_infarct_is_found_where_it_is(roles: tuple[str, ...]) -> None:
    infarct = phantom.Infarct((34.0, -10.0, 20.0), 14.0)
    patient = phantom.patient(noise=0.02, infarcts=[infarct])
    mask, truth = found(patient, *roles) > 0, ball(patient, infarct)
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.8
    assert not (mask & ~ball(patient, replace(infarct, radius_mm=18.0))).any()


def test_a_strong_lesion_on_both_sides_is_found_on_both() -> None:
    patient = phantom.patient(noise=0.02, infarcts=both_sides((34.0, -10.0, 25.0), 12.0, adc=0.4, b0=1.4))
    mask = found(patient) > 0
    for infarct in both_sides((34.0, -10.0, 25.0), 12.0):
        truth = ball(patient, infarct)
        assert (mask & truth).sum() > 0.5 * truth.sum()


def test_a_cerebellum_that_is_bright_on_both_sides_is_no_infarct() -> None:
    # Brighter by 45 % (T2 and coil) with an ADC 15 % lower, low in the brain.
    bright = both_sides((18.0, -40.0, -30.0), 16.0, adc=0.85, b0=1.3)
    patient = phantom.patient(noise=0.02, infarcts=bright)
    levels = [np.median(patient.dwi[ball(patient, b)]) / np.median(patient.dwi[patient.brain]) for b in bright]
    assert min(levels) > 1.35
    assert not found(patient).any()


def test_signal_that_air_piles_up_is_no_infarct_where_a_b0_image_shows_it() -> None:
    pile_up = phantom.Infarct((34.0, 20.0, 25.0), 10.0, adc=0.55, b0=3.5)
    patient = phantom.patient(noise=0.02, infarcts=[pile_up])
    inside = ball(patient, pile_up)
    without, given = found(patient, "dwi", "adc") > 0, found(patient, "dwi", "adc", "b0") > 0
    assert without[inside].mean() > 0.9
    assert not given[inside].any()
    # What is left are single voxels of the soft rim, whose b = 0 signal is that of an infarct.
    assert given.sum() < 0.1 * without.sum()


def test_a_lower_threshold_keeps_everything_that_a_higher_one_finds() -> None:
    patient = phantom.patient(noise=0.03, infarcts=[phantom.Infarct((34.0, -10.0, 20.0), 12.0, adc=0.65)])
    score, affine = probability(patient), patient.grid.affine
    assert len(np.unique(score)) > 100
    masks = [decide(score, threshold=t, minimum_lesion_ml=0.08, affine=affine) > 0 for t in (0.1, 0.3, 0.5, 0.7, 0.9)]
    for wider, narrower in itertools.pairwise(masks):
        assert not (narrower & ~wider).any()
    assert masks[0].sum() > masks[2].sum() > masks[4].sum()


# --- the card


@pytest.mark.parametrize(
    "change",
    [
        {"network": "another-rule"},
        {"network_arguments": {"deviations": 2}},
        {"preparation": replace(CARD.preparation, channels=CHANNELS[:-1])},
        {"preparation": replace(CARD.preparation, channels=CHANNELS[::-1])},
    ],
)
def test_a_card_that_asks_for_another_rule_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="does not fit its rule"):
        open_runtime(replace(CARD, **change))
