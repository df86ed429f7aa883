"""Published losses by name: 0 for a perfect answer, numbers computed by hand, MONAI's where equal, and the quirks."""

import math

import pytest

torch = pytest.importorskip("torch", reason="losses need torch, which is not installed")
pydantic = pytest.importorskip("pydantic", reason="recipes need pydantic, which is not installed")
pytest.importorskip("monai", reason="published losses need MONAI, which is not installed")

from monai.losses import DiceCELoss, DiceLoss, FocalLoss, TverskyLoss  # noqa: E402

from strokeseg.errors import InputError  # noqa: E402
from strokeseg_training.losses import IGNORED, LabelLoss  # noqa: E402
from strokeseg_training.recipe_errors import not_valid  # noqa: E402
from strokeseg_training.recipe_losses import LOSSES, NamedLoss  # noqa: E402

SIZES = {"2D": (12, 10), "3D": (8, 7, 6)}
AUXILIARY = {"aux4": 0.6, "aux3": 0.4, "aux2": 0.3}


def loss(name, auxiliary=None, **arguments):
    return LabelLoss(NamedLoss(name=name, arguments=arguments, auxiliary=auxiliary or {}))


def of(computed, logits, label, **options):
    return computed({"lesion": logits}, label, **options)


def lesion_label(size, classes=2):
    """Two patients: the first with a block of lesion (and of every further class), the second without."""
    label = torch.zeros(2, *size, dtype=torch.uint8)
    label[0, 2:5, 2:5] = 1
    for other in range(2, classes):
        label[0, 6, other] = other
    return label


def certain(label, classes, logit=20.0):
    """Logits of a perfect answer."""
    if classes == 2:
        return (label.float() * 2 - 1).unsqueeze(1) * logit
    return torch.nn.functional.one_hot(label.long(), classes).movedim(-1, 1).float() * logit


def row(values):
    """(1, n, 1): one patient, as logits or labels."""
    return torch.tensor(values).view(1, -1, 1)


def logit(probabilities):
    return torch.logit(torch.tensor(probabilities, dtype=torch.float64)).float().view(1, 1, -1, 1)


def random_case(classes, size=(9, 8, 7), seed=3):
    drawn = torch.Generator().manual_seed(seed)
    label = torch.randint(0, max(classes, 2), (2, *size), generator=drawn)
    return torch.randn(2, classes, *size, generator=drawn) * 2, label


# --- every one of them


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", LOSSES)
def test_a_perfect_answer_costs_nothing(name, classes, size):
    label = lesion_label(size, classes)
    terms = of(loss(name), certain(label, classes), label)
    # Logits of 20 leave 2e-9 a voxel to the wrong class.
    for term, value in terms.items():
        assert value.item() == pytest.approx(0.0, abs=2e-6), term


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", LOSSES)
def test_a_patch_without_lesion_teaches_every_voxel_to_be_background(name, channels, size):
    logits = torch.full((1, channels, *size), -4.0)
    if channels > 1:
        logits[:, 0] = 4.0
    logits.requires_grad_()
    value = of(loss(name), logits, torch.zeros(1, *size, dtype=torch.uint8))["loss"]
    (gradient,) = torch.autograd.grad(value, logits)
    assert bool(gradient.isfinite().all())
    # The last channel is the lesion's, or a kind of it.
    assert float(gradient[:, -1].min()) > 1e-8
    assert float(gradient[:, -1].sum()) > 1e-5


