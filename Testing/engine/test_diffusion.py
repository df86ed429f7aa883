"""ADC in the engine's unit, and computed from b = 0 image and DWI by the physics that made the phantom."""

from __future__ import annotations

from typing import Any

import diffusion_phantom as phantom
import numpy as np
import pytest

from strokeseg.case import Case
from strokeseg.errors import InputError
from strokeseg.events import Monitor
from strokeseg.models import ModelStore
from strokeseg.prepare import Prepared, prepare
from strokeseg.prepare.diffusion import LARGEST_ADC, adc_from_b0, adc_in_engine_unit
from strokeseg.volume import Volume


def small(values: Any) -> Volume:
    """Values along x as a volume of 4 mm voxels."""
    return Volume(np.asarray(values, np.float32).reshape(-1, 1, 1), np.diag([4.0, 4.0, 4.0, 1.0]))


def prepared(case: Case, monitor: Monitor | None = None, **options: Any) -> Prepared:
    return prepare(case, ModelStore().card("adc-threshold"), monitor or Monitor(), **options)


def test_the_computed_adc_is_the_one_the_images_were_made_with() -> None:
    patient = phantom.patient(infarcts=[phantom.Infarct((34.0, -10.0, 20.0), 14.0)])
    assert patient.adc[patient.brain].min() < 0.4
    assert patient.adc.max() < LARGEST_ADC
    adc = adc_from_b0(patient.volume("dwi"), patient.volume("b0"), phantom.B_VALUE)
    np.testing.assert_allclose(adc.array, patient.adc, atol=2e-6)
    assert adc.array.dtype == np.float32
    np.testing.assert_array_equal(adc.affine, patient.grid.affine)
    assert adc.notes == ("The ADC was computed from the b = 0 image and the DWI with b = 1000 s/mm².",)


@pytest.mark.parametrize(
    ("s0", "sb", "b", "expected"),
    [
        (np.e, 1.0, 1000.0, 1.0),
        (np.e, 1.0, 500.0, 2.0),
        (np.e**2, 1.0, 2000.0, 1.0),
        (1.0, 1.0, 1000.0, 0.0),  # no loss of signal
        (1.0, 2.0, 1000.0, 0.0),  # noise: brighter with weighting
        (1e6, 1.0, 1000.0, LARGEST_ADC),  # noise floor
        (0.0, 1.0, 1000.0, 0.0),
        (1.0, 0.0, 1000.0, 0.0),
        (-1.0, 1.0, 1000.0, 0.0),
        (1.0, -1.0, 1000.0, 0.0),
        (np.nan, 1.0, 1000.0, 0.0),
        (1.0, np.nan, 1000.0, 0.0),
    ],
)
def test_the_adc_of_single_voxels(s0: float, sb: float, b: float, expected: float) -> None:
    adc = adc_from_b0(small([sb, 1.0]), small([s0, np.e]), b).array.ravel()
    assert adc[0] == pytest.approx(expected, abs=1e-6)
    assert adc[1] == pytest.approx(1000.0 / b, abs=1e-6)


@pytest.mark.parametrize("b_value", [None, 0.0, 1.0, 99.9, 5000.1, -1000.0, float("nan"), float("inf")])
def test_without_a_diffusion_weighting_the_adc_is_refused(b_value: float | None) -> None:
    with pytest.raises(InputError) as caught:
        adc_from_b0(small([1, 2]), small([3, 4]), b_value)
    assert caught.value.title == "The ADC is missing and cannot be computed."
    assert ("is not known" if b_value is None else f"{b_value:g} s/mm²") in caught.value.cause
    assert "--b-value" in caught.value.next_step


