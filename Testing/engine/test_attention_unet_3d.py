"""The 3D attention U-Net: its published tables of counts and cost, and its parts against what is computed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks in PyTorch need torch, which is not installed")

from built_networks import lesion_logits_of_both, shape_only  # noqa: E402
from torch import nn  # noqa: E402

from strokeseg.errors import ModelError  # noqa: E402
from strokeseg.networks import build, form_of, named  # noqa: E402
from strokeseg.networks.attention_unet_3d import AttentionGate, ConvBlock  # noqa: E402
from strokeseg.networks.counting import cost, parameters  # noqa: E402

PATCH = (1, 2, 112, 112, 80)
SMALL: dict[str, Any] = {"features": 2}

pytestmark = pytest.mark.usefixtures("one_thread")


def small(seed: int = 0, **changes: Any) -> Any:
    torch.manual_seed(seed)
    return build("attention-unet-3d", **{**SMALL, **changes})


# --- the published tables


def test_every_part_has_the_parameters_of_the_table() -> None:
    network = shape_only("attention-unet-3d")
    assert [parameters(b) for b in network.down] == [114_304, 664_064, 2_655_232, 10_618_880]
    assert parameters(network.bottleneck) == 42_471_424
    assert [parameters(level) for level in network.up] == [25_694_467, 6_424_707, 1_606_723, 401_955]
    assert [parameters(level.gate) for level in network.up] == [263_939, 66_435, 16_835, 4_323]
    assert parameters(network.head) == 65
    assert {name: parameters(head) for name, head in network.auxiliary.items()} == {
        "aux4": 513,
        "aux3": 257,
        "aux2": 129,
    }


@pytest.mark.parametrize(("features", "count", "gmac"), [(64, 90_652_720, 918.0), (48, 50_996_008, 517.1)])
def test_it_has_the_published_number_of_parameters_and_costs_what_was_published(
    features: int, count: int, gmac: float
) -> None:
    network = shape_only("attention-unet-3d", features=features)
    assert parameters(network) == parameters(network, trainable=True) == count
    assert cost(network, PATCH).total == pytest.approx(gmac * 1e9, rel=0.01)


def test_without_arguments_it_has_the_published_size_and_takes_dwi_and_adc() -> None:
    network = shape_only("attention-unet-3d")
    assert parameters(network) == 90_652_720
    form = form_of(network)
    assert (form.in_channels, form.multiples, form.outputs) == (2, (16, 16, 16), ("lesion",))
    assert {m.p for m in network.modules() if isinstance(m, nn.Dropout3d)} == {0.15}


# --- miniatures by hand


def test_a_block_convolves_without_bias_normalises_each_patient_and_rectifies_twice() -> None:
    block = ConvBlock(2, 3, 0.5)
    assert [type(layer).__name__ for layer in block] == 2 * ["Conv3d", "InstanceNorm", "ReLU", "Dropout3d"]
    assert [layer.bias for layer in block if isinstance(layer, nn.Conv3d)] == [None, None]
    assert {layer.eps for layer in block if isinstance(layer, nn.InstanceNorm3d)} == {1e-5}
    two = torch.randn(2, 2, 4, 3, 5)
    with torch.no_grad():
        torch.testing.assert_close(block.eval()(two)[1:], block(two[1:]))


def test_a_gate_is_what_numpy_computes() -> None:
    """Both are normalised before they are added, the sum is rectified, and what opens the gate is normalised again."""
    torch.manual_seed(1)
    gate = AttentionGate(4).eval()
    for parameter in gate.parameters():
        nn.init.normal_(parameter)
    decoder, skip = torch.randn(1, 4, 2, 3, 2), torch.randn(1, 4, 2, 3, 2)
    with torch.no_grad():
        found = gate(decoder, skip)[0].numpy()
    weights = {name: p.detach().numpy().astype(np.float64) for name, p in gate.named_parameters()}

    def normalised(part: str, values: Any) -> Any:
        mixed = np.einsum("oi,ixyz->oxyz", weights[f"{part}.0.weight"][..., 0, 0, 0], values)
        mixed += weights[f"{part}.0.bias"][:, None, None, None]
        flat = mixed.reshape(len(mixed), -1)
        flat = (flat - flat.mean(1, keepdims=True)) / np.sqrt(flat.var(1, keepdims=True) + 1e-5)
        scale, shift = weights[f"{part}.1.weight"], weights[f"{part}.1.bias"]
        return (flat * scale[:, None] + shift[:, None]).reshape(mixed.shape)

    g, x = decoder[0].numpy().astype(np.float64), skip[0].numpy().astype(np.float64)
    seen = np.maximum(normalised("of_decoder", g) + normalised("of_skip", x), 0.0)
    assert seen.shape[0] == 2
    opening = 1.0 / (1.0 + np.exp(-normalised("opening", seen)))
    assert opening.shape == (1, 2, 3, 2)
    np.testing.assert_allclose(found, x * opening, atol=1e-4)


def test_skips_are_taken_before_pooling_pass_the_gate_and_stand_behind_what_was_enlarged() -> None:
    network = small().eval()
    batch = torch.randn(1, 2, 32, 16, 16)
    with torch.no_grad():
        features, skips = batch, []
        for block in network.down:
            skips.append(block(features))
            features = nn.functional.max_pool3d(skips[-1], 2)
        features = network.bottleneck(features)
        assert features.shape == (1, 32, 2, 1, 1)
        for level in network.up:
            enlarged, skip = level.up(features), skips.pop()
            features = level.block(torch.cat([enlarged, level.gate(enlarged, skip)], dim=1))
        torch.testing.assert_close(network(batch), network.head(features))


def test_first_weights_are_glorots_and_transposed_convolutions_keep_their_own() -> None:
    network = small(features=8)
    weight = network.bottleneck[0].weight
    limit = (6 / (27 * 64 + 27 * 128)) ** 0.5
    assert 0.99 * limit < weight.abs().max().item() <= limit
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv3d)]
    assert not any(m.bias.any() for m in convolutions if m.bias is not None)
    # PyTorch's own rule: below one over the root of 8 x 64 values; biases are drawn, too.
    up = network.up[0].up
    assert 0.9 * (8 * 64) ** -0.5 < up.weight.abs().max().item() <= (8 * 64) ** -0.5
    assert up.bias.any()


# --- in training


def test_in_training_alone_it_gives_coarser_logits_of_the_levels_between() -> None:
    network = small(out_channels=3)
    batch = torch.randn(2, 2, 32, 48, 16)
    with torch.no_grad():
        found = network(batch)
        assert {name: tuple(logits.shape) for name, logits in found.items()} == {
            "lesion": (2, 3, 32, 48, 16),
            "aux4": (2, 3, 4, 6, 2),
            "aux3": (2, 3, 8, 12, 4),
            "aux2": (2, 3, 16, 24, 8),
        }
        assert named(network, batch)["lesion"].shape == (2, 3, 32, 48, 16)
        network.eval()
        assert network(batch).shape == (2, 3, 32, 48, 16)
        assert list(named(network, batch)) == ["lesion"]
        assert small(deep_supervision=False)(batch).shape == (2, 1, 32, 48, 16)


def test_each_further_output_is_a_head_on_its_own_level_of_the_decoder() -> None:
    network = small(dropout=0.0)
    seen = []
    for level in network.up:
        level.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.no_grad():
        found = network(torch.randn(1, 2, 32, 16, 16))
        for number, name in enumerate(("aux4", "aux3", "aux2")):
            assert torch.equal(found[name], network.auxiliary[name](seen[number])), name
        assert torch.equal(found["lesion"], network.head(seen[3]))


def test_a_gradient_reaches_every_parameter() -> None:
    network = small()
    sum((o**2).mean() for o in network(torch.randn(1, 2, 32, 32, 16)).values()).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


def test_computing_inner_maps_again_gives_the_same_gradients_dropout_included() -> None:
    batch = torch.randn(1, 2, 32, 16, 16)
    gradients, calls = [], []
    for checkpointing in (False, True):
        network = small(dropout=0.4, checkpointing=checkpointing)
        count: list[int] = []
        network.bottleneck.register_forward_pre_hook(lambda *_, to=count: to.append(1))
        torch.manual_seed(7)
        sum((o**2).mean() for o in network(batch).values()).backward()
        gradients.append([p.grad for p in network.parameters()])
        calls.append(len(count))
    assert calls == [1, 2]
    for kept, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, kept)


# --- as a network of the engine


def test_sizes_that_its_levels_cannot_halve_are_refused_and_fewer_levels_take_them() -> None:
    with pytest.raises(ModelError, match="multiples of 16x16x16"):
        small()(torch.zeros(1, 2, 32, 24, 16))
    with torch.no_grad():
        assert small(levels=3).eval()(torch.zeros(1, 2, 24, 8, 40)).shape == (1, 1, 24, 8, 40)
        assert small(attention=False).eval()(torch.zeros(1, 2, 16, 16, 16)).shape == (1, 1, 16, 16, 16)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"features": 0}, "'features' is 0"),
        ({"levels": 9}, "'levels' is 9"),
        ({"dropout": 1.0}, "'dropout' is 1.0"),
        ({"feature": 8}, "Did you mean 'features'?"),
    ],
)
def test_arguments_that_make_no_network_are_refused_in_words(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError) as refused:
        build("attention-unet-3d", **arguments)
    assert words in str(refused.value)


def test_its_graph_holds_for_every_size_and_openvino_runs_it(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the export needs onnx, which is not installed")
    from tiny_model import tiny_card

    from strokeseg_training.export import export_model

    arguments = {"features": 4}
    network = small(**arguments)
    card = tiny_card("attention", network="attention-unet-3d", arguments=arguments, multiple=16)
    done = export_model(network, card, tmp_path / "attention")
    assert done.card.runtime == "openvino"
    assert done.card.outputs == ("lesion",)
    batch = np.random.default_rng(1).standard_normal((2, 2, 16, 48, 32), dtype=np.float32)
    results = lesion_logits_of_both(done.card, batch)
    assert results[0].shape == (2, 1, 16, 48, 32)
    assert np.abs(results[0] - results[1]).max() < 1e-3
