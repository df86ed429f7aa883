"""Which models take an exam: those whose grid is that of its patients, or the patients' own along an axis."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the exam needs torch, which is not installed")

from tiny_model import make_linear_model  # noqa: E402

from strokeseg.errors import ModelError  # noqa: E402
from strokeseg_training.channels import make_channels  # noqa: E402
from strokeseg_training.exam_model import open_predictor  # noqa: E402

patient = runpy.run_path(str(Path(__file__).with_name("fit_phantom.py")))["patient"]
# Voxels of 4 mm.
SAMPLE = patient(1, (16, 16, 16))


def grid(*spacing_mm):
    return {"spacing_mm": list(spacing_mm), "margin_voxels": 2, "multiple": 4, "channels": ["dwi_ratio", "adc"]}


def expected(sample):
    ratio, adc = make_channels(sample, ("dwi_ratio", "adc"))[0].numpy()
    return ratio - 1.5 * adc


@pytest.mark.parametrize("spacing_mm", [(4, 4, 0), (0, 0, 0)])
def test_a_model_takes_patients_on_their_own_spacing_where_it_has_none(tmp_path, spacing_mm):
    make_linear_model(tmp_path / "linear", preparation=grid(*spacing_mm))
    _, predict = open_predictor(tmp_path / "linear")
    np.testing.assert_allclose(predict(SAMPLE)[0], expected(SAMPLE), atol=1e-4)


def test_a_model_of_another_spacing_along_one_axis_is_refused_with_both(tmp_path):
    make_linear_model(tmp_path / "linear", preparation=grid(4, 2, 0))
    _, predict = open_predictor(tmp_path / "linear")
    with pytest.raises(ModelError, match="cannot take this exam") as caught:
        predict(SAMPLE)
    assert "4x2xown mm" in caught.value.cause
    assert "4x4x4 mm" in caught.value.cause


def test_a_network_for_slices_sees_the_patients_slice_by_slice(tmp_path):
    make_linear_model(tmp_path / "linear", preparation=grid(4, 4, 0))
    path = tmp_path / "linear" / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "strategy": "slices"}))
    _, predict = open_predictor(tmp_path / "linear")
    found, inside = predict(SAMPLE)[0], SAMPLE.brain[0].numpy()
    np.testing.assert_allclose(found[inside], expected(SAMPLE)[inside], atol=1e-4)
    # A slice without brain is not run; the network would have said 0.
    assert not inside[..., 0].any()
    assert (found[..., 0] < 0).all()
