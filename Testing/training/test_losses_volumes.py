"""Losses of the networks for volumes: what their originals got wrong, and deep supervision by the network itself."""

import math

import pytest

torch = pytest.importorskip("torch", reason="losses need torch, which is not installed")
pytest.importorskip("pydantic", reason="recipes need pydantic, which is not installed")
pytest.importorskip("monai", reason="published losses need MONAI, which is not installed")

from strokeseg.networks import build  # noqa: E402
from strokeseg_training.losses import LabelLoss  # noqa: E402
from strokeseg_training.recipe_losses import LOSSES, FocalTverskyBoundary, NamedLoss  # noqa: E402

AUXILIARY = {"aux4": 0.6, "aux3": 0.4, "aux2": 0.3}
VOLUMES = ("focal-tversky-boundary", "dice-focal", "dice-ce", "ici")
SIZE = (16, 16, 16)


def loss(name, auxiliary=None, **arguments):
    return LabelLoss(NamedLoss(name=name, arguments=arguments, auxiliary=auxiliary or {}))


def block(size=SIZE):
    """A patient with a lesion of 4x4x4 voxels."""
    label = torch.zeros(1, *size, dtype=torch.uint8)
    label[0, 4:8, 4:8, 4:8] = 1
    return label


def logits_of(probability, size=SIZE):
    """One logit a voxel, everywhere the same probability of lesion."""
    return torch.full((1, 1, *size), math.log(probability / (1 - probability)))


def slope(computed, logits, label):
    leaf = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(computed({"lesion": leaf}, label)["loss"], leaf)
    return gradient


# --- errors of the originals


@pytest.mark.parametrize("name", VOLUMES)
def test_logits_between_0_and_1_are_logits_all_the_same(name):
    # 4.8: an original took a batch of logits within 0 and 1 for probabilities. A logit of 0 is one half.
    label = block()
    undecided = loss(name)({"lesion": torch.zeros(1, 1, *SIZE)}, label)["loss"]
    certain = loss(name)({"lesion": (label.float() * 2 - 1).unsqueeze(1) * 20}, label)["loss"]
    half_way = loss(name)({"lesion": label.float().unsqueeze(1)}, label)["loss"]  # logits 0 and 1
    assert certain.item() < 1e-3
    assert 0.02 < half_way.item() < undecided.item()


def test_ici_takes_its_dice_of_probabilities():
    # 3.8: of raw logits, a perfect answer cost 1.03 and not 0.
    label = block()
    terms = loss("ici")({"lesion": (label.float() * 2 - 1).unsqueeze(1) * 20}, label)
    assert terms["loss"].item() == pytest.approx(0.0, abs=1e-5)
    assert all(terms[t].item() == pytest.approx(0.0, abs=1e-5) for t in ("overall", "instance", "centre"))


@pytest.mark.parametrize("term", ["instance", "centre"])
def test_instances_and_centres_of_ici_have_a_gradient(term):
    # 3.8: both terms were of thresholded values, whose gradient is 0.
    weights = {"overall": 0, "instance": 0, "centre": 0, term: 1}
    label, given = block(), logits_of(0.3)
    given[0, 0, 5:9, 4:8, 4:8] = 1.0  # a lesion drawn a voxel beside
    gradient = slope(loss("ici", **weights), given, label)
    assert gradient.abs().sum() > 1e-3
    # What was wrongly drawn is to fall; the centre's cube stands where the lesion was drawn.
    assert (
        gradient[0, 0, 8, 4:8, 4:8].sum() > 0 if term == "instance" else gradient[0, 0, 5:9, 4:8, 4:8].abs().sum() > 0
    )


@pytest.mark.parametrize("name", VOLUMES)
def test_a_patch_without_lesion_is_learnt_from(name):
    # 4.3: an original's empty patches had a gradient of 1e-8; every voxel of ours is pushed down.
    gradient = slope(loss(name), logits_of(0.02), torch.zeros(1, *SIZE, dtype=torch.uint8))
    assert bool((gradient > 0).all())
    assert gradient.sum().item() > 1e-4


