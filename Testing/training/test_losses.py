"""Terms of the loss: 0 for a perfect answer, numbers computed by hand, and a gradient where nothing is to be found."""

import math

import pytest

torch = pytest.importorskip("torch", reason="losses need torch, which is not installed")

from strokeseg_training.losses import (  # noqa: E402
    LossTerms,
    Target,
    binary_entropy,
    component_weights,
    small_lesion_entropy,
    tissue_entropy,
    tversky,
)
from strokeseg_training.recipe_parts import Loss  # noqa: E402

ALL = {"dice": 1, "bce": 1, "tversky": 1, "small": 1, "tissue": 0.2}
TWO_MM = (2.0, 2.0, 2.0)
VOXEL_ML = 0.008


def row(values):
    """(1, n, 1, 1) of one patient."""
    return torch.tensor(values, dtype=torch.float64).float().view(1, -1, 1, 1)


def logit(values):
    return torch.logit(row(values))


def everywhere(values):
    return torch.ones(1, len(values), 1, 1, dtype=torch.bool)


def target(lesion, inside=None, tissue=None, smallest_ml=0.05):
    lesion = lesion if isinstance(lesion, torch.Tensor) else row(lesion)
    inside = torch.ones_like(lesion, dtype=torch.bool) if inside is None else inside
    tissue = torch.zeros_like(lesion, dtype=torch.uint8) if tissue is None else tissue
    return Target(lesion, inside, component_weights(lesion, VOXEL_ML, smallest_ml), tissue)


def tissue_logits(labels, certainty=40.0):
    return torch.nn.functional.one_hot(labels.long(), 4).movedim(-1, 1) * certainty


# --- overlap


def test_tversky_of_a_hand_computed_case():
    # Probabilities .8 .6 .1 against 1 0 1: shared .9, too much .6, too little 1.1.
    values = tversky(
        logit([0.8, 0.6, 0.1]), row([1, 0, 1]), everywhere([1] * 3),
        false_positives=0.7, false_negatives=0.3, smooth=0.0,
    )  # fmt: skip
    assert values.tolist() == pytest.approx([1 - 0.9 / (0.9 + 0.7 * 0.6 + 0.3 * 1.1)])


def test_dice_is_tverskys_case_of_halves_and_smooth_is_added_to_both_sides():
    # Dice of .9 shared, sums 1.5 and 2: 1.8 / 3.5.
    given = (logit([0.8, 0.6, 0.1]), row([1, 0, 1]), everywhere([1] * 3))
    halves = {"false_positives": 0.5, "false_negatives": 0.5}
    assert tversky(*given, **halves, smooth=0.0).item() == pytest.approx(1 - 1.8 / 3.5)
    assert tversky(*given, **halves, smooth=2.0).item() == pytest.approx(1 - 2.9 / 3.75)


def test_a_fractional_label_is_met_by_its_own_fraction():
    fractions = [0.25, 0.5, 0.9, 0.01]
    met = tversky(
        logit(fractions), row(fractions), everywhere(fractions), false_positives=0.7, false_negatives=0.3, smooth=0.1
    )
    assert met.item() == pytest.approx(0.0, abs=1e-6)
    # Both sharper and blunter answers cost.
    for answer in ([0.99] * 4, [0.1] * 4):
        assert (
            tversky(
                logit(answer),
                row(fractions),
                everywhere(fractions),
                false_positives=0.5,
                false_negatives=0.5,
                smooth=0.1,
            ).item()
            > 0.2
        )


def test_only_voxels_inside_the_brain_count():
    inside = torch.tensor([True, True, False]).view(1, 3, 1, 1)
    options = {"false_positives": 0.5, "false_negatives": 0.5, "smooth": 0.0}
    with_outside = tversky(logit([0.8, 0.6, 0.9]), row([1, 0, 1]), inside, **options)
    without = tversky(logit([0.8, 0.6]), row([1, 0]), everywhere([1, 1]), **options)
    assert with_outside.item() == pytest.approx(without.item())
    assert binary_entropy(logit([0.8, 0.6, 0.1]), row([1, 0, 1]), inside).item() == pytest.approx(
        -(math.log(0.8) + math.log(0.4)) / 2
    )


# --- entropies