@pytest.mark.parametrize("name", LOSSES)
def test_what_stands_where_nothing_counts_changes_neither_value_nor_gradient(name):
    logits, label = random_case(1)
    label[:, 4:] = IGNORED
    other = logits.clone()
    other[:, :, 4:] = 9.0
    values = []
    for each in (logits, other):
        each.requires_grad_()
        value = of(loss(name), each, label)["loss"]
        (gradient,) = torch.autograd.grad(value, each)
        assert float(gradient[:, :, 4:].abs().max()) == 0.0
        values.append(value.item())
    assert values[0] == values[1] > 0.0
    cropped = of(loss(name), logits.detach()[:, :, :4], label[:, :4])["loss"].item()
    assert cropped == pytest.approx(values[0], rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_two_logits_say_the_same_as_their_difference(name):
    two, label = random_case(2)
    one = two[:, 1:] - two[:, :1]
    first, second = (of(loss(name), logits, label) for logits in (one, two))
    for term, value in first.items():
        assert value.item() == pytest.approx(second[term].item(), rel=1e-5), term


@pytest.mark.parametrize("name", ["dice-ce", "focal-tversky-boundary", "ici"])
def test_losses_of_single_patients_are_the_mean_of_their_patients(name):
    logits, label = random_case(1)
    both = of(loss(name), logits, label)["loss"]
    single = [of(loss(name), logits[k : k + 1], label[k : k + 1])["loss"] for k in range(2)]
    torch.testing.assert_close(both, (single[0] + single[1]) / 2)


def test_pooled_losses_can_be_those_of_single_patients():
    logits, label = random_case(1)
    for name in ("dice-bce", "dice-focal"):
        computed = loss(name, pooled=False)
        both = of(computed, logits, label)["loss"]
        single = [of(computed, logits[k : k + 1], label[k : k + 1])["loss"] for k in range(2)]
        torch.testing.assert_close(both, (single[0] + single[1]) / 2)


def test_the_sum_is_weighted_and_the_terms_are_not():
    computed = loss("dice-bce", dice=2, entropy=0.5)
    terms = of(computed, torch.zeros(1, 1, 4, 1), row([1, 0, 0, 0]))
    assert computed.columns == tuple(terms) == ("loss", "dice", "entropy")
    assert terms["loss"].item() == pytest.approx(2 * terms["dice"].item() + 0.5 * terms["entropy"].item())
    assert loss("cce").columns == ("loss", "entropy")


# --- known numbers


def test_dice_and_binary_entropy_of_lesion_net_by_hand():
    # Probabilities .8 .6 .1 against 1 0 1.
    terms = of(loss("dice-bce"), logit([0.8, 0.6, 0.1]), row([1, 0, 1]))
    assert terms["dice"].item() == pytest.approx(1 - (2 * 0.9 + 1e-5) / (1.5 + 2 + 1e-5))
    assert terms["entropy"].item() == pytest.approx(-(math.log(0.8) + math.log(0.4) + math.log(0.1)) / 3)


def test_dice_of_the_batch_is_that_of_one_large_patient():
    logits, label = random_case(1)
    pooled = of(loss("dice-bce"), logits, label)["dice"].item()
    large = of(loss("dice-bce"), torch.cat(logits.unbind(0), 1)[None], torch.cat(label.unbind(0), 0)[None])
    assert pooled == pytest.approx(large["dice"].item())


def test_the_trios_losses_by_hand():
    # Two voxels: the first background with 1/2, 1/4, 1/4, the second of class 2 with 1/8, 1/8, 3/4.
    logits = torch.tensor([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]]).log().T.reshape(1, 3, 2, 1)
    label = row([0, 2])
    s = 1e-6
    dice = 1 - sum([(1 + s) / (1.625 + s), s / (0.375 + s), (1.5 + s) / (2 + s)]) / 3
    entropy = -(math.log(0.5) + math.log(0.75)) / 2
    assert of(loss("dice"), logits, label)["loss"].item() == pytest.approx(dice, rel=1e-5)
    assert of(loss("cce"), logits, label)["loss"].item() == pytest.approx(entropy)
    assert of(loss("cce-dice"), logits, label)["loss"].item() == pytest.approx(dice + entropy, rel=1e-5)


def test_dice_with_categorical_focal_by_hand():
    # Lesion .9 and .2 against 1 0: background .1 and .8.
    terms = of(loss("dice-focal"), logit([0.9, 0.2]), row([1, 0]))
    lesion, background = (2 * 0.9 + 1e-5) / (2.1 + 1e-5), (2 * 0.8 + 1e-5) / (1.9 + 1e-5)
    assert terms["dice"].item() == pytest.approx(1 - (lesion + background) / 2, rel=1e-5)
    focal = 0.25 * (-(0.1**2) * math.log(0.9) - 0.2**2 * math.log(0.8)) / 4
    assert terms["focal"].item() == pytest.approx(focal, rel=1e-4)
    weighted = of(loss("dice-focal", class_weights=[1, 3]), logit([0.9, 0.2]), row([1, 0]))["dice"].item()
    assert weighted == pytest.approx(1 - (3 * lesion + background) / 4, rel=1e-5)


def test_focal_tversky_by_hand_and_with_the_published_exponent():
    # Shared .9, too much .6, too little 1.1, as in the test of Tversky's index.
    given = (logit([0.8, 0.6, 0.1]), row([1, 0, 1]))
    index = (0.9 + 1) / (0.9 + 0.25 * 0.6 + 0.85 * 1.1 + 1)
    assert of(loss("focal-tversky-boundary"), *given)["focal_tversky"].item() == pytest.approx((1 - index) ** 2)
    published = loss("focal-tversky-boundary", exponent="inverse", gamma=4 / 3)
    assert of(published, *given)["focal_tversky"].item() == pytest.approx((1 - index) ** 0.75, rel=1e-5)


def test_an_exponent_below_one_has_a_finite_gradient_at_the_perfect_answer():
    label = lesion_label(SIZES["2D"])
    logits = certain(label, 2, logit=60.0).requires_grad_()
    value = of(loss("focal-tversky-boundary", exponent="inverse"), logits, label)["loss"]
    (gradient,) = torch.autograd.grad(value, logits)
    assert bool(gradient.isfinite().all())
    assert value.item() < 2e-3


