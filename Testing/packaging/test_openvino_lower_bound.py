"""The oldest OpenVINO that StrokeSeg accepts runs a model from files to files, and gives what the installed one gives.

It is installed once, beside the checkout's own environment, into a folder of its own. Where that cannot be done the
tests are skipped, and fail where ``CI`` is ``true``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import stroke_phantom as stroke
from tiny_model import make_tiny_model

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "StrokeSegExtension"
RUN = """
import sys
from strokeseg.runtime import openvino
print("with", openvino.ov.__version__, file=sys.stderr)
from strokeseg.__main__ import main
main()
"""


def lower_bound() -> str:
    """The version that ``pyproject.toml`` names."""
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    (bound,) = (m[1] for d in needed if (m := re.fullmatch(r"openvino>=([0-9.]+)", d)))
    return bound


@pytest.fixture(scope="module")
def old_openvino() -> Path:
    """The folder of packages that holds it."""
    folder = ROOT / f".venv-openvino-{lower_bound()}"
    if folder.is_dir():
        return folder
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    # Without what it depends on: numpy is there, and it declares an older one than it needs.
    install = ["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target", str(partial)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *install, f"openvino=={lower_bound()}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        shutil.rmtree(partial, ignore_errors=True)
        reason = f"OpenVINO {lower_bound()} cannot be installed: {done.stderr.strip().splitlines()[-1:]}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        partial.rename(folder)
    except OSError:  # another run of the tests was faster
        shutil.rmtree(partial)
        assert folder.is_dir()
    return folder


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in a home of its own, and the files of a patient."""
    for library in ("torch", "onnx"):
        pytest.importorskip(library, reason=f"the model is exported by the test, which needs {library}")
    place = tmp_path_factory.mktemp("lower-bound")
    make_tiny_model(place / "home" / "models" / "tiny", channels=(4, 8), spacing_mm=5.0)
    scans = stroke.stroke_phantom()
    for role in ("dwi", "adc"):
        stroke.save_nifti(place / f"{role}.nii", getattr(scans, role), scans.affine)
    return place


def segmented(given: Path, out: str, packages: Path | None) -> tuple[str, Path]:
    """The result of the command line; the version of OpenVINO that computed it, and the folder."""
    paths = [*([packages] if packages else []), ENGINE]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "STROKESEG_HOME": str(given / "home")}
    environment |= {"STROKESEG_THREADS": "1", "OMP_NUM_THREADS": "1", "STROKESEG_COMPILED_CACHE": "1"}
    scans = [f"--{role}={given / f'{role}.nii'}" for role in ("dwi", "adc")]
    done = subprocess.run(
        [sys.executable, "-c", RUN, "segment", *scans, "--model=tiny", "--device=cpu", f"--out={given / out}"],
        capture_output=True, encoding="utf-8", env=environment, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((given / out / "run.json").read_text(encoding="utf-8"))["runtime"] == "openvino"
    assert json.loads((given / out / "summary.json").read_text(encoding="utf-8"))["warnings"] == []
    (version,) = re.findall(r"^with ([0-9.]+)", done.stderr, re.M)
    return version, given / out


def test_the_oldest_openvino_finds_what_the_installed_one_finds(old_openvino: Path, given: Path) -> None:
    old, by_old = segmented(given, "old", old_openvino)
    new, by_new = segmented(given, "new", None)
    assert old.startswith(lower_bound())
    assert new != old
    probabilities = [np.asarray(nib.load(d / "lesion_probability.nii.gz").dataobj) for d in (by_old, by_new)]
    # A probability moves by a quarter of its logit at most; logits of two runtimes may differ by 1e-3.
    np.testing.assert_allclose(*probabilities, atol=2.5e-4)
    masks = [np.asarray(nib.load(d / "lesion_mask.nii.gz").dataobj) for d in (by_old, by_new)]
    clear = np.abs(probabilities[1] - 0.5) > 2.5e-4
    np.testing.assert_array_equal(masks[0][clear], masks[1][clear])
    assert 0 < masks[1].mean() < 0.9
    # What one version compiled is never handed to the other; a second run takes its own from the cache.
    assert len(list((given / "home" / "cache" / "compiled").glob("*.blob"))) == 2
    _, again = segmented(given, "again", old_openvino)
    for name in ("lesion_mask.nii.gz", "lesion_probability.nii.gz", "lesions.csv"):
        assert (again / name).read_bytes() == (by_old / name).read_bytes()
    assert len(list((given / "home" / "cache" / "compiled").glob("*.blob"))) == 2
