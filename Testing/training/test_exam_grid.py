"""Synthetic patients lie on the grid that their task's recipe trains on."""

import pytest

from strokeseg_training.generator.scene import GRIDS
from strokeseg_training.recipe import load_recipe


@pytest.mark.parametrize("task", ["dwi-adc", "t1"])
def test_the_generator_draws_on_the_recipes_grid(task):
    assert GRIDS[task][1] == tuple(load_recipe(task).preparation.spacing_mm)
