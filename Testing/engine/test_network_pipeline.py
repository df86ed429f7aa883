"""A network from files to files: model folder, both runtimes, all strategies, 48 orientations, warm runs, options."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import stroke_phantom as stroke
import tiny_model as tiny

from strokeseg import Case, Segmentation, segment
from strokeseg.errors import DependencyError, InputError, ModelError
from strokeseg.events import Monitor
from strokeseg.job import SegmentJob, SegmentOptions, run_segment
from strokeseg.models import ModelStore
from strokeseg.predict.strategies import Tiling, whole, windows
from strokeseg.predict.strategies.windows import positions
from strokeseg.results import is_result
from strokeseg.runtime import open_runtime

ENGINE = Path(__file__).resolve().parents[2] / "StrokeSegExtension"
NUMBERS = range(1, 48) if os.environ.get("STROKESEG_SOAK") else sorted(random.Random(6).sample(range(1, 48), 6))
# The logit dwi_ratio - 1.5 adc is about 1 in the phantom's infarcts and below 0 elsewhere.
OFFSET = -0.5
SIDED: dict[str, dict[str, Any]] = {"linear": {"tta": True}, "tiny": {}}


@dataclass(frozen=True)
class Patient:
    """The phantom's files, as the phantom gives them, and where the models are."""

    files: dict[str, str]
    phantom: Any
    home: Path


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Patient:
    place = tmp_path_factory.mktemp("networks")
    models = place / "home" / "models"
    tiny.make_tiny_model(models / "tiny", channels=(4, 8), spacing_mm=5.0)
    tiny.make_tiny_model(models / "tissue", name="tissue", channels=(4, 8), spacing_mm=5.0, tissue=True)
    tiny.make_linear_model(models / "linear", spacing_mm=4.0, offset=OFFSET)
    tiny.make_convolution_model(models / "convolution", spacing_mm=5.0)
    scans = stroke.stroke_phantom()
    files = {r: str(stroke.save_nifti(place / f"{r}.nii", getattr(scans, r), scans.affine)) for r in ("dwi", "adc")}
    return Patient(files, scans, place / "home")


