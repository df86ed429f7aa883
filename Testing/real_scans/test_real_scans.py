"""Real scans through the whole engine: files, grids and figures that agree with each other and with plain numpy.

Accuracy is printed and never asserted: these are development cases, and nothing may be tuned on them. Of the bundled
networks it is asserted what they must leave empty. The folder is named by STROKESEG_CASES.
"""

from __future__ import annotations

import csv
import json
import os
import random
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import stroke_phantom as phantom
from numpy.typing import NDArray
from scipy import ndimage
from typer.testing import CliRunner

from strokeseg import Case, Segmentation, segment
from strokeseg.case import discover
from strokeseg.cli import app

FOLDER = os.environ.get("STROKESEG_CASES", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="STROKESEG_CASES names no folder of real scans: they are not tested")

MODEL = "adc-threshold"
DIFFUSION = ("isles22_0001", "isles22_0009", "control_dwi")
WITH_REFERENCE = ("isles22_0001", "isles22_0009")
NUMBERS = range(1, 48)
SOME = NUMBERS if os.environ.get("STROKESEG_SOAK") else sorted(random.Random(9).sample(NUMBERS, 8))
FILES = {
    "lesion_mask.nii.gz",
    "lesion_probability.nii.gz",
    "lesions.csv",
    "summary.json",
    "run.json",
    "overlay.png",
    "report.html",
}
NEIGHBOURS = np.ones((3, 3, 3))


@lru_cache(maxsize=8)
def read(name: str, file: str) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Voxels and affine of a file, by nibabel alone."""
    image: Any = nib.load(Path(FOLDER) / name / f"{file}.nii.gz")
    return np.asarray(image.dataobj), np.asarray(image.affine)


def arguments(name: str, *more: str | Path) -> list[str]:
    """The command line for a case folder, as its names tell the roles."""
    (found,) = discover(Path(FOLDER) / name)
    return ["segment", *(str(x) for role, path in found.files.items() for x in (f"--{role}", path)), *map(str, more)]


def run(*given: str) -> dict[str, Any]:
    """The command line with one JSON object as its answer."""
    done = CliRunner().invoke(app, [*given, "--format", "json"])
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer | {"exit_code": done.exit_code}


def result_of(folder: Path, name: str, *more: str | Path) -> dict[str, Any]:
    """Segment a case folder into `folder`; the answer, without an error."""
    answer = run(*arguments(name, "--model", MODEL, "--out", folder, *more))
    assert answer["exit_code"] == 0, answer
    return answer


# --- files and grids


@pytest.mark.parametrize("name", DIFFUSION)
def test_all_files_are_written_on_the_grid_of_the_dwi(name: str, tmp_path: Path) -> None:
    answer = result_of(tmp_path / "out", name)
    assert {p.name for p in (tmp_path / "out").iterdir()} == FILES == set(answer["files"])
    dwi: Any = nib.load(Path(FOLDER) / name / "dwi.nii.gz")
    for file in ("lesion_mask.nii.gz", "lesion_probability.nii.gz"):
        written: Any = nib.load(tmp_path / "out" / file)
        assert written.shape == dwi.shape[:3]
        np.testing.assert_array_equal(written.affine, dwi.affine)
    mask = np.asarray(nib.load(tmp_path / "out" / "lesion_mask.nii.gz").dataobj)
    probability = np.asarray(nib.load(tmp_path / "out" / "lesion_probability.nii.gz").dataobj)
    assert set(np.unique(mask)) <= {0, 1}
    assert probability.min() >= 0.0
    assert probability.max() <= 1.0
    voxel_ml = abs(float(np.linalg.det(dwi.affine[:3, :3]))) / 1000
    with (tmp_path / "out" / "lesions.csv").open(encoding="utf-8", newline="") as file_of_rows:
        rows = list(csv.DictReader(file_of_rows))
    figures = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))["result"]
    assert len(rows) == figures["lesion_count"] == ndimage.label(mask, NEIGHBOURS)[1]
    assert sum(int(row["voxels"]) for row in rows) == mask.sum()
    assert figures["volume_ml"] == pytest.approx(mask.sum() * voxel_ml, abs=1e-4)
    print(f"\n{name}: {figures['volume_ml']:.2f} ml in {len(rows)} lesions, not judged")


# --- figures against the reference, counted again without the engine


def counted_again(mask: NDArray[Any], reference: NDArray[Any], voxel_ml: float) -> dict[str, float]:
    """Dice, volumes and lesion-wise F1 as ISLES'22 counts it."""
    p, g = mask > 0, reference > 0
    p_labels, p_count = ndimage.label(p, NEIGHBOURS)
    g_labels, g_count = ndimage.label(g, NEIGHBOURS)
    found = sum(1 for k in range(1, g_count + 1) if p[g_labels == k].any())
    false = sum(1 for k in range(1, p_count + 1) if not g[p_labels == k].any())
    return {
        "dice": 2 * float((p & g).sum()) / float(p.sum() + g.sum()),
        "reference_ml": float(g.sum()) * voxel_ml,
        "prediction_ml": float(p.sum()) * voxel_ml,
        "avd_ml": abs(float(p.sum()) - float(g.sum())) * voxel_ml,
        "reference_lesions": g_count,
        "prediction_lesions": p_count,
        "ald": abs(p_count - g_count),
        "lesion_f1": found / (found + (g_count - found + false) / 2),
    }


