"""Lesion-Net: its published tables of shapes, counts and cost, and its parts against what is computed by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks in PyTorch need torch, which is not installed")

from torch import Tensor, nn  # noqa: E402

from strokeseg.errors import ModelError  # noqa: E402
from strokeseg.networks import build, form_of  # noqa: E402
from strokeseg.networks.counting import cost, parameters  # noqa: E402
from strokeseg.networks.lesion_net_unit import BatchDropPath, FeedForward, ReducedAttention, Unit  # noqa: E402

SMALL: dict[str, Any] = {
    "width": 8,
    "depths": [2, 1, 1, 1],
    "heads": [2, 2, 2, 2],
    "expansion": 2,
    "decoder_width": 6,
}
SLICE = (1, 1, 128, 128, 1)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def published() -> Any:
    return build("lesion-net").eval()


def small(seed: int = 0, **changes: Any) -> Any:
    torch.manual_seed(seed)
    return build("lesion-net", **{**SMALL, **changes})


# --- the published tables


def test_it_has_the_published_number_of_parameters_of_which_the_unused_norms_are_not_trained(published: Any) -> None:
    assert parameters(published) == 42_772_609
    assert parameters(published, trainable=True) == 42_771_585
    assert parameters(published.stages) == 42_377_600
    assert parameters(published.projections) == 132_096
    assert sum(parameters(m) for m in (published.fusion, published.fusion_norm, published.head)) == 262_913
    assert parameters(build("lesion-net", apply_stage_norms=True), trainable=True) == 42_772_609


@pytest.mark.parametrize(
    ("stage", "units", "embedding", "per_unit", "all_units"),
    [
        (0, 25, 1_408, 1_202_816, 30_070_400),
        (1, 17, 147_712, 416_384, 7_078_528),
        (2, 14, 147_712, 219_776, 3_076_864),
        (3, 10, 147_712, 170_624, 1_706_240),
    ],
)
def test_every_stage_has_the_parameters_of_the_table(
    published: Any, stage: int, units: int, embedding: int, per_unit: int, all_units: int
) -> None:
    found = published.stages[stage]
    assert len(found.units) == units
    assert parameters(found.embedding) + parameters(found.embedding_norm) == embedding
    assert {parameters(u) for u in found.units} == {per_unit}
    assert parameters(found.units) == all_units
    assert parameters(found.norm) == 256


def test_the_parts_of_a_unit_have_the_parameters_of_the_formula(published: Any) -> None:
    for stage, reduction in zip(published.stages, (8, 4, 2, 1), strict=True):
        unit = stage.units[0]
        attention = unit.attention
        assert parameters(unit.attention_norm) == 256
        assert parameters(attention.reduction) == 128 * 128 * reduction**2 + 128
        assert parameters(attention.reduction_norm) == 256
        assert parameters(attention.projection) + parameters(attention.output) == 66_048
        assert parameters(unit.forward_norm) + parameters(unit.feed_forward) == 87_552


def test_every_stage_has_the_shape_and_the_tokens_of_the_table() -> None:
    # Shapes do not depend on how many units a stage has.
    network = build("lesion-net", depths=[1, 1, 1, 1])
    shapes: dict[str, tuple[int, ...]] = {}
    for k, stage in enumerate(network.stages):
        stage.register_forward_hook(lambda _, __, out, k=k: shapes.update({f"stage {k + 1}": tuple(out[0].shape)}))
        attention = stage.units[0].attention.reduction
        attention.register_forward_hook(lambda _, __, out, k=k: shapes.update({f"keys {k + 1}": tuple(out.shape)}))
    cost(network, SLICE)
    assert shapes == {
        **{f"stage {k}": (1, 128, 128 >> k, 128 >> k) for k in (1, 2, 3, 4)},
        **{f"keys {k}": (1, 128, 8, 8) for k in (1, 2, 3, 4)},
    }


def test_heads_and_norms_are_those_of_the_table(published: Any) -> None:
    assert {m.heads for m in published.modules() if isinstance(m, ReducedAttention)} == {4}
    norms = [m for m in published.modules() if isinstance(m, nn.LayerNorm)]
    # Three a unit, two a stage.
    assert len(norms) == 3 * 66 + 2 * 4
    assert {(m.eps, m.elementwise_affine, m.normalized_shape) for m in norms} == {(1e-5, True, (128,))}


def test_the_chance_of_a_unit_to_be_dropped_rises_linearly_from_none_to_four_tenths(published: Any) -> None:
    chances = [unit.drop_path.chance for stage in published.stages for unit in stage.units]
    np.testing.assert_allclose(chances, np.linspace(0, 0.4, 66), atol=1e-7)


def test_a_pass_in_the_published_order_costs_what_was_published_and_less_in_ours(
    published: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = cost(published, SLICE)
    monkeypatch.setattr(published, "published_order", True)
    theirs = cost(published, SLICE)
    assert theirs.total == pytest.approx(25.65e9, rel=0.01)
    assert theirs.convolutions == pytest.approx(19.41e9, rel=0.01)
    assert theirs.products == pytest.approx(6.23e9, rel=0.01)
    # By hand: 128 -> 256 and 1024 -> 256 on 128x128 pixels become 128 -> 256 and 256 -> 256 on each stage's own.
    coarse = sum((128 >> k) ** 2 for k in (1, 2, 3, 4))
    before = 128**2 * (4 * 128 * 256 + 1024 * 256)
    assert theirs.total - ours.total == before - coarse * (128 * 256 + 256 * 256)
    assert ours.products == theirs.products


# --- the order of the decoder


def test_convolving_before_interpolating_gives_the_same_logits_and_gradients() -> None:
    batch = torch.randn(2, 1, 32, 48, 1)
    ours = small()
    theirs = small(published_order=True)
    theirs.load_state_dict(ours.state_dict())
    with torch.no_grad():
        for norm in (ours.fusion_norm, theirs.fusion_norm):
            norm.running_mean.fill_(0.2)
            norm.running_var.fill_(0.7)
    for network in (ours.eval(), theirs.eval()):
        network(batch).square().mean().backward()
    with torch.no_grad():
        torch.testing.assert_close(ours(batch), theirs(batch), atol=1e-5, rtol=0)
    gradients = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, gradients[name].grad, atol=1e-5, rtol=1e-3)


def test_interpolation_keeps_the_corners_of_a_map_in_the_corners_of_the_slice() -> None:
    """With corners aligned, a ramp over 2 pixels is 0, 1/3, 2/3, 1 over 4; without it would not end at 0 and 1."""
    network = build("lesion-net", width=1, depths=[1], heads=[1], reductions=[1], decoder_width=1)
    with torch.no_grad():
        for projection in network.projections:
            nn.init.ones_(projection.weight)
            nn.init.zeros_(projection.bias)
        nn.init.ones_(network.fusion.weight)
        for order in (network._interpolated_first, network._interpolated_last):
            ramp = torch.tensor([[0.0, 0.0], [1.0, 1.0]])[None, None]
            expected = torch.tensor([0.0, 1 / 3, 2 / 3, 1.0])[:, None].expand(4, 4)
            torch.testing.assert_close(order([ramp])[0, 0], expected)


def test_the_head_rectifies_before_it_normalises() -> None:
    network = build("lesion-net", width=1, depths=[1], heads=[1], reductions=[1], decoder_width=1).eval()
    with torch.no_grad():
        # The fused map is -3 everywhere: rectified first it is 0, and the norm makes (0 - 2) / 4 * 3 + 5 of it.
        nn.init.zeros_(network.projections[0].weight)
        network.projections[0].bias.fill_(-3.0)
        nn.init.ones_(network.fusion.weight)
        network.fusion_norm.running_mean.fill_(2.0)
        network.fusion_norm.running_var.fill_(16.0)
        network.fusion_norm.weight.fill_(3.0)
        network.fusion_norm.bias.fill_(5.0)
        nn.init.ones_(network.head.weight)
        nn.init.zeros_(network.head.bias)
        logits = network(torch.randn(1, 1, 4, 4, 1))
    torch.testing.assert_close(logits, torch.full_like(logits, 3.5), atol=1e-4, rtol=0)


# --- miniatures by hand


def layer_norm(values: np.ndarray, weight: Tensor, bias: Tensor) -> np.ndarray:
    mean, variance = values.mean(-1, keepdims=True), values.var(-1, keepdims=True)
    return (values - mean) / np.sqrt(variance + 1e-5) * weight.detach().numpy() + bias.detach().numpy()


def channels_first(pixels: Tensor) -> Tensor:
    """(N, x, y, C) as (N, C, x, y)."""
    return pixels.permute(0, 3, 1, 2)


def channels_last(features: Tensor) -> Tensor:
    """(N, C, x, y) as (N, x, y, C)."""
    return features.permute(0, 2, 3, 1)


@pytest.mark.parametrize(("reduction", "heads"), [(2, 2), (1, 1), (4, 4)])
def test_attention_on_a_coarser_map_is_what_numpy_computes_pixel_by_pixel(reduction: int, heads: int) -> None:
    torch.manual_seed(3)
    width, x, y = 4, 4, 8
    attention = ReducedAttention(width, heads, reduction)
    for parameter in attention.parameters():  # norms and biases that do something
        nn.init.normal_(parameter, std=0.7)
    pixels = torch.randn(1, x, y, width)
    with torch.no_grad():
        found = channels_last(attention(channels_first(pixels)))[0].numpy()
    image = pixels[0].numpy().astype(np.float64).transpose(2, 0, 1)
    weights = {name: p.detach().numpy().astype(np.float64) for name, p in attention.named_parameters()}
    tokens = []
    for i in range(x // reduction):
        for j in range(y // reduction):
            block = image[:, i * reduction : (i + 1) * reduction, j * reduction : (j + 1) * reduction]
            value = np.einsum("oixy,ixy->o", weights["reduction.weight"], block) + weights["reduction.bias"]
            tokens.append(layer_norm(value, attention.reduction_norm.weight, attention.reduction_norm.bias))
    matrix, offset = weights["projection.weight"], weights["projection.bias"]
    keys = [matrix[width : 2 * width] @ t + offset[width : 2 * width] for t in tokens]
    values = [matrix[2 * width :] @ t + offset[2 * width :] for t in tokens]
    each = width // heads
    for i in range(x):
        for j in range(y):
            query = matrix[:width] @ image[:, i, j] + offset[:width]
            mixed = np.zeros(width)
            for head in range(heads):
                part = slice(head * each, (head + 1) * each)
                scores = np.array([query[part] @ k[part] for k in keys]) / math.sqrt(each)
                shares = np.exp(scores - scores.max())
                mixed[part] = sum(s * v[part] for s, v in zip(shares / shares.sum(), values, strict=True))
            expected = weights["output.weight"] @ mixed + weights["output.bias"]
            np.testing.assert_allclose(found[i, j], expected, atol=1e-5)


def test_attention_knows_no_positions() -> None:
    """With a reduction of 1, pixels that change places change places in the output, and nothing else happens."""
    torch.manual_seed(0)
    attention = ReducedAttention(4, 2, 1).eval()
    pixels = torch.randn(1, 2, 3, 4)
    order = [4, 0, 5, 2, 1, 3]
    with torch.no_grad():
        there = channels_last(attention(channels_first(pixels))).reshape(1, 6, 4)[:, order]
        moved = pixels.reshape(1, 6, 4)[:, order].reshape(1, 2, 3, 4)
        moved = channels_last(attention(channels_first(moved))).reshape(1, 6, 4)
    torch.testing.assert_close(moved, there)


def test_the_feed_forward_part_expands_in_its_grouped_convolution() -> None:
    part = FeedForward(2, 3)
    assert (part.mix.kernel_size, part.mix.out_channels) == ((1, 1), 2)
    assert (part.expand.kernel_size, part.expand.padding) == ((3, 3), (1, 1))
    assert (part.expand.in_channels, part.expand.out_channels, part.expand.groups) == (2, 6, 2)
    assert (part.contract.kernel_size, part.contract.in_channels) == ((1, 1), 6)
    with torch.no_grad():
        for convolution in (part.mix, part.expand, part.contract):
            convolution.weight.zero_()
            convolution.bias.zero_()
        part.mix.weight[1, 0] = 1.0  # channel 1 of the mix is channel 0 of the input
        part.expand.weight[5, 0, 0, 1] = 1.0  # the last of group 1 is the pixel above
        part.contract.weight[0, 5] = 1.0
        pixels = torch.zeros(1, 3, 3, 2)
        pixels[0, 0, 1, 0] = 1.5
        found = channels_last(part(channels_first(pixels)))
    expected = torch.zeros(1, 3, 3, 2)
    expected[0, 1, 1, 0] = 1.5 * 0.5 * (1 + math.erf(1.5 / math.sqrt(2)))  # the exact GELU
    torch.testing.assert_close(found, expected)


def test_drop_path_drops_or_scales_the_whole_batch_in_training_and_nothing_otherwise() -> None:
    torch.manual_seed(0)
    drop, batch = BatchDropPath(0.25), torch.ones(3, 2, 2, 2)
    factors = []
    for _ in range(400):
        found = drop(batch)
        assert len(found.unique()) == 1  # one decision for all samples of the batch
        factors.append(found[0, 0, 0, 0].item())
    np.testing.assert_allclose(sorted(set(factors)), [0.0, 4 / 3], rtol=1e-6)
    assert np.mean(factors) == pytest.approx(1.0, abs=0.1)  # five standard errors
    assert drop.eval()(batch) is batch
    assert BatchDropPath(0.0)(batch) is batch


def test_a_unit_adds_both_parts_to_its_input_and_drops_the_second_alone() -> None:
    torch.manual_seed(0)
    unit, features = Unit(8, 2, 1, 2, drop_path=0.9), channels_first(torch.randn(2, 2, 2, 8))
    with torch.no_grad():
        attended = features + unit.attention(unit.attention_norm(features))
        whole = attended + unit.feed_forward(unit.forward_norm(attended))
        torch.testing.assert_close(unit.eval()(features), whole)
        unit.train()
        seen = [unit(features) for _ in range(100)]
        dropped = [torch.allclose(s, attended, atol=1e-6) for s in seen]
        assert 60 < sum(dropped) < 100  # 90 are expected
        kept = attended + 10 * (whole - attended)
        torch.testing.assert_close(seen[dropped.index(False)], kept, atol=1e-5, rtol=1e-5)


# --- as a network of the engine


def test_it_gives_a_logit_for_every_pixel_of_slices_whose_sides_are_multiples_of_16() -> None:
    network = small().eval()
    assert form_of(network).multiples == (16, 16, 1)
    assert form_of(network).slices
    with torch.no_grad():
        assert network(torch.zeros(3, 1, 16, 48, 1)).shape == (3, 1, 16, 48, 1)
    with pytest.raises(ModelError, match="multiples of 16x16x1"):
        network(torch.zeros(1, 1, 24, 16, 1))
    with pytest.raises(ModelError, match="z must be 1"):
        network(torch.zeros(1, 1, 16, 16, 2))


def test_slices_of_a_batch_are_computed_as_if_each_were_alone() -> None:
    network = small().eval()
    batch = torch.randn(3, 1, 16, 32, 1)
    with torch.no_grad():
        alone = torch.cat([network(batch[k : k + 1]) for k in range(3)])
        torch.testing.assert_close(network(batch), alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("apply_stage_norms", [False, True])
def test_a_gradient_reaches_every_parameter_that_is_trained(apply_stage_norms: bool) -> None:
    network = small(apply_stage_norms=apply_stage_norms, drop_path=0.0)
    network(torch.randn(2, 1, 32, 32, 1)).square().mean().backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    expected = [] if apply_stage_norms else [f"stages.{k}.norm.{p}" for k in range(4) for p in ("weight", "bias")]
    assert without == expected


def test_the_stage_norms_change_the_logits_where_they_are_applied() -> None:
    plain, normed = small().eval(), small(apply_stage_norms=True).eval()
    normed.load_state_dict(plain.state_dict())
    batch = torch.randn(1, 1, 32, 32, 1)
    with torch.no_grad():
        assert (plain(batch) - normed(batch)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"depths": [1, 1]}, "'depths' has 2"),
        ({"width": 10, "heads": [4, 4, 4, 4]}, "'heads' are (4, 4, 4, 4)"),
        ({"heads": 4}, "'heads' is 4"),
        ({"drop_path": 1.0}, "'drop_path' is 1.0"),
        ({"reductions": [8, 4, 2, 0]}, "'reductions' is (8, 4, 2, 0)"),
        ({"with": 8}, "Did you mean 'width'?"),
    ],
)
def test_arguments_that_make_no_network_are_refused_in_words(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError) as refused:
        build("lesion-net", **arguments)
    assert words in str(refused.value)
