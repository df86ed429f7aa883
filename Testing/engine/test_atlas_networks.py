"""The ATLAS trio: published tables of shapes, counts and cost, and Keras's layers against what is computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks in PyTorch need torch, which is not installed")

from torch import nn  # noqa: E402

from strokeseg.errors import ModelError  # noqa: E402
from strokeseg.networks import build, form_of  # noqa: E402
from strokeseg.networks.atlas_resunet import ResidualBlock  # noqa: E402
from strokeseg.networks.counting import cost, parameters  # noqa: E402
from strokeseg.networks.keras_layers import SameConv2d, batch_norm, he_normal  # noqa: E402

SLICE = (1, 1, 192, 224, 1)
TRIO = ("atlas-unet", "atlas-segnet", "atlas-resunet")
SMALL: dict[str, dict[str, Any]] = {
    "atlas-unet": {"channels": [2, 3, 4]},
    "atlas-segnet": {"channels": [2, 3, 4]},
    "atlas-resunet": {"channels": [2, 3, 4]},
}

pytestmark = pytest.mark.usefixtures("one_thread")


def small(name: str, seed: int = 0, **changes: Any) -> Any:
    torch.manual_seed(seed)
    return build(name, **{**SMALL[name], **changes})


def shapes_of(network: Any, **modules: Any) -> dict[str, list[tuple[int, ...]]]:
    """Channels and size of what each of the modules gives for a slice of the published size."""
    found: dict[str, list[tuple[int, ...]]] = {}
    for name, group in modules.items():
        found[name] = []
        for module in group:
            module.register_forward_hook(lambda _, __, out, to=found[name]: to.append(tuple(out.shape[1:])))
    cost(network, SLICE)
    return found


# --- the published tables


@pytest.mark.parametrize(
    ("name", "trainable", "remembered", "gmac"),
    [
        ("atlas-unet", 7_759_587, 0, 7.90),
        ("atlas-segnet", 10_184_067, 5_888, 14.30),
        ("atlas-resunet", 3_255_107, 5_376, 2.54),
    ],
)
def test_it_has_the_published_number_of_parameters_and_costs_what_was_published(
    name: str, trainable: int, remembered: int, gmac: float
) -> None:
    network = build(name)
    assert parameters(network) == parameters(network, trainable=True) == trainable
    # What Keras counts as parameters that are not trained: means and variances.
    assert sum(b.numel() for n, b in network.named_buffers() if n.endswith(("_mean", "_var"))) == remembered
    assert cost(network, SLICE).total == pytest.approx(gmac * 1e9, rel=0.01)


def test_the_levels_of_the_unet_are_those_of_the_table() -> None:
    network = build("atlas-unet")
    seen = shapes_of(network, down=network.down, up=network.up, merge=network.merge)
    assert seen["down"] == [(32, 192, 224), (64, 96, 112), (128, 48, 56), (256, 24, 28), (512, 12, 14)]
    assert seen["up"] == seen["merge"] == [(256, 24, 28), (128, 48, 56), (64, 96, 112), (32, 192, 224)]
    assert [b.first.in_channels for b in network.merge] == [512, 256, 128, 64]
    # 9 before after + after + 9 after^2 + after, and 4 deep fine + fine.
    assert [parameters(b) for b in network.down] == [9_568, 55_424, 221_440, 885_248, 3_539_968]
    assert [parameters(b) for b in network.up] == [524_544, 131_200, 32_832, 8_224]
    assert [parameters(b) for b in network.merge] == [1_769_984, 442_624, 110_720, 27_712]
    assert parameters(network.head) == 99
    assert not [m for m in network.modules() if isinstance(m, nn.BatchNorm2d | nn.Dropout)]


def test_the_stages_of_the_segnet_are_those_of_the_table() -> None:
    network = build("atlas-segnet")
    seen = shapes_of(network, down=network.down, up=network.up)
    assert seen["down"] == [(64, 192, 224), (128, 96, 112), (256, 48, 56), (512, 24, 28), (512, 12, 14)]
    assert seen["up"] == [(512, 12, 14), (512, 24, 28), (256, 48, 56), (128, 96, 112), (64, 192, 224)]
    assert [parameters(b.conv) for b in network.down] == [640, 73_856, 295_168, 1_180_160, 2_359_808]
    assert [parameters(b.conv) for b in network.up] == [2_359_808, 2_359_808, 1_179_904, 295_040, 73_792]
    assert parameters(network.head) == 195


def test_the_steps_of_the_resunet_are_those_of_the_table() -> None:
    network = build("atlas-resunet")
    seen = shapes_of(network, entry=[network.entry], down=network.down, bridge=[network.bridge], merge=network.merge)
    assert seen["entry"] == [(16, 192, 224)]
    assert seen["down"] == [(32, 96, 112), (64, 48, 56), (128, 24, 28), (256, 12, 14)]
    assert seen["bridge"] == [(256, 12, 14)]
    assert seen["merge"] == [(128, 24, 28), (64, 48, 56), (32, 96, 112), (16, 192, 224)]
    assert [b.shortcut.in_channels for b in network.merge] == [384, 192, 96, 48]
    # Shortcut before after + after, first 9 before after + after, second 9 after^2 + after, three norms of 2 after.
    assert [parameters(b) for b in network.down] == [14_624, 57_920, 230_528, 919_808]
    assert [parameters(b) for b in network.merge] == [640_128, 160_320, 40_224, 10_128]
    assert parameters(network.entry) == 192
    assert parameters(network.bridge) == 1_181_184
    assert parameters(network.head) == 51


# --- Keras's layers by hand


def test_a_stride_of_two_pads_nothing_before_and_one_after() -> None:
    """The padding is Keras's: the last row and column of windows reach beyond the image, the first do not."""
    layer = SameConv2d(1, 1, stride=2)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(1.0, 10.0).reshape(1, 1, 3, 3))
        layer.bias.fill_(0.5)
        found = layer(torch.arange(16.0).reshape(1, 1, 4, 4))[0, 0]
    image = np.pad(np.arange(16.0).reshape(4, 4), ((0, 1), (0, 1)))
    kernel = np.arange(1.0, 10.0).reshape(3, 3)
    expected = [[(image[x : x + 3, y : y + 3] * kernel).sum() + 0.5 for y in (0, 2)] for x in (0, 2)]
    assert expected[0][0] == 0 * 1 + 1 * 2 + 2 * 3 + 4 * 4 + 5 * 5 + 6 * 6 + 8 * 7 + 9 * 8 + 10 * 9 + 0.5
    assert expected[1][1] == 10 * 1 + 11 * 2 + 14 * 4 + 15 * 5 + 0.5
    np.testing.assert_array_equal(found.numpy(), expected)