@pytest.mark.parametrize("name", WITH_REFERENCE)
def test_figures_are_those_that_plain_counting_gives(name: str, tmp_path: Path) -> None:
    mask_file = Path(FOLDER) / name / "mask.nii.gz"
    metrics = result_of(tmp_path / "out", name, "--reference", mask_file)["metrics"]
    assert metrics == json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    reference, affine = read(name, "mask")
    mask = np.asarray(nib.load(tmp_path / "out" / "lesion_mask.nii.gz").dataobj)
    again = counted_again(mask, reference, abs(float(np.linalg.det(affine[:3, :3]))) / 1000)
    for figure, value in again.items():
        assert metrics[figure] == pytest.approx(value, rel=1e-9), figure
    shown = ", ".join(f"{figure} {value:.4g}" for figure, value in again.items())
    print(f"\n{name}, development case, not judged: {shown}")


@pytest.mark.parametrize("options", [(), ("--threshold", "0.001", "--min-lesion-ml", "0")])
def test_empty_reference_has_figures_of_its_own(options: tuple[str, ...], tmp_path: Path) -> None:
    dwi, affine = read("control_dwi", "dwi")
    empty = phantom.save_nifti(tmp_path / "empty.nii", np.zeros(dwi.shape[:3], np.uint8), affine)
    metrics = result_of(tmp_path / "out", "control_dwi", "--reference", empty, *options)["metrics"]
    mask = np.asarray(nib.load(tmp_path / "out" / "lesion_mask.nii.gz").dataobj)
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    assert metrics["reference_voxels"] == metrics["reference_lesions"] == metrics["lesion_false_negatives"] == 0
    assert metrics["false_positive_ml"] == metrics["avd_ml"] == pytest.approx(float(mask.sum()) * voxel_ml)
    assert metrics["lesion_false_positives"] == metrics["ald"] == ndimage.label(mask, NEIGHBOURS)[1]
    # What is divided by the reference's lesions has no value; overlap is 0, or has no value where both are empty.
    for figure in ("sensitivity", "lesion_recall", "pr_auc", "hd95_mm"):
        assert metrics[figure] is None, figure
    for figure in ("dice", "iou", "precision", "lesion_f1"):
        assert metrics[figure] == (0.0 if mask.any() else None), figure
    assert metrics["outcome"] == ("reference empty" if mask.any() else "both empty")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert ("the reference has no lesion" if mask.any() else "neither the reference nor the prediction") in page
    print(f"\ncontrol_dwi, empty reference: {metrics['false_positive_ml']:.2f} ml false positive {options}, not judged")


# --- what is refused and what is said


def test_t1_alone_is_taken_by_the_t1_model_and_a_healthy_brain_stays_nearly_empty(tmp_path: Path) -> None:
    answer = run(*arguments("control_t1", "--out", tmp_path / "out"))
    assert answer["exit_code"] == 0, answer
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["model"]["name"] == "t1"
    assert "experimental_model" in {w["code"] for w in summary["warnings"]}
    mask: Any = nib.load(tmp_path / "out" / "lesion_mask.nii.gz")
    _, affine = read("control_t1", "t1")
    np.testing.assert_array_equal(mask.affine, affine)
    assert float(np.count_nonzero(np.asarray(mask.dataobj))) * abs(float(np.linalg.det(affine[:3, :3]))) / 1000 <= 1.0


