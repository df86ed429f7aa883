"""Which scans lead to which model, what is done with each, and that no reference reaches the model."""

from __future__ import annotations

import dataclasses
import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import stroke_phantom as phantom
from typer.testing import CliRunner

from strokeseg import Case, Segmentation, segment
from strokeseg.case import INPUT_ROLES
from strokeseg.cli import app
from strokeseg.errors import InputError, ModelError
from strokeseg.models import ModelStore
from strokeseg.prepare import prepare
from strokeseg.segmentation import choose_model
from strokeseg.volume import Volume

MODEL = "adc-threshold"
# The same head on slices that are thicker, finer in plane and turned elsewhere.
OTHER_GRID = ((90, 90, 33), (2.0, 2.0, 5.5), (-6.0, 8.0, 3.0))


@pytest.fixture(scope="module")
def scans() -> Any:
    return phantom.stroke_phantom()


@pytest.fixture(scope="module")
def volumes(scans: Any) -> dict[str, Volume]:
    return {role: Volume(getattr(scans, role), scans.affine) for role in ("dwi", "adc", "b0")}


@pytest.fixture(scope="module")
def usual(volumes: dict[str, Volume]) -> Segmentation:
    """What DWI and ADC on one grid give."""
    return segment(Case.from_files(dwi=volumes["dwi"], adc=volumes["adc"]), model=MODEL)


def codes(result: Segmentation) -> list[str]:
    return [w["code"] for w in result.summary["warnings"]]


# --- roles


def test_usual_scans_give_no_warning(usual: Segmentation) -> None:
    assert usual.warnings == []
    assert usual.summary["computed"] == []
    assert [i["used"] for i in usual.summary["inputs"]] == [True, True]


def test_adc_is_computed_from_the_b0_image_where_it_is_missing(volumes: dict[str, Volume], usual: Segmentation) -> None:
    case = Case.from_files(dwi=volumes["dwi"], b0=volumes["b0"])
    result = segment(case, model=MODEL, b_value=phantom.B_VALUE)
    assert result.summary["computed"] == ["adc"]
    assert any("computed from the b = 0 image" in a for a in result.summary["assumptions"])
    # The phantom's ADC is ln(S0 / Sb) / b to the last bit but one, so the lesions are the same.
    np.testing.assert_allclose(result.images["adc"], usual.images["adc"], atol=1e-5)
    assert [(x.voxels, x.side) for x in result.lesions] == [(x.voxels, x.side) for x in usual.lesions]
    with pytest.raises(InputError, match="b-value of the DWI is not known"):
        segment(case, model=MODEL)


def test_adc_on_another_grid_gives_the_same_lesions_on_the_grid_of_the_dwi(
    volumes: dict[str, Volume], usual: Segmentation
) -> None:
    other = phantom.stroke_phantom(*OTHER_GRID)
    result = segment(Case.from_files(dwi=volumes["dwi"], adc=Volume(other.adc, other.affine)), model=MODEL)
    assert result.grid.matches(usual.grid)
    assert [x.side for x in result.lesions] == [x.side for x in usual.lesions] == ["right", "left"]
    for seen, expected in zip(result.lesions, usual.lesions, strict=True):
        assert seen.volume_ml == pytest.approx(expected.volume_ml, rel=0.1)
        np.testing.assert_allclose(seen.centroid_ras_mm, expected.centroid_ras_mm, atol=0.5)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_unit_of_the_adc_is_recognised(factor: float, volumes: dict[str, Volume], usual: Segmentation) -> None:
    adc = dataclasses.replace(volumes["adc"], array=(volumes["adc"].array * factor).astype(np.float32))
    result = segment(Case.from_files(dwi=volumes["dwi"], adc=adc), model=MODEL)
    assert (result.mask != usual.mask).sum() <= 1
    assert result.lesions[0].adc_mean == pytest.approx(usual.lesions[0].adc_mean, rel=1e-4)


def test_given_brain_mask_is_the_brain(scans: Any, volumes: dict[str, Volume], usual: Segmentation) -> None:
    # Only what lies on the patient's right of the head's own midplane, stored along other axes than the DWI.
    right = np.array(phantom.turned(phantom.HEAD_TURN_DEGREES))[:, 0]
    index = np.moveaxis(np.indices(phantom.SHAPE), 0, -1)
    beyond = (usual.grid.to_world(index) - np.asarray(phantom.HEAD_CENTRE_MM)) @ right
    half = (scans.brain & (beyond > 0)).astype(np.uint8)
    stored, affine = phantom.stored_as(half, scans.affine, phantom.ALL_48[29])
    case = Case.from_files(dwi=volumes["dwi"], adc=volumes["adc"], brain_mask=Volume(stored, affine))
    result = segment(case, model=MODEL)
    assert result.summary["brain"]["method"] == "given"
    np.testing.assert_array_equal(result.brain, half > 0)
    assert not result.mask[half == 0].any()
    assert result.mask.any()
    assert not result.probability[half == 0].any()


def test_t1_that_the_model_does_not_use_is_said_to_be_unused_and_changes_nothing(
    volumes: dict[str, Volume], usual: Segmentation
) -> None:
    case = Case.from_files(dwi=volumes["dwi"], adc=volumes["adc"], t1=volumes["b0"])
    result = segment(case, model=MODEL)
    assert codes(result) == ["unused_input"]
    assert "T1" in result.warnings[0]
    assert {i["role"]: i["used"] for i in result.summary["inputs"]} == {"dwi": True, "adc": True, "t1": False}
    np.testing.assert_array_equal(result.probability, usual.probability)


