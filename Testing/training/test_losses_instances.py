"""Instances and centres: numbers computed by hand, and gradients where StrokeFormer's own loss had none."""

import pytest

torch = pytest.importorskip("torch", reason="losses need torch, which is not installed")
pytest.importorskip("pydantic", reason="recipes need pydantic, which is not installed")

from strokeseg_training.losses import LabelLoss  # noqa: E402
from strokeseg_training.recipe_losses import NamedLoss  # noqa: E402


def ici(probability, label, **arguments):
    logits = torch.logit(probability.double(), eps=1e-9).float()[None, None]
    return LabelLoss(NamedLoss(name="ici", arguments=arguments))({"lesion": logits}, label[None])


def two_lesions():
    """A plane of 20 x 20 with lesions of 16 and of 4 voxels."""
    label = torch.zeros(20, 20, dtype=torch.uint8)
    label[2:6, 2:6] = 1
    label[14:16, 14:16] = 1
    return label


def only(term):
    return {name: float(name == term) for name in ("overall", "instance", "centre")}


def test_each_lesion_is_scored_for_itself():
    label = two_lesions()
    probability = 0.8 * (label == 1).float()
    probability[14:16, 14:16] = 0.0
    probability[2:6, 6] = 0.6
    terms = ici(probability, label, smooth=1e-6)
    # 16 voxels of .8 and 4 of .6 that touch; the other lesion is missed.
    first = 2 * 12.8 / (12.8 + 2.4 + 16)
    assert terms["instance"].item() == pytest.approx(1 - first / 2, rel=1e-4)
    assert terms["overall"].item() == pytest.approx(1 - 2 * 12.8 / (15.2 + 20), rel=1e-4)
    total = 0.25 * terms["overall"] + 0.5 * terms["instance"] + 0.25 * terms["centre"]
    assert terms["loss"].item() == pytest.approx(total.item())


def test_one_predicted_lesion_over_two_labelled_ones_is_shared_out():
    label = torch.zeros(12, 3, dtype=torch.uint8)
    label[0:3, 1] = 1
    label[6:11, 1] = 1
    probability = torch.zeros(12, 3)
    probability[0:11, 1] = 0.9
    terms = ici(probability, label, smooth=1e-6)
    # Of each: its own voxels, and the three between; never the other lesion's.
    each = [2 * 0.9 * n / (0.9 * (n + 3) + n) for n in (3, 5)]
    assert terms["instance"].item() == pytest.approx(1 - sum(each) / 2, rel=1e-4)


def test_lesions_that_touch_at_a_corner_are_one():
    label = torch.zeros(6, 6, 6, dtype=torch.uint8)
    label[1, 1, 1] = label[2, 2, 2] = 1
    probability = torch.zeros(6, 6, 6)
    probability[1, 1, 1] = 0.9
    assert ici(probability, label, smooth=1e-6)["instance"].item() == pytest.approx(1 - 1.8 / 2.9, rel=1e-4)


def test_centres_are_compared_by_cubes_around_them():
    label = torch.zeros(30, 30, dtype=torch.uint8)
    label[9:12, 9:12] = 1
    probability = torch.zeros(30, 30)
    probability[11:14, 9:12] = 0.75
    terms = ici(probability, label, smooth=1e-6)
    # Squares of 11 x 11 around (10, 10) and (12, 10), the second .75 high: they share 9 x 11.
    assert terms["centre"].item() == pytest.approx(1 - 2 * 0.75 * 99 / (0.75 * 121 + 121), rel=1e-4)


def test_only_the_largest_predicted_lesions_have_a_cube():
    label = torch.zeros(40, 5, dtype=torch.uint8)
    probability = torch.zeros(40, 5)
    probability[2, 2], probability[30:32, 2] = 0.9, 0.6
    both = ici(probability, label, half_width=1, smooth=1.0)["centre"].item()
    largest = ici(probability, label, half_width=1, smooth=1.0, most=1)["centre"].item()
    assert both == pytest.approx(1 - 1 / (9 * 0.9 + 9 * 0.6 + 1), rel=1e-4)
    assert largest == pytest.approx(1 - 1 / (9 * 0.6 + 1), rel=1e-4)


@pytest.mark.parametrize("term", ["overall", "instance", "centre"])
def test_every_term_has_a_gradient(term):
    label = two_lesions()
    logits = torch.full((1, 1, 20, 20), -3.0)
    # The first lesion is found, one beside it is not there.
    logits[0, 0, 2:6, 2:6] = 1.0
    logits[0, 0, 9:12, 3:6] = 1.0
    logits.requires_grad_()
    value = LabelLoss(NamedLoss(name="ici", arguments=only(term)))({"lesion": logits}, label[None])["loss"]
    (gradient,) = torch.autograd.grad(value, logits)
    assert bool(gradient.isfinite().all())
    assert float(gradient[0, 0, 2:6, 2:6].max()) < -1e-6
    if term != "instance":
        assert float(gradient[0, 0, 9:12, 3:6].min()) > 1e-6
    if term != "centre":
        # The lesion that is missed.
        assert float(gradient[0, 0, 14:16, 14:16].max()) < -1e-6


def test_without_a_lesion_instances_are_the_whole_volume():
    probability = torch.full((6, 6, 6), 0.1)
    terms = ici(probability, torch.zeros(6, 6, 6, dtype=torch.uint8))
    assert terms["instance"].item() == terms["overall"].item() == pytest.approx(1 - 1 / 22.6, rel=1e-4)
    assert terms["centre"].item() == 0.0


def test_two_kinds_of_lesion_are_lesion():
    label = two_lesions()
    label[14:16, 14:16] = 2
    logits = torch.nn.functional.one_hot(label.long(), 3).movedim(-1, 0).float()[None] * 30
    assert LabelLoss(NamedLoss(name="ici"))({"lesion": logits}, label[None])["loss"].item() < 1e-6
