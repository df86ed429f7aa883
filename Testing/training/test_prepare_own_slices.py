"""A recipe whose network takes the scan's own slices: prepared sets hold these, and each patient's own spacing."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="data sets of PyTorch need torch")

from data_phantom import recipe_data, write_patients

from strokeseg_training.prepare import PreparedSet, prepare_data_set
from strokeseg_training.prepare.batches import SliceItems
from strokeseg_training.prepare.recipe import data_recipe_of


def test_a_prepared_patient_has_the_slices_of_his_scan(tmp_path):
    write_patients(tmp_path / "data", seeds=range(1))
    data = recipe_data(slices={"size": [32, 32]}, split={"train": 1.0, "val": 0, "test": 0})
    data["preparation"]["spacing_mm"] = [5.0, 5.0, 0]
    recipe = data_recipe_of(data, "test")
    prepare_data_set(recipe, tmp_path / "data", tmp_path / "set")
    prepared = PreparedSet(tmp_path / "set")
    assert prepared.manifest["spacing_mm"] == [5.0, 5.0, 0.0]
    (patient,) = prepared.patients
    assert patient.grid.spacing_mm == pytest.approx((5.0, 5.0, 6.0))
    # The scan has 22 slices of 6 mm around 0, so that every plane lies an odd number of 3 mm from there.
    heights = patient.grid.to_world(np.array([[0.0, 0, k] for k in range(patient.grid.shape[2])]))[:, 2]
    np.testing.assert_allclose((heights / 3.0) % 2, 1.0, atol=1e-4)
    items = SliceItems(prepared, "train")
    assert items[0].channels.shape == (1, 32, 32, 1)
    assert len(items) == patient.facts["planes"]["axial"]["brain"][1] - patient.facts["planes"]["axial"]["brain"][0] + 1
