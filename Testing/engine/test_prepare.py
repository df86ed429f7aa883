"""From a case to a model's input: what is refused, what is warned of, and what lies on which grid."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import diffusion_phantom as phantom
import numpy as np
import pytest
from numpy.typing import NDArray

from strokeseg.case import Case
from strokeseg.errors import Cancelled, InputError
from strokeseg.events import Event, Monitor, Progress
from strokeseg.models import ModelInput, ModelStore
from strokeseg.prepare import Prepared, prepare
from strokeseg.volume import Volume

CARD = ModelStore().card("adc-threshold")
FINE = phantom.centred((90, 110, 80), (1.9, 1.8, 2.1), phantom.rigid((3.0, 4.0, 5.0))[:3, :3])
FAR_AWAY = phantom.COARSE.affine + np.array([[0, 0, 0, 1000.0], [0] * 4, [0] * 4, [0] * 4])


def patient(**how: Any) -> Any:
    return phantom.patient(noise=0.02, **how)


def prepared(case: Case, **options: Any) -> tuple[Prepared, Monitor]:
    monitor = Monitor()
    return prepare(case, CARD, monitor, **options), monitor


def refused(case: Case, **options: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        prepare(case, CARD, Monitor(), **options)
    assert caught.value.next_step
    return caught.value


def codes(monitor: Monitor) -> list[str]:
    return [w.code for w in monitor.warnings]


def with_role(role: str, volume: Volume) -> Case:
    return Case({**patient().case().volumes, role: volume})


def mask_volume(mask: NDArray[Any], affine: NDArray[np.float64] | None = None) -> Volume:
    return Volume(mask.astype(np.uint8), phantom.COARSE.affine if affine is None else affine)


# --- what comes out


def test_everything_lies_on_the_reference_grid_and_the_channels_on_the_models() -> None:
    whole = patient()
    result, monitor = prepared(whole.case())
    assert result.reference.array is whole.dwi
    assert set(result.images) == {"dwi", "adc"}
    np.testing.assert_array_equal(result.images["dwi"], whole.dwi)
    np.testing.assert_array_equal(result.images["adc"], whole.adc)
    np.testing.assert_array_equal(result.brain.mask, whole.brain)
    assert result.brain.method == "skull-stripped"
    assert result.channels.shape == (9, *result.model_grid.grid.shape)
    assert result.channels.dtype == np.float32
    assert result.midplane.normal_ras[0] == pytest.approx(1.0, abs=1e-3)
    assert result.midplane.offset_mm == pytest.approx(0.0, abs=0.5)
    assert monitor.warnings == []
    brain = result.channels[CARD.preparation.channels.index("brain")]
    np.testing.assert_array_equal(result.model_grid.back(brain, outside=0.0), whole.brain)


def test_an_adc_of_another_grid_lands_where_it_belongs() -> None:
    coarse, other = phantom.patient(), phantom.patient(FINE)
    result, _ = prepared(Case({"dwi": coarse.volume("dwi"), "adc": other.volume("adc")}))
    inner = phantom.patient(infarcts=[phantom.Infarct((0.0, 0.0, 0.0), 40.0)]).adc < 0.95 * coarse.adc
    assert np.median(np.abs(result.images["adc"] - coarse.adc)[inner]) < 0.03


def test_the_case_is_not_changed() -> None:
    case = patient().case("dwi", "adc", "b0")
    before = {r: v.array.copy() for r, v in case.volumes.items()}
    prepared(case)
    for role, array in before.items():
        np.testing.assert_array_equal(case.volumes[role].array, array)


def test_the_same_case_gives_the_same_bytes() -> None:
    first, second = (prepared(patient().case("dwi", "adc", "b0"))[0] for _ in range(2))
    assert first.channels.tobytes() == second.channels.tobytes()


def test_progress_goes_up_to_its_end() -> None:
    heard: list[Event] = []
    prepare(patient().case(), CARD, Monitor(heard.append))
    steps = [e for e in heard if isinstance(e, Progress)]
    assert [e.done for e in steps] == sorted(e.done for e in steps)
    assert steps[-1].done == steps[-1].total > 1


def test_a_cancellation_is_noticed() -> None:
    with pytest.raises(Cancelled):
        prepare(patient().case(), CARD, Monitor(cancelled=lambda: True))


# --- roles


@pytest.mark.parametrize(
    ("roles", "missing", "given", "option"),
    [
        (("dwi",), "ADC is missing", "given: DWI.", "--adc FILE"),
        (("adc",), "DWI is missing", "given: ADC.", "--dwi FILE"),
        (("b0",), "DWI and ADC is missing", "given: b = 0.", "--dwi FILE --adc FILE"),
        (("adc", "b0"), "DWI is missing", "given: ADC, b = 0.", "--dwi FILE"),
    ],
)
def test_a_missing_role_is_named_with_what_was_given(
    roles: tuple[str, ...], missing: str, given: str, option: str
) -> None:
    error = refused(patient().case(*roles))
    assert error.title == "The model 'adc-threshold' needs DWI and ADC."
    assert error.cause == f"{missing}; {given}"
    assert option in error.next_step


def test_a_role_that_the_model_does_not_use_is_not_resampled(monkeypatch: pytest.MonkeyPatch) -> None:
    other = patient(grid=FINE)
    seen: list[int] = []
    for name in ("strokeseg.prepare.prepare", "strokeseg.prepare.grid"):
        module = sys.modules[name]
        usual = module.resample

        def noted(array: Any, *more: Any, usual: Any = usual, **options: Any) -> Any:
            seen.append(id(array))
            return usual(array, *more, **options)

        monkeypatch.setattr(module, "resample", noted)
    case = Case({"dwi": patient().volume("dwi"), "adc": other.volume("adc"), "t1": other.volume("b0")})
    result, _ = prepared(case)
    assert "t1" not in result.images
    assert id(case.volumes["adc"].array) in seen
    assert id(case.volumes["t1"].array) not in seen


def test_dwi_and_adc_are_there_for_the_table_also_when_the_model_does_not_take_them() -> None:
    preparation = replace(CARD.preparation, channels=("dwi_ratio", "brain"))
    card = replace(CARD, inputs=(ModelInput("dwi", True),), preparation=preparation)
    result = prepare(patient().case("dwi", "adc", "b0"), card, Monitor())
    assert set(result.images) == {"dwi", "adc"}
    assert result.channels.shape[0] == 2


# --- images that are refused


def test_swapped_images_are_refused() -> None:
    whole = patient()
    error = refused(Case({"dwi": whole.volume("adc"), "adc": whole.volume("dwi")}))
    assert "swapped" in error.cause
    assert "each other's place" in error.next_step


@pytest.mark.parametrize("scale", [1.0, 0.001])
def test_the_dwi_in_the_place_of_the_adc_is_refused(scale: float) -> None:
    dwi = patient().volume("dwi")
    error = refused(Case({"dwi": dwi, "adc": Volume(dwi.array * np.float32(scale), dwi.affine)}))
    assert "the same image" in error.cause


def test_the_same_image_in_two_roles_is_refused() -> None:
    error = refused(with_role("b0", patient().volume("dwi")))
    assert error.title == "The input was refused (b = 0)."
    assert "are the same" in error.cause


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.full(phantom.COARSE.shape, 7.0), "All voxels of the ADC image have the value 7"),
        (np.full(phantom.COARSE.shape, np.nan), "holds no numbers"),
        (phantom.patient().brain, "looks like a mask"),
        (phantom.patient(noise=0.02).adc * 100, "unit of the ADC image cannot be told"),
    ],
    ids=["constant", "nan", "mask", "grey values"],
)
def test_what_is_no_adc_is_refused(array: NDArray[Any], said: str) -> None:
    error = refused(with_role("adc", Volume(array.astype(np.float32), phantom.COARSE.affine)))
    assert said in error.cause


def test_an_adc_of_somewhere_else_is_refused() -> None:
    error = refused(with_role("adc", Volume(patient().adc, FAR_AWAY)))
    assert error.title == "The input was refused (ADC)."
    assert "nowhere in the field of view" in error.cause


def test_wrong_images_are_refused_before_an_adc_is_computed_from_them() -> None:
    whole = patient()
    case = Case({"dwi": whole.volume("dwi", b_value=1000.0), "b0": Volume(whole.b0, FAR_AWAY)})
    assert "nowhere in the field of view" in refused(case).cause


def test_a_brain_of_a_few_ml_is_doubted() -> None:
    whole = patient()
    mask = np.zeros_like(whole.brain)
    mask[18:22, 22:26, 16:20] = True
    case = Case({r: Volume(v.array * mask, v.affine) for r, v in whole.case().volumes.items()})
    result, monitor = prepared(case)
    assert "brain_mask_doubtful" in codes(monitor)
    assert result.brain.volume_ml == pytest.approx(64 * 0.064)


# --- what is warned of


def test_findings_become_warnings_with_what_to_do() -> None:
    _, monitor = prepared(patient().case("dwi", "adc", "b0"), b_value=300.0)
    assert codes(monitor) == ["b_value_implausible"]
    assert "300 s/mm²" in monitor.warnings[0].message
    assert "Check the b-value" in monitor.warnings[0].message


def test_a_stated_b_value_that_the_images_contradict_is_warned_of() -> None:
    whole = patient()
    case = Case({**whole.case("adc", "b0").volumes, "dwi": whole.volume("dwi", b_value=2000.0)})
    _, monitor = prepared(case)
    assert codes(monitor) == ["b_value_differs"]


def test_infos_are_findings_but_no_warnings() -> None:
    result, monitor = prepared(patient().case("dwi", "adc", "b0"))
    assert {f.code for f in result.corrected.findings} == {"adc_unit", "b_value"}
    assert monitor.warnings == []
    assert any("1e-3 mm²/s" in a for a in result.corrected.assumptions)


def test_notes_of_reading_become_warnings_that_name_the_role() -> None:
    whole = patient()
    case = Case({"dwi": whole.volume("dwi", notes=("The sform was used.", "Second.")), "adc": whole.volume("adc")})
    _, monitor = prepared(case)
    assert [(w.code, w.message) for w in monitor.warnings] == [
        ("dwi_read", "DWI: The sform was used."),
        ("dwi_read", "DWI: Second."),
    ]


def test_a_scan_that_misses_a_part_of_the_brain_is_warned_of_by_its_share() -> None:
    slab = patient(grid=phantom.centred((40, 48, 20), (4.0, 4.0, 4.0)))
    result, monitor = prepared(with_role("adc", slab.volume("adc")))
    # The slab reaches 40 of 58 mm up and down: u (3 - u²) / 2 of an ellipsoid's volume, u = 40 / 58.
    u = 40 / 58
    share = u * (3 - u**2) / 2
    assert codes(monitor) == ["brain_not_covered"]
    assert "ADC" in monitor.warnings[0].message
    percent = float(monitor.warnings[0].message.partition("%")[0].split()[-1])
    assert percent == pytest.approx(100 * share, abs=1.5)
    assert np.isfinite(result.channels[:7]).all()


def test_a_scan_that_only_misses_air_is_not_warned_of() -> None:
    tight = patient(grid=phantom.centred((35, 43, 31), (4.0, 4.0, 4.0)))
    _, monitor = prepared(with_role("adc", tight.volume("adc")))
    assert monitor.warnings == []


# --- a brain mask that was given


def test_a_given_brain_mask_is_taken_as_it_is() -> None:
    whole = patient()
    mask = whole.brain.copy()
    mask[:, :12] = False
    result, monitor = prepared(Case(whole.case().volumes, mask_volume(mask)))
    np.testing.assert_array_equal(result.brain.mask, mask)
    assert result.brain.method == "given"
    assert result.brain.volume_ml == pytest.approx(mask.sum() * 0.064)
    assert "brain_mask_doubtful" not in codes(monitor)


def test_a_brain_mask_on_another_grid_keeps_its_volume_and_place() -> None:
    whole, fine = patient(), phantom.patient(FINE)
    result, _ = prepared(Case(whole.case().volumes, mask_volume(fine.brain, FINE.affine)))
    assert result.brain.volume_ml == pytest.approx(1315, rel=0.01)  # 4/3 pi 66 * 82 * 58 mm³
    overlap = 2 * (result.brain.mask & whole.brain).sum() / (result.brain.mask.sum() + whole.brain.sum())
    assert overlap > 0.98


def test_labels_in_a_brain_mask_all_count_as_brain() -> None:
    whole = patient()
    labels = whole.brain.astype(np.uint8)
    labels[20:] *= 3
    result, _ = prepared(Case(whole.case().volumes, mask_volume(labels)))
    np.testing.assert_array_equal(result.brain.mask, whole.brain)


def test_a_brain_mask_of_somewhere_else_is_refused() -> None:
    whole = patient()
    error = refused(Case(whole.case().volumes, mask_volume(whole.brain, FAR_AWAY)))
    assert error.title == "The brain mask does not lie on the scan."
    assert "DWI" in error.cause


@pytest.mark.parametrize("values", [0.0, 0.5, -1.0, np.nan], ids=["empty", "fractions", "negative", "nan"])
def test_what_is_no_brain_mask_is_refused(values: float) -> None:
    whole = patient()
    mask = Volume((whole.brain * np.float32(values)).astype(np.float32), phantom.COARSE.affine)
    assert refused(Case(whole.case().volumes, mask)).title == "The brain mask cannot be used."


@pytest.mark.parametrize(("kept", "said"), [("half", "654 ml"), ("all", "4424 ml")])
def test_a_brain_mask_that_cannot_be_a_brain_is_doubted(kept: str, said: str) -> None:
    whole = patient()
    mask = np.ones_like(whole.brain) if kept == "all" else whole.brain & (np.arange(40) < 20)[:, None, None]
    _, monitor = prepared(Case(whole.case().volumes, mask_volume(mask)))
    assert set(codes(monitor)) == {"brain_mask_doubtful"}
    assert said in monitor.warnings[0].message


# --- what is not yet so: each of these has to pass before its mark is taken away


def test_voxels_that_are_no_numbers_count_as_background() -> None:
    whole = patient()
    dwi = whole.dwi.copy()
    dwi[20, 20, 20] = np.nan
    result, monitor = prepared(with_role("dwi", Volume(dwi, whole.grid.affine)))
    assert codes(monitor) == ["not_finite"]
    assert np.isfinite(result.channels[:7]).all()


@pytest.mark.parametrize("b_value", [float("nan"), float("inf"), -1000.0, 0.0])
def test_a_b_value_that_is_none_is_refused(b_value: float) -> None:
    assert "b-value" in str(refused(patient().case(), b_value=b_value))


def test_a_scan_that_the_model_does_not_use_cannot_stop_the_run() -> None:
    empty = Volume(np.ones((40, 40, 40), np.float32), np.diag([5.0, 5.0, 5.0, 1.0]))
    result, monitor = prepared(with_role("t1", empty))
    assert "t1" not in result.images
    assert any("T1" in w.message for w in monitor.warnings)


def test_a_scan_that_the_model_does_not_use_is_not_registered() -> None:
    moved = phantom.patient(FINE, moved_by=phantom.rigid(shift_mm=(3.0, 0.0, 0.0)))
    result, _ = prepared(with_role("t1", moved.volume("b0")), register=True)
    assert not any("T1" in a for a in result.corrected.assumptions)


def test_scans_that_share_a_grid_are_moved_together() -> None:
    moved = phantom.patient(
        phantom.centred((44, 52, 36), (3.7, 3.7, 4.1)), noise=0.02, moved_by=phantom.rigid(shift_mm=(3.0, 0.0, 0.0))
    )
    case = Case({"dwi": patient().volume("dwi"), "adc": moved.volume("adc"), "b0": moved.volume("b0")})
    result, _ = prepared(case, register=True)
    said = [a.partition(" was moved by ")[2].partition(" (")[0] for a in result.corrected.assumptions if "moved" in a]
    assert len(said) == 2
    assert len(set(said)) == 1


def test_a_registration_that_was_impossible_says_why() -> None:
    few = patient(grid=phantom.centred((60, 70, 3), (3.0, 3.0, 6.0)))
    result, _ = prepared(with_role("adc", few.volume("adc")), register=True)
    said = next(a for a in result.corrected.assumptions if "not taken" in a)
    assert "at least four slices" in said
