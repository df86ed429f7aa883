"""Rigid registration: a known movement is found, goes in the right direction, and is left alone where it does not help.

The head is simulated: DWI and ADC are sampled from one formula, the ADC after a movement of the head.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import diffusion_phantom as phantom
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  its usual name
from numpy.typing import NDArray

from strokeseg.events import Monitor
from strokeseg.models import ModelStore
from strokeseg.prepare import prepare
from strokeseg.prepare.align import register_rigid
from strokeseg.volume import Grid, Volume

OTHER_GRID = phantom.centred((44, 50, 34), (3.6, 3.6, 4.5))
MOVED = phantom.rigid((0.0, 0.0, 5.0), (0.0, 4.0, 0.0))
MARKER_MM = np.array([40.0, 30.0, 10.0])


def reference() -> Any:
    return phantom.patient(noise=0.01)


def moved_adc(movement: NDArray[np.float64], grid: Grid = OTHER_GRID) -> tuple[Volume, NDArray[np.bool_]]:
    """The ADC after a movement of the head, and its brain."""
    patient = phantom.patient(grid, noise=0.01, seed=3, moved_by=movement)
    return patient.volume("adc"), patient.brain


def displacement_mm(volume: Volume, brain: NDArray[np.bool_], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each brain voxel lies from where the affine `right` puts it."""
    index = np.argwhere(brain)
    return np.linalg.norm(volume.grid.to_world(index) - Grid(volume.grid.shape, right).to_world(index), axis=1)