# --- the choice of the model


def store_of(folder: Path, names: dict[str, list[str]]) -> ModelStore:
    """Models of these names with these required roles; their rule is never run."""
    for name, roles in names.items():
        card = json.loads((ModelStore().folder / MODEL / "card.json").read_text(encoding="utf-8"))
        card |= {"name": name, "inputs": [{"role": r, "required": True} for r in roles], "reference_role": roles[0]}
        card["preparation"]["channels"] = ["brain"]
        (folder / name).mkdir(parents=True)
        (folder / name / "card.json").write_text(json.dumps(card), encoding="utf-8")
    return ModelStore(folder)


def case_of(*roles: str) -> Case:
    return Case({role: Volume(np.ones((2, 2, 2), np.float32), np.eye(4)) for role in roles})


BOTH = {"dwi-adc": ["dwi", "adc"], "adc-threshold": ["dwi", "adc"]}


@pytest.mark.parametrize(
    ("roles", "at_hand", "chosen"),
    [
        (("dwi", "adc"), BOTH, "dwi-adc"),
        (("dwi", "adc"), {"adc-threshold": ["dwi", "adc"]}, "adc-threshold"),
        (("dwi", "adc", "t1", "flair", "b0"), BOTH | {"t1": ["t1"]}, "dwi-adc"),
        (("dwi", "b0"), BOTH, "dwi-adc"),
        (("t1",), BOTH | {"t1": ["t1"]}, "t1"),
        (("t1", "flair"), BOTH | {"t1": ["t1"]}, "t1"),
    ],
)
def test_auto_takes_the_best_model_for_the_scans(
    roles: tuple[str, ...], at_hand: dict[str, list[str]], chosen: str, tmp_path: Path
) -> None:
    assert choose_model(case_of(*roles), "auto", store_of(tmp_path, at_hand)).name == chosen


def test_auto_says_that_its_model_is_experimental(volumes: dict[str, Volume], monkeypatch: pytest.MonkeyPatch) -> None:
    card = dataclasses.replace(ModelStore().card(MODEL), status="experimental")
    monkeypatch.setattr("strokeseg.segmentation.run.choose_model", lambda _case, _model: card)
    case = Case.from_files(dwi=volumes["dwi"], adc=volumes["adc"])
    assert codes(segment(case)) == ["experimental_model"]
    assert codes(segment(case, model=MODEL)) == []  # who names it knows


@pytest.mark.parametrize("roles", [("t1",), ("dwi",), ("adc",), ("flair",), ("b0", "adc"), ("dwi", "flair")])
def test_scans_that_no_model_takes_are_refused_with_the_choices(roles: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        choose_model(case_of(*roles), "auto", store_of(tmp_path, BOTH))
    for title in ("No model works with these scans.", "adc-threshold needs DWI and ADC", "dwi-adc needs DWI and ADC"):
        assert title in str(refused.value)
    assert refused.value.exit_code == 3


def test_unknown_model_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ModelError, match="Did you mean 'adc-threshold'") as refused:
        choose_model(case_of("dwi", "adc"), "adc-treshold")
    assert refused.value.exit_code == 4


def test_named_model_without_its_scans_is_refused_with_what_is_missing(volumes: dict[str, Volume]) -> None:
    with pytest.raises(InputError, match="ADC is missing; given: DWI"):
        segment(Case.from_files(dwi=volumes["dwi"]), model=MODEL)


# --- the reference


def test_inference_has_no_place_for_a_reference() -> None:
    for function in (segment, prepare, Case.from_files):
        assert not [p for p in inspect.signature(function).parameters if "reference" in p or "truth" in p]
    assert {f.name for f in dataclasses.fields(Case)} == {"volumes", "brain_mask", "name"}
    assert "reference" not in INPUT_ROLES
    with pytest.raises(ValueError, match="no such role: reference"):
        case_of("dwi", "reference")


def test_result_is_the_same_bytes_with_a_reference_with_another_and_without(scans: Any, tmp_path: Path) -> None:
    files = [
        x
        for role in ("dwi", "adc")
        for x in (f"--{role}", str(phantom.save_nifti(tmp_path / f"{role}.nii", getattr(scans, role), scans.affine)))
    ]
    truth = phantom.save_nifti(tmp_path / "mask.nii", (scans.right | scans.left).astype(np.uint8), scans.affine)
    wrong = phantom.save_nifti(tmp_path / "wrong.nii", scans.brain.astype(np.uint8), scans.affine)
    seen = []
    for reference in ([], ["--reference", str(truth)], ["--reference", str(wrong)]):
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        done = CliRunner().invoke(app, ["segment", *files, "--model", MODEL, *reference, "--out", str(out)])
        assert done.exit_code == 0, done.output
        assert (out / "metrics.json").exists() == bool(reference)
        names = ("lesion_mask.nii.gz", "lesion_probability.nii.gz", "lesions.csv", "summary.json", "overlay.png")
        seen.append({name: (out / name).read_bytes() for name in names})
    assert seen[0] == seen[1] == seen[2]
    assert np.asarray(nib.load(out / "lesion_mask.nii.gz").dataobj).any()
