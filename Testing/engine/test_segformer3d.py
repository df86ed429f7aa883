"""SegFormer3D: its published tables of counts and cost, sizes that are no cubes, and attention computed by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks in PyTorch need torch, which is not installed")

from built_networks import lesion_logits_of_both, shape_only  # noqa: E402
from torch import nn  # noqa: E402

from strokeseg.errors import ModelError  # noqa: E402
from strokeseg.networks import build, form_of  # noqa: E402
from strokeseg.networks.counting import cost, parameters  # noqa: E402
from strokeseg.networks.segformer3d_unit import FeedForward, VolumeAttention  # noqa: E402

SMALL: dict[str, Any] = {"widths": [4, 4, 8, 8], "depths": [1, 1, 1, 1], "heads": [1, 2, 2, 4], "decoder_width": 6}

pytestmark = pytest.mark.usefixtures("one_thread")


def small(seed: int = 0, **changes: Any) -> Any:
    """A small network with norms and biases that do something."""
    torch.manual_seed(seed)
    network = build("segformer3d", **{**SMALL, **changes})
    for parameter in network.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, mean=0.5, std=0.5)
    return network.eval()


# --- the published tables


def test_every_stage_has_the_parameters_of_the_table() -> None:
    network = shape_only("segformer3d")
    assert parameters(network) == parameters(network, trainable=True) == 4_492_066
    embeddings = [parameters(s.embedding) + parameters(s.embedding_norm) for s in network.stages]
    assert embeddings == [11_072, 55_488, 276_960, 1_106_688]
    assert [parameters(s.units) for s in network.stages] == [164_352, 181_248, 656_960, 1_640_960]
    assert [parameters(s.norm) for s in network.stages] == [64, 128, 320, 512]
    assert parameters(network.stages) == 4_094_752
    decoder = (network.projections, network.fusion, network.fusion_norm, network.head)
    assert sum(parameters(m) for m in decoder) == 397_314
    # Four channels in and three classes out: the network that it was made of.
    assert parameters(shape_only("segformer3d", in_channels=4, out_channels=3)) == 4_525_251


@pytest.mark.parametrize(("side", "gmac"), [(64, 1.50), (128, 14.46), (192, 71.70)])
def test_a_pass_in_the_published_order_costs_what_was_published_and_less_in_ours(side: int, gmac: float) -> None:
    shape = (1, 1, side, side, side)
    theirs, ours = cost(shape_only("segformer3d", published_order=True), shape), cost(shape_only("segformer3d"), shape)
    assert theirs.total == pytest.approx(gmac * 1e9, rel=0.01)
    # By hand: 1024 -> 256 on the first stage's grid become 256 -> 256 on each stage's own.
    grid = (side // 4) ** 3
    assert theirs.total - ours.total == 4 * grid * 256**2 - sum(grid // 8**k for k in range(4)) * 256**2


def test_grids_heads_and_scores_are_those_of_the_table() -> None:
    network = shape_only("segformer3d")
    shapes: list[tuple[int, ...]] = []
    for stage in network.stages:
        stage.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape)))
    cost(network, (1, 1, 64, 64, 64))
    assert shapes == [(1, 16, 16, 16, 32), (1, 8, 8, 8, 64), (1, 4, 4, 4, 160), (1, 2, 2, 2, 256)]
    units = [u for s in network.stages for u in s.units]
    assert [u.attention.heads for u in units] == [1, 1, 2, 2, 5, 5, 8, 8]
    assert [u.attention.reduction for u in units] == [4, 4, 2, 2, 1, 1, 1, 1]
    assert {u.attention.scale for u in units} == {32**-0.5}
    published = [u.attention.scale for s in shape_only("segformer3d", published_scores=True).stages for u in s.units]
    assert published == [1.0, 1.0, 2**-0.5, 2**-0.5, 5**-0.5, 5**-0.5, 8**-0.5, 8**-0.5]


def test_first_weights_have_the_deviation_of_their_rule() -> None:
    torch.manual_seed(0)
    network = build("segformer3d")
    unit = network.stages[3].units[0]
    assert unit.attention.query.weight.std().item() == pytest.approx(0.02, rel=0.05)
    # Outputs of a channel: 27 x 256 of a whole convolution, 27 of one whose groups are single channels.
    assert network.stages[3].embedding.weight.std().item() == pytest.approx((2 / (27 * 256)) ** 0.5, rel=0.02)
    assert unit.feed_forward.mix.weight.std().item() == pytest.approx((2 / 27) ** 0.5, rel=0.02)
    layers = [m for m in network.modules() if isinstance(m, nn.Conv3d | nn.Linear)]
    assert not any(m.bias.any() for m in layers if m.bias is not None)


# --- sizes


@pytest.mark.parametrize("size", [(32, 32, 32), (16, 40, 24), (33, 18, 5), (7, 1, 12), (1, 1, 1)])
def test_it_gives_a_logit_for_every_voxel_of_volumes_of_any_size(size: tuple[int, int, int]) -> None:
    network = small()
    assert form_of(network).multiples == (1, 1, 1)
    with torch.no_grad():
        found = network(torch.randn(2, 1, *size))
    assert found.shape == (2, 1, *size)
    assert found.isfinite().all()


def test_a_volume_that_ends_within_a_token_is_computed_as_if_zeros_followed() -> None:
    """Of 189 voxels the published program makes 48 tokens, as of 192."""
    network = small().double()
    batch = torch.randn(1, 1, 29, 32, 31, dtype=torch.float64)
    longer = nn.functional.pad(batch, (0, 1, 0, 0, 0, 3))
    with torch.no_grad():
        torch.testing.assert_close(network(batch), network(longer)[:, :, :29, :, :31], atol=1e-9, rtol=0)


def test_no_token_is_left_out_of_the_coarser_map() -> None:
    """5 tokens with a reduction of 4: the fifth has a key of its own, with zeros behind it."""
    torch.manual_seed(0)
    attention = VolumeAttention(4, 1, 4, published_scores=False)
    tokens = torch.randn(1, 5, 4, 6, 4, requires_grad=True)
    attention(tokens)[0, 0, 0, 0].square().sum().backward()
    assert tokens.grad is not None
    assert (tokens.grad.abs().sum(-1) > 0).all()


@pytest.mark.parametrize("size", [(32, 32, 32), (37, 18, 50)])
def test_convolving_before_interpolating_gives_the_same_logits(size: tuple[int, int, int]) -> None:
    # In double precision: a norm over one token, which is 0, magnifies every rounding.
    ours, theirs = small().double(), small(published_order=True).double()
    batch = torch.randn(1, 1, *size, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(batch), theirs(batch), atol=1e-9, rtol=0)


# --- miniatures by hand


def layer_norm(values: Any, norm: Any) -> Any:
    mean, variance = values.mean(-1, keepdims=True), values.var(-1, keepdims=True)
    return (values - mean) / np.sqrt(variance + 1e-5) * norm.weight.detach().numpy() + norm.bias.detach().numpy()


@pytest.mark.parametrize("published_scores", [False, True])
@pytest.mark.parametrize(("reduction", "heads"), [(2, 2), (1, 4)])
def test_attention_is_what_numpy_computes_token_by_token(reduction: int, heads: int, published_scores: bool) -> None:
    torch.manual_seed(3)
    width, size = 8, (3, 2, 4)
    attention = VolumeAttention(width, heads, reduction, published_scores=published_scores)
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.5)
    tokens = torch.randn(1, *size, width)
    with torch.no_grad():
        found = attention(tokens)[0].numpy()
    grid = tokens[0].numpy().astype(np.float64)
    weights = {name: p.detach().numpy().astype(np.float64) for name, p in attention.named_parameters()}
    sources = list(grid.reshape(-1, width))
    if reduction > 1:
        padded = np.pad(grid, [(0, -s % reduction) for s in size] + [(0, 0)])
        sources = []
        for corner in np.ndindex(*(s // reduction for s in padded.shape[:3])):
            block = padded[tuple(slice(c * reduction, (c + 1) * reduction) for c in corner)]
            value = np.einsum("oixyz,xyzi->o", weights["coarser.weight"], block) + weights["coarser.bias"]
            sources.append(layer_norm(value, attention.coarser_norm))
        assert len(sources) == 2 * 1 * 2
    both = [weights["key_value.weight"] @ s + weights["key_value.bias"] for s in sources]
    each = width // heads
    for place in np.ndindex(*size):
        query = weights["query.weight"] @ grid[place] + weights["query.bias"]
        mixed = np.zeros(width)
        for head in range(heads):
            part = slice(head * each, (head + 1) * each)
            scores = np.array([query[part] @ b[:width][part] for b in both])
            scores /= math.sqrt(heads if published_scores else each)
            shares = np.exp(scores - scores.max())
            mixed[part] = sum(s * b[width:][part] for s, b in zip(shares / shares.sum(), both, strict=True))
        expected = weights["output.weight"] @ mixed + weights["output.bias"]
        np.testing.assert_allclose(found[place], expected, atol=1e-5)


def test_the_feed_forward_part_mixes_neighbours_within_a_channel_and_normalises_it_over_the_volume() -> None:
    part = FeedForward(2, 2)
    assert (part.mix.kernel_size, part.mix.groups, part.mix.padding) == ((3, 3, 3), 4, (1, 1, 1))
    with torch.no_grad():
        for layer in (part.expand, part.mix, part.contract):
            layer.weight.zero_()
            layer.bias.zero_()
        part.expand.weight[3, 0] = 1.0
        part.mix.weight[3, 0, 0, 1, 1] = 1.0  # the neighbour before along x
        part.contract.weight[1, 3] = 1.0
        tokens = torch.zeros(1, 3, 1, 1, 2)
        tokens[0, 0, 0, 0, 0] = 3.0
        found = part(tokens)
    values = np.array([0.0, 3.0, 0.0])
    normed = (values - 1.0) / math.sqrt(2.0 + 1e-5)
    expected = [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in normed]
    np.testing.assert_allclose(found[0, :, 0, 0, 1].numpy(), expected, atol=1e-6)
    assert not found[..., 0].any()


def test_the_one_logit_is_that_of_the_published_softmax() -> None:
    one, two = small(), small(out_channels=2)
    two.load_state_dict(one.state_dict())
    batch = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(one(batch).sigmoid(), two(batch).softmax(dim=1)[:, 1:])
        assert small(out_channels=3)(batch).shape == (1, 3, 16, 16, 16)


def test_patients_of_a_batch_are_computed_as_if_each_were_alone_in_training_too() -> None:
    network = small().train().double()
    batch = torch.randn(3, 1, 24, 16, 32, dtype=torch.float64)
    with torch.no_grad():
        alone = torch.cat([network(batch[k : k + 1]) for k in range(3)])
        torch.testing.assert_close(network(batch), alone, atol=1e-9, rtol=0)


def test_a_gradient_reaches_every_parameter() -> None:
    network = small().train()
    network(torch.randn(1, 1, 64, 32, 32)).square().mean().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


# --- as a network of the engine


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"depths": [1, 1]}, "'depths' has 2"),
        ({"heads": [3, 2, 5, 8]}, "'heads' (3, 2, 5, 8)"),
        ({"widths": 32}, "'widths' is 32"),
        ({"width": [32]}, "Did you mean 'widths'?"),
    ],
)
def test_arguments_that_make_no_network_are_refused_in_words(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError) as refused:
        build("segformer3d", **arguments)
    assert words in str(refused.value)


def test_its_graph_holds_for_the_size_in_the_card_and_without_one_pytorch_runs_it(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the export needs onnx, which is not installed")
    from tiny_model import tiny_card

    from strokeseg.runtime import open_runtime
    from strokeseg_training.export import export_model

    network = small()
    fields = {"network": "segformer3d", "arguments": SMALL, "channels": ("dwi_ratio",), "multiple": 4}
    # 40 is no multiple of the 16 voxels between two keys of the first stage: the graph has the zeros behind, too.
    fixed = tiny_card("fixed", **fields, strategy="windows", input_shape=[32, 40, 24])
    done = export_model(network, fixed, tmp_path / "fixed")
    assert done.card.runtime == "openvino"
    batch = np.random.default_rng(1).standard_normal((3, 1, 32, 40, 24), dtype=np.float32)
    results = lesion_logits_of_both(done.card, batch)
    assert results[0].shape == (3, 1, 32, 40, 24)
    assert np.abs(results[0] - results[1]).max() < 1e-3

    free = export_model(network, tiny_card("free", **fields), tmp_path / "free")
    assert free.card.runtime == "torch"
    assert "holds for one size" in free.card.runtime_reason
    opened = open_runtime(free.card, "cpu", threads=1)
    assert opened.run(batch[:1, :, :13])["lesion"].shape == (1, 1, 13, 40, 24)