def test_binary_entropy_of_hand_computed_cases():
    assert binary_entropy(logit([0.8, 0.6]), row([1, 0]), everywhere([1, 1])).item() == pytest.approx(
        -(math.log(0.8) + math.log(0.4)) / 2
    )
    # A label of one half answered with 0.8: log 2 is the label's own.
    expected = -(math.log(0.8) + math.log(0.2)) / 2 - math.log(2)
    assert binary_entropy(logit([0.8]), row([0.5]), everywhere([1])).item() == pytest.approx(expected)
    assert binary_entropy(logit([0.5]), row([0.5]), everywhere([1])).item() == pytest.approx(0.0, abs=1e-7)


def test_tissue_entropy_leaves_out_what_is_ignored():
    logits = torch.tensor([[2.0, 0.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0]]).T.reshape(1, 4, 2, 1, 1)
    first = math.log(math.exp(2) + 3) - 2
    second = math.log(math.exp(3) + 3)
    labels = torch.tensor([0, 2], dtype=torch.uint8).view(1, 2, 1, 1)
    assert tissue_entropy(logits, labels).item() == pytest.approx((first + second) / 2)
    labels[0, 1] = 255
    assert tissue_entropy(logits, labels).item() == pytest.approx(first)


# --- every lesion counts


def test_weights_are_the_inverse_volume_of_each_lesion_shared_by_their_number():
    lesion = torch.zeros(1, 12, 3, 3)
    lesion[0, 0:2] = 1  # 18 voxels
    lesion[0, 5, 0, 0] = lesion[0, 6, 1, 1] = 0.5  # 2 voxels that touch at a corner, volume 1
    lesion[0, 9, 2, 2] = 0.09  # too little to be a lesion
    weights = component_weights(lesion, voxel_ml=1.0, smallest_ml=0.5)
    assert weights[0, 0:2].unique().tolist() == pytest.approx([1 / 18 / 2])
    assert weights[0, 5, 0, 0].item() == pytest.approx(1 / 1 / 2)
    assert weights[0, 6, 1, 1].item() == pytest.approx(1 / 1 / 2)
    assert int((weights > 0).sum()) == 20


def test_a_lesion_below_the_smallest_counts_in_proportion_to_its_volume():
    lesion = row([1, 0, 1, 1, 1, 1])
    # At 0.01 ml a voxel: 0.01 ml against 0.02 ml at least, and 0.04 ml.
    weights = component_weights(lesion, voxel_ml=0.01, smallest_ml=0.02).flatten()
    assert weights.tolist() == pytest.approx([1 / 2 / 2, 0, *[1 / 4 / 2] * 4])


def test_patients_have_their_own_lesions():
    lesion = torch.cat([row([1, 0, 1]), row([0, 1, 0]), row([0, 0, 0])])
    weights = component_weights(lesion, voxel_ml=1.0, smallest_ml=0.1)
    assert weights.flatten(1).tolist() == [[0.5, 0, 0.5], [0, 1, 0], [0, 0, 0]]


def test_a_missed_embolus_of_a_twentieth_ml_costs_as_much_as_a_missed_territory():
    # 7 voxels of 8 mm3 are 0.056 ml, 700 are 5.6 ml.
    lesion = torch.zeros(1, 40, 40, 2)
    lesion[0, 0, 0:7, 0] = 1
    lesion[0, 10:30, 0:35, 1] = 1
    weights = component_weights(lesion, VOXEL_ML, smallest_ml=0.05)
    found = torch.full_like(lesion, -6.0) + 12.0 * lesion
    small_missed, large_missed = found.clone(), found.clone()
    small_missed[0, 0, 0:7, 0] = -6.0
    large_missed[0, 10:30, 0:35, 1] = -6.0
    one, other = (small_lesion_entropy(m, lesion, weights).item() for m in (small_missed, large_missed))
    assert one == pytest.approx(other, rel=1e-5)
    assert one == pytest.approx((math.log(1 + math.exp(6)) + math.log(1 + math.exp(-6))) / 2, rel=1e-5)
    # The mean over voxels hardly sees it.
    brain = torch.ones_like(lesion, dtype=torch.bool)
    overlooked = binary_entropy(small_missed, lesion, brain).item() / binary_entropy(large_missed, lesion, brain).item()
    assert overlooked < 0.05


# --- all of them