def turn_degrees(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Angle of the rotation between two affines."""
    between = a[:3, :3] @ np.linalg.inv(b[:3, :3])
    return float(np.degrees(np.arccos(np.clip((np.trace(between) - 1) / 2, -1, 1))))


@pytest.mark.parametrize(
    ("degrees", "shift_mm"),
    [
        ((0.0, 0.0, 5.0), (0.0, 4.0, 0.0)),
        ((5.0, 0.0, 0.0), (0.0, 0.0, -4.0)),
        ((3.0, -2.0, 5.0), (4.0, -3.0, 2.0)),
        ((0.0, 0.0, 0.0), (-4.0, 0.0, 0.0)),
    ],
)
def test_a_movement_of_the_head_is_undone(degrees: Any, shift_mm: Any) -> None:
    movement = phantom.rigid(degrees, shift_mm)
    volume, brain = moved_adc(movement)
    right = np.linalg.inv(movement) @ volume.affine
    assert displacement_mm(volume, brain, right).max() > 3.5
    done = register_rigid(volume, reference().volume("dwi"))
    assert done.taken
    assert not done.why_not
    assert done.cost_after < done.cost_before
    assert displacement_mm(done.moving, brain, right).max() < 0.5
    assert turn_degrees(done.moving.affine, right) < 0.5
    assert done.turn_degrees == pytest.approx(turn_degrees(volume.affine, right), abs=0.5)
    centre_shift = np.linalg.norm(shift_mm)  # the head turned about the world's origin, where the scan has its centre
    assert done.shift_mm == pytest.approx(centre_shift, abs=0.5)


def test_only_the_affine_changes_and_a_marker_lands_where_it_was_before_the_movement() -> None:
    volume, _ = moved_adc(MOVED)
    done = register_rigid(replace(volume, b_value=1000.0, notes=("kept",), sha256="abc"), reference().volume("dwi"))
    assert done.moving.array is volume.array
    assert (done.moving.b_value, done.moving.notes, done.moving.sha256) == (1000.0, ("kept",), "abc")
    seen_at = MOVED[:3, :3] @ MARKER_MM + MOVED[:3, 3]
    assert np.linalg.norm(seen_at - MARKER_MM) > 3.5
    voxel = volume.grid.to_voxel(seen_at)
    np.testing.assert_allclose(done.moving.grid.to_world(voxel), MARKER_MM, atol=0.5)


def test_the_way_the_moving_image_is_stored_does_not_matter() -> None:
    volume, brain = moved_adc(MOVED)
    right = np.linalg.inv(MOVED) @ volume.affine
    for order, signs in (((0, 1, 2), (-1, 1, 1)), ((2, 0, 1), (1, -1, -1))):
        stored = phantom.stored(volume, order, signs)
        correction = register_rigid(stored, reference().volume("dwi")).moving.affine @ np.linalg.inv(stored.affine)
        corrected = replace(volume, affine=correction @ volume.affine)
        assert displacement_mm(corrected, brain, right).max() < 0.5


def test_the_same_images_give_the_same_correction_to_the_last_bit() -> None:
    volume, _ = moved_adc(MOVED)
    done = [register_rigid(volume, reference().volume("dwi")) for _ in range(3)]
    assert len({r.moving.affine.tobytes() for r in done}) == 1
    assert len({(r.cost_before, r.cost_after) for r in done}) == 1


def test_the_number_of_threads_that_others_use_stays_as_it_was() -> None:
    volume, _ = moved_adc(MOVED)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(2)
    register_rigid(volume, reference().volume("dwi"))
    register_rigid(Volume(volume.array[:, :, :2], volume.affine), reference().volume("dwi"))  # fails inside
    assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == 2


def test_what_already_lies_right_stays_where_it_is() -> None:
    volume, _ = moved_adc(np.eye(4))
    done = register_rigid(volume, reference().volume("dwi"))
    assert not done.taken
    assert done.moving is volume
    assert done.why_not == "it did not help"


@pytest.mark.parametrize("seed", range(6))
def test_noise_is_not_registered_to_noise(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def noise(grid: Grid) -> Volume:
        return Volume(rng.normal(100, 10, grid.shape).astype(np.float32), grid.affine)

    moving, still = noise(OTHER_GRID), noise(phantom.COARSE)
    done = register_rigid(moving, still)
    assert not done.taken
    assert done.moving is moving


@pytest.mark.parametrize("slices", [1, 2, 3])
def test_a_few_slices_stay_where_they_are(slices: int) -> None:
    volume, _ = moved_adc(MOVED, phantom.centred((60, 70, slices), (3.0, 3.0, 6.0)))
    whole = reference().volume("dwi")
    for moving, still in ((volume, whole), (whole, volume)):
        done = register_rigid(moving, still)
        assert not done.taken
        assert done.moving is moving
        assert done.cost_after == done.cost_before < 0
        assert "at least four slices" in done.why_not


@pytest.mark.parametrize("apart_mm", [150.0, 158.9, 400.0])
def test_images_that_hardly_touch_are_left_alone(apart_mm: float) -> None:
    here = reference().volume("dwi")
    affine = here.affine.copy()
    affine[0, 3] += apart_mm
    there = replace(here, affine=affine)
    done = register_rigid(there, here)
    assert not done.taken
    assert done.moving is there


def test_a_correction_that_no_head_can_make_is_not_taken() -> None:
    here = reference().volume("adc")
    affine = here.affine.copy()
    affine[0, 3] += 60.0
    done = register_rigid(replace(here, affine=affine), reference().volume("dwi"))
    assert not done.taken
    assert "60 mm" in done.why_not


def test_a_constant_image_is_left_alone() -> None:
    constant = Volume(np.ones(OTHER_GRID.shape, np.float32), OTHER_GRID.affine)
    done = register_rigid(constant, reference().volume("dwi"))
    assert not done.taken


# --- as part of the preparation


def prepared_assumptions(adc: Volume, *, register: bool) -> tuple[Any, list[str]]:
    case = phantom.patient(noise=0.01).case("dwi", "b0")
    case = type(case)({"dwi": case.volumes["dwi"], "adc": adc})
    prepared = prepare(case, ModelStore().card("adc-threshold"), Monitor(), register=register)
    return prepared, [a for a in prepared.corrected.assumptions if "moved by" in a or "egistration" in a]


def test_the_preparation_moves_the_adc_and_says_by_how_much() -> None:
    adc, _ = moved_adc(MOVED)
    still, said = prepared_assumptions(adc, register=False)
    assert said == []
    moved, said = prepared_assumptions(adc, register=True)
    assert len(said) == 1
    assert said[0].startswith("The ADC was moved by 4.")
    assert "degrees" in said[0]
    assert "mutual information" in said[0]
    truth, brain = phantom.patient().adc, phantom.patient().brain
    errors = [np.abs(p.images["adc"] - truth)[brain].mean() for p in (still, moved)]
    assert errors[1] < 0.5 * errors[0]


def test_the_preparation_says_that_a_registration_was_not_taken() -> None:
    adc, _ = moved_adc(np.eye(4))
    prepared, said = prepared_assumptions(adc, register=True)
    assert len(said) == 1
    assert said[0].startswith("Registration of the ADC was not taken")
    np.testing.assert_array_equal(prepared.images["adc"], prepared_assumptions(adc, register=False)[0].images["adc"])


def test_an_adc_on_the_grid_of_the_dwi_is_not_registered() -> None:
    _, said = prepared_assumptions(phantom.patient(noise=0.01).volume("adc"), register=True)
    assert said == []