def test_the_boundary_is_the_difference_of_the_steps():
    # A column of two voxels and one row: the axis of one voxel has no steps. Steps .5 and .3 against 1 and 0.
    terms = of(loss("focal-tversky-boundary"), logit([0.8, 0.3, 0.6]), row([1, 0, 0]))
    assert terms["boundary"].item() == pytest.approx((0.5 * 0.5**2 + 0.5 * 0.3**2) / 2, rel=1e-5)
    # Across an axis where nothing changes nothing is to be learnt, and it is one of two axes.
    logits, label = logit([0.8, 0.3, 0.6]).expand(1, 1, 3, 4), row([1, 0, 0]).expand(1, 3, 4)
    wide = of(loss("focal-tversky-boundary"), logits, label)["boundary"].item()
    assert wide == pytest.approx(terms["boundary"].item() / 2, rel=1e-5)


def test_an_empty_patch_hardly_teaches_with_the_systems_own_smoothing():
    # systems.md, 4.3: sum of |gradient| 1.3e-8 on a patch of 32 voxels a side at logits of -4.
    logits = torch.full((1, 1, 32, 32, 32), -4.0, requires_grad=True)
    label = torch.zeros(1, 32, 32, 32, dtype=torch.uint8)
    summed = {}
    for smooth in (1e-6, 1.0):
        value = of(loss("focal-tversky-boundary", boundary=0, focal_tversky=1, smooth=smooth), logits, label)["loss"]
        (gradient,) = torch.autograd.grad(value, logits)
        summed[smooth] = float(gradient.abs().sum())
    assert summed[1e-6] == pytest.approx(1.3e-8, rel=0.05)
    assert summed[1.0] > 1e-2


# --- deep supervision