@pytest.mark.parametrize("name", DIFFUSION)
def test_the_acute_network_leaves_healthy_and_lower_brain_alone(name: str) -> None:
    """At most 0.5 ml in the volunteer, at most 1 ml of false positives in the lower two fifths of a whole brain."""
    (found,) = discover(Path(FOLDER) / name)
    result = segment(Case.from_files(**{r: found.files[r] for r in ("dwi", "adc")}))
    assert result.card.name == "dwi-adc"
    voxel_ml = abs(float(np.linalg.det(result.affine[:3, :3]))) / 1000
    false = result.mask > 0
    if name not in WITH_REFERENCE:
        assert float(false.sum()) * voxel_ml <= 0.5
        return
    false &= read(name, "mask")[0] == 0
    index = np.argwhere(result.brain)
    height = index @ result.affine[2, :3]
    low, high = float(height.min()), float(height.max())
    lower = (np.argwhere(false) @ result.affine[2, :3]) < low + 0.4 * (high - low)
    print(f"\n{name}: {false.sum() * voxel_ml:.2f} ml false positive, not judged; {lower.sum() * voxel_ml:.2f} ml low")
    assert float(lower.sum()) * voxel_ml <= 1.0


def test_flair_is_said_to_be_unused_and_changes_nothing(tmp_path: Path) -> None:
    answer = result_of(tmp_path / "with", "isles22_0009")
    (warning,) = [w for w in answer["summary"]["warnings"] if w["code"] == "unused_input"]
    assert "FLAIR" in warning["message"]
    assert {i["role"]: i["used"] for i in answer["summary"]["inputs"]} == {"dwi": True, "adc": True, "flair": False}
    files = [x for r in ("dwi", "adc") for x in (f"--{r}", f"{FOLDER}/isles22_0009/{r}.nii.gz")]
    run("segment", *files, "--model", MODEL, "--out", str(tmp_path / "without"))
    for name in ("lesion_mask.nii.gz", "lesion_probability.nii.gz", "lesions.csv"):
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()


# --- orientations


@lru_cache(maxsize=1)
def plain() -> Segmentation:
    """isles22_0009 as it is stored."""
    folder = Path(FOLDER) / "isles22_0009"
    return segment(Case.from_files(dwi=folder / "dwi.nii.gz", adc=folder / "adc.nii.gz"), model=MODEL)


@pytest.mark.parametrize("number", SOME)
def test_every_orientation_of_a_real_scan_gives_the_same_lesions_in_the_patient(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every third ADC is stored in yet another orientation than its DWI.
    orientations = {"dwi": number, "adc": number if number % 3 else (11 * number + 17) % 48}
    files = {
        role: phantom.save_nifti(tmp_path / f"{role}.nii", *read("isles22_0009", role), phantom.ALL_48[k])
        for role, k in orientations.items()
    }
    result, expected = segment(Case.from_files(**files), model=MODEL), plain()
    assert len(result.lesions) == len(expected.lesions) > 0
    for seen, wanted in zip(result.lesions, expected.lesions, strict=True):
        assert abs(seen.voxels - wanted.voxels) <= 1
        np.testing.assert_allclose(seen.centroid_ras_mm, wanted.centroid_ras_mm, atol=0.1)
        assert seen.side == wanted.side
    voxel_ml = expected.grid.voxel_ml
    assert result.volume_ml == pytest.approx(expected.volume_ml, abs=1.001 * voxel_ml)
    there, _ = phantom.stored_as(expected.mask, expected.affine, phantom.ALL_48[number])
    assert (result.mask != there).sum() <= 1

    monkeypatch.setattr(Segmentation, "overlay", lambda self: b"no picture here")
    written: Any = nib.load(result.save(tmp_path / "out")["lesion_mask.nii.gz"])
    dwi: Any = nib.load(files["dwi"])
    assert written.shape == dwi.shape
    np.testing.assert_array_equal(written.affine, dwi.affine)