def test_a_stride_of_one_pads_one_on_each_side_and_a_1x1_nothing() -> None:
    with torch.no_grad():
        layer = SameConv2d(1, 1)
        nn.init.ones_(layer.weight)
        nn.init.zeros_(layer.bias)
        assert layer(torch.ones(1, 1, 3, 3))[0, 0].tolist() == [[4, 6, 4], [6, 9, 6], [4, 6, 4]]
        shortcut = SameConv2d(1, 1, kernel=1, stride=2)
        nn.init.ones_(shortcut.weight)
        nn.init.zeros_(shortcut.bias)
        assert shortcut(torch.arange(16.0).reshape(1, 1, 4, 4))[0, 0].tolist() == [[0, 2], [8, 10]]


def test_norms_have_keras_constants() -> None:
    norm = batch_norm(1)
    with torch.no_grad():
        found = norm(torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1)).flatten().tolist()
    # Mean 2, variance 1: 1 / sqrt(1 + 1e-3). Remembered is a hundredth of what was seen, 2 and (unbiased) 2.
    np.testing.assert_allclose(found, [-(1.001**-0.5), 1.001**-0.5], rtol=1e-6)
    assert norm.running_mean.item() == pytest.approx(0.02)
    assert norm.running_var.item() == pytest.approx(0.99 + 0.02)
    for name in ("atlas-segnet", "atlas-resunet"):
        norms = [m for m in small(name).modules() if isinstance(m, nn.BatchNorm2d)]
        assert norms
        assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.01)}