def test_a_perfect_answer_of_dice_and_focal_costs_nothing():
    # 5.8: an original's class weights left a floor of one half.
    label = block()
    perfect = torch.stack([1 - label.float(), label.float()], 1) * 40 - 20
    assert loss("dice-focal")({"lesion": perfect}, label)["loss"].item() == pytest.approx(0.0, abs=1e-5)
    assert loss("dice-focal", divided_twice=True)({"lesion": perfect}, label)["dice"].item() == pytest.approx(0.5)


# --- numbers known beforehand


def test_a_fifth_that_is_missed_costs_what_the_figure_of_the_original_says():
    # systems.md, 4.6: at 20 % missed, Dice costs 0.111 and Tversky with 0.85 for what is missed 0.175.
    label = torch.zeros(1, 10, 10, 10, dtype=torch.uint8)
    label[0, :, :5, :] = 1
    given = torch.full((1, 1, 10, 10, 10), -20.0)
    given[0, 0, :8, :5, :] = 20.0
    tversky = loss("focal-tversky-boundary", boundary=0, gamma=1, smooth=1e-6)({"lesion": given}, label)
    assert tversky["focal_tversky"].item() == pytest.approx(0.175, abs=5e-4)
    dice = loss("dice")({"lesion": given}, label)
    lesion = loss("dice-ce", entropy=0, squared=False)({"lesion": given}, label)
    assert lesion["dice"].item() == pytest.approx(0.111, abs=5e-4)
    assert dice["dice"].item() < lesion["dice"].item()  # a mean with the background flatters


def test_the_gradient_fades_or_stays_as_the_exponent_says():
    # 4.3: gamma itself lets nearly right patients rest, its inverse keeps pushing them.
    label = block()
    nearly = (label.float() * 2 - 1).unsqueeze(1) * 6
    own, inverse = (
        slope(loss("focal-tversky-boundary", boundary=0, exponent=e), nearly, label).abs().sum().item()
        for e in ("gamma", "inverse")
    )
    assert inverse > 3 * own > 0


def test_the_defaults_are_the_published_ones():
    a = FocalTverskyBoundary()
    assert (a.focal_tversky, a.boundary, a.false_positives, a.false_negatives, a.gamma) == (0.7, 0.3, 0.25, 0.85, 2)
    ici = LOSSES["ici"]()
    assert ici.weights == {"overall": 0.25, "instance": 0.5, "centre": 0.25}
    focal = LOSSES["dice-focal"]()
    assert (focal.weights, focal.model_dump()["gamma"]) == ({"dice": 1.0, "focal": 1.0}, 2.0)


# --- deep supervision


def test_the_networks_own_further_outputs_are_weighed_on_the_full_labels():
    torch.manual_seed(0)
    network = build("attention-unet-3d", features=2, dropout=0.0)
    size = (32, 32, 32)
    images, label = torch.randn(1, 2, *size), block(size)
    computed = loss("focal-tversky-boundary", AUXILIARY)
    network.train()
    outputs = network(images)
    assert {tuple(outputs[n].shape[2:]) for n in AUXILIARY} == {(4,) * 3, (8,) * 3, (16,) * 3}
    terms = computed(outputs, label)
    assert computed.columns == ("loss", "focal_tversky", "boundary", *AUXILIARY)
    main = 0.7 * terms["focal_tversky"] + 0.3 * terms["boundary"]
    added = sum(weight * terms[name] for name, weight in AUXILIARY.items())
    assert terms["loss"].item() == pytest.approx((main + added).item(), rel=1e-5)
    for name in AUXILIARY:
        wide = torch.nn.functional.interpolate(outputs[name], size=size, mode="trilinear", align_corners=False)
        alone = loss("focal-tversky-boundary")({"lesion": wide}, label)["loss"]
        assert terms[name].item() == pytest.approx(alone.item(), rel=1e-5)
    terms["loss"].backward()
    without = [n for n, p in network.named_parameters() if p.grad is None]
    assert not without
    network.eval()
    with torch.no_grad():
        given = network(images)
    plain = given if isinstance(given, dict) else {"lesion": given}
    assert set(computed(plain, label, auxiliary=False)) == {"loss", "focal_tversky", "boundary"}
