"""A result folder from the command line and from the API: every file is there, and all tell the same story."""

from __future__ import annotations

import base64
import csv
import json
import math
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import stroke_phantom as phantom
from numpy.typing import NDArray
from scipy import ndimage
from typer.testing import CliRunner

import strokeseg
from strokeseg.cli import app
from strokeseg.errors import Cancelled, InputError
from strokeseg.events import Monitor
from strokeseg.metrics import evaluate_masks
from strokeseg.models import ModelStore
from strokeseg.postprocess import decide
from strokeseg.report import title_lines

CARD = ModelStore().card("adc-threshold")
WITH_REFERENCE = {
    "lesion_mask.nii.gz",
    "lesion_probability.nii.gz",
    "lesions.csv",
    "summary.json",
    "run.json",
    "overlay.png",
    "report.html",
    "metrics.json",
}


@dataclass(frozen=True)
class Run:
    """The patient's files, the result in memory, and a result folder that the command line wrote."""

    files: dict[str, Any]
    reference: Path
    result: strokeseg.Segmentation
    folder: Path

    def array(self, name: str) -> NDArray[Any]:
        return np.asarray(nib.load(self.folder / name).dataobj)

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    @property
    def rows(self) -> list[dict[str, str]]:
        with (self.folder / "lesions.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    @property
    def voxel_ml(self) -> float:
        return abs(float(np.linalg.det(nib.load(self.files["dwi"]).affine[:3, :3]))) / 1000


def command(*arguments: str | Path) -> Any:
    """The command line in this process."""
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("Quintessa-Zzyzx")
    scans = phantom.stroke_phantom()
    files = {
        r: phantom.save_nifti(folder / f"Zzyzx_{r}.nii", getattr(scans, r), scans.affine) for r in ("dwi", "adc", "b0")
    }
    truth = (scans.right | scans.left).astype(np.uint8)
    reference = phantom.save_nifti(folder / "Zzyzx_mask.nii", truth, scans.affine)
    given = [x for role, path in files.items() for x in (f"--{role}", path)]
    done = command(
        "segment", *given, "--model", CARD.name, "--reference", reference, "--per-class", "--out", folder / "result"
    )
    assert done.exit_code == 0, done.output
    result = strokeseg.segment(strokeseg.Case.from_files(**files), model=CARD.name)
    return Run(files, reference, result, folder / "result")


def decided_by_hand(probability: NDArray[Any], threshold: float, minimum_ml: float, voxel_ml: float) -> NDArray[Any]:
    """At least the threshold, without components smaller than the minimum; written without the engine."""
    above = probability >= threshold
    labels, _ = ndimage.label(above, np.ones((3, 3, 3)))
    sizes_ml = np.bincount(labels.ravel()) * voxel_ml
    sizes_ml[0] = 0.0
    return np.asarray((sizes_ml >= minimum_ml)[labels] & above)


# --- what the command line writes


def test_every_file_of_a_result_is_written(run: Run) -> None:
    (lesion_class,) = CARD.classes
    of_class = f"lesion_probability_{lesion_class.name.replace(' ', '-')}.nii.gz"
    assert {p.name for p in run.folder.iterdir()} == WITH_REFERENCE | {of_class}
    # One class: its own map is that of any lesion.
    np.testing.assert_array_equal(run.array(of_class), run.array("lesion_probability.nii.gz"))


def test_mask_table_and_summary_have_one_volume(run: Run) -> None:
    summary, mask = run.json("summary.json")["result"], run.array("lesion_mask.nii.gz")
    volumes = [float(row["volume_ml"]) for row in run.rows]
    assert summary["lesion_count"] == len(volumes) == 2
    assert summary["volume_ml"] == pytest.approx(sum(volumes), abs=1e-4 * len(volumes))
    assert summary["volume_ml"] == pytest.approx(mask.sum() * run.voxel_ml, abs=1e-4)
    assert sum(int(row["voxels"]) for row in run.rows) == mask.sum() > 0
    by_side = {row["side"]: float(row["volume_ml"]) for row in run.rows}
    assert list(by_side) == ["right", "left"]
    for side in ("right", "left"):
        assert summary[f"{side}_ml"] == pytest.approx(by_side[side], abs=1e-4)
    assert summary["midline_ml"] == 0


def test_mask_is_the_probability_at_the_threshold_without_small_lesions(run: Run) -> None:
    mask, probability = run.array("lesion_mask.nii.gz"), run.array("lesion_probability.nii.gz")
    assert (mask.dtype.name, probability.dtype.name) == ("uint8", "float32")
    assert set(np.unique(mask)) == {0, 1}
    assert probability.min() == 0.0
    assert 0.5 < probability.max() <= 1.0
    model = run.json("summary.json")["model"]
    assert (model["threshold"], model["minimum_lesion_ml"]) == (CARD.decision.threshold, CARD.minimum_lesion_ml)
    np.testing.assert_array_equal(
        mask, decided_by_hand(probability, model["threshold"], model["minimum_lesion_ml"], run.voxel_ml)
    )
    assert not probability[~run.result.brain].any()


def test_table_tells_what_the_images_hold_in_each_lesion(run: Run) -> None:
    labels, _ = ndimage.label(run.array("lesion_mask.nii.gz"), np.ones((3, 3, 3)))
    affine = nib.load(run.files["dwi"]).affine
    images = {role: np.asarray(nib.load(run.files[role]).dataobj) for role in ("dwi", "adc")}
    for row in run.rows:
        inside = labels == labels[tuple(_nearest(affine, row, labels))]
        assert inside.sum() == int(row["voxels"])
        assert float(row["adc_mean_1e-3_mm2_per_s"]) == pytest.approx(images["adc"][inside].mean(), abs=6e-4)
        assert float(row["adc_min_1e-3_mm2_per_s"]) == pytest.approx(images["adc"][inside].min(), abs=6e-4)
        below = (images["adc"][inside] < 0.62).sum() * run.voxel_ml
        assert float(row["adc_below_0.62_ml"]) == pytest.approx(below, abs=6e-4)
        assert float(row["dwi_mean"]) == pytest.approx(images["dwi"][inside].mean(), abs=6e-3)
        mean = run.array("lesion_probability.nii.gz")[inside].mean()
        assert float(row["probability_mean"]) == pytest.approx(mean, abs=6e-4)


def _nearest(affine: NDArray[Any], row: dict[str, str], labels: NDArray[Any]) -> NDArray[np.int64]:
    """Index of the lesion voxel that is nearest to the centroid in a row."""
    index = np.argwhere(labels)
    centroid = [float(row[f"centroid_{a}_mm"]) for a in "ras"]
    distance = np.linalg.norm(index @ affine[:3, :3].T + affine[:3, 3] - centroid, axis=1)
    return np.asarray(index[distance.argmin()])


def test_metrics_file_is_what_evaluating_the_files_gives(run: Run) -> None:
    written = run.json("metrics.json")
    mask, reference = run.array("lesion_mask.nii.gz"), np.asarray(nib.load(run.reference).dataobj)
    again = evaluate_masks(
        mask,
        reference,
        nib.load(run.reference).affine,
        probability=run.array("lesion_probability.nii.gz"),
        brain=run.result.brain,
    )
    assert written == json.loads(json.dumps(again.to_dict()))
    assert written["dice"] == pytest.approx(2 * (mask & reference).sum() / (mask.sum() + reference.sum()))
    assert written["reference_ml"] == pytest.approx(reference.sum() * run.voxel_ml)
    assert (written["reference_lesions"], written["prediction_lesions"], written["lesion_f1"]) == (2, 2, 1.0)

    # The command sees two files and no brain: what is counted over the brain is counted over the grid there.
    done = command(
        "evaluate", "--prediction", run.folder / "lesion_mask.nii.gz", "--reference", run.reference, "--format", "json"
    )
    assert done.exit_code == 0, done.output
    of_files = json.loads(done.stdout)["metrics"]
    by_domain = {"domain", "domain_voxels", "specificity", "accuracy", "mcc", "pr_auc"}
    assert {k for k in written if written[k] != of_files[k]} <= by_domain


def test_report_shows_the_numbers_and_carries_the_picture(run: Run) -> None:
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    result = run.json("summary.json")["result"]
    assert f"{result['volume_ml']:.3g}" in page
    for row in run.rows:
        assert f"{float(row['volume_ml']):.2f}" in page
    assert f"{run.json('metrics.json')['dice']:.2f}" in page
    assert CARD.title in page
    assert "Research use only" in page
    picture = (run.folder / "overlay.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert base64.b64encode(picture).decode("ascii") in page


def test_result_tells_no_path_and_no_name_unless_asked_to(run: Run, tmp_path: Path) -> None:
    for name in ("summary.json", "run.json", "lesions.csv", "report.html", "metrics.json"):
        assert "zzyzx" not in (run.folder / name).read_text(encoding="utf-8").lower()
    given = [x for role in ("dwi", "adc") for x in (f"--{role}", run.files[role])]
    done = command("segment", *given, "--model", CARD.name, "--identify", "--out", tmp_path / "named")
    assert done.exit_code == 0, done.output
    summary = json.loads((tmp_path / "named" / "summary.json").read_text(encoding="utf-8"))
    assert summary["identity"] == {"dwi": "Zzyzx_dwi.nii", "adc": "Zzyzx_adc.nii"}


def test_command_line_and_api_write_the_same_bytes(run: Run, tmp_path: Path) -> None:
    run.result.save(tmp_path / "api")
    assert {p.name for p in (tmp_path / "api").iterdir()} == WITH_REFERENCE - {"metrics.json"}
    for name in ("lesion_mask.nii.gz", "lesion_probability.nii.gz", "lesions.csv", "summary.json", "overlay.png"):
        assert (tmp_path / "api" / name).read_bytes() == (run.folder / name).read_bytes(), name


# --- thresholds


def test_threshold_and_smallest_lesion_are_those_asked_for(run: Run) -> None:
    case = strokeseg.Case.from_files(**run.files)
    for threshold, minimum_ml in ((0.9, 0.0), (0.2, 0.5), (0.5, 5.0), (0.5, 1000.0)):
        result = strokeseg.segment(case, model=CARD.name, threshold=threshold, min_lesion_ml=minimum_ml)
        np.testing.assert_array_equal(result.probability, run.result.probability)
        expected = decided_by_hand(result.probability, threshold, minimum_ml, run.voxel_ml)
        np.testing.assert_array_equal(result.mask, expected)
        assert result.summary["model"]["threshold"] == threshold
        assert result.summary["model"]["minimum_lesion_ml"] == minimum_ml
        assert result.volume_ml == pytest.approx(expected.sum() * run.voxel_ml)
        if minimum_ml == 5.0:
            assert [lesion.side for lesion in result.lesions] == ["right"]


def test_result_without_a_lesion_says_so(run: Run, tmp_path: Path) -> None:
    case = strokeseg.Case.from_files(**run.files)
    written = strokeseg.segment(case, model=CARD.name, min_lesion_ml=1000.0).save(tmp_path / "none")
    assert written["lesions.csv"].read_text(encoding="utf-8").count("\n") == 1
    assert json.loads(written["summary.json"].read_text(encoding="utf-8"))["result"]["volume_ml"] == 0.0
    assert "No lesion above the threshold" in written["report.html"].read_text(encoding="utf-8")
    assert not np.asarray(nib.load(written["lesion_mask.nii.gz"]).dataobj).any()


def test_deciding_again_from_the_stored_probability_gives_the_mask_and_less_at_a_higher_threshold(run: Run) -> None:
    probability, affine = run.array("lesion_probability.nii.gz"), nib.load(run.files["dwi"]).affine
    smallest = CARD.minimum_lesion_ml
    again = decide(probability, threshold=CARD.decision.threshold, minimum_lesion_ml=smallest, affine=affine)
    np.testing.assert_array_equal(again, run.array("lesion_mask.nii.gz"))
    thresholds = (0.05, 0.2, 0.4, 0.5, 0.6, 0.8, 0.95, 1.0)
    masks = [decide(probability, threshold=t, minimum_lesion_ml=smallest, affine=affine) for t in thresholds]
    for lower, higher in pairwise(masks):
        assert not (higher > lower).any()
    sizes = [int(m.sum()) for m in masks]
    assert sizes[0] > sizes[3] > sizes[-2] > sizes[-1] == 0


def test_threshold_of_zero_does_not_leave_the_brain(run: Run) -> None:
    result = strokeseg.segment(strokeseg.Case.from_files(**run.files), model=CARD.name, threshold=0.0)
    assert not result.mask[~result.brain].any()


# --- saving


def test_saving_twice_to_one_folder_replaces_the_result(run: Run, tmp_path: Path) -> None:
    case = strokeseg.Case.from_files(**run.files)
    run.result.save(tmp_path / "out", per_class=True)
    strokeseg.segment(case, model=CARD.name, min_lesion_ml=5.0).save(tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == WITH_REFERENCE - {"metrics.json"}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["result"]["lesion_count"] == 1
    assert np.asarray(nib.load(tmp_path / "out" / "lesion_mask.nii.gz").dataobj).sum() == run.result.lesions[0].voxels


def test_folder_with_somebody_elses_file_is_refused_and_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(InputError, match=r"thesis\.txt"):
        run.result.save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_cancelled_run_leaves_nothing_behind(run: Run, tmp_path: Path) -> None:
    stop: list[int] = []
    monitor = Monitor(cancelled=lambda: bool(stop))
    case = strokeseg.Case.from_files(**run.files)
    result = strokeseg.segment(case, model=CARD.name, monitor=monitor)
    stop.append(1)
    with pytest.raises(Cancelled):
        result.save(tmp_path / "out")
    with pytest.raises(Cancelled):
        strokeseg.segment(case, model=CARD.name, monitor=monitor)
    assert not any(tmp_path.iterdir())


# --- the public API


def test_public_names_work_from_the_package_itself(run: Run) -> None:
    result = run.result
    assert isinstance(result, strokeseg.Segmentation)
    assert result.volume_ml == pytest.approx(math.fsum(lesion.volume_ml for lesion in result.lesions))
    assert result.mask.shape == result.probability.shape == result.class_probabilities.shape[1:] == result.grid.shape
    np.testing.assert_allclose(result.class_probabilities.sum(axis=0), 1.0, atol=1e-6)
    assert {"prepare", "model", "postprocess", "lesions"} <= set(result.timing)
    assert CARD.name in [card.name for card in strokeseg.list_models()]
    default = strokeseg.segment(strokeseg.Case.from_files(dwi=run.files["dwi"], adc=run.files["adc"]))
    assert default.card.name in ("dwi-adc", "adc-threshold")
    assert default.mask.shape == result.mask.shape
    metrics = strokeseg.evaluate(run.folder / "lesion_mask.nii.gz", run.reference)
    assert isinstance(metrics, strokeseg.Metrics)
    assert metrics.dice == run.json("metrics.json")["dice"]


def test_importing_the_package_loads_no_library() -> None:
    code = (
        "import sys, strokeseg\n"
        "heavy = {'numpy', 'scipy', 'nibabel', 'SimpleITK', 'matplotlib', 'torch', 'typer', 'rich', 'jinja2'}\n"
        "print(sorted(heavy & set(sys.modules)), sorted(strokeseg.__all__) == dir(strokeseg))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "True"]


def test_b_value_that_the_user_gives_stands_on_the_picture(run: Run) -> None:
    case = strokeseg.Case.from_files(**run.files, b_value=1000.0)
    result = strokeseg.segment(case, model=CARD.name, b_value=1000.0)
    assert any("b = 1000" in line for line in title_lines(result.summary))