@pytest.mark.parametrize("size", [(8, 8), (8, 8, 8)], ids=["2D", "3D"])
def test_coarser_outputs_are_compared_with_the_full_labels(size):
    label = torch.zeros(1, *size, dtype=torch.uint8)
    label[:, :4] = 1
    drawn = torch.Generator().manual_seed(0)
    outputs = {"lesion": torch.randn(1, 1, *size, generator=drawn)}
    for name, step in (("aux4", 4), ("aux3", 2), ("aux2", 1)):
        outputs[name] = torch.randn(1, 1, *(s // step for s in size), generator=drawn)
    computed = loss("focal-tversky-boundary", auxiliary=AUXILIARY)
    terms = computed(outputs, label)
    assert computed.columns == tuple(terms) == ("loss", "focal_tversky", "boundary", "aux4", "aux3", "aux2")
    plain = loss("focal-tversky-boundary")
    expected = of(plain, outputs["lesion"], label)["loss"].item()
    for name, weight in AUXILIARY.items():
        mode = "trilinear" if len(size) == 3 else "bilinear"
        full = torch.nn.functional.interpolate(outputs[name], size=size, mode=mode, align_corners=False)
        alone = of(plain, full, label)["loss"].item()
        assert terms[name].item() == pytest.approx(alone)
        expected += weight * alone
    assert terms["loss"].item() == pytest.approx(expected)


def test_without_further_outputs_the_main_one_is_scored_alone():
    logits, label = random_case(1)
    computed = loss("dice-bce", auxiliary=AUXILIARY)
    with pytest.raises(InputError, match="'aux4' is not among its outputs: lesion"):
        of(computed, logits, label)
    assert of(computed, logits, label, auxiliary=False)["loss"] == of(loss("dice-bce"), logits, label)["loss"]


# --- MONAI's


def test_terms_equal_monais():
    logits, label = random_case(3)
    one_hot = label[:, None]
    options = {"softmax": True, "to_onehot_y": True}
    trio = DiceLoss(**options, batch=True, smooth_nr=1e-6, smooth_dr=1e-6)(logits, one_hot)
    assert of(loss("dice"), logits, label)["loss"].item() == pytest.approx(trio.item(), rel=1e-6)
    strokeformer = DiceCELoss(**options, squared_pred=True, include_background=False)(logits, one_hot)
    assert of(loss("dice-ce"), logits, label)["loss"].item() == pytest.approx(strokeformer.item(), rel=1e-6)
    focal = FocalLoss(gamma=2, use_softmax=True, to_onehot_y=True)(logits, one_hot)
    assert of(loss("dice-focal"), logits, label)["focal"].item() == pytest.approx(focal.item() / 4, rel=1e-6)


def test_binary_terms_equal_monais():
    logits, label = random_case(1)
    target = label[:, None].float()
    lesion_net = DiceCELoss(sigmoid=True, batch=True)(logits, target)
    assert of(loss("dice-bce"), logits, label)["loss"].item() == pytest.approx(lesion_net.item(), rel=1e-6)
    tversky = TverskyLoss(sigmoid=True, alpha=0.25, beta=0.85, smooth_nr=1, smooth_dr=1, reduction="none")
    expected = (tversky(logits, target) ** 2).mean().item()
    assert of(loss("focal-tversky-boundary"), logits, label)["focal_tversky"].item() == pytest.approx(expected)


# --- quirks of the originals


def double_sigmoid(fraction, answer):
    label = torch.zeros(1, 100, 100, dtype=torch.uint8)
    label.view(-1)[: round(10_000 * fraction)] = 1
    logits = (label.float() * 2 - 1).unsqueeze(1) * answer
    return of(loss("dice-bce", double_sigmoid=True), logits, label)["loss"].item()


@pytest.mark.parametrize(
    ("fraction", "perfect", "undecided"),
    [(0.0, 1.693, 1.974), (0.005, 1.677, 1.962), (0.02, 1.630, 1.925), (0.1, 1.421, 1.752)],
)
def test_the_sigmoid_taken_twice_costs_what_lesion_nets_training_paid(fraction, perfect, undecided):
    assert double_sigmoid(fraction, answer=100.0) == pytest.approx(perfect, abs=5e-4)
    assert double_sigmoid(fraction, answer=0.0) == pytest.approx(undecided, abs=5e-4)


def test_the_sigmoid_is_not_taken_twice_of_several_logits():
    logits, label = random_case(3)
    with pytest.raises(InputError, match="3 logits a voxel"):
        of(loss("cce", double_sigmoid=True), logits, label)


def test_dice_divided_twice_has_a_floor_of_one_half():
    label = lesion_label(SIZES["3D"])
    assert of(loss("dice-focal", divided_twice=True), certain(label, 2), label)["dice"].item() == pytest.approx(0.5)
    given = (logit([0.9, 0.2]), row([1, 0]))
    right, published = (
        of(loss("dice-focal", divided_twice=d), *given)["dice"].item() for d in (False, True)
    )  # fmt: skip
    assert published == pytest.approx(0.5 + right / 2)


def test_quirks_are_off_unless_asked_for():
    assert NamedLoss(name="dice-bce").arguments["double_sigmoid"] is False
    assert NamedLoss(name="dice-focal").arguments["divided_twice"] is False
    assert NamedLoss(name="focal-tversky-boundary").arguments["smooth"] == 1.0


# --- recipes


class Holder(pydantic.BaseModel):
    objective: NamedLoss


def refusal(data):
    with pytest.raises(pydantic.ValidationError) as caught:
        Holder.model_validate({"objective": data})
    return not_valid(caught.value, Holder, "test")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"name": "dicebce"}, ("there is no loss 'dicebce'", "Did you mean 'dice-bce'?")),
        (
            {"name": "ici", "arguments": {"center": 1}},
            ("no argument 'center'", "overall, instance, centre", "mean 'centre'?"),
        ),
        ({"name": "cce", "arguments": {"smooth": "much"}}, ("the loss 'cce'", "'smooth'", "found is 'much'")),
        ({"name": "dice", "arguments": {"dice": 0}}, ("every term has the weight 0: dice, entropy",)),
        ({"name": "dice", "auxiliary": {"aux4": -1}}, ("'auxiliary.aux4' must not be below 0",)),
        ({"name": "dice", "arguments": 3}, ("'objective.arguments'",)),
        ({"arguments": {}}, ("'objective.name' is missing",)),
    ],
)
def test_a_wrong_loss_is_refused_in_words(data, words):
    text = str(refusal(data))
    for part in words:
        assert part in text


def test_a_key_that_is_none_is_answered_with_the_nearest():
    assert refusal({"name": "dice", "argumens": {}}).next_step == "Did you mean 'objective.arguments'?"


def test_a_loss_says_all_of_itself_and_is_read_back_the_same():
    one = NamedLoss(name="focal-tversky-boundary", arguments={"gamma": 3}, auxiliary=AUXILIARY)
    assert one.arguments["false_negatives"] == 0.85
    assert NamedLoss.model_validate(one.model_dump(mode="json")) == one
    assert one.settings.gamma == 3.0


# --- labels


def test_labels_that_do_not_fit_are_refused():
    logits, label = random_case(1)
    with pytest.raises(InputError, match="from 0 to 2, the network knows the classes 0 to 1"):
        of(loss("dice"), logits, label * 2)
    with pytest.raises(InputError, match="whole numbers"):
        of(loss("dice"), logits, label.float())
    with pytest.raises(InputError, match="shape"):
        of(loss("dice"), logits, label[:, 1:])
    with pytest.raises(InputError, match="class weights"):
        of(loss("dice-focal", class_weights=[1, 1, 1]), logits, label)