def test_a_perfect_answer_costs_nothing():
    lesion = torch.zeros(2, 6, 6, 6)
    lesion[0, 1:4, 1:4, 1:4] = 1
    lesion[0, 4, 1:4, 1:4] = 0.4
    labels = torch.arange(432).reshape(2, 6, 6, 6).remainder(4).to(torch.uint8)
    logits = {"lesion": torch.logit(lesion, eps=1e-6).unsqueeze(1), "tissue": tissue_logits(labels)}
    terms = LossTerms(Loss.model_validate(ALL), TWO_MM)(logits, target(lesion, tissue=labels))
    assert set(terms) == {"loss", *ALL}
    for value in terms.values():
        assert value.item() == pytest.approx(0.0, abs=1e-3)


def test_the_sum_is_weighted_and_the_terms_are_not():
    logits = {"lesion": torch.zeros(1, 1, 4, 1, 1), "tissue": torch.zeros(1, 4, 4, 1, 1)}
    terms = LossTerms(Loss.model_validate({**ALL, "dice": 3}), TWO_MM)(logits, target([1, 0, 0, 0]))
    assert terms["tissue"].item() == pytest.approx(math.log(4))
    assert terms["bce"].item() == pytest.approx(math.log(2))
    expected = 3 * terms["dice"] + terms["bce"] + terms["tversky"] + terms["small"] + 0.2 * terms["tissue"]
    assert terms["loss"].item() == pytest.approx(expected.item())


def test_terms_without_weight_are_left_out_and_smoothness_is_a_volume():
    loss = LossTerms(Loss.model_validate({"bce": 0, "smooth_ml": 0.016}), TWO_MM)
    terms = loss({"lesion": torch.zeros(1, 1, 4, 1, 1)}, target([1, 0, 0, 0]))
    assert set(terms) == {"loss", "dice"}
    # 0.016 ml are two voxels: 1 - (0.5 + 2) / (0.5 + 0.5 * 1.5 + 0.5 * 0.5 + 2)
    assert terms["dice"].item() == pytest.approx(1 - 2.5 / 3.5)


def test_a_healthy_patient_teaches():
    logits = torch.full((1, 1, 8, 8, 8), -1.0, requires_grad=True)
    for term in ("dice", "bce", "tversky"):
        only = {name: float(name == term) for name in ALL}
        loss = LossTerms(Loss.model_validate(only), TWO_MM)({"lesion": logits}, target(torch.zeros(1, 8, 8, 8)))
        (gradient,) = torch.autograd.grad(loss["loss"], logits)
        # Towards less lesion, in every voxel.
        assert float(gradient.min()) > 1e-7


def test_a_missed_lesion_teaches_more():
    lesion = torch.zeros(1, 8, 8, 8)
    lesion[0, 4, 4, 4] = 1
    logits = torch.full((1, 1, 8, 8, 8), -5.0, requires_grad=True)
    for term in ("dice", "bce", "tversky", "small"):
        only = {name: float(name == term) for name in ALL}
        loss = LossTerms(Loss.model_validate(only), TWO_MM)({"lesion": logits}, target(lesion))
        (gradient,) = torch.autograd.grad(loss["loss"], logits)
        assert float(gradient[0, 0, 4, 4, 4]) < 0
        assert float(gradient[0, 0, 4, 4, 4]) == float(gradient.min())


def test_two_batches_of_one_give_the_gradient_of_one_of_two():
    torch.manual_seed(0)
    lesion, labels = (torch.rand(2, 4, 4, 4) > 0.7).float(), torch.randint(0, 4, (2, 4, 4, 4)).to(torch.uint8)
    logits = torch.randn(2, 1, 4, 4, 4, requires_grad=True)
    tissue = torch.randn(2, 4, 4, 4, 4)
    loss = LossTerms(Loss.model_validate(ALL), TWO_MM)
    whole = target(lesion, tissue=labels)
    both = loss({"lesion": logits, "tissue": tissue}, whole)["loss"]
    one, other = (
        loss(
            {"lesion": logits[k : k + 1], "tissue": tissue[k : k + 1]},
            Target(*(v[k : k + 1] for v in whole)),
        )["loss"]
        for k in range(2)
    )
    torch.testing.assert_close(both, (one + other) / 2)