def test_a_b0_image_on_another_grid_gives_the_adc_on_the_grid_of_the_dwi() -> None:
    directions = phantom.rigid((4.0, -3.0, 6.0))[:3, :3]
    other = phantom.patient(phantom.centred((84, 100, 74), (2.0, 2.0, 2.0), directions))
    patient = phantom.patient()
    adc = adc_from_b0(patient.volume("dwi"), other.volume("b0"), phantom.B_VALUE)
    assert adc.grid.matches(patient.grid)
    inner = phantom.patient(infarcts=[phantom.Infarct((0.0, 0.0, 0.0), 40.0)]).adc < 0.95 * patient.adc
    assert inner.sum() > 2000
    difference = np.abs(adc.array - patient.adc)[inner]
    assert np.median(difference) < 0.01
    assert difference.max() < 0.1


@pytest.mark.parametrize(("factor", "unit"), [(1.0, "1e-3 mm²/s"), (1e-3, "1e-6 mm²/s"), (1e3, "mm²/s")])
def test_each_unit_becomes_the_engines(factor: float, unit: str) -> None:
    adc = phantom.patient(noise=0.01).adc
    given = Volume((adc / factor).astype(np.float32), phantom.COARSE.affine, sha256="abc")
    ours, seen = adc_in_engine_unit(given)
    assert seen.name == unit
    np.testing.assert_allclose(ours.array, adc, rtol=1e-6)
    assert ours.sha256 == "abc"
    assert (ours is given) == (factor == 1.0)


@pytest.mark.parametrize("factor", [100.0, 0.02, 30.0])
def test_a_unit_that_cannot_be_told_is_refused_with_the_median_seen(factor: float) -> None:
    adc = phantom.patient(noise=0.01).adc
    volume = Volume((adc / factor).astype(np.float32), phantom.COARSE.affine)
    with pytest.raises(InputError) as caught:
        adc_in_engine_unit(volume)
    assert caught.value.title == "The unit of the ADC cannot be told."
    assert f"its median is {np.median(volume.array[volume.array > 0]):.2g}"[:-1] in caught.value.cause


# --- through the preparation


def test_all_three_units_give_the_same_channels() -> None:
    patient = phantom.patient(noise=0.02, infarcts=[phantom.Infarct((34.0, -10.0, 20.0), 14.0)])
    wanted = prepared(patient.case())
    for factor in (1e-3, 1e3):
        adc = Volume((patient.adc / factor).astype(np.float32), patient.grid.affine)
        got = prepared(Case({"dwi": patient.volume("dwi"), "adc": adc}))
        np.testing.assert_allclose(got.channels, wanted.channels, atol=2e-5)
        np.testing.assert_allclose(got.images["adc"], patient.adc, rtol=1e-6)


def test_a_missing_adc_is_computed_and_said() -> None:
    patient = phantom.patient(infarcts=[phantom.Infarct((34.0, -10.0, 20.0), 14.0)])
    case = Case({"dwi": patient.volume("dwi", b_value=1000.0), "b0": patient.volume("b0")})
    result = prepared(case)
    np.testing.assert_allclose(result.images["adc"], patient.adc, atol=2e-6)
    assert result.corrected.computed_roles == ("adc",)
    said = " ".join(result.corrected.assumptions)
    assert "The ADC was computed from the b = 0 image" in said
    assert "The DWI has b = 1000 s/mm², as the file says." in said
    given = prepared(patient.case("dwi", "b0", "adc"))
    assert given.corrected.computed_roles == ()
    np.testing.assert_allclose(result.channels, given.channels, atol=1e-4)


def test_the_stated_b_value_wins_over_that_of_the_file() -> None:
    patient = phantom.patient()
    case = Case({"dwi": patient.volume("dwi", b_value=2000.0), "b0": patient.volume("b0")})
    result = prepared(case, b_value=1000.0)
    np.testing.assert_allclose(result.images["adc"], patient.adc, atol=2e-6)
    assert "The DWI has b = 1000 s/mm², as given." in result.corrected.assumptions


def test_without_any_b_value_the_missing_adc_is_refused() -> None:
    with pytest.raises(InputError, match="the b-value of the DWI is not known"):
        prepared(phantom.patient().case("dwi", "b0"))
