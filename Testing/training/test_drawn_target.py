"""What an expert draws of voxels that are lesion in part."""

import pytest
import torch

from strokeseg_training.fit.batches import drawn
from strokeseg_training.recipe import load_recipe

SHARES = torch.tensor([0.0, 0.2, 0.275, 0.35, 0.5, 1.0])


def test_half_about_half_is_the_share_itself():
    assert torch.equal(drawn(SHARES, 0.5, 0.5), SHARES)


def test_the_target_rises_about_the_share_from_which_experts_draw():
    assert drawn(SHARES, 0.35, 0.15).tolist() == pytest.approx([0.0, 0.0, 0.25, 0.5, 1.0, 1.0], abs=1e-6)


def test_the_bundled_recipe_draws_generously():
    recipe = load_recipe("dwi-adc")
    assert (recipe.drawn_from, recipe.drawn_within) == (0.35, 0.15)