@pytest.fixture(scope="module", autouse=True)
def _at_home(patient: Patient) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("STROKESEG_HOME", str(patient.home))
        monkeypatch.setenv("STROKESEG_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def plain(patient: Patient, _at_home: None) -> dict[str, Segmentation]:
    """What is found in the files as the phantom gives them."""
    return {model: found(patient, model, **options) for model, options in SIDED.items()}


def found(patient: Patient, model: str, **options: Any) -> Segmentation:
    return segment(Case.from_files(dwi=patient.files["dwi"], adc=patient.files["adc"]), model, "cpu", **options)


def same_lesions(seen: Segmentation, expected: Segmentation) -> None:
    assert len(seen.lesions) == len(expected.lesions)
    for one, other in zip(seen.lesions, expected.lesions, strict=True):
        assert abs(one.voxels - other.voxels) <= 1
        np.testing.assert_allclose(one.centroid_ras_mm, other.centroid_ras_mm, atol=0.1)
        assert one.side == other.side


# --- the same lesions, however they are stored and run


def test_the_linear_network_finds_the_infarcts(patient: Patient) -> None:
    result = found(patient, "linear")
    assert [x.side for x in result.lesions] == ["right", "left"]
    truth = patient.phantom.right | patient.phantom.left
    overlap = 2 * (result.mask.astype(bool) & truth).sum() / (result.mask.sum() + truth.sum())
    assert overlap > 0.95


@pytest.mark.parametrize("number", NUMBERS)
def test_every_orientation_gives_the_same_lesions_through_a_network(
    number: int, patient: Patient, plain: dict[str, Segmentation], tmp_path: Path
) -> None:
    scans = patient.phantom
    files = {
        r: stroke.save_nifti(tmp_path / f"{r}.nii", getattr(scans, r), scans.affine, stroke.ALL_48[number])
        for r in ("dwi", "adc")
    }
    for model, options in SIDED.items():
        stored = segment(Case.from_files(**files), model, "cpu", **options)
        expected, _ = stroke.stored_as(plain[model].probability, plain[model].affine, stroke.ALL_48[number])
        np.testing.assert_allclose(stored.probability, expected, atol=2e-3)
        if model == "linear":
            same_lesions(stored, plain[model])


@pytest.mark.parametrize("model", ["tiny", "convolution", "linear"])
def test_openvino_and_torch_give_the_same_mask(model: str, patient: Patient) -> None:
    results = {name: found(patient, model, runtime=name) for name in ("openvino", "torch")}
    for name, result in results.items():
        assert result.run["runtime"] == name
        assert result.run["precision"] == "fp32"
    one, other = results.values()
    np.testing.assert_allclose(one.probability, other.probability, atol=1e-3)
    away = np.abs(one.probability - one.summary["model"]["threshold"]) > 1e-3
    np.testing.assert_array_equal(one.mask[away], other.mask[away])


@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_windows_give_what_one_pass_gives_through_both_runtimes(runtime: str, patient: Patient) -> None:
    whole = found(patient, "linear", runtime=runtime)
    windows = found(patient, "linear", runtime=runtime, window=(24, 20, 16), overlap=0.5)
    assert (whole.run["strategy"], windows.run["strategy"]) == ("whole", "windows")
    np.testing.assert_allclose(windows.probability, whole.probability, atol=2e-5)
    same_lesions(windows, whole)


@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_windows_of_convolutions_equal_one_pass_farther_than_their_reach_from_inner_faces(
    runtime: str, patient: Patient
) -> None:
    engine = open_runtime(ModelStore().card("convolution"), "cpu", runtime=runtime)
    shape, tiling = (37, 30, 20), Tiling((24, 20, 16), 0.25, batch=3)
    channels = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    everything, nobody = np.ones(shape, dtype=bool), lambda done, total: None
    expected = whole(engine, channels, nobody)["lesion"][0, 0]
    seen = windows(engine, channels, everything, tiling, nobody)["lesion"][0, 0]
    far, reach = everything.copy(), tiny.CONVOLUTION_REACH_VOXELS
    for axis, place in {
        (a, f) for s in positions(shape, tiling) for a in range(3) for f in (s[a], s[a] + tiling.window[a])
    }:
        if 0 < place < shape[axis]:
            np.moveaxis(far, axis, 0)[max(place - reach, 0) : place + reach] = False
    assert far.sum() > 200
    np.testing.assert_allclose(seen[far], expected[far], atol=1e-5)
    assert np.abs(seen - expected).max() > 1e-4


# --- what comes with it


def test_uncertainty_and_tissue_come_out_where_asked_for_and_trained(
    patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Segmentation, "overlay", lambda self: b"no picture here")
    result = found(patient, "tissue", uncertainty=True)
    assert result.uncertainty is not None
    assert result.tissue is not None
    assert result.uncertainty.shape == result.tissue.shape == result.mask.shape
    assert 0 <= result.uncertainty.min() < result.uncertainty.max() <= 1
    assert not result.uncertainty[~result.brain].any()
    assert set(np.unique(result.tissue)) <= {0, 1, 2, 3}
    files = result.save(tmp_path / "out")
    assert is_result(tmp_path / "out")
    stored = nib.load(files["uncertainty.nii.gz"])
    np.testing.assert_allclose(np.asarray(stored.dataobj), result.uncertainty, atol=1e-6)
    run = json.loads(files["run.json"].read_text(encoding="utf-8"))
    assert run["mirrored"] is True
    assert run["strategy"] == "whole"
    assert "one pass over" in run["strategy_reason"]
    plain = found(patient, "tissue")
    assert plain.uncertainty is None
    assert plain.run["mirrored"] is False
    assert "uncertainty.nii.gz" not in plain.save(tmp_path / "plain")


def test_bytes_are_the_same_every_time(patient: Patient) -> None:
    options: dict[str, Any] = {"window": (24, 24, 16), "tta": True}
    one, other = (found(patient, "tiny", **options) for _ in range(2))
    assert one.probability.tobytes() == other.probability.tobytes()


# --- warm


def test_a_second_run_of_a_process_opens_nothing_again(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def counted(*arguments: Any, **options: Any) -> Any:
        opened.append(options["precision"])
        return open_runtime(*arguments, **options)

    monkeypatch.setattr("strokeseg.runtime.kept.open_runtime", counted)
    job = SegmentJob(patient.files, None, SegmentOptions(model="linear", device="cpu"))
    first, second = run_segment(job, Monitor()), run_segment(job, Monitor())
    assert opened == ["fp32"]
    assert first.result.probability.tobytes() == second.result.probability.tobytes()
    assert "load" in second.result.timing
    other = SegmentOptions(model="linear", device="cpu", runtime="torch")
    assert run_segment(SegmentJob(patient.files, None, other), Monitor()).result.run["runtime"] == "torch"
    assert len(opened) == 2


# --- options


def test_the_command_line_has_every_option(patient: Patient, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--strategy", "windows", "--window", "24,24,16", "--overlap", "0.5", "--uncertainty"]
    options += ["--precision", "fp32", "--runtime", "openvino", "--device", "cpu", "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ENGINE), "OMP_NUM_THREADS": "1"}
    files = [word for role, path in patient.files.items() for word in (f"--{role}", path)]
    command = [sys.executable, "-m", "strokeseg", "segment", *files, "--model", "linear", *options]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, env=environment)
    assert done.returncode == 0, done.stderr
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert (run["strategy"], run["mirrored"], run["precision"], run["runtime"]) == ("windows", True, "fp32", "openvino")
    assert "24x24x16" in run["strategy_reason"]
    assert "50%" in run["strategy_reason"]
    assert (out / "uncertainty.nii.gz").exists()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("window", [32, 32], "three whole numbers"),
        ("window", [32, 32, 0], "three whole numbers"),
        ("window", [32, 32, 32.5], "three whole numbers"),
        ("window", "32,32,32", "three whole numbers"),
        ("window", [True, True, True], "three whole numbers"),
        ("overlap", 0.95, "0 to 0.9"),
        ("overlap", -0.1, "0 to 0.9"),
        ("tta", 1, "bool"),
        ("uncertainty", "yes", "bool"),
        ("precision", 16, "str"),
        ("runtime", None, "str"),
    ],
)
def test_options_of_requests_are_checked(name: str, value: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        SegmentOptions.checked({name: value})
    assert f"'{name}'" in caught.value.title
    assert said in caught.value.cause


def test_good_options_of_requests_are_taken() -> None:
    options = SegmentOptions.checked({"window": [96, 96, 48], "overlap": 0.5, "tta": True, "precision": "bf16"})
    assert (options.window, options.overlap, options.tta, options.precision) == ((96, 96, 48), 0.5, True, "bf16")
    assert SegmentOptions.checked({"window": None}).window is None


def test_what_cannot_be_run_is_refused_before_the_scans_are_prepared(patient: Patient) -> None:
    heard: list[Any] = []
    for options, kind in (
        ({"strategy": "spiral"}, ModelError),
        ({"strategy": "slices"}, ModelError),
        ({"strategy": "whole", "window": (32, 32, 32)}, InputError),
        ({"precision": "fp64"}, DependencyError),
        ({"runtime": "onnx"}, DependencyError),
    ):
        with pytest.raises(kind):
            found(patient, "linear", monitor=Monitor(heard.append), **options)
    assert not [e for e in heard if getattr(e, "stage", "") == "prepare"]