def test_first_weights_have_the_deviation_of_their_rule_and_biases_are_zero() -> None:
    torch.manual_seed(0)
    he = SameConv2d(64, 64)
    he_normal(he)
    deviation = (2 / (9 * 64)) ** 0.5
    assert he.weight.std().item() == pytest.approx(deviation, rel=0.02)
    assert he.weight.abs().max().item() <= 2 * deviation / 0.8796 + 1e-6
    glorot = build("atlas-unet").down[2].second.weight
    limit = (6 / (9 * 128 + 9 * 128)) ** 0.5
    assert 0.99 * limit < glorot.abs().max().item() <= limit
    for name in TRIO:
        layers = [m for m in small(name).modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
        assert not any(m.bias.any() for m in layers)


# --- how the parts are joined


def test_the_unet_joins_what_was_enlarged_before_the_skip_and_enlarges_without_activation() -> None:
    network = small("atlas-unet").eval()
    batch = torch.randn(1, 1, 8, 8, 1)
    with torch.no_grad():
        skips = [network.down[0](batch[..., 0])]
        for block in network.down[1:]:
            skips.append(block(nn.functional.max_pool2d(skips[-1], 2)))
        features = skips.pop()
        for up, block in zip(network.up, network.merge, strict=True):
            enlarged = up(features)
            assert (enlarged < 0).any()
            features = block(torch.cat([enlarged, skips.pop()], dim=1))
            assert (features >= 0).all()
        assert torch.equal(network(batch)[..., 0], network.head(features))


def test_the_decoder_of_the_segnet_is_linear_as_published_unless_it_is_given_an_activation() -> None:
    for activated in (False, True):
        network = small("atlas-segnet", decoder_activation=activated).eval()

        def decoded(features: Any, network: Any = network) -> Any:
            layers: list[Any] = []
            hook = network.down[-1].register_forward_hook(lambda _, __, out: layers[-1])
            # The activation and the pooling behind the hook leave positive, evenly spread features as they are.
            layers.append(features.repeat_interleave(2, -1).repeat_interleave(2, -2))
            with torch.no_grad():
                result = network(torch.zeros(1, 1, 16, 16, 1))
            hook.remove()
            return result

        torch.manual_seed(1)
        one, other, none = torch.rand(1, 4, 2, 2), torch.rand(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)
        apart = decoded(one + other) - decoded(one) - decoded(other) + decoded(none)
        assert (apart.abs().max().item() < 1e-5) is not activated


def test_a_residual_block_rectifies_before_and_after_the_sum() -> None:
    block = ResidualBlock(1, 1).eval()
    with torch.no_grad():
        for layer in (block.shortcut, block.first.conv, block.second.conv):
            layer.weight.zero_()
            layer.bias.zero_()
        for norm in (block.shortcut_norm, block.first.norm, block.second.norm):
            norm.running_var.fill_(1.0 - 1e-3)  # an identity
        block.shortcut.bias.fill_(2.0)
        block.second.conv.bias.fill_(-5.0)
        # Rectified before the sum, -5 is 0; were it not, the block would give relu(2 - 5) = 0.
        torch.testing.assert_close(block(torch.zeros(1, 1, 2, 2)), torch.full((1, 1, 2, 2), 2.0))
        block.shortcut.bias.fill_(-2.0)
        assert not block(torch.zeros(1, 1, 2, 2)).any()


@pytest.mark.parametrize(("name", "multiple"), [("atlas-unet", 16), ("atlas-segnet", 32), ("atlas-resunet", 16)])
def test_it_gives_three_logits_a_pixel_of_slices_that_its_levels_can_halve(name: str, multiple: int) -> None:
    assert form_of(build(name)).multiples == (multiple, multiple, 1)
    network = small(name).eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 1, 16, 24, 1)).shape == (2, 3, 16, 24, 1)
    with pytest.raises(ModelError, match="z must be 1"):
        network(torch.zeros(1, 1, 16, 16, 2))
    with pytest.raises(ModelError, match="multiples of"):
        network(torch.zeros(1, 1, 14, 16, 1))


@pytest.mark.parametrize("name", TRIO)
def test_logits_are_no_probabilities_and_a_gradient_reaches_every_parameter(name: str) -> None:
    network = small(name)
    logits = network(torch.randn(2, 1, 16, 16, 1))
    assert (logits.sum(dim=1) - 1).abs().max() > 0.1
    target = torch.randint(0, 3, (2, 16, 16, 1))
    nn.functional.cross_entropy(logits, target).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", TRIO)
def test_arguments_that_make_no_network_are_refused_in_words(name: str) -> None:
    with pytest.raises(ModelError, match="'channels' is"):
        build(name, channels=[8, 0])
    with pytest.raises(ModelError, match="Did you mean 'channels'"):
        build(name, chanels=[8])
